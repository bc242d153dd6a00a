-- The joint between waiting in C and Lua: `await`, and the script's own coroutines made to wait for
-- their task. Internal.
local task = require "leat.native.task"

local PARKED, take, yieldable = task.PARKED, task.take, task.yieldable

local builtin_require, loaded = require, package.loaded

local M = {}

-- The `require` that a state begins with, for leat's own modules that are loaded on first use.
function M.require(name)
    local ok, value = pcall(builtin_require, name)
    if not ok then
        loaded[name] = nil -- or it would be refused from now on, as one that is still being loaded
        error(value, 0)
    end
    return value
end

-- A C function that parked hands out PARKED when its task runs again; the result is then taken, or the
-- cancel raised. One that needed no wait handed out its values.
local function await(...)
    if (...) == PARKED then
        return await(take()) -- the take may find that it must wait on
    end
    return ... -- none, too
end
M.await = await

-- Deeper nesting would overflow the C stack, which no pcall survives.
local MAX_DEPTH = 190

-- Replaces the functions of `lib` (the state's coroutine table) so that a wait inside a coroutine of the
-- script's own travels out to the task, while its own yields stay its own. `limited`: computing has a
-- limit, which travels out like a wait.
function M.install_coroutines(lib, limited)
    local raw_create, raw_resume, raw_yield = lib.create, lib.resume, lib.yield
    local running = lib.running
    local depth = setmetatable({}, { __mode = "k" })
    local waiting_in = setmetatable({}, { __mode = "k" })
    local tasks_own = setmetatable({}, { __mode = "k" }) -- those of tasks that a script has got hold of

    local function relay(co, ok, first, ...)
        if limited and ok and task.preempted() then
            if yieldable() then
                waiting_in[co] = task.current()
                raw_yield(PARKED)
                waiting_in[co] = false
            else
                task.go_on()
            end
            return relay(co, raw_resume(co)) -- into the instruction where it was: nothing is handed in
        end
        if first ~= PARKED or not ok then
            return ok, first, ...
        end
        if not yieldable() then
            task.refuse()
            return relay(co, raw_resume(co, PARKED)) -- the wait raises that, where it stands
        end
        waiting_in[co] = task.current() -- a slot that `enter` made: nothing here may fail
        raw_yield(PARKED)
        waiting_in[co] = false
        return relay(co, raw_resume(co, PARKED))
    end

    local function enter(co)
        local other = waiting_in[co]
        if other then
            error("coroutine.resume: this coroutine is waiting inside " .. tostring(other)
                .. "; only that task can go on with it", 3)
        end
        if tasks_own[co] and co ~= running() then
            error("coroutine.resume: this is a task's own coroutine, which goes on by itself", 3)
        end
        local d = (depth[running() or false] or 0) + 1
        if d > MAX_DEPTH then
            error("C stack overflow (coroutines resumed within coroutines, " .. d .. " deep)", 3)
        end
        depth[co], waiting_in[co] = d, false
    end

    function lib.running()
        local co = running()
        if co and not depth[co] then
            tasks_own[co] = true
        end
        return co
    end

    function lib.resume(co, ...)
        if type(co) ~= "thread" then
            return raw_resume(co, ...)
        end
        enter(co)
        return relay(co, raw_resume(co, ...))
    end

    local function unwrap(co, ok, first, ...)
        if ok then
            return first, ...
        end
        error(task.note(first, co), 0)
    end

    function lib.wrap(fn)
        if type(fn) ~= "function" then
            error("bad argument #1 to 'wrap' (function expected, got " .. type(fn) .. ")", 2)
        end
        local co = raw_create(fn)
        return function(...)
            enter(co)
            return unwrap(co, relay(co, raw_resume(co, ...)))
        end
    end

    function lib.yield(...)
        if not depth[running() or false] then
            error("coroutine.yield: called outside a coroutine of the script's own "
                .. "(a task gives way with sleep(0))", 2)
        end
        return raw_yield(...)
    end
end

return M
