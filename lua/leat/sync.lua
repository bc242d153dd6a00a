-- Semaphore, queue and event.
local bug = require "leat.internal.bug"
local await = require "leat.internal.await"
local native_sync = require "leat.native.sync"
local native_task = require "leat.native.task"
local check = require "leat.internal.check"
local errors = require "leat.error"

local M = {}

local Semaphore, Queue = native_sync.semaphore_methods, native_sync.queue_methods
local Event = native_sync.event_methods
setmetatable(Semaphore, { __index = check.foreign "semaphore" })
setmetatable(Queue, { __index = check.foreign "queue" })
setmetatable(Event, { __index = check.foreign("event", "an event") })
-- Called as functions, so that they can say what is wrong with `self`.
local acquire_start, put_start, get_start = Semaphore._acquire_start, Queue._put_start, Queue._get_start
local wait_start, close, give = Event._wait_start, Queue.close, Semaphore._give

--- A counting semaphore; those who wait are served first come, first served.
---@param n integer permits, 0 or more
---@return leat.semaphore sem with `with`, acquire, try_acquire, release, resize; fields limit, available,
---waiting
--- ```lua
--- local sem = semaphore(1)
--- assert(sem:with(function() return sem.available end) == 0)
--- assert(sem.available == 1)
--- ```
M.semaphore = native_sync.semaphore

local function give_back(sem, stack, ok, ...)
    give(sem)
    -- After that: where there is no memory for the call, the end of the task gives it back.
    local i, n = #stack, #stack
    while i > 1 and stack[i] ~= sem do -- where generators end in another order than they began
        i = i - 1
    end
    for k = i, n do
        stack[k] = stack[k + 1]
    end
    if ok then
        return ...
    end
    error((...), 0)
end

