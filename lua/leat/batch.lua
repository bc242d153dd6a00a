-- Batches with a barrier between them.
local check = require "leat.check"
local gather = require "leat.gather"
local policy = require "leat.policy"
local task = require "leat.task"

local M = {}

-- The next `size` items, from `from` on (a list) or from an iterator; nil when there are none left.
local function next_slice(items, size, from)
    local slice = {}
    for i = 1, size do
        local item
        if type(items) == "table" and not (getmetatable(items) or {}).__call then
            item = items[from + i]
        else
            item = items()
        end
        if item == nil then
            break
        end
        slice[i] = item
    end
    return #slice > 0 and slice or nil
end

local ROWS = { size = "number", interval = "number", settle = "boolean", on_batch = "function" }

--- Calls `fn(item, index)` for every item, a batch of them at a time: the next begins `interval` seconds
--- after the last of the one before has ended.
---@param items table|function a list, or an iterator function
---@param opts table|nil size (10), interval (0.5 s); on_batch(n, results) is told of each batch's own
---results; settle (true): false stops at the first failure
---@param fn function
---@return table results as from `leat.map` with settle: in the order of the items, with n; a failure stands
---at its place as {ok=false, err=}, a value as {ok=true, value=}. With settle=false the plain values; or nil,
---err as from map
---
--- One slow call holds up its whole batch. `leat.map(items, fn, {limit=10})` starts the next as soon as one
--- has ended: prefer it where no pause is wanted. No wait after the last batch.
--- ```lua
--- local r = leat.batch({ 1, 2, 3 }, { size = 2, interval = 0.01 }, function(x)
---     if x == 2 then return nil, "two" end
---     return x * x
--- end)
--- assert(r.n == 3 and r[1].value == 1 and r[2].err.message == "two" and r[3].value == 9)
--- ```
function M.batch(items, opts, fn)
    if type(opts) == "function" then -- in the order of map
        opts, fn = fn, opts
    end
    opts = check.options("batch", opts, ROWS)
    check.callable("batch", "the last argument", fn)
    if type(items) ~= "table" then
        check.callable("batch", "the items, unless a list,", items)
    end
    local size = policy.count("batch", opts, "size", 10)
    local interval = policy.number("batch", opts, "interval", 0.5)
    local settle = opts.settle ~= false
    local all, done, number = {}, 0, 0
    local slice = next_slice(items, size, 0)
    while slice do
        local before = done
        local results, err = gather.map(slice, function(item, i)
            return fn(item, before + i)
        end, { limit = size, settle = settle })
        for i = 1, #slice do
            all[done + i] = (results or err.partial)[i]
        end
        done, number = done + #slice, number + 1
        all.n = done
        if not results then
            err.partial = all
            return nil, err
        elseif opts.on_batch then
            opts.on_batch(number, results)
        end
        slice = next_slice(items, size, done)
        if slice then
            task.sleep(interval)
        end
    end
    all.n = done
    return all
end

return M
