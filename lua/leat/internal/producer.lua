-- Draws items in a separate task. An iterator may wait, for example for a queue or a stream; items that end
-- meanwhile must not have to wait for it. The task is member 0 of a group.
local sync = require "leat.sync"
local native = require "leat.native.task"

local await = require "leat.internal.await"

local M = {}

-- Starts body(...). With on_stop: once leat.stopping is set, on_stop is called and the body is cancelled.
function M.start(group, on_stop, body, ...)
    local drawing
    drawing = group:spawn(0, not on_stop and body or function(...)
        local watch = native.spawn(function()
            sync.stopping:wait()
            on_stop()
            drawing:cancel("stopping")
        end)
        body(...)
        watch:cancel()
    end, ...)
    drawing.name = "drawing the items"
end

-- Call this with the result of the task when it has ended. It raises an error unless the task succeeded, or
-- was cancelled because leat.stopping is set.
function M.ended(status, value)
    if status ~= "ok" and not (status == "cancelled" and sync.stopping:is_set()) then
        error(value, 0)
    end
end

local function spawn_all(places, group, next_job)
    while true do
        await(places:_acquire_start())
        local index, fn, a, b, c, d = next_job()
        if index == nil then
            return
        end
        group:spawn(index, fn, a, b, c, d)
    end
end

-- Starts the jobs that next_job() returns (index, fn, a, b, c, d; nil means no more) as members of the group.
-- Each job waits for one of `limit` places first. The semaphore's give returns a place.
function M.jobs(group, on_stop, next_job, limit)
    local places = sync.semaphore(math.min(limit, 2 ^ 31))
    M.start(group, on_stop, spawn_all, places, group, next_job)
    return places
end

-- Returns a function that calls fn, one call at a time. The drawing task also uses it for items that need no
-- task.
function M.serial(fn)
    local turn = sync.semaphore(1)
    return function(...)
        return turn:with(fn, ...)
    end
end

return M
