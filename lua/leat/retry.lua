-- Retry: try again what may succeed then, later each time, and never in step with the others.
--
-- Back-off is exponential with full jitter, as measured in M. Brooker, "Exponential Backoff And Jitter", AWS
-- Architecture Blog, 2015. What a server says about when to come back (RFC 9110, 10.2.3) comes first.
local budgets = require "leat.policy.retry_budget"
local check = require "leat.internal.check"
local errors = require "leat.error"
local pauses = require "leat.policy.retry_pause"
local policy = require "leat.policy.common"
local rules = require "leat.policy.retry_rules"
local task = require "leat.task"
local unseen = require "leat.internal.unseen"

local huge, max, min = math.huge, math.max, math.min
local random = require("leat.native.runtime").random or math.random -- a host's own is left alone
local now = task.now

local M = {}

local function longest_backoff(self, attempt, limited)
    limited = limited and not (self.paced or self.gated) -- there, the slots see to it that calls start evenly
    return min(self.max, (limited and self.base_429 or self.base) * self.factor ^ (attempt - 1))
end

-- Whether the outcome has the longer back-off of a refusal.
local function is_limited(value, err, status)
    return status == 429 or err and err.kind == "rate_limited"
        or status == 503 and not err and policy.header(value.headers, "retry-after") ~= nil
end

-- The seconds until the next attempt. `hint`: what was asked for, which goes before the back-off; 0 asks for
-- nothing in particular.
local function delay_of(self, attempt, limited, hint)
    if hint and hint > 0 then
        return hint + pauses.own_spread_of(self, hint) * random()
    end
    local longest = longest_backoff(self, attempt, limited)
    return self.jitter and random() * longest or longest
end

-- ---- the call

local function pack(...)
    return { n = select("#", ...), ... }
end

-- The last outcome, marked: `attempts`, and why there was no further one.
local function give_up(values, attempt, why)
    local value, err = values[1], values[2]
    if value == nil and err ~= nil then
        err.attempts, err.gave_up = attempt, why
    elseif policy.status(value) and (attempt > 1 or why) then
        value.attempts, value.gave_up = attempt, why
    end
    return unpack(values, 1, values.n)
end

-- The same for an outcome that is not worth another attempt, unless only the request itself forbids that.
local function refuse(self, values, attempt, status, hint)
    local value, err = values[1], values[1] == nil and values[2] or nil
    local why = not self.when and self.attempts > 1 and (err or status)
        and rules.not_retried(self.idempotent, value, err, status, hint)
    if not why then
        return give_up(values, attempt)
    elseif err and not err.not_retried then
        err.message = ("%s (not retried: %s)"):format(err.message, why)
    end
    (err or value).not_retried = why
    return give_up(values, attempt, "not_idempotent")
end

local function too_long(self, value, err, hint, attempt)
    if not err then
        err = errors.new {
            kind = "rate_limited", status = value.status, url = value.url, retryable = true,
            message = ("status %d: the server asks for a wait of %.6g s, more than max_retry_after (%.6g s)")
                :format(value.status, hint, self.max_retry_after),
            response = value,
        }
    end
    err.retry_after, err.attempts, err.gave_up = hint, attempt, "retry_after"
    return nil, err
end

local function out_of_budget(values, attempt)
    local err = values[1] == nil and values[2]
    if err then
        local copy = { cause = err, reason = "retry_budget",
            message = ("%s (not retried: most calls fail, and "
            .. "the retry budget is used up)"):format(errors.text(err.message)) }
        for k, v in pairs(err) do
            if copy[k] == nil then
                copy[k] = v
            end
        end
        values = { n = 2, nil, errors.new(copy) }
    end
    return give_up(values, attempt, "retry_budget")
end

-- In a storm: waits as long as the next attempt would have, at the longest, and for a second at least. So
-- what fails in the end does not make room for the next call at once. Returns whether the storm is over by
-- then.
local LEAST_IN_STORM = 1

local function weather_storm(self, key, attempt, limited)
    local longest = max(LEAST_IN_STORM, longest_backoff(self, attempt, limited))
    local own = now() + longest * (self.jitter and 1 + random() / 4 or 1)
    local at, heeded = pauses.resume_at(self, key, own)
    return pauses.wait(self, key, at, heeded, own) and not self.budget:forbids()
end

local Retry = check.class({}, "retry policy")
Retry.__index = Retry

function Retry:__tostring()
    return ("retry (at most %g attempts; %d calls, %d retries)"):format(self.attempts, self.calls,
        self.retries)
