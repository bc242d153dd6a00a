-- Files of lines. They are read in pieces and written line by line, on other threads.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local native = require "leat.native.lines"
local errors = require "leat.error"
local file = require "leat.internal.file"
local task = require "leat.task"

local M = {}

local PIECE = 64 * 1024
local MAX_LINE = 16 * 1024 * 1024
local DISK_TIME = 60 -- seconds that a cancel waits for a write

-- ---- reading

-- An error about a line of a file.
function M.invalid(path, number, what)
    path = check.path(path)
    return errors.new { kind = "invalid", message = ("%s:%d: %s"):format(path, number, what), file = path,
        line = number }
end

local function of_stdin()
    local stdin = require "leat.stdin"
    return { read = function(_, n)
        return stdin:read(n)
    end, close = function()
    end }
end

-- read(path | open file, name, max) returns an iterator function. It gives text, number, whole: the text
-- without its line end, and whether it had a line end. For a line longer than `max` bytes it gives nil,
-- number, err, and the next call continues after that line. nil alone means the end. A read error is raised.
function M.read(source, name, max)
    max = max or MAX_LINE
    local f = source
    if type(source) == "string" then
        local err
        if source == "-" then
            f = of_stdin()
        else
            f, err = file.open(source, "r")
        end
        if not f then
            return nil, err
        end
    end
    local chunk, at, number, ended = "", 1, 0, false
    local parts, held, skipping = {}, 0, false
    local function whole_line(piece, had_end)
        number = number + 1
        local text = piece
        if held > 0 then
            parts[#parts + 1] = piece
            text = table.concat(parts)
            parts, held = {}, 0
        end
        if skipping or #text > max then
            skipping = false
            return nil, number, M.invalid(name, number, ("the line is longer than %d bytes"):format(max))
        end
        if number == 1 and text:sub(1, 3) == "\239\187\191" then
            text = text:sub(4)
        end
        if text:byte(-1) == 13 then
            text = text:sub(1, -2)
        end
        return text, number, had_end
    end
    return function()
        while true do
            local to = chunk:find("\n", at, true)
            if to then
                local piece = chunk:sub(at, to - 1)
                at = to + 1
                return whole_line(piece, true)
            elseif ended then
                return nil
            end
            local rest = chunk:sub(at)
            if skipping or held + #rest > max then
                skipping, parts, held = true, {}, 0
            elseif rest ~= "" then
                parts[#parts + 1] = rest
                held = held + #rest
            end
            local more, err = f:read(PIECE)
            chunk, at = more or "", 1
            if not more or more == "" then
                if err then
                    error(err, 0)
                end
                ended = true
                f:close()
                if held > 0 or skipping then
                    return whole_line("", false)
                end
            end
        end
    end
end

-- ---- writing

local Writer = {}
Writer.__index = Writer

-- A writer of whole lines to an open file, which it then owns. Another thread writes each line at once. So
-- every line is in the file however the process ends, unless it is killed with kill -9. `durable`: a line
-- counts as written only when it is on the disk. `again`: `close` may write a line that has counted as
-- failed.
function M.writer(f, durable, again)
    local out, err = native.new(f, durable, again)
    if not out then
        return nil, err
    end
    return setmetatable({ _out = out, _durable = durable }, Writer)
end

local function wait(self)
    return await(native.wait(self._out))
end

-- Adds a line; the line end is added here. A durable writer returns when the line is on the disk. Other
-- writers return at once, unless too much data is waiting to be written.
function Writer:line(text)
    if self._closed then
        check.fail "jsonl: the writer is closed"
    end
    local done, err = native.add(self._out, text)
    if done then
        return true
    elseif done == nil then
        return nil, err
    elseif self._durable then
        return task.shield(DISK_TIME, wait, self) -- a cancel must not leave it unknown whether it was written
    end
    return wait(self)
end

-- Waits until everything so far is on the disk.
function Writer:flush()
    if self._closed then
        return true
    end
    return await(native.sync(self._out))
end

-- Writes everything, syncs it to the disk and closes the file. A second call does nothing. Afterwards `_rest`
-- holds what could not be written.
function Writer:close()
    if self._closed then
        return true
    end
    local out, retried, closed, why = self._out, false, "busy", nil
    local ok, err = await(native.sync(out))
    while closed == "busy" do -- until then, other tasks may add lines or close it
        if not self._closed then
            await(native.idle(out))
        end
        if self._closed then
            return ok, err
        elseif not ok and not retried and native.retry(out) then -- the disk may have room again
            retried = true
            await(native.sync(out))
        else
            self._rest = not ok and native.rest(out) or nil
            closed, why = native.shut(out)
        end
    end
    self._closed = true
    if ok and closed then
        return true
    end
    return nil, err or why
end

return M
