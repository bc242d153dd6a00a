-- Tasks: waiting, spawning, time limits and clean-up.
local await = require "leat.internal.await"
local lazy_require = require "leat.internal.lazy_require"
local native = require "leat.native.task"
local check = require "leat.internal.check"
local errors = require "leat.error"
local scrubbed = require("leat.native.util").scrubbed

local unpack = unpack
local Task = native.task_methods
local await_start = Task._await_start

local M = {}

--- Waits for some time. Other tasks run meanwhile.
---@param seconds number 0 or more; 0 lets every other ready task run once
---@return true
---
--- Never returns early (it uses the monotonic clock). Raises for a negative or NaN time. If the task is
--- cancelled, raises the cancel.
--- ```lua
--- local before = leat.now()
--- sleep(0.01)
--- assert(leat.now() - before >= 0.01)
--- ```
function M.sleep(seconds)
    return await(native.sleep(seconds))
end

--- Internal. Waits until the clock of `now` shows `at`; returns at once if that time has passed. The
--- policies use only this function to wait. `sleep(at - now())` is wrong if `at` was compared with an
--- earlier reading of the clock: time may pass between the two readings, and the difference is then
--- negative.
---@param at number
function M.sleep_until(at)
    local left = at - native.now()
    if left > 0 then
        M.sleep(left)
    end
end

--- Starts `fn(...)` as a child task of the running task. It begins when the running task next waits.
---@param fn function
---@param ... any its arguments
---@return leat.task task with await, cancel, status, name, id
---
--- A task ends only when its children have ended. If nobody awaits a child, its failure becomes the
--- result of the parent. If a child has a bug, the parent is cancelled at once and the bug is raised
--- there.
--- ```lua
--- local t = spawn(function(a, b) sleep(0) return a + b end, 1, 2)
--- assert(t:await() == 3)
--- ```
function M.spawn(fn, ...)
    return native.spawn(fn, ...)
end

--- Waits for the task to end.
---@return any ... its values; or nil, err if it failed or was cancelled. A bug of the task is raised here
--- ```lua
--- local t = spawn(function() return nil, "no such thing" end)
--- local v, err = t:await()
--- assert(v == nil and err.kind == "script" and err.cause == "no such thing")
--- ```
function Task:await()
    return await(await_start(self))
end

--- Cancels the task and all tasks below it. Their current wait ends, and it and every further wait raises
--- the cancel until they have ended. Returns at once; use `await` to wait for the end. Does nothing if
--- the task has ended.
---@param reason? string message of the error of kind "cancelled"
--- ```lua
--- local t = spawn(sleep, 100)
--- t:cancel "no longer needed"
--- local v, err = t:await()
--- assert(v == nil and err.kind == "cancelled" and err.message == "no longer needed")
--- ```
-- Task:cancel is in C.

--- Returns the state of the task.
---@return leat.task_status status "new", "ready", "running", "waiting", "joining" (its function has
---ended, its children have not); after its end "ok", "failed", "raised" (a bug) or "cancelled"
--- ```lua
--- local t = spawn(sleep, 0)
--- assert(t:status() == "new" and t:await() and t:status() == "ok")
--- ```
-- Task:status is in C.

--- Runs `fn(...)`, or awaits a task, for at most `seconds`.
---@param seconds number
---@param fn function|leat.task a function, or a task
---@param ... any arguments for the function
---@return any ... its values; or nil, err of kind "timeout" (err.limit, err.at)
---
--- After that time the call is cancelled, and wait_for waits for its clean-up. If the result arrives in
--- the same step of the event loop as the timeout, the result is returned. If the task is cancelled from
--- outside, the cancel is raised instead of both. An earlier limit of a wait_for around this one holds,
--- too.
--- ```lua
--- local v, err = wait_for(0.01, sleep, 5)
--- assert(v == nil and err.kind == "timeout" and err.limit == 0.01)
--- assert(wait_for(5, function() return "quick" end) == "quick")
--- ```
function M.wait_for(seconds, fn, ...)
    return await(native.wait_for(seconds, fn, ...))
