-- A run of a pipeline over many items: it decides when items start, and collects their results.
local check = require "leat.internal.check"
local await = require "leat.internal.await"
local draw = require "leat.internal.producer"
local errors = require "leat.error"
local gather = require "leat.gather"
local items = require "leat.pipeline.item"
local logger = require "leat.log"
local no_result = require "leat.internal.no_result"
local policy = require "leat.policy.common"
local progress = require "leat.pipeline.progress"
local results_of = require "leat.internal.results"
local sync = require "leat.sync"
local tally = require "leat.pipeline.stats"
local task = require "leat.task"

local group = require("leat.native.task").group

-- Items that wait between two attempts hold no place. But there may be at most this many of them.
local MOST_BETWEEN = 1000

local M = {}

local Run = {}
Run.__index = Run

-- Wakes the drawing task, so that it checks again whether another item may start.
function Run:nudge()
    self.room:set()
end

-- Returns an iterator over `list` (a list or an iterator function), and the number of items if it is known.
function M.draw_from(who, list)
    if check.is_list(who, list) then
        local i, n = 0, #list
        return function()
            i = i + 1
            return list[i]
        end, n
    end
    return list
end

-- Returns true if another item may start; otherwise false and the reason.
local function room(self)
    local pipe = self.pipe
    local active = self.running - self.between
    local limit = pipe.adaptive and pipe.adaptive.limit or pipe.limit
    if pipe.batch and self.in_batch >= pipe.batch.size then
        return false, "batch"
    elseif active >= limit or self.running >= limit + MOST_BETWEEN then
        return false, "room"
    end
    return true
end

local function block(self, why)
    local tallies, at = self.tallies, task.now()
    for i = 1, #tallies do
        tallies[i]:block(why, at)
    end
end

local function tell(self, index, ok, value, item)
    local results = self.results
    if results and ok then
        results[index] = value
        self.has_value = self.has_value or value ~= nil
    elseif results then
        results.errors[index] = value
    end
    if self.on_result then
        if ok then
            self.on_result(index, value, nil, item)
        else
            self.on_result(index, nil, value, item)
        end
    end
end

-- Returns the index of the next item to call, the item, and its key in the journal; nil if there is none.
local function next_item(self)
    local journal = self.journal
    while self.drawn ~= self.total do
        if not self.fed and sync.stopping:is_set() or journal and journal.broken then
            self.interrupted = true
            return nil
        end
        local item = self.draw()
        if item == nil and not self.total then -- a hole in a list counts as an item
            return nil
        end
        local index = self.drawn + 1
        self.drawn = index
        if not journal then
            return index, item
        end
        local key = journal:key(item, index)
        local done, value = journal:known(key)
        if not done then
            return index, item, key
        end
        for _, t in ipairs(self.tallies) do
            t:ended "resumed"
        end
        self.pipe.outcomes:ended "resumed"
        tell(self, index, true, value, item)
    end
end

local function start(self, item, index, key)
    local job = items.job(self.pipe, self, self.tallies, self.fn, item, index)
    self.in_batch = self.in_batch + 1
    self.jobs[index] = job
    self.running = self.running + 1
    local t
    if key then
        t = self.group:spawn(index, self.journal.keep, self.journal, key, items.whole, self.pipe, job)
    else
        t = self.group:spawn(index, items.whole, self.pipe, job)
    end
    t.name = "item " .. index
end

-- The body of the task that draws the items.
local function draw_all(self)
    while true do
        local free, why = room(self)
        if free or self.drawn == self.total then
            if not self.total then
                block(self, "items") -- because the next item may have to be waited for
            end
            local index, item, key = next_item(self)
            if index == nil then
                return block(self, nil)
            end
            start(self, item, index, key)
        else
            block(self, why)
            if why == "batch" and self.running == 0 then
                task.sleep(self.pipe.batch.interval)
                self.in_batch = 0
            else
                self.room:clear()
                self.room:wait()
            end
        end
    end
end

