-- Takes one item of a pipeline through the policies, from the innermost (the call) to the outermost. `self`
-- is the pipeline. `job` holds the state of the item, so that an item needs no closures.
local expected = require "leat.internal.expected"
local outside = require "leat.internal.outside"
local policy = require "leat.policy.common"
local reasons = require "leat.internal.reasons"
local task = require "leat.task"
local unseen = require "leat.internal.unseen"

local now = task.now

local M = {}

-- Makes the job of an item. `self`: the pipeline. `run`: has the field `between`. `tallies`: where the item
-- is counted. fn(item, index) is the call; or fn(unpack(args)) if there are `args`.
function M.job(self, run, tallies, fn, item, index, args)
    return {
        pipe = self, run = run, tallies = tallies, outcomes = self.outcomes, fn = fn, item = item,
        index = index, args = args, calls = 0, state = false, stage = false, usage = false,
        began = 0, number = 0, waited = false, place = false,
    }
end

local function arguments_of(job)
    local args = job.args
    if args then
        return unpack(args, 1, args.n)
    end
    return job.item, job.index
end

local function move(job, state)
    local from = job.state
    if from ~= state then
        job.state = state
        job.stage = state ~= "between" and state or job.stage
        local tallies, at = job.tallies, now()
        for i = 1, #tallies do
            tallies[i]:move(from, state, at)
        end
    end
end

function M.count(job, name)
    for i = 1, #job.tallies do
        local t = job.tallies[i]
        t[name] = t[name] + 1
    end
end

local function usage_in(value)
    local usage = type(value) == "table" and not getmetatable(value) and value.usage
    return type(usage) == "table" and usage or nil
end

-- Calls fn(...) with the time limit that the pipeline's option `name` sets, in seconds. The error says which
-- limit was reached and where it was set, because the item's own task shows no line of the script for it.
local function within(self, name, fn, ...)
    local seconds = self[name]
    local by_itself = false
    local function named(value, err, ...)
        if value == nil and err ~= nil and not by_itself and err.kind == "timeout" then
            err.at = self.at
            err.message = ("no result within %.6g s (the pipeline's %s, set at %s)"):format(seconds, name,
                self.at)
        end
        return value, err, ...
    end
    return named(task.wait_for(seconds, policy.run, function(ended)
        by_itself = ended
    end, fn, ...))
end

-- A call has ended. Its figures go to the tallies, and its outcome to the gate.
local function call_ended(job, answered, value, second)
    local self = job.pipe
    local gate = self.gate
    job.stage = answered and "answered" or job.stage
    local took = now() - job.began
    if gate then
        if answered and gate:is_news(value, took) then
            gate:answered({ began = job.began, number = job.number, waited = job.waited }, value,
                value == nil and second or nil, self.tally.call - 1)
        end
        gate:ended()
    end
    local usage = job.usage
    if not usage then
        usage = usage_in(value) or usage_in(second)
        usage = usage and outside.usage(usage, policy.url(value))
    end
    job.usage = usage
    for i = 1, #job.tallies do
        job.tallies[i]:called(took)
        if usage then
            job.tallies[i]:used(usage)
        end
    end
end

local function attempt(self, job)
    local gate = self.gate
    job.waited = false
    if gate and (gate.pace or gate.watch.is_open) then
        move(job, "rate")
        job.waited = gate:wait(self.limit)
    end
    move(job, "call")
    M.count(job, "calls")
    job.calls = job.calls + 1
    if job.calls > 1 then
        M.count(job, "retried")
    end
    job.usage = false
    job.began = now()
    job.number = gate and gate:start(job.began)
    if self.timeout then
        return policy.guard(job, call_ended, within, self, "timeout", job.fn, arguments_of(job))
    end
    return policy.guard(job, call_ended, job.fn, arguments_of(job))
end

local function with_slot(self, job)
    move(job, "slot")
    if self.sem then
        return self.sem:with(attempt, self, job)
    end
    return self.adaptive:call(attempt, self, job)
end

-- The tokens that a call will use, as far as that is known before it.
local function tokens_of(self, job)
    local cost = self.limiter.cost
    if type(cost) == "function" then
        return cost(arguments_of(job))
    elseif cost == 0 then
        return math.ceil(self.mean_tokens) -- the best estimate; a whole number, so that sums are exact
    end
    return cost
