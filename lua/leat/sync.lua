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
-- These are called as functions, so that they can report a wrong `self`.
local acquire_start, put_start, get_start = Semaphore._acquire_start, Queue._put_start, Queue._get_start
local wait_start, close, give = Event._wait_start, Queue.close, Semaphore._give

--- Makes a counting semaphore. Waiting tasks get permits first come, first served.
---@param n integer permits, 0 or more
---@return leat.semaphore sem with `with`, acquire, try_acquire, release, resize; and the fields limit,
---available, waiting
--- ```lua
--- local sem = semaphore(1)
--- assert(sem:with(function() return sem.available end) == 0)
--- assert(sem.available == 1)
--- ```
M.semaphore = native_sync.semaphore

local function give_back(sem, stack, ok, ...)
    give(sem)
    -- Only now is the entry removed: if the call above runs out of memory, the end of the task gives the
    -- permit back.
    local i, n = #stack, #stack
    while i > 1 and stack[i] ~= sem do -- the last entry, unless generators end in another order
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

--- Takes a permit, runs `fn(...)` and gives the permit back, however fn ends. Prefer this to acquire and
--- release.
---@param fn function
---@param ... any
---@return any ... the values of fn
function Semaphore:with(fn, ...)
    check.callable("with", "the first argument", fn)
    local stack = native_task.cleanups() -- made first: nothing may fail after the permit was taken
    await(acquire_start(self))
    -- If the task is abandoned, its clean-ups give the permit back.
    stack[#stack + 1] = self
    return give_back(self, stack, xpcall(fn, bug.note, ...))
end

--- Waits for a permit and takes it. The permit belongs to no task: any task may release it.
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

--- Takes a permit if one is free and no task waits for it. Does not wait.
---@return boolean taken
--- ```lua
--- local sem = semaphore(1)
--- assert(sem:try_acquire() and not sem:try_acquire())
--- sem:release()
--- ```
-- Semaphore:try_acquire is in C.

--- Gives a permit back. The task that has waited for longest gets it. Raises if all permits are back
--- already.
--- ```lua
--- local sem = semaphore(1)
--- sem:acquire()
--- sem:release()
--- assert(not pcall(sem.release, sem))
--- ```
-- Semaphore:release is in C.

--- Changes the number of permits. Permits that are in use stay valid. If there are too many of them, no
--- new ones are given until enough are back.
---@param n integer permits, 0 or more
--- ```lua
--- local sem = semaphore(1)
--- sem:resize(5)
--- assert(sem.limit == 5 and sem.available == 5)
--- ```
-- Semaphore:resize is in C.

--- Makes a queue that passes items between tasks.
---@param capacity? integer how many items it holds before `put` waits; default: no limit
---@return leat.queue queue with put, get, try_put, try_get, close, iter; fields size, capacity, closed
--- ```lua
--- local q = leat.queue(2)
--- spawn(function() for i = 1, 5 do q:put(i) end q:close() end)
--- local sum = 0
--- for v in q:iter() do sum = sum + v end
--- assert(sum == 15)
--- ```
M.queue = native_sync.queue

--- Adds an item at the end. Waits while the queue is full.
---@param item any not nil
---@param timeout? number seconds
---@return true|nil done
---@return leat.error? err kind "timeout", or "closed"
function Queue:put(item, timeout)
    return await(put_start(self, item, timeout))
end

--- Takes the first item. Waits while the queue is empty.
---@param timeout? number seconds
---@return any item nil if the queue is closed and empty; nil, err if it was closed with an error, or
---after the timeout (kind "timeout")
---@return leat.error? err
function Queue:get(timeout)
    return await(get_start(self, timeout))
end

--- Adds an item if there is room. Does not wait.
---@param item any not nil
---@return boolean added false: the queue is full or closed
--- ```lua
--- local q = leat.queue(1)
--- assert(q:try_put "a" and not q:try_put "b")
--- ```
-- Queue:try_put is in C.

--- Takes the first item if there is one. Does not wait.
---@return any item or nil
--- ```lua
--- local q = leat.queue()
--- assert(q:try_get() == nil and q:put "a" and q:try_get() == "a")
--- ```
-- Queue:try_get is in C.

--- Closes the queue. No more items can be put; the items in it can still be taken. Closing again does
--- nothing.
---@param err? any the error that `get` returns after nil, and `iter` raises, once the queue is empty. A
---value that is not an error value becomes one of kind "script"
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

--- Iterates over the items until the queue is closed and empty. If it was closed with an error, raises
--- the error then.
---@return fun(): any iterator
---
--- A pipeline, map or each that takes its items from this iterator does not stop at the first Ctrl-C. It
--- goes on until the queue is closed and empty. So two pipelines that are connected by a queue end in
--- order: the first one starts no new items and ends; then the queue is closed; and the second one
--- handles the items that are left.
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

-- Internal: returns true if `items` is an iterator over a queue. After a Ctrl-C, the task that puts items
-- in closes the queue; a consumer continues until then.
function M._is_fed(items)
    return iterators[items] == true
end

--- Makes an event: a flag that tasks can wait for.
---@return leat.event event with set, clear, wait([timeout]), is_set
--- ```lua
--- local e = leat.event()
--- spawn(function() e:set() end)
--- assert(e:wait() == true and e:is_set())
--- ```
M.event = native_sync.event

--- Sets the flag. All tasks that wait for it continue, and later waits return at once.
--- ```lua
--- local e = leat.event()
--- e:set()
--- assert(e:wait() == true)
--- ```
-- Event:set is in C.

--- Clears the flag, so that `wait` waits again.
--- ```lua
--- local e = leat.event()
--- e:set()
--- e:clear()
--- assert(not e:is_set())
--- ```
-- Event:clear is in C.

--- Returns true if the flag is set.
---@return boolean
--- ```lua
--- assert(leat.event():is_set() == false)
--- ```
-- Event:is_set is in C.

--- An event that the first Ctrl-C sets. A task with long work waits for it, or calls `leat.is_stopping`,
--- and then starts nothing new and ends. Do not use the event itself as a condition: it is an object, so
--- it is always true.
--- ```lua
--- local stopped, err = leat.stopping:wait(0.01) -- a sleep that the first Ctrl-C ends
--- assert(stopped == nil and err.kind == "timeout")
--- ```
M.stopping = native_sync.event(true)

--- Returns true after the first Ctrl-C.
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
