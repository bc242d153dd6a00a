-- Lua functions that block all tasks: os.execute, reading and writing of io.popen, and opening and reading
-- anything that is not a regular file, such as a terminal or a pipe. If such a call takes long while other
-- tasks are ready, a warning is written, once for each place in the script. An interrupt during the call
-- takes effect when the call returns.
local native_block = require "leat.native.block"
local check = require "leat.internal.check"
local await = require "leat.internal.await"
local lazy_require = require "leat.internal.lazy_require"
local native_task = require "leat.native.task"

local begin, finish, may_block = native_block.begin, native_block.finish, native_block.may_block
local yieldable = native_task.yieldable
local getinfo = debug.getinfo

local COMMAND = "run the command in the background (end it with \" &\")"
local STDIN = "leat.stdin:read and leat.stdin:lines let other tasks run"
local PIPE = "let the command write into a file in the background (\"command > file &\") and read that"

local warned = {}

local function warn(name, advice)
    local place = check.where()
    if place ~= "?" and not warned[place] then
        warned[place] = true
        lazy_require("leat.log").warn(("%s: %s blocked all tasks for over 100 ms while others were ready: %s")
            :format(place, name, advice))
    end
end

-- Beneath pcall, Lua's error message does not know the function's name, and it counts the object of a method
-- as an argument. This corrects both.
local function named(err, name)
    local before, number, behind = tostring(err):match "^(bad argument #)(%d+)( to ')%?'"
    if not number then
        return err
    end
    local method = name:match ":(.*)$"
    return before .. number - (method and 1 or 0) .. behind .. name:match "%w+$" .. err:match "'%?('.*)$"
end

local function finished(name, advice, ok, ...)
    local long, interrupted = finish()
    if long then
        warn(name, advice)
    end
    if interrupted and native_task.current() and yieldable() then
        await(native_task.sleep(1e-4)) -- one turn of the loop, which raises the cancel
    end
    if not ok then
        error(named(..., name), 2) -- level 2, because the callers are tail calls
    end
    return ...
end

local function call(name, advice, fn, ...)
    begin(name)
    return finished(name, advice, pcall(fn, ...))
end

local PIPE_IN = "let the command read from a file, in the background (\"command < file &\")"
local OPEN = "a pipe opens only when its other end is open: open it after that"

local watched = setmetatable({}, { __mode = "k" }) -- file -> its advice, or false

local function advice_for(file)
    local advice = watched[file]
    if advice == nil and file ~= nil then
        advice = may_block(file) and (file == io.stdin and STDIN or PIPE)
        watched[file] = advice
    end
    return advice
end

-- An iterator over lines. The script's loop calls it.
local function watched_lines(name, advice, lines)
    return function()
        return call(name, advice, lines)
    end
end

-- Replaces these functions. Only called in states that leat has created.
return function()
    local raw_open, raw_popen, raw_read, raw_lines = io.open, io.popen, io.read, io.lines
    local methods = getinfo and debug.getmetatable(io.stdin).__index
    local file_read, file_lines, file_write, file_close =
        methods.read, methods.lines, methods.write, methods.close
    local popened = setmetatable({}, { __mode = "k" })

    function os.execute(...)
        return call("os.execute", COMMAND, native_block.execute, ...)
    end
    function io.open(...)
        return call("io.open", OPEN, raw_open, ...)
    end
    function io.popen(...)
        local file, err, code = raw_popen(...)
        if file then
            popened[file] = true
        end
        return file, err, code
    end
    function io.read(...)
        local advice = advice_for(io.input())
        if not advice then
            return raw_read(...)
        end
        return call("io.read", advice, raw_read, ...)
    end
    function io.lines(...)
        local advice = select("#", ...) == 0 and advice_for(io.input())
        if not advice then
            return raw_lines(...)
        end
        return watched_lines("io.lines", advice, raw_lines())
    end
    function methods.read(...)
        local advice = advice_for((...))
        if not advice then
            return file_read(...)
        end
        return call("file:read", advice, file_read, ...)
    end
    function methods.lines(...)
        local advice = advice_for((...))
        if not advice then
            return file_lines(...)
        end
        return watched_lines("file:lines", advice, file_lines(...))
    end
    function methods.write(...)
        if not popened[(...)] then
            return file_write(...)
        end
        return call("file:write", PIPE_IN, file_write, ...)
    end
    function methods.close(...)
        if not popened[(...)] then
            return file_close(...)
        end
        return call("file:close", PIPE, file_close, ...)
    end
end
