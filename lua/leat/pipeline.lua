-- Pipelines: many calls that go through several policies and are counted and measured.
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

--- Calls `fn(...)` through all policies of the pipeline: deadline, retry, breaker, rate, a slot, timeout.
---@param fn function
---@param ... any its arguments
---@return any ... the values of fn; or nil, err from fn, or from the policy that refused the call. A
---response that is still not ok after all attempts is a failure, too (kind "http", with err.response),
---unless the pipeline accepts it
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2, timeout = 5 }
--- local res = assert(pipe:call(request, url .. "/ok"))
--- assert(res.ok and pipe:stats().ok == 1)
--- ```
function Pipeline:call(fn, ...)
    policy.own(self, Pipeline, "pipeline:call")
    check.callable("pipeline:call", "the first argument", fn)
    local job = item.job(self, { between = 0 }, { self.tally }, fn, nil, nil, { n = select("#", ...), ... })
    return policy.run(function(ended, value, err)
        if ended then
            if value ~= nil then
                err = nil -- success: a second value is not an error here, but for example the reply
            end
            item.book(job, err)
        end
    end, policy.try, item.whole, self, job) -- policy.try: raising an error is like returning it
end

--- Returns the figures of all runs and calls of this pipeline so far.
---@return leat.stats stats
---
--- * items: how many; ok, failed and skipped: how many of them ended so (skipped: never called, because the
---   circuit was open, the time was over, or the run was interrupted). calls: how many; retried: how many
---   of them were not the first call of their item. in_flight: how many calls run now. A call may make
---   several requests, or none: --report and --stats count requests.
--- * why_failed, why_skipped: lists of {reason=, count=}, such as {reason="status 503", count=430}, most
---   frequent first.
--- * tokens, prompt_tokens, completion_tokens: if the calls report them. leat.openai does; so does any call
---   with a `usage` field in its first or second result.
--- * wall: seconds in which the pipeline was busy. serial: seconds that the calls would have taken one
---   after the other. rate: items per second. p50, p95, p99: percentiles of the duration of a call, within
---   2 %, without waits in the pipeline.
--- * bounds: the seconds of the wall time, by the cause that delayed the run; bottleneck: the cause with
---   the most seconds. The causes: concurrency (all slots were in use), rate, retry (waits between
---   attempts), batch (waits for the end of a batch, and its interval), items (a slot was free, but the
---   iterator had no item yet), service (nothing in the pipeline: the last calls took that long).
---
--- tostring(stats) gives a summary of a few lines.
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

--- Calls `fn(item, index)` for every item, through all policies. An item is drawn only when a slot is
--- free for it. An item that waits for its next attempt does not hold a slot.
---@param items table|function a list, or an iterator function
---@param fn function
---@return leat.pipeline_results|nil results the first result of each call, by index, with n (the number
---of items); and `errors`: the err of each item that failed, by index. So item i succeeded if
---results.errors[i] is nil
---@return leat.stats|leat.error stats the figures of this run, as from pipe:stats; and `interrupted`:
---Ctrl-C ended the run early
---
--- If an item's result is a response that is not ok after all attempts, the item has failed, unless the
--- pipeline's `accept` allows it. Its err has kind "http", status, response, and body (its beginning). If
--- all results are nil, a warning names fn: perhaps its `return` is missing.
---
--- A failure does not stop the run; use the breaker for a service that fails as a whole. A bug in fn is
--- raised, after all other calls have been cancelled and waited for. After the first Ctrl-C no new item
--- starts, and running items may finish. The result is nil, err only if a journal cannot be used or
--- written.
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

--- Like run, but keeps no results. So memory does not grow with the number of items (with a journal, by
--- 50 bytes each). fn itself, or the pipeline's `on_result`, must use the results.
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

-- Makes a policy from an option: a table of options, an object of the policy, true for the defaults, or
-- nil.
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
        -- 2^30 slots are as good as no limit.
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

--- Makes a pipeline: every item goes through its policies, always in this order: deadline, retry,
--- breaker, rate, a slot, timeout, call. So an item that waits for its next attempt holds no slot, and a
--- call that the breaker refuses does not count for the rate.
---@param opts? leat.pipeline_options
---
--- * `concurrency`: how many calls run at once: a number (5), "adaptive", {min, start, max}, or an object
---   of leat.adaptive. If the service limits the rate, calls start evenly after the first refusals, also
---   with a fixed number.
--- * `rate`: options of leat.limiter ({rpm=, tpm=}), or one of its objects. For `tpm` the pipeline
---   estimates the tokens of a call from earlier calls. Impossible token counts in answers are ignored.
--- * `timeout`: seconds for each attempt. `deadline`: seconds for each item, with all its attempts and
---   waits.
--- * `retry`: options of leat.retry, or one of its objects; false: no retry. Default: 3 attempts, or 5 with
---   adaptive concurrency, which finds the limit by getting refusals.
--- * `breaker`: options of leat.breaker, one of its objects, or true. Default: no breaker.
--- * `batch` {size=10, interval=0.5}: starts `size` items; starts the next ones `interval` seconds after
---   the last of them has ended. Without it the next item starts as soon as one has ended, which is faster.
--- * `progress` true: shows the progress on standard error: a live line on a terminal, else a line now and
---   then. A function: it is called with the text instead.
--- * `accept`: responses that are not ok, but not failures either: "4xx", a status, a list of these, or a
---   function of the response. They are retried like others if `retry` says so.
--- * `on_result(index, value, err, item)` is called when an item ends.
--- * `journal`: as for leat.map: items that have ended are on the disk and are not called again.
--- * `price` {prompt=, completion=}: the price of a million tokens; then stats has the cost.
---@return leat.pipeline pipeline with run, each, call, stats
---
--- A client that retries by itself (leat.openai) does not do so inside a pipeline. Raises for an unknown
--- option or one of a wrong type. If no item of its runs has succeeded when a script ends, the `leat`
--- program says so and ends with status 4.
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
        self.retry.paced = true -- the adaptive slots themselves start calls evenly after a refusal
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
