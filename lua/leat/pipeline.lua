-- Pipelines: many calls through all of the policies, counted and measured.
local check = require "leat.internal.check"
local lazy_require = require "leat.internal.lazy_require"
local graceful = require "leat.internal.graceful"
local expected = require "leat.internal.expected"
local gates = require "leat.policy.gate"
local gather = require "leat.gather"
local item = require "leat.pipeline.item"
local outcomes = require "leat.pipeline.outcomes"
local policy = require "leat.policy.common"
local progress = require "leat.pipeline.progress"
local runs = require "leat.pipeline.run"
local sync = require "leat.sync"
local tally = require "leat.pipeline.stats"

local M = {}

local Pipeline = check.class({}, "pipeline")
Pipeline.__index = Pipeline

function Pipeline:__tostring()
    local t = self.tally
    return ("pipeline (%d ok, %d failed, %d skipped, %d in flight)"):format(t.ok, t.failed, t.skipped, t.call)
end

--- Calls `fn(...)` through all of the policies: deadline, retry, breaker, rate, a slot, timeout.
---@param fn function
---@param ... any its arguments
---@return any ... fn's values, or nil, err: of fn, or of the policy that has refused it; also for a response
---that is not ok after all attempts, unless the pipeline accepts it (kind "http", with err.response)
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2, timeout = 5 }
--- local res = assert(pipe:call(request, url .. "/ok"))
--- assert(res.ok and pipe:stats().ok == 1)
--- ```
function Pipeline:call(fn, ...)
    policy.own(self, Pipeline, "pipeline:call")
    check.callable("pipeline:call", "the first argument", fn)
    local job = { run = { between = 0 }, tallies = { self.tally }, outcomes = self.outcomes, calls = 0 }
    return policy.run(function(ended, value, err)
        if ended then
            if value ~= nil then
                err = nil -- no failure: a second value, such as a reply
            end
            item.book(job, err)
        end
    end, policy.try, item.whole, self, job, fn, ...) -- a failure that was raised is one that was returned
end

--- What all runs and calls so far have come to.
---@return leat.stats stats
---
--- * items, and of these ok, failed, skipped (never called: the circuit was open, the time was up, or it was
---   interrupted); calls, and of these retried (not the first of their item); in_flight. An item may make
---   several requests, or none: --report and --stats count those.
--- * why_failed, why_skipped: lists of {reason=, count=}, such as {reason="status 503", count=430}, the most
---   frequent first.
--- * tokens, prompt_tokens, completion_tokens, where the calls tell (leat.openai does, and a `usage` in the
---   first two results).
--- * wall: seconds in which something was under way or an item waited for; serial: what the calls would have
---   taken one after the other; rate: items per second; p50, p95, p99 of the calls, within 2 %, without any
---   waiting here.
--- * bottleneck: which of `bounds` (seconds of the wall time by what held it up) was the longest: concurrency
---   (all slots were taken), rate, retry (waits between attempts), batch (waits for a batch to end, and
---   intervals), items (there was room, but the iterator had none yet), service (nothing here: the last calls
---   simply took so long).
---
--- tostring(stats) is a summary of a few lines.
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2 }
--- pipe:run({ 1, 2, 3, 4, 5, 6, 7 }, function(x) sleep(0.01) return x end)
--- local stats = pipe:stats()
--- assert(stats.ok == 7 and stats.p50 > 0.009 and stats.bottleneck == "concurrency")
--- assert(tostring(stats):find "7 items: 7 ok, 0 failed")
---
--- stats = pipe:each({ "/status?code=404", "/ok" }, function(path) return request(url .. path) end)
--- assert(stats.failed == 1 and stats.why_failed[1].reason == "status 404")
--- assert(tostring(stats):find "1 failed: 1 × status 404")
--- ```
function Pipeline:stats()
    policy.own(self, Pipeline, "pipeline:stats")
    return self.tally:stats()
end

local function start(self, who, items, fn, keep)
    policy.own(self, Pipeline, who)
    check.items(who, items, fn)
    local draw, total = runs.draw_from(who, items)
    return gather.with_journal(who, self, keep, function(journal)
        return graceful(runs.execute, self, journal, draw, total, fn, keep)
    end)
end