end

--- Runs `fn(...)` protected from cancels, for at most `seconds`.
---@param seconds number the longest time by which it can delay a cancel or a limit from outside
---@param fn function
---@param ... any
---@return any ... its values; or nil, err of kind "timeout"
---
--- Inside another shield, the smaller limit holds. A cancel that arrives meanwhile is raised at the next
--- wait after it.
--- ```lua
--- local done
--- local t = spawn(function() leat.shield(1, function() sleep(0.01) done = true end) end)
--- sleep(0)
--- t:cancel()
--- t:await()
--- assert(done)
--- ```
function M.shield(seconds, fn, ...)
    return await(native.shield(seconds, fn, ...))
end

local function log(text)
    require("leat.log").warn(text)
end

local function pop(stack, entry)
    for i = #stack, 1, -1 do
        if stack[i] == entry then
            table.remove(stack, i)
            return
        end
    end
end

local function begin(entry)
    entry.begun = true -- set before it waits, so that the clean-up of an abandoned task does not run twice
    return entry.fn()
end

-- Runs a clean-up; returns its outcome, as pcall does. It is protected from cancels. If there is no memory
-- for that, or nothing can wait here, it runs without protection.
local function clean_up(entry)
    for _ = 1, 2 do -- the second time after a garbage collection
        local ok, value, err = pcall(M.shield, entry.grace, begin, entry)
        if ok or entry.begun then
            return ok, value, err
        elseif value ~= "not enough memory" then
            break
        end
        native.make_room()
    end
    return pcall(begin, entry)
end

local function conclude(entry, stack, n, ok, first, second, ...)
    local cleaned, value, err = clean_up(entry)
    if entry.begun then -- else the end of the task runs it
        pop(stack, entry)
    end
    local bug = not cleaned and not errors.is(value)
    if bug and (ok or errors.is(first)) then -- not even a cancel hides a bug
        error(native.note(value), 0)
    end
    local clean_failure
    if not cleaned then
        clean_failure = errors.is(value) and value or errors.raised(value)
    elseif value == nil then
        clean_failure = err
    end
    if ok and clean_failure ~= nil and (first ~= nil or second == nil) then
        return nil, clean_failure
    end
    local first_error = first
    if ok then
        first_error = second
    end
    if clean_failure ~= nil and not rawequal(clean_failure, first_error) then -- may be the same error
        if errors.is(first_error) then
            first_error.cleanup = clean_failure
        else
            log("a clean-up failed too: " .. tostring(clean_failure))
        end
    end
    if not ok then
        error(first, 0)
    end
    return unpack({ first, second, ... }, 1, n - 1)
end

local function count_and_conclude(entry, stack, ...)
    return conclude(entry, stack, select("#", ...), ...)
end

