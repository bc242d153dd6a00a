-- Lets a script wait inside coroutines that it has created itself: the task that resumed the coroutine waits.
local native = require "leat.native.task"

local PARKED, yieldable = native.PARKED, native.yieldable

-- Deeper nesting would overflow the C stack, which no pcall survives.
local MAX_DEPTH = 190

-- Replaces the functions of `lib` (the state's coroutine table). A wait inside a script's own coroutine is
-- passed on to the task. A coroutine.yield of the script is not passed on. `limited`: computing time has a
-- limit; reaching it is passed on like a wait.
return function(lib, limited)
    local raw_create, raw_resume, raw_yield = lib.create, lib.resume, lib.yield
    local running = lib.running
    local depth = setmetatable({}, { __mode = "k" })
    local waiting_in = setmetatable({}, { __mode = "k" })
    local tasks_own = setmetatable({}, { __mode = "k" }) -- coroutines of tasks that a script has obtained

    local function relay(co, ok, first, ...)
        if limited and ok and native.preempted() then
            if yieldable() then
                waiting_in[co] = native.current()
                raw_yield(PARKED)
                waiting_in[co] = false
            else
                native.go_on()
            end
            return relay(co, raw_resume(co)) -- it goes on where a hook stopped it, so nothing is passed in
        end
        if first ~= PARKED or not ok then
            return ok, first, ...
        end
        if not yieldable() then
            native.refuse()
            return relay(co, raw_resume(co, PARKED)) -- the wait inside the coroutine raises the error
        end
        waiting_in[co] = native.current() -- `enter` has made this slot, so that this assignment cannot fail
        raw_yield(PARKED)
        waiting_in[co] = false
        return relay(co, raw_resume(co, PARKED))
    end

    local function enter(co)
        local other = waiting_in[co]
        if other then
            error("coroutine.resume: this coroutine is waiting inside " .. tostring(other)
                .. "; only that task can resume it", 3)
        end
        if tasks_own[co] and co ~= running() then
            error("coroutine.resume: this is a task's own coroutine, and only leat resumes it", 3)
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
        error(native.note(first, co), 0)
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
