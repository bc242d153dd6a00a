-- Pipelines: many calls through all of the policies, counted and measured.
local check = require "leat.check"
local core = require "leat.core"
local drain = require "leat.drain"
local errors = require "leat.error"
local gather = require "leat.gather"
local policy = require "leat.policy"
local progress = require "leat.progress"
local sync = require "leat.sync"
local tally = require "leat.tally"
local task = require "leat.task"

local await, group = core.await, require("leat.core.task").group
local now = task.now

-- Items between two attempts hold no place; but not without end.
local MOST_BETWEEN = 1000

local M = {}

local Pipeline = {}
Pipeline.__index = Pipeline

-- ---- one item, from the call outwards. `job` says where it stands.

local function move(job, state)
    local from = job.state
    if from ~= state then
        job.state = state
        for i = 1, #job.tallies do
            job.tallies[i]:move(from, state)
        end
    end
end

local function count(job, name)
    for i = 1, #job.tallies do
        local t = job.tallies[i]
        t[name] = t[name] + 1
    end
end

local function usage_in(value)
    local usage = type(value) == "table" and not getmetatable(value) and value.usage
    return type(usage) == "table" and usage or nil
end

local function attempt(self, job, fn, ...)
    move(job, "call")
    count(job, "calls")
    job.calls = job.calls + 1
    if job.calls > 1 then
        count(job, "retried")
    end
    job.usage = nil
    local began = now()
    local function ended(_, value, second)
        local usage = job.usage or usage_in(value) or usage_in(second)
        job.usage = usage
        for i = 1, #job.tallies do
            job.tallies[i]:called(now() - began)
            if usage then
                job.tallies[i]:used(usage)
            end
        end
    end
    if self.timeout then
        return policy.run(ended, task.wait_for, self.timeout, fn, ...)
    end
    return policy.run(ended, fn, ...)
end

local function with_slot(self, job, fn, ...)
    move(job, "slot")
    if self.sem then
        return self.sem:with(attempt, self, job, fn, ...)
    end
    return self.adaptive:call(attempt, self, job, fn, ...)
end

local function with_rate(self, job, fn, ...)
    local limiter = self.limiter
    if not limiter then
        return with_slot(self, job, fn, ...)
    end
    move(job, "rate")
    local tokens = limiter.cost
    if type(tokens) == "function" then
        tokens = tokens(...)
    elseif tokens == 0 then
        tokens = self.mean_tokens -- the best guess there is
    end
    local place, refusal = limiter:reserve { tokens = tokens }
    if not place then
        return nil, refusal
    end
    return policy.run(function(ended, value, second)
        place:close()
        if ended and limiter.learns and policy.status(value) then
            limiter:learn(value.headers)
        end
        local used = ended and limiter.usage and limiter.usage(value, second)
            or job.usage and job.usage.total_tokens
        if type(used) == "number" then
            place:settle(used)
            self.mean_tokens = self.mean_tokens == 0 and used or 0.9 * self.mean_tokens + 0.1 * used
        end
    end, with_slot, self, job, fn, ...)
end

local function with_breaker(self, job, fn, ...)
    if self.breaker then
        return self.breaker:call(with_rate, self, job, fn, ...)
    end
    return with_rate(self, job, fn, ...)
end

-- One attempt, which is what retry repeats.
local function once(self, job, fn, ...)
    local run = job.run
    if job.state == "between" then
        run.between = run.between - 1
        move(job, "pending")
    end
    return policy.run(function(_, value, err)
        run.between = run.between + 1
        move(job, "between")
        local status = policy.status(value)
        if run.nudge and (value == nil and err ~= nil or status and status >= 400) then
            run:nudge() -- its place is free for another item while it waits
        end
    end, with_breaker, self, job, fn, ...)
end

local function with_retry(self, job, fn, ...)
    if self.retry then
        return self.retry:call(function(...)
            return once(self, job, fn, ...)
        end, ...)
    end
    return once(self, job, fn, ...)
end

local function with_deadline(self, job, fn, ...)
    if self.deadline then
        return task.wait_for(self.deadline, with_retry, self, job, fn, ...)
    end
    return with_retry(self, job, fn, ...)
end

-- An attempt may make several calls.
local function sum(a, b)
    local total = {}
    for _, t in ipairs { a or b, a and b } do
        for name, n in pairs(t) do
            if type(n) == "number" then
                total[name] = (total[name] or 0) + n
            end
        end
    end
    return total
end

local function whole(self, job, fn, ...)
    job.calls = 0
    move(job, "pending")
    -- What is called within, from whatever task: it neither retries by itself, and tells what it learns.
    local scope = { retries = true, outer = policy.scope(), tell = function(headers, usage)
        job.usage = usage and sum(job.usage, usage) or job.usage
        if headers and self.limiter and self.limiter.learns then
            self.limiter:learn(headers)
        end
    end }
    return policy.run(function()
        if job.state == "between" then
            job.run.between = job.run.between - 1
        end
        move(job, nil)
    end, policy.within, scope, with_deadline, self, job, fn, ...)