end

local function with_rate(self, job)
    local limiter = self.limiter
    if not limiter then
        return with_slot(self, job)
    end
    move(job, "rate")
    local tokens = tokens_of(self, job)
    local calls = job.calls
    local place, refusal
    local function finished(ended, value, second)
        if job.calls == calls then
            return place:cancel() -- no call was made, for example because the wait for a slot was cancelled
        end
        place:_close()
        if ended then
            limiter:_answered(value, second)
        end
        local used = ended and limiter.usage and outside.tokens(limiter.usage(value, second), "usage")
            or job.usage and job.usage.total_tokens
        if type(used) == "number" then
            place:settle(used)
            self.mean_tokens = self.mean_tokens == 0 and used or 0.9 * self.mean_tokens + 0.1 * used
        end
    end
    place, refusal = limiter:reserve { tokens = tokens }
    if not place then
        return nil, refusal
    end
    return policy.run(finished, with_slot, self, job)
end

local function with_breaker(self, job)
    if self.breaker then
        return self.breaker:call(with_rate, self, job)
    end
    return with_rate(self, job)
end

local function attempt_ended(job, ended, value, err)
    local run = job.run
    run.between = run.between + 1
    move(job, "between")
    job.stage = ended and "between" or job.stage
    local status = policy.status(value)
    unseen.looked(value) -- the pipeline itself checks it
    if run.nudge and (value == nil and err ~= nil or status and status >= 400) then
        run:nudge() -- while this item waits, another one may use its place
    end
end

-- One attempt. This is what retry repeats.
local function once(self, job)
    if job.state == "between" then
        job.run.between = job.run.between - 1
        move(job, "pending")
    end
    return policy.guard(job, attempt_ended, with_breaker, self, job)
end

local function with_retry(self, job)
    local retry = self.retry
    if not retry then
        return once(self, job)
    elseif retry._attempts then
        return retry:_attempts(retry:_key(arguments_of(job)), once, self, job)
    end
    return retry:call(function() -- another policy, which has only a method `call`
        return once(self, job)
    end, arguments_of(job))
end

-- An attempt may make several calls.
local function sum(a, b)
    local total = {}
    for _, t in ipairs { a, b } do
        for name, n in pairs(t) do
            if type(n) == "number" then
                total[name] = (total[name] or 0) + n
            end
        end
    end
    return total
end

-- The result of the item, after all attempts.
local function judged(self, job)
    if self.deadline then
        return expected.judged(self.accept, job, within(self, "deadline", with_retry, self, job))
    end
    return expected.judged(self.accept, job, with_retry(self, job))
end

-- ---- the scope of an item: the calls inside, from any task, report to it what they learn

local function tell(scope, res, usage)
    local job, limiter = scope.job, scope.job.pipe.limiter
    if usage then
        usage = outside.usage(usage, res.url)
        job.usage = job.usage and sum(job.usage, usage) or usage
    end
    if limiter and limiter.learns then
        limiter:_learn(res.headers, res.url)
    end
end

local function resent(scope, n)
    for _ = 1, n do
        M.count(scope.job, "calls")
        M.count(scope.job, "retried")
    end
end

local function item_ended(scope)
    local job = scope.job
    if job.state == "between" then
        job.run.between = job.run.between - 1
    end
    move(job, false)
end

function M.whole(self, job)
    -- `retries`: calls inside do not retry by themselves. `resent`: only without retry, which itself would
    -- count such a resent request.
    local scope = { retries = true, item = self.at, outer = policy.scope(), job = job, tell = tell,
        resent = not self.retry and resent, finished = item_ended, id = false, before = false,
        keys = false, seen = false }
    move(job, "pending")
    return policy.within(scope, judged, self, job)
end

-- Counts an item that has ended, or `n` of them, as "ok" or "failed", or as "skipped" if it was not called.
function M.book(job, err, n)
    local name = err == nil and "ok" or job.calls > 0 and "failed" or "skipped"
    local reason = err ~= nil and reasons.of(err) or nil
    for i = 1, #job.tallies do
        job.tallies[i]:ended(name, reason, n)
    end
    job.outcomes:ended(name, reason, n)
end

return M
