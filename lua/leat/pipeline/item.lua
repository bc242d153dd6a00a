-- Takes one item of a pipeline through the policies, from the innermost (the call) to the outermost. `self`
-- is the pipeline; `job` holds the state of the item.
local expected = require "leat.internal.expected"
local outside = require "leat.internal.outside"
local policy = require "leat.policy.common"
local reasons = require "leat.internal.reasons"
local task = require "leat.task"
local unseen = require "leat.internal.unseen"

local now = task.now

local M = {}

local function move(job, state)
    local from = job.state
    if from ~= state then
        job.state = state
        job.stage = state ~= "between" and state or job.stage
        for i = 1, #job.tallies do
            job.tallies[i]:move(from, state)
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
    if not seconds then
        return fn(...)
    end
    local by_itself = false
    local function told(value, err, ...)
        if value == nil and err ~= nil and not by_itself and err.kind == "timeout" then
            err.at = self.at
            err.message = ("no result within %.6g s (the pipeline's %s, set at %s)"):format(seconds, name,
                self.at)
        end
        return value, err, ...
    end
    return told(task.wait_for(seconds, policy.run, function(ended)
        by_itself = ended
    end, fn, ...))
end

local function attempt(self, job, fn, ...)
    local gate, waited = self.gate, false
    if gate and gate.pace or gate and gate.watch.is_open then
        move(job, "rate")
        waited = gate:wait(self.limit)
    end
    move(job, "call")
    M.count(job, "calls")
    job.calls = job.calls + 1
    if job.calls > 1 then
        M.count(job, "retried")
    end
    job.usage = nil
    local began = now()
    local number = gate and gate:start(began)
    local function ended(answered, value, second)
        job.stage = answered and "answered" or job.stage
        local took = now() - began
        if gate and answered and gate:is_news(value, took) then
            gate:answered({ began = began, number = number, waited = waited }, value,
                value == nil and second or nil, self.tally.call - 1)
        end
        if gate then
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
    return policy.run(ended, within, self, "timeout", fn, ...)
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
        tokens = math.ceil(self.mean_tokens) -- the best estimate; a whole number, so that sums are exact
    end
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
    return policy.run(finished, with_slot, self, job, fn, ...)
end

local function with_breaker(self, job, fn, ...)
    if self.breaker then
        return self.breaker:call(with_rate, self, job, fn, ...)
    end
    return with_rate(self, job, fn, ...)
end

-- One attempt. This is what retry repeats.
local function once(self, job, fn, ...)
    local run = job.run
    if job.state == "between" then
        run.between = run.between - 1
        move(job, "pending")
    end
    return policy.run(function(ended, value, err)
        run.between = run.between + 1
        move(job, "between")
        job.stage = ended and "between" or job.stage
        local status = policy.status(value)
        unseen.looked(value) -- the pipeline itself checks it
        if run.nudge and (value == nil and err ~= nil or status and status >= 400) then
            run:nudge() -- while this item waits, another one may use its place
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

-- The result of the item, after all attempts.
local function judged(self, job, fn, ...)
    return expected.judged(self.accept, job, within(self, "deadline", with_retry, self, job, fn, ...))
end

function M.whole(self, job, fn, ...)
    job.calls = 0
    -- Calls inside, from any task, use this scope. They do not retry by themselves, and they report what they
    -- learn.
    local scope = { retries = true, item = self.at, outer = policy.scope() }
    scope.tell = function(headers, usage, url)
        job.usage = usage and sum(job.usage, outside.usage(usage, url)) or job.usage
        if headers and self.limiter and self.limiter.learns then
            self.limiter:_learn(headers, url)
        end
    end
    if not self.retry then -- retry itself would count such a resent request
        scope.resent = function(n)
            for _ = 1, n do
                M.count(job, "calls")
                M.count(job, "retried")
            end
        end
    end
    local function finished()
        if job.state == "between" then
            job.run.between = job.run.between - 1
        end
        move(job, nil)
    end
    move(job, "pending")
    return policy.run(finished, policy.within, scope, judged, self, job, fn, ...)
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