--- Calls `fn(item, index)` for every item, through all of the policies. An item is drawn only when there is
--- a slot for it; one that waits for its next attempt holds none.
---@param items table|function a list, or an iterator function
---@param fn function
---@return leat.pipeline_results|nil results fn's first results by index, with n (the number of items); and
---`errors`: the err of each item that has none, by index too. So item i has succeeded if results.errors[i]
---is nil
---@return leat.stats|leat.error stats of this run, as from pipe:stats; and interrupted: Ctrl-C has ended it
---early
---
--- An item whose result is a response that is not ok after all attempts has failed, unless the pipeline's
--- `accept` allows it: its err has kind "http", status, response, and body (its beginning). If all results
--- are nil, a warning names fn: its `return` may be missing.
---
--- A failure stops nothing; what stands in the way of a whole service is for the breaker. A bug in fn is
--- raised, after the others have been cancelled and waited for. At the first Ctrl-C nothing more is started
--- and what runs may end. nil, err only for a journal that cannot be used or written.
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2, retry = { attempts = 2, base = 0.01 } }
--- local results, stats = pipe:run({ 1, 2, 3 }, function(x)
---     if x == 2 then return nil, leat.error { kind = "closed", message = "no", retryable = true } end
---     return x * x
--- end)
--- assert(results[1] == 1 and results[2] == nil and results[3] == 9 and results.n == 3)
--- assert(results.errors[2].message == "no" and results.errors[2].attempts == 2)
--- assert(stats.ok == 2 and stats.failed == 1 and stats.retried == 1)
--- ```
function Pipeline:run(items, fn)
    return start(self, "pipeline:run", items, fn, true)
end

--- The same without keeping the results: memory does not grow with the number of items (50 bytes each with a
--- journal). What becomes of them is for fn, and for the pipeline's `on_result`.
---@param items table|function a list, or an iterator function
---@param fn function
---@return leat.stats|nil stats as from run
---@return leat.error? err
--- ```lua
--- local sum, i = 0, 0
--- local pipe = leat.pipeline { concurrency = 10, on_result = function(_, value) sum = sum + value end }
--- local stats = pipe:each(function() i = i + 1 return i <= 100 and i or nil end, function(x) return x end)
--- assert(stats.ok == 100 and sum == 5050)
--- ```
function Pipeline:each(items, fn)
    return start(self, "pipeline:each", items, fn, false)
end

-- ---- options

local EXAMPLES = {
    retry = "retry={attempts=3}", breaker = "breaker={threshold=5}", rate = "rate={rpm=60}",
    concurrency = "concurrency={max=20}",
}

-- Options of a policy, one of its objects, true for its defaults; or nil.
local function policy_of(name, given, method, make)
    if given == true then
        return make()
    elseif given == nil or given == false then
        return nil
    elseif type(given) == "table" and type(given[method]) == "function" then
        return given
    elseif type(given) == "table" and not getmetatable(given) then
        return make(given)
    end
    check.fail(("pipeline: option '%s' must be a table of options, a policy or a boolean, got %s (as in %s)")
        :format(name, check.picture(given, "option"), EXAMPLES[name]))
end

local function lazy(module)
    return function(opts)
        return lazy_require("leat." .. module)[module](opts)
    end
end

local function set_concurrency(self, given)
    if type(given) == "number" or given == nil then
        self.limit = check.count("pipeline", "option 'concurrency'", given or 5, 1)
        -- No more than any memory holds is as good as no limit.
        self.sem = sync.semaphore(math.min(self.limit, 2 ^ 30))
    elseif given == "adaptive" then
        self.adaptive = lazy "adaptive"()
    elseif type(given) == "table" then
        self.adaptive = policy_of("concurrency", given, "call", lazy "adaptive")
    else
        check.fail("pipeline: option 'concurrency' must be a number, \"adaptive\" or {min=, start=, max=}, "
            .. "got " .. check.picture(given, "option"))
    end
end

local BATCH = { size = "number", interval = "number" }

local function batch_of(given)
    if given == nil or given == false then
        return nil
    end
    given = check.options("pipeline: batch", given, BATCH)
    return {
        size = policy.count("pipeline: batch", given, "size", 10),
        interval = policy.number("pipeline: batch", given, "interval", 0.5),
    }
end

local ADAPTIVE_ATTEMPTS = 5

local ROWS = {
    concurrency = true, rate = true, timeout = "number", deadline = "number", retry = true, breaker = true,
    batch = true, progress = true, on_result = "function", journal = true, price = "table", accept = true,
}

--- A pipeline: policies that every item goes through, always in this order: deadline, retry, breaker, rate,
--- a slot, timeout, call. So a wait for the next attempt holds no slot, and what the breaker refuses costs
--- nothing of the rate.
---@param opts? leat.pipeline_options
---
--- * `concurrency`: slots, a number (5), "adaptive", {min, start, max}, or an object of leat.adaptive. Where
---   the service limits the rate, calls start evenly after the first refusals, with a number too.
--- * `rate`: options of leat.limiter ({rpm=, tpm=}), or one of its objects. What calls will use of `tpm` is
---   guessed by what they have used so far. Token counts of answers that cannot be right are not counted.
--- * `timeout` seconds for each attempt; `deadline` seconds for each item, with all attempts and waits.
--- * `retry`: options of leat.retry, or one of its objects; false: none. Unless said there are 3 attempts,
---   and 5 where the slots are adaptive: those find the limit by being refused.
--- * `breaker`: options of leat.breaker, one of its objects, or true; none unless said.
--- * `batch` {size=10, interval=0.5}: that many items are started, and no more until `interval` seconds after
---   the last of them has ended. Without it the next starts as soon as one has ended, which is faster.
--- * `progress` true: a live line on a terminal, a line now and then elsewhere, on stderr; a function of
---   text: there instead.
--- * `accept`: responses that are not ok and no failures either: "4xx", a status, a list of these, or a
---   function of the response. They are tried again like others, if `retry` says so.
--- * `on_result(index, value, err, item)` is told of each item as it ends.
--- * `journal`: what has ended is on the disk and is not called again, as for leat.map.
--- * `price` {prompt=, completion=} of a million tokens: stats then has the cost.
---@return leat.pipeline pipeline with run, each, call, stats
---
--- What retries by itself (leat.openai) does not within. Raises for an unknown option or a wrong one. If no
--- item of its runs has succeeded at the end of a script, the `leat` program says so, and ends with status 4.
--- ```lua
--- local pipe = leat.pipeline {
---     concurrency = 5, timeout = 15, retry = { attempts = 3, base = 1 }, breaker = { threshold = 5 },
--- }
--- local pages, stats = pipe:run({ "/ok", "/ok" }, function(path) return request(url .. path) end)
--- assert(pages[1].ok and pages[2].ok and stats.calls == 2)
--- ```
function M.pipeline(opts)
    opts = check.options("pipeline", opts, ROWS)
    for name in pairs(check.options("pipeline: price", opts.price, { prompt = true, completion = true })) do
        policy.number("pipeline: price", opts.price, name)
    end
    local timeout = policy.number("pipeline", opts, "timeout")
    local deadline = policy.number("pipeline", opts, "deadline")
    local shows = opts.progress
    if shows then
        progress.options(shows)
    end
    local retry = opts.retry
    if retry == nil then
        retry = true
    end
    local at = check.where()
    local self = setmetatable({
        accept = opts.accept ~= nil and expected.compile(opts.accept, "pipeline", "accept") or nil,
        timeout = timeout, deadline = deadline, batch = batch_of(opts.batch),
        retry = policy_of("retry", retry, "call", lazy "retry"),
        breaker = policy_of("breaker", opts.breaker, "call", lazy "breaker"),
        limiter = policy_of("rate", opts.rate, "reserve", lazy "limiter"),
        at = at, outcomes = outcomes.at(at), progress = shows or nil, on_result = opts.on_result,
        tally = tally.new(opts.price), mean_tokens = 0, journal = opts.journal, price = opts.price,
    }, Pipeline)
    set_concurrency(self, opts.concurrency)
    if self.adaptive and self.retry and self.retry ~= opts.retry then
        self.retry.paced = true -- the slots themselves see to it that those who go on do so evenly
        if type(retry) ~= "table" or retry.attempts == nil then
            self.retry.attempts = ADAPTIVE_ATTEMPTS
        end
    elseif self.retry and self.retry ~= opts.retry and not self.retry.key then
        self.retry.gated = true
        self.gate = gates.new(self.retry.max_retry_after)
    end
    return self
end

return M
