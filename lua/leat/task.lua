-- Tasks: waiting, spawning, limits and clean-up.
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

--- Waits. The other tasks run meanwhile.
---@param seconds number 0 or more; 0 lets every other ready task run once
---@return true
---
--- Never returns early (monotonic clock). Raises for a negative or NaN time, and the cancel if the task is
--- cancelled.
--- ```lua
--- local before = leat.now()
--- sleep(0.01)
--- assert(leat.now() - before >= 0.01)
--- ```
function M.sleep(seconds)
    return await(native.sleep(seconds))
end

--- Internal. Waits until the clock of `now` shows `at`; returns at once if it does already. The policies wait
--- by this only. `sleep(at - now())` is wrong wherever `at` was compared with an earlier reading of the
--- clock: time may pass between the two readings, and the difference is then negative.
---@param at number
function M.sleep_until(at)
    local left = at - native.now()
    if left > 0 then
        M.sleep(left)
    end
end

--- Starts `fn(...)` as a child of the running task. It begins when the running task next waits.
---@param fn function
---@param ... any its arguments
---@return leat.task task with await, cancel, status, name, id
---
--- A task ends only when its children have ended. A child's failure that nobody awaits becomes the
--- parent's result; a child's bug cancels the parent at once and is raised there.
--- ```lua
--- local t = spawn(function(a, b) sleep(0) return a + b end, 1, 2)
--- assert(t:await() == 3)
--- ```
function M.spawn(fn, ...)
    return native.spawn(fn, ...)
end

--- Waits for the task to end.
---@return any ... its values; or nil, err if it failed or was cancelled; a bug is raised again here
--- ```lua
--- local t = spawn(function() return nil, "no such thing" end)
--- local v, err = t:await()
--- assert(v == nil and err.kind == "script" and err.cause == "no such thing")
--- ```
function Task:await()
    return await(await_start(self))
end

--- Asks the task and all below it to stop: what they wait for is given up, and each of their waits raises the
--- cancel until they have ended. Returns at once; `await` waits for the end. Harmless if it has ended.
---@param reason? string a text for the error of kind "cancelled"
--- ```lua
--- local t = spawn(sleep, 100)
--- t:cancel "no longer needed"
--- local v, err = t:await()
--- assert(v == nil and err.kind == "cancelled" and err.message == "no longer needed")
--- ```
-- Task:cancel is in C.

--- A word for how the task stands.
---@return leat.task_status status "new", "ready", "running", "waiting", "joining" (its function has ended,
--- its children have not); and once it has ended "ok", "failed", "raised" (a bug) or "cancelled"
--- ```lua
--- local t = spawn(sleep, 0)
--- assert(t:status() == "new" and t:await() and t:status() == "ok")
--- ```
-- Task:status is in C.

--- Runs `fn(...)` (or awaits a task) with a limit of `seconds`.
---@param seconds number
---@param fn function|leat.task a function, or a task
---@param ... any arguments for the function
---@return any ... its values; or nil, err of kind "timeout" (err.limit, err.at)
---
--- When the limit passes, the call is cancelled and its clean-up waited for. A result of the same tick
--- wins over the timeout; a cancel from outside wins over both. An earlier limit of an enclosing wait_for
--- holds too.
--- ```lua
--- local v, err = wait_for(0.01, sleep, 5)
--- assert(v == nil and err.kind == "timeout" and err.limit == 0.01)
--- assert(wait_for(5, function() return "quick" end) == "quick")
--- ```
function M.wait_for(seconds, fn, ...)
    return await(native.wait_for(seconds, fn, ...))
end

--- Runs `fn(...)` out of reach of any cancel, for at most `seconds`.
---@param seconds number delays an outer limit by at most this much
---@param fn function
---@param ... any
---@return any ... its values; or nil, err of kind "timeout"
---
--- Inside another shield the smaller limit holds. A cancel that came meanwhile is raised at the next wait.
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
    entry.begun = true -- before it waits: an abandoned task's are not run twice
    return entry.fn()
end

-- The outcome of a clean-up, as by pcall. It is out of reach of any cancel; without memory for that, and
-- where nothing can wait, it runs within their reach.
local function clean_up(entry)
    for _ = 1, 2 do -- what the task has left behind may have been collected in between
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
    if entry.begun then -- else it is left to the end of the task
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
    if clean_failure ~= nil and not rawequal(clean_failure, first_error) then -- it may come again
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

--- Runs `fn()` and then `cleanup()`, however fn ends: a value, a failure, a bug or a cancel.
---@param fn function
---@param cleanup function shielded from cancels for `grace` seconds: it may wait
---@param grace? number seconds, default 5
---@return any ... what fn returned; what fn raised is raised again
---
--- A failure of the clean-up is attached as err.cleanup to fn's own; if fn succeeded it is the result.
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

-- What the scheduler runs for a task that was abandoned, or had no memory: what is left of its clean-ups,
-- last first.
native.set_cleanup_runner(function(stack)
    for i = #stack, 1, -1 do
        local entry = stack[i]
        if type(entry) ~= "table" then
            pcall(entry._give, entry) -- a semaphore held by `with`
        elseif not entry.begun then
            local ok, value, err = clean_up(entry)
            if not ok or value == nil and err ~= nil then
                log("a clean-up of an abandoned task failed: " .. tostring(ok and err or value))
            end
        end
    end
end)

--- Monotonic seconds; the zero point means nothing.
---@return number
--- ```lua
--- assert(leat.now() <= leat.now())
--- ```
M.now = native.now

--- Wall-clock seconds since 1970, with a fraction.
---@return number
--- ```lua
--- assert(leat.time() > 1.7e9)
--- ```
M.time = native.time

--- The moment (on the clock of `leat.now`) at which the innermost enclosing limit passes.
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

-- Internal: what the runtime tells of a run that cannot go on.
function Tasks:_stuck()
    return lazy_require("leat.internal.deadlock").report(self, describe)
end

-- Internal: with -v, now and then.
function Tasks:_tell_waits(seconds)
    for _, line in ipairs(lazy_require("leat.internal.deadlock").long_waits(self, describe, seconds)) do
        lazy_require("leat.log").debug(line)
    end
end

--- What every live task is doing: the answer to "why is it stuck?".
---@return leat.task_list list of {id, name, status, waiting, detail, since (s), at ("file:line"), parent,
---member (of a gather, a group or the like)}; printable
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

--- Gauges and counters of this runtime: tasks, timers, memory, transfers. For tests and monitoring.
---@return leat.runtime_stats
--- ```lua
--- assert(leat.stats().tasks == 1)
--- ```
M.stats = native.stats

return M