-- The policy that an item was in when its task raised an error outside of the script's own function.
local POLICY = {
    pending = "retry or the breaker", rate = "rate limiter", slot = "concurrency limit",
    answered = "policies, after the answer,", between = "retry",
}

-- A bug ends the run. Its traceback shows only lines of the script. This warning names the item and the
-- policy.
local function warn_of_bug(self, index)
    local job = self.jobs[index]
    local where = job and POLICY[job.stage]
    if where then
        local id = type(job.item) == "table" and job.item.custom_id -- a row of `leat batch`
        logger.warn(("pipeline: a bug in the %s ended the run, at item %d%s"):format(where, index,
            type(id) == "string" and (" (%s)"):format(id:sub(1, 80)) or ""))
    end
end

local function item_ended(self, index, status, value)
    local job = self.jobs[index]
    self.jobs[index] = nil
    local journal = self.journal
    if not (journal and journal.broken and status ~= "ok" and job.calls == 0 and not self.total) then
        items.book(job, status ~= "ok" and value or nil)
    end -- otherwise it is not counted, like items of an iterator that were never drawn
    tell(self, index, status == "ok", value, job.item)
    if self.progress then
        self.progress:poke()
    end
end

local function loop(g, self)
    draw.start(g, not self.fed and function()
        self.interrupted = true
    end, draw_all, self)
    while true do
        local t, index, status, value = await(g:next_start())
        if not t then
            return nil
        elseif status == "raised" then
            warn_of_bug(self, index)
            return t
        elseif index > 0 then
            self.running = self.running - 1
            item_ended(self, index, status, value)
            self.room:set()
        else
            draw.ended(status, value)
        end
    end
end

-- Ends the items of a list that were not started because of an interrupt.
local function skip_rest(self)
    local rest = (self.total or 0) - self.drawn
    if rest <= 0 then
        return
    end
    local function not_started()
        return errors.new { kind = "cancelled", reason = "stopping",
            message = "not started: the run was interrupted" }
    end
    for i = self.drawn + 1, self.results and self.total or 0 do
        self.results.errors[i] = not_started()
    end
    items.book({ tallies = self.tallies, outcomes = self.pipe.outcomes, calls = 0 }, not_started(), rest)
    self.drawn = self.total
end

-- Calls fn for everything that next_one() returns. Returns the results and the stats, or only the stats if
-- `keep` is not set. Returns nil, err on failure.
function M.execute(self, journal, next_one, total, fn, keep)
    local own, on_result = tally.new(self.price), self.on_result
    if journal and on_result then
        on_result = draw.serial(on_result)
    end
    local run = setmetatable({
        pipe = self, fn = fn, journal = journal, draw = next_one, total = total, fed = sync._is_fed(next_one),
        tallies = { own, self.tally }, on_result = on_result,
        group = group(), room = sync.event(), running = 0, between = 0, drawn = 0,
        in_batch = 0, jobs = {},
        results = keep and results_of.list { errors = results_of.failures {} } or nil,
    }, Run)
    self.outcomes.runs = self.outcomes.runs + 1
    if self.progress then
        run.progress = progress.new(self.progress, own, total)
        run.progress:begin()
    end
    policy.run(function(ended)
        block(run, nil)
        if run.progress then
            run.progress:finish(ended and not run.interrupted and not (journal and journal.broken))
        end
    end, gather.finish_group, run.group, "another item of the same pipeline has ended it", loop, run)
    if run.interrupted then
        skip_rest(run)
    end
    local stats = own:stats()
    stats.interrupted = run.interrupted
    local results = run.results
    if results then
        results.n = run.drawn
        if own.ok > 0 and not run.has_value and not on_result then
            no_result.warn("pipeline:run", fn, own.ok,
                "pipeline:each, and a pipeline's on_result, are for functions without one")
        end
    end
    if journal and journal.broken then
        journal.broken.partial = results
        return nil, journal.broken
    elseif results then
        return results, stats
    end
    return stats
end

return M