--- Runs `fn()` and then `cleanup()`, however fn ends: by a value, a failure, a bug or a cancel.
---@param fn function
---@param cleanup function it may wait, and is protected from cancels for `grace` seconds
---@param grace? number seconds, default 5
---@return any ... the values of fn; if fn raised, that is raised again
---
--- If fn and the clean-up both fail, the clean-up's error is in err.cleanup. If only the clean-up fails,
--- its error is the result.
--- ```lua
--- local log = {}
--- leat.finally(function() log[#log + 1] = "work" end, function() log[#log + 1] = "clean" end)
--- assert(table.concat(log, " ") == "work clean")
--- ```
function M.finally(fn, cleanup, grace)
    check.callable("finally", "the first argument", fn)
    check.callable("finally", "the clean-up", cleanup)
    if grace ~= nil and (type(grace) ~= "number" or not (grace >= 0)) then
        check.fail("finally: the grace must be 0 or more seconds, got " .. check.picture(grace, "grace"))
    end
    local stack = native.cleanups()
    local entry = { fn = cleanup, grace = grace or 5, begun = false }
    stack[#stack + 1] = entry
    return count_and_conclude(entry, stack, xpcall(fn, native.note))
end

local function as_entry(finished, state)
    return { grace = 5, begun = false, fn = function() finished(state, false) end }
end

-- The scheduler calls this for a task that was abandoned or ran out of memory. It runs the remaining
-- clean-ups, the last one first. On the stack are tables of `finally`; semaphores that `with` holds; and
-- functions of policy.guard, each above its state.
native.set_cleanup_runner(function(stack)
    local i = #stack
    while i > 0 do
        local entry = stack[i]
        if type(entry) == "function" then
            i = i - 1
            local made, of_guard = pcall(as_entry, entry, stack[i])
            if not made then -- not enough memory
                pcall(entry, stack[i], false)
            end
            entry = made and of_guard
        end
        if type(entry) == "userdata" then
            pcall(entry._give, entry)
        elseif entry and not entry.begun then
            local ok, value, err = clean_up(entry)
            if not ok or value == nil and err ~= nil then
                log("a clean-up of an abandoned task failed: " .. tostring(ok and err or value))
            end
        end
        i = i - 1
    end
end)

--- Returns the monotonic clock in seconds. Only differences between two values have a meaning.
---@return number
--- ```lua
--- assert(leat.now() <= leat.now())
--- ```
M.now = native.now

--- Returns the wall-clock time: seconds since 1970, with a fraction.
---@return number
--- ```lua
--- assert(leat.time() > 1.7e9)
--- ```
M.time = native.time

--- Returns when the nearest limit around the running code ends, on the clock of `leat.now`; nil without a
--- limit.
--- without a limit.
---@return number|nil
--- ```lua
--- assert(leat.deadline() == nil)
--- wait_for(5, function() assert(leat.deadline() - leat.now() <= 5) end)
--- ```
M.deadline = native.deadline

local Tasks = {}
Tasks.__index = Tasks

local function describe(t)
    local what = t.status
    if t.waiting then
        what = ("waiting in %s%s for " .. (t.since < 100 and "%.2f" or "%.0f") .. " s"):format(t.waiting,
            t.detail ~= "" and " (" .. t.detail .. ")" or "", t.since)
    end
    local at = t.at and " at " .. t.at or t.status == "new" and " at its start" or ""
    return ("task %d (%s)%s: %s"):format(t.id, scrubbed(t.name), at, what)
end

function Tasks:__tostring()
    local lines = {}
    for i, t in ipairs(self) do
        lines[i] = describe(t)
    end
    return table.concat(lines, "\n")
end

-- Internal: the report of a run that cannot continue.
function Tasks:_stuck()
    return lazy_require("leat.internal.deadlock").report(self, describe)
end

-- Internal: called now and then with -v.
function Tasks:_tell_waits(seconds)
    for _, line in ipairs(lazy_require("leat.internal.deadlock").long_waits(self, describe, seconds)) do
        lazy_require("leat.log").debug(line)
    end
end

--- Returns what every live task is doing. Use it to find out why a program hangs.
---@return leat.task_list list of {id, name, status, waiting, detail, since (s), at ("file:line"), parent,
---member (of a gather, a group or similar)}; print it or use tostring
--- ```lua
--- local t = spawn(sleep, 5)
--- sleep(0)
--- local list = leat.tasks()
--- assert(#list == 2 and tostring(list):find "waiting in sleep")
--- t:cancel()
--- ```
function M.tasks()
    return setmetatable(native.tasks(), Tasks)
end

--- Returns gauges and counters of this runtime: tasks, timers, memory, transfers. For tests and monitoring.
---@return leat.runtime_stats
--- ```lua
--- assert(leat.stats().tasks == 1)
--- ```
M.stats = native.stats

return M