end

--- Calls `fn(...)`, and again while that may help.
---@param fn function
---@param ... any its arguments, given to each attempt
---@return any ... fn's values, of the last attempt. A response is a response to the end: three times status
---500 is that response, `res.ok` false, with `res.attempts` 3 and `res.gave_up` "attempts". A failure is
---`nil, err`, with err.attempts, and err.gave_up if it was one to try again: "attempts", "deadline",
---"retry_budget" (err.reason too; err.cause is the failure itself), "retry_after" (the wait that was asked
---for, err.retry_after, is longer than max_retry_after; a response is made an error of kind rate_limited),
---"not_idempotent" (sending it again may do harm; err.not_retried, or that of the response, says why)
---
--- A cancel and a bug are raised at once. What retries by itself (leat.openai) does not within fn: attempts
--- are not multiplied. Raises if fn is not a function.
--- ```lua
--- local retry = leat.retry { base = 0.01 }
--- local n = 0
--- local v = retry:call(function(x)
---     n = n + 1
---     if n < 3 then return nil, leat.error { kind = "closed", message = "hung up", retryable = true } end
---     return x
--- end, "done")
--- assert(v == "done" and n == 3)
--- ```
function Retry:call(fn, ...)
    policy.own(self, Retry, "retry:call")
    check.callable("retry:call", "the first argument", fn)
    local key = self.key and self.key(...) or self
    if key ~= key then
        check.fail "retry: option 'key' must return something to tell calls apart by, got nan"
    end
    local budget = self.budget
    self.calls = self.calls + 1
    if budget then
        budget:begin()
    end
    local own = now()
    local at, heeded = pauses.resume_at(self, key, own)
    local paused = not heeded and pauses.paced_until(self, key)
    if paused or heeded and not pauses.wait(self, key, at, heeded, own) then
        return nil, errors.new { kind = "rate_limited", reason = "paused", attempts = 0, retryable = true,
            gave_up = "deadline", retry_after = max(0, (paused or heeded.at) - now()),
            message = "the server has asked for a pause that lasts beyond the deadline" }
    end
    local scope = { retries = true, outer = policy.scope() }
    for attempt = 1, huge do
        scope.seen = nil
        local number = self.started + 1
        self.started = number
        local paced = pauses.start(self, key)
        local values = pack(policy.try(policy.within, scope, fn, ...))
        local value, err = values[1], values[2]
        if value ~= nil then
            err = nil
        elseif err ~= nil then
            err = errors.wrap(err)
            values[2] = err
        end
        local status = err and err.status or policy.status(value)
        local hint = (err or status) and rules.hint(value, err)
        local again = rules.worth_trying(self.idempotent, value, err, status, hint)
        if self.when and not (err and err.kind == "cancelled") then
            again = self.when(value, err, again)
        end
        local theirs = hint and hint > 0 and status -- the server's word, not that of something on this side
        -- A kept connection was lost, or the peer has not looked at the request: no sign of trouble. Such an
        -- attempt follows at once. A 429 that says when to come back is a limit, and no failure of the
        -- service.
        local at_once = err and err.at_once
        local costs = not at_once and not (theirs and status == 429)
        if budget and costs then
            budget:note(again)
        end
        local limited = again and is_limited(value, err, status)
        local delay = again and (at_once and 0 or delay_of(self, attempt, limited, hint))
        if again and (theirs or status == 429) then
            if not self.paced and not self.gated and (hint or 0) <= self.max_retry_after then
                pauses.refused(self, key, number, theirs and hint or delay, paced,
                    theirs and hint or nil)
            end
        elseif err == nil or status then
            pauses.passed(self, key, number, paced)
        end
        if not again then
            return refuse(self, values, attempt, status, hint)
        elseif attempt >= self.attempts then
            return give_up(values, attempt, "attempts")
        elseif hint and hint > self.max_retry_after then
            return too_long(self, value, err, hint, attempt)
        end
        own = now() + delay
        at, heeded = pauses.resume_at(self, key, own)
        if pauses.past_deadline(at) then
            return give_up(values, attempt, "deadline")
        elseif budget and costs and budget:forbids() then
            if not weather_storm(self, key, attempt, limited) then
                return out_of_budget(values, attempt)
            end
            own = now()
            at, heeded = own, nil
        end
        if budget and costs then
            budget:spend()
        end
        if self.on_retry then
            self.on_retry(attempt, err or value, max(0, at - now()))
        end
        if not pauses.wait(self, key, at, heeded, own) then
            return give_up(values, attempt, "deadline")
        end
        unseen.looked(value) -- this response never gets to the script
        self.retries = self.retries + 1
    end