end

-- How an item ended: "ok", "failed", or "skipped" if it was not called at all.
local function book(job, failed)
    count(job, failed and (job.calls > 0 and "failed" or "skipped") or "ok")
end

--- Calls `fn(...)` through all of the policies: deadline, retry, breaker, rate, a slot, timeout.
---@param fn function
---@param ... any its arguments
---@return any ... fn's values, or nil, err: of fn, or of the policy that has refused it
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2, timeout = 5 }
--- local res = assert(pipe:call(request, url .. "/ok"))
--- assert(res.ok and pipe:stats().ok == 1)
--- ```
function Pipeline:call(fn, ...)
    check.callable("pipeline:call", "the first argument", fn)
    local job = { run = { between = 0 }, tallies = { self.tally }, calls = 0 }
    return policy.run(function(ended, value, err)
        if ended then
            book(job, value == nil and err ~= nil)
        end
    end, whole, self, job, fn, ...)
end

--- What all runs and calls so far have come to.
---@return table stats
---
--- * items, and of these ok, failed, skipped (never called: the circuit was open, the time was up, or it was
---   interrupted); calls, and of these retried (not the first of their item); in_flight.
--- * tokens, prompt_tokens, completion_tokens, where the calls tell (leat.openai does, and a `usage` in the
---   first two results).
--- * wall: seconds in which something was under way; serial: what the calls would have taken one after the
---   other; rate: items per second; p50, p95, p99 of the calls, within 2 %, without any waiting here.
--- * bottleneck: which of `bounds` (seconds of the wall time by what held it up) was the longest: concurrency
---   (all slots were taken), rate, retry (waits between attempts), batch (waits for a batch to end, and
---   intervals), service (nothing here: the last calls simply took so long).
---
--- tostring(stats) is a summary of a few lines.
--- ```lua
--- local pipe = leat.pipeline { concurrency = 2 }
--- pipe:run({ 1, 2, 3 }, function(x) sleep(0.01) return x end)
--- local stats = pipe:stats()
--- assert(stats.ok == 3 and stats.p50 > 0.009 and stats.bottleneck == "concurrency")
--- assert(tostring(stats):find "3 items: 3 ok, 0 failed")
--- ```
function Pipeline:stats()
    return self.tally:stats()
end

-- ---- runs

local function nothing()
end

local Run = {}
Run.__index = Run

-- Internal: wakes the loop, so that it looks again whether there is room.
function Run:nudge()
    if self.more then
        self.running = self.running + 1
        self.group:spawn(0, nothing)
    end
end

local function draw_from(who, items)
    if type(items) == "table" and not (getmetatable(items) or {}).__call then
        local i, n = 0, #items
        return function()
            i = i + 1
            return items[i]
        end, n
    end
    check.callable(who, "the items, unless a list,", items)
    return items
end

-- Whether another item may begin: true, or what is in the way.
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
    for _, t in ipairs(self.tallies) do
        t:block(why)
    end
end

local function tell(self, index, ok, value, item)
    local results = self.results
    if results and ok then
        results[index] = value
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

-- The next item that is to be called, its index and its key in the journal; nil: there is none.
local function next_item(self)
    local journal = self.journal
    while self.drawn ~= self.total do
        if sync.stopping:is_set() or journal and journal.broken then
            self.interrupted = true
            return nil
        end
        local item = self.draw()
        if item == nil then
            return nil
        end
        local index = self.drawn + 1
        self.drawn = index
        if not journal then
            return item, index
        end
        local key = journal:key(item, index)
        local done, value = journal:known(key)
        if not done then
            return item, index, key
        end
        count({ tallies = self.tallies }, "resumed")
        tell(self, index, true, value, item)
    end
end

local function start_some(self)
    local why
    while self.more do
        local free
        free, why = room(self)
        if not free and self.drawn ~= self.total then
            break
        end
        local item, index, key = next_item(self)
        if item == nil then
            self.more, why = false, nil
            break
        end
        local job = { run = self, tallies = self.tallies, calls = 0, item = item }
        self.in_batch = self.in_batch + 1
        self.jobs[index] = job
        self.running = self.running + 1
        if key then
            self.group:spawn(index, self.journal.keep, self.journal, key, whole, self.pipe, job, self.fn,
                item, index)
        else
            self.group:spawn(index, whole, self.pipe, job, self.fn, item, index)
        end
    end
    block(self, why)
end

local function item_ended(self, index, status, value)
    local job = self.jobs[index]
    self.jobs[index] = nil
    book(job, status ~= "ok")
    tell(self, index, status == "ok", value, job.item)
    if self.progress then
        self.progress:poke()
    end
end

local function loop(_, self)
    while true do
        start_some(self)
        if self.running == 0 then
            if not self.more then
                return nil
            end
            task.sleep(self.pipe.batch.interval) -- only the end of a batch is in the way then
            self.in_batch = 0
        else
            local t, index, status, value = await(self.group:next_start())
            self.running = self.running - 1
            if status == "raised" then
                return t
            elseif index > 0 then
                item_ended(self, index, status, value)
            end
        end
    end
end

-- What an interrupt has left of a list.
local function skip_rest(self)
    for i = self.drawn + 1, self.total or 0 do
        if self.results then
            self.results.errors[i] = errors.new { kind = "cancelled", reason = "stopping",
                message = "not started: the run was interrupted" }
        end
        count(self, "skipped")
        self.drawn = i
    end
end

local function execute(self, journal, draw, total, fn, keep)
    local own = tally.new(self.price)
    local run = setmetatable({
        pipe = self, fn = fn, draw = draw, total = total, tallies = { own, self.tally }, journal = journal,
        on_result = self.on_result, group = group(), running = 0, between = 0, more = true, drawn = 0,
        in_batch = 0, jobs = {}, results = keep and { errors = {} } or nil,
    }, Run)
    if self.progress then
        run.progress = progress.new(self.progress, own, total)
    end
    policy.run(function()
        block(run, nil)
        if run.progress then
            run.progress:finish()
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
    end
    if journal and journal.broken then
        journal.broken.partial = results
        return nil, journal.broken
    elseif results then
        return results, stats
    end
    return stats
end

local function start(self, who, items, fn, keep)
    check.callable(who, "the second argument", fn)
    local draw, total = draw_from(who, items)
    return gather.with_journal(who, self, keep, function(journal)
        return drain(execute, self, journal, draw, total, fn, keep)
    end)
end

--- Calls `fn(item, index)` for every item, through all of the policies. An item is drawn only when there is
--- a slot for it; one that waits for its next attempt holds none.
---@param items table|function a list, or an iterator function
---@param fn function
---@return table results fn's first results by index, with n (the number of items); and `errors`: the err of
---each item that has none, by index too. So item i has succeeded if results.errors[i] is nil
---@return table stats of this run, as from pipe:stats; and interrupted: Ctrl-C has ended it early
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
---@return table stats as from run
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
    check.fail(("pipeline: option '%s' must be a table of options, a policy or a boolean, got %s")
        :format(name, check.picture(given)))
end

local function lazy(module)
    return function(opts)
        return core.require("leat." .. module)[module](opts)
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
            .. "got " .. check.picture(given))
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

local ROWS = {
    concurrency = true, rate = true, timeout = "number", deadline = "number", retry = true, breaker = true,
    batch = true, progress = true, on_result = "function", journal = true, price = "table",
}

--- A pipeline: policies that every item goes through, always in this order: deadline, retry, breaker, rate,
--- a slot, timeout, call. So a wait for the next attempt holds no slot, and what the breaker refuses costs
--- nothing of the rate.
---@param opts? table
---
--- * `concurrency`: slots, a number (5), "adaptive", {min, start, max}, or an object of leat.adaptive.
--- * `rate`: options of leat.limiter ({rpm=, tpm=}), or one of its objects. What calls will use of `tpm` is
---   guessed by what they have used so far.
--- * `timeout` seconds for each attempt; `deadline` seconds for each item, with all attempts and waits.
--- * `retry`: options of leat.retry, or one of its objects (3 attempts unless said); false: none.
--- * `breaker`: options of leat.breaker, one of its objects, or true; none unless said.
--- * `batch` {size=10, interval=0.5}: that many items are started, and no more until `interval` seconds after
---   the last of them has ended. Without it the next starts as soon as one has ended, which is faster.
--- * `progress` true: a live line on a terminal, a line now and then elsewhere, on stderr; a function of
---   text: there instead.
--- * `on_result(index, value, err, item)` is told of each item as it ends.
--- * `journal`: what has ended is on the disk and is not called again, as for leat.map.
--- * `price` {prompt=, completion=} of a million tokens: stats then has the cost.
---@return table pipeline with run, each, call, stats
---
--- What retries by itself (leat.openai) does not within. Raises for an unknown option or a wrong one.
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
    if shows ~= nil and type(shows) ~= "boolean" and type(shows) ~= "table" then
        check.callable("pipeline", "option 'progress', unless a boolean or a table,", shows)
    end
    local retry = opts.retry
    if retry == nil then
        retry = true
    end
    local self = setmetatable({
        timeout = timeout, deadline = deadline, batch = batch_of(opts.batch),
        retry = policy_of("retry", retry, "call", lazy "retry"),
        breaker = policy_of("breaker", opts.breaker, "call", lazy "breaker"),
        limiter = policy_of("rate", opts.rate, "reserve", lazy "limiter"),
        progress = shows or nil, on_result = opts.on_result,
        tally = tally.new(opts.price), mean_tokens = 0, journal = opts.journal, price = opts.price,
    }, Pipeline)
    set_concurrency(self, opts.concurrency)
    return self
end

return M
