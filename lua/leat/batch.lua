-- Batches: the next batch begins only when all calls of the one before have ended.
local check = require "leat.internal.check"
local expected = require "leat.internal.expected"
local gather = require "leat.gather"
local policy = require "leat.policy.common"
local results = require "leat.internal.results"
local task = require "leat.task"

local M = {}

local ROWS = {
    size = "number", interval = "number", settle = "boolean", on_batch = "function", journal = true,
    accept = true,
}

-- The next `size` jobs, {index, fn, item}; nil when there are none left.
local function next_slice(next_job, size)
    local slice = {}
    for i = 1, size do
        local index, fn, item = next_job()
        if index == nil then
            break
        end
        slice[i] = { index = index, fn = fn, item = item }
    end
    return #slice > 0 and slice or nil
end

local function call(job)
    return job.fn(job.item, job.index)
end

local function run(journal, next_job, size, interval, settle, on_batch)
    local all, last, number = results.list {}, 0, 0
    local function put(index, slot)
        all[index] = slot
        last = math.max(last, index)
    end
    if journal then
        next_job = journal:jobs(next_job, function(index, value)
            if settle then
                value = { ok = true, value = value }
            end
            put(index, value)
        end)
    end
    local slice = next_slice(next_job, size)
    local err
    while slice and not err do
        local part
        part, err = gather.map(slice, call, { limit = size, settle = settle })
        local slots = part or err.partial
        for i = 1, #slice do
            put(slice[i].index, slots[i])
        end
        number = number + 1
        if not err and on_batch then
            on_batch(number, part)
        end
        slice = not err and next_slice(next_job, size)
        if slice then
            task.sleep(interval)
        end
    end
    all.n = last
    err = err or journal and journal:stopped()
    if err then
        err.partial = all
        return nil, err
    end
    return all
end

--- Calls `fn(item, index)` for every item, one batch of items at a time. The next batch begins `interval`
--- seconds after the last call of the batch before has ended.
---@param items table|function a list, or an iterator function
---@param opts leat.batch_options|nil size (10) and interval (0.5 s); on_batch(n, results) is called after
---each batch with the results of that batch; settle (true; false stops at the first failure); journal as
---for `leat.map`; accept as for `leat.pipeline`
---@param fn function
---@return leat.results|nil results in the order of the items, with n. Each value is {ok=true, value=} and
---each failure is {ok=false, err=}, as from `leat.map` with settle. With settle=false the results are
---the plain values, or nil, err as from map
---@return leat.error? err
---
--- One slow call delays its whole batch. `leat.map(items, fn, {limit=10})` starts the next call as soon
--- as one has ended, so prefer it unless you need the pause. There is no pause after the last batch.
--- ```lua
--- local r = leat.batch({ 1, 2, 3 }, { size = 2, interval = 0.01 }, function(x)
---     if x == 2 then return nil, "two" end
---     return x * x
--- end)
--- assert(r.n == 3 and r[1].value == 1 and r[2].err.message == "two" and r[3].value == 9)
---
--- r = leat.batch({ "/ok", "/status?code=404" }, {}, function(path) return request(url .. path) end)
--- assert(r[1].value.ok and not r[2].ok and r[2].err.status == 404)
--- ```
function M.batch(items, opts, fn)
    if type(opts) == "function" then -- the arguments are in the order of map
        opts, fn = fn, opts
    end
    opts = check.options("batch", opts, ROWS)
    check.callable("batch", "the last argument", fn)
    local size = policy.count("batch", opts, "size", 10)
    local interval = policy.number("batch", opts, "interval", 0.5)
    local settle = opts.settle ~= false
    local accept = opts.accept ~= nil and expected.compile(opts.accept, "batch", "accept") or nil
    local jobs = gather.judged_jobs(gather.item_jobs("batch", items, fn), accept)
    -- Records where the items come from: leat.internal.unseen warns about responses that nobody looked at.
    local scope = { item = check.where(), outer = policy.scope() }
    return gather.with_journal("batch", opts, true, function(journal)
        local all, err = policy.within(scope, run, journal, jobs, size, interval, settle, opts.on_batch)
        if all and not opts.on_batch then
            require("leat.internal.no_result").look("batch", fn, all, settle)
        end
        return all, err
    end)
end

return M
