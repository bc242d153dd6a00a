-- Drawing items in a task of its own: an iterator may wait itself, for a queue or a stream, and what ends
-- meanwhile must not wait with it. The task is member 0 of a group. Internal.
local sync = require "leat.sync"
local native = require "leat.native.task"

local await = require "leat.internal.await"

local M = {}

-- Starts body(...). With on_stop, it is called once leat.stopping is set, and the body cancelled.
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

-- To be told how the task has ended, unless by a bug.
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

-- Starts the jobs that next_job() hands out (index, fn, a, b, c, d; nil: no more) as members of the group,
-- each when it has one of the `limit` places. They are given back by the semaphore's give.
function M.jobs(group, on_stop, next_job, limit)
    local places = sync.semaphore(math.min(limit, 2 ^ 31))
    M.start(group, on_stop, spawn_all, places, group, next_job)
    return places
end

-- fn, which the drawing calls, too, for what needs no task: never in the midst of another call.
function M.serial(fn)
    local turn = sync.semaphore(1)
    return function(...)
        return turn:with(fn, ...)
    end
end

return M