end

local ROWS = {
    attempts = "number", base = "number", factor = "number", max = "number", jitter = "string",
    base_429 = "number", max_retry_after = "number", budget = true, on_retry = "function",
    when = "function", idempotent = "boolean", key = "function",
}

--- A policy that tries again. Works with any function; around others it is the outermost:
--- `retry:call(breaker.call, breaker, fn, ...)`.
---@param opts? leat.retry_options
---
--- * `attempts`: the calls in all (3).
--- * `base` (1 s), `factor` (2), `max` (60 s): after attempt n the wait is a random part of
---   min(max, base * factor^(n-1)), or all of it with `jitter="none"`. `base_429`: the base after a 429, or
---   after a 503 whose hint is not understood (2 * base).
--- * The hint of a server (retry-after-ms; retry-after in seconds, as "1m30s" or as a date; what the body of
---   a 429 or 503 says, such as "try again in 20s"; err.retry_after) goes before the back-off. It is a floor:
---   the call waits at least so long, and up to a quarter longer, or up to `base` longer where that is more.
---   A hint of 0 or a past date says nothing: the back-off decides.
---   `max_retry_after`: if the hint is longer (120 s), the call fails now.
--- * One refusal makes one call wait. Three refusals, if most calls since the first one are refused, are a
---   limit: it holds for all calls of this object, or of one `key(...)`, a function of the call's arguments.
---   They go on after the hint, spread over `base` seconds or a quarter of the hint. When it shows again, and
---   the calls let through tell the rate, calls start evenly at that rate.
--- * `idempotent` true: sending it twice does no harm; false: it does, so only what never reached the server
---   (not connected, 429, 503 with a hint) is tried again. Unless said, the request itself says it: a POST or
---   PATCH without an Idempotency-Key is not. A function that is no request is trusted to fail with
---   err.retryable only where it may be called again; and around a `wait_for` nobody can know what had been
---   sent when the time was up: there, say it.
--- * `when(value, err, default)` decides instead of the default, which is to try again after failures with
---   err.retryable and responses with status 408, 429 and 5xx (but 501 and 505), to obey x-should-retry,
---   and never after kinds invalid, denied, too_large, circuit_open and budget. Not asked after a cancel.
--- * `budget`: against retry storms. If so many attempts fail that most calls fail in the end, the retries of
---   all calls together are at most `ratio` (0.2) of the calls, and `floor` (10) more, at most `max` (20) at
---   a blow. A call that gets no further attempt then waits for its back-off, for a second at least, and
---   fails: err.reason is "retry_budget". It does not act while most calls succeed in the end. A 429 with a
---   hint costs nothing. false: no limit.
--- * `on_retry(attempt, err_or_response, delay)` is told before each wait.
---@return leat.retry retry with call; fields calls, retries
---
--- No wait after the last attempt, and none that would end past the deadline of the task. Raises for an
--- unknown option or one of a wrong type.
--- ```lua
--- local retry = leat.retry { attempts = 5, base = 0.01, idempotent = true }
--- local res = assert(retry:call(request, url .. "/ok"))
--- assert(res.ok and retry.retries == 0)
--- ```
function M.retry(opts)
    opts = check.options("retry", opts, ROWS)
    if opts.jitter and opts.jitter ~= "full" and opts.jitter ~= "none" then
        check.fail("retry: option 'jitter' must be \"full\" or \"none\", got "
            .. check.picture(opts.jitter, "jitter"))
    end
    local base = policy.number("retry", opts, "base", 1)
    local attempts = policy.count("retry", opts, "attempts", 3)
    return setmetatable({
        attempts = attempts,
        base = base,
        factor = policy.number("retry", opts, "factor", 2),
        max = policy.number("retry", opts, "max", 60),
        jitter = opts.jitter ~= "none",
        base_429 = policy.number("retry", opts, "base_429", 2 * base),
        max_retry_after = policy.number("retry", opts, "max_retry_after", 120),
        budget = budgets.new(opts.budget, attempts),
        on_retry = opts.on_retry, when = opts.when, idempotent = opts.idempotent, key = opts.key,
        paused = {}, refusals = {}, gates = {}, pauses = 0, started = 0, calls = 0, retries = 0,
    }, Retry)
end

return M