--- Runs `fn(...)` holding a permit, which is given back however fn ends. The form to use.
---@param fn function
---@param ... any
---@return any ... what fn returns
function Semaphore:with(fn, ...)
    check.callable("with", "the first argument", fn)
    local stack = native_task.cleanups() -- made before: with the permit taken nothing may fail
    await(acquire_start(self))
    -- Should the task be abandoned, its clean-ups give the permit back.
    stack[#stack + 1] = self
    return give_back(self, stack, xpcall(fn, bug.note, ...))
end

--- Takes a permit, waiting for it. It belongs to nobody: any task may release it.
---@param timeout? number seconds
---@return true|nil done
---@return leat.error? err kind "timeout"
--- ```lua
--- local sem = semaphore(1)
--- sem:acquire()
--- local ok, err = sem:acquire(0.01)
--- assert(ok == nil and err.kind == "timeout")
--- sem:release()
--- ```
function Semaphore:acquire(timeout)
    local ok, err = await(acquire_start(self, timeout))
    if ok then
        self:_held()
    end
    return ok, err
end

--- Takes a permit if one is free and nobody waits for it.
---@return boolean taken
--- ```lua
--- local sem = semaphore(1)
--- assert(sem:try_acquire() and not sem:try_acquire())
--- sem:release()
--- ```
-- Semaphore:try_acquire is in C.

--- Gives a permit back; whoever has waited the longest gets it. Raises if all of them are back already.
--- ```lua
--- local sem = semaphore(1)
--- sem:acquire()
--- sem:release()
--- assert(not pcall(sem.release, sem))
--- ```
-- Semaphore:release is in C.

--- Changes how many permits there are. Those that are out stay so: fewer are handed out until it fits.
---@param n integer permits, 0 or more
--- ```lua
--- local sem = semaphore(1)
--- sem:resize(5)
--- assert(sem.limit == 5 and sem.available == 5)
--- ```
-- Semaphore:resize is in C.

--- A queue between tasks.
---@param capacity? integer how many items it holds before `put` waits; unbounded without
---@return leat.queue queue with put, get, try_put, try_get, close, iter; fields size, capacity, closed
--- ```lua
--- local q = leat.queue(2)
--- spawn(function() for i = 1, 5 do q:put(i) end q:close() end)
--- local sum = 0
--- for v in q:iter() do sum = sum + v end
--- assert(sum == 15)
--- ```
M.queue = native_sync.queue

--- Adds an item at the end, waiting while the queue is full.
---@param item any not nil
---@param timeout? number seconds
---@return true|nil done
---@return leat.error? err kind "timeout", or "closed"
function Queue:put(item, timeout)
    return await(put_start(self, item, timeout))
end

--- Takes the first item, waiting for one.
---@param timeout? number seconds
---@return any item nil at the end of a closed and empty queue; nil, err if it was closed with an error,
--- or of kind "timeout"
---@return leat.error? err
function Queue:get(timeout)
    return await(get_start(self, timeout))
end

--- Adds an item if there is room; waits for nothing.
---@param item any not nil
---@return boolean added false: the queue is full or closed
--- ```lua
--- local q = leat.queue(1)
--- assert(q:try_put "a" and not q:try_put "b")
--- ```
-- Queue:try_put is in C.

--- Takes the first item if there is one; waits for nothing.
---@return any item or nil
--- ```lua
--- local q = leat.queue()
--- assert(q:try_get() == nil and q:put "a" and q:try_get() == "a")
--- ```
-- Queue:try_get is in C.

--- Closes the queue: nothing more can be put, and what is in it can still be taken. A second time does
--- nothing.
---@param err? any what `get` returns behind nil, and `iter` raises, once the queue is empty; what is no error
---value becomes one of kind "script"
--- ```lua
--- local q = leat.queue()
--- q:put "last"
--- q:close "the source broke"
--- assert(q:get() == "last")
--- local item, err = q:get()
--- assert(item == nil and err.kind == "script" and err.message == "the source broke")
--- ```
function Queue:close(err)
    if err ~= nil then
        err = errors.wrap(err)
    end
    close(self, err)
end

local iterators = setmetatable({}, { __mode = "k" })

--- Iterates over the items until the queue is closed and empty. Raises the error it was closed with.
---@return fun(): any iterator
---
--- A pipeline, map or each that draws from this iterator goes on after the first Ctrl-C until the queue is
--- closed and empty. So two pipelines that are joined by a queue end in order: the first one starts nothing
--- new and ends, the queue is closed, and the second one works off what is left.
--- ```lua
--- local fetch, store, q = leat.pipeline {}, leat.pipeline {}, leat.queue(10)
--- local _, stored = unpack(gather {
---     function()
---         return leat.finally(function()
---             return fetch:each({ 1, 2, 3 }, function(x) return q:put(x * x) end)
---         end, function() q:close() end)
---     end,
---     function() return store:each(q:iter(), function(x) return x end) end,
--- })
--- assert(stored.ok == 3)
--- ```
function Queue:iter()
    if type(self) ~= "userdata" then
        check.fail "queue:iter: call it with a colon, as in queue:iter()"
    end
    local function iterator()
        local item, err = self:get()
        if item == nil and err ~= nil then
            error(err, 0)
        end
        return item
    end
    iterators[iterator] = true
    return iterator
end

-- Internal: whether `items` is an iterator over a queue. Whoever puts the items in closes it after a Ctrl-C,
-- so who draws from it goes on until then.
function M._is_fed(items)
    return iterators[items] == true
end

--- A flag to wait for.
---@return leat.event event with set, clear, wait([timeout]), is_set
--- ```lua
--- local e = leat.event()
--- spawn(function() e:set() end)
--- assert(e:wait() == true and e:is_set())
--- ```
M.event = native_sync.event

--- Sets the flag: whoever waits for it goes on, and so does whoever comes later.
--- ```lua
--- local e = leat.event()
--- e:set()
--- assert(e:wait() == true)
--- ```
-- Event:set is in C.

--- Takes the flag back: `wait` waits again.
--- ```lua
--- local e = leat.event()
--- e:set()
--- e:clear()
--- assert(not e:is_set())
--- ```
-- Event:clear is in C.

--- Whether the flag is set.
---@return boolean
--- ```lua
--- assert(leat.event():is_set() == false)
--- ```
-- Event:is_set is in C.

--- An event that the first Ctrl-C sets. Long work waits for it, or asks `leat.is_stopping`, to start nothing
--- new and come to an end. As a condition it is always true, because it is an object.
--- ```lua
--- local stopped, err = leat.stopping:wait(0.01) -- a sleep that the first Ctrl-C ends
--- assert(stopped == nil and err.kind == "timeout")
--- ```
M.stopping = native_sync.event(true)

--- Whether the first Ctrl-C has come.
---@return boolean
--- ```lua
--- local rounds = 0
--- while not leat.is_stopping() and rounds < 3 do
---     rounds = rounds + 1
---     sleep(0.01)
--- end
--- assert(rounds == 3)
--- ```
function M.is_stopping()
    return M.stopping:is_set()
end

--- Waits until the event is set.
---@param timeout? number seconds
---@return true|nil done
---@return leat.error? err kind "timeout"
function Event:wait(timeout)
    return await(wait_start(self, timeout))
end

return M
