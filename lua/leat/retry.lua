-- Retry: calls again when that may succeed. Each wait is longer than the one before, and random, so that
-- many callers do not retry at the same moment.
--
-- Back-off is exponential with full jitter, as measured in M. Brooker, "Exponential Backoff And Jitter",
-- AWS Architecture Blog, 2015. If a server says when to retry (RFC 9110, 10.2.3), that comes first.
local budgets = require "leat.policy.retry_budget"
local check = require "leat.internal.check"
local errors = require "leat.error"
local pauses = require "leat.policy.retry_pause"
local policy = require "leat.policy.common"
local rules = require "leat.policy.retry_rules"
local task = require "leat.task"
local unseen = require "leat.internal.unseen"

local huge, max, min = math.huge, math.max, math.min
local random = require("leat.native.runtime").random or math.random -- a host's own generator is not changed
local now = task.now

local M = {}

local function longest_backoff(self, attempt, limited)
    limited = limited and not (self.paced or self.gated) -- then the slots start calls evenly
    return min(self.max, (limited and self.base_429 or self.base) * self.factor ^ (attempt - 1))
end

-- Returns true if the outcome is a refusal that has the longer back-off (base_429).
local function is_limited(value, err, status)
    return status == 429 or err and err.kind == "rate_limited"
        or status == 503 and not err and policy.header(value.headers, "retry-after") ~= nil
end

-- Returns the seconds until the next attempt. `hint`: the wait that the server asked for; it replaces the
-- back-off, unless it is 0.
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

-- Returns the last outcome, with `attempts`, and the reason why there was no further attempt.
local function give_up(values, attempt, why)
    local value, err = values[1], values[2]
    if value == nil and err ~= nil then
        err.attempts, err.gave_up = attempt, why
    elseif policy.status(value) and (attempt > 1 or why) then
        value.attempts, value.gave_up = attempt, why
    end
    return unpack(values, 1, values.n)
end

-- The same for an outcome that is not retried. If only the request itself forbids a retry, the error says
-- so.
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

-- In a retry storm: waits at most as long as before a next attempt, but at least a second. So a call that
-- fails in the end does not make room for the next call at once. Returns whether the storm is over then.
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

--- Calls `fn(...)`, and calls it again while that may help.
---@param fn function
---@param ... any its arguments, given to each attempt
---@return any ... the values of fn's last attempt. A response is returned as a response: after three
---times status 500 the result is that response, with `res.ok` false, `res.attempts` 3 and `res.gave_up`
---"attempts". A failure is `nil, err` with err.attempts. If it could have been retried, err.gave_up says
---why it was not: "attempts" (all were used), "deadline", "retry_budget" (err.reason, too; err.cause is
---the failure itself), "retry_after" (the server asked for a wait of err.retry_after seconds, longer
---than max_retry_after; a response then becomes an error of kind rate_limited), "not_idempotent"
---(sending the request again may do harm; not_retried, of the err or of the response, says why)
---
--- A cancel and a bug are raised at once. A client that retries by itself (leat.openai) does not do so
--- inside fn, so attempts are not multiplied. Raises if fn is not a function.
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
    return self:_attempts(self:_key(...), fn, ...)
end

-- What shares its pauses with a call that has these arguments.
function Retry:_key(...)
    local key = self.key and self.key(...) or self
    if key ~= key then
        check.fail "retry: option 'key' must return a value that can be a table key, got nan"
    end
    return key
end

function Retry:_attempts(key, fn, ...)
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
            message = "the server asked for a pause that lasts beyond the deadline" }
    end
    local scope = { retries = true, outer = policy.scope(), keys = false, seen = false, id = false,
        before = false, lost = false }
    for attempt = 1, huge do
        scope.seen = nil
        local number = self.started + 1
        self.started = number
        local paced = pauses.start(self, key)
        local values = pack(policy.try_within(scope, fn, ...))
        local value, err = values[1], values[2]
        if value ~= nil then
            err = nil
        elseif err ~= nil then
            err = errors.wrap(err)
            values[2] = err
        end
        local status = err and err.status or policy.status(value)
        local hint = (err or status and status >= 400) and rules.hint(value, err)
        local again = rules.worth_trying(self.idempotent, value, err, status, hint)
        if self.when and not (err and err.kind == "cancelled") then
            again = self.when(value, err, again)
            hint = again and (err or status) and rules.hint(value, err)
        end
        local theirs = hint and hint > 0 and status -- from the server, not from a policy on this side
        -- at_once: a kept connection was lost, or the server has not processed the request. This is no sign
        -- of trouble, so the next attempt follows at once. A 429 with a hint is a limit, and not a failure
        -- of the service.
        local at_once = err and err.at_once
        scope.lost = at_once
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
        unseen.looked(value) -- the script never gets this response
        self.retries = self.retries + 1
    end
end

local ROWS = {
    attempts = "number", base = "number", factor = "number", max = "number", jitter = "string",
    base_429 = "number", max_retry_after = "number", budget = true, on_retry = "function",
    when = "function", idempotent = "boolean", key = "function",
}

--- A policy that retries failed calls. It works with any function. Around other policies it is the
--- outermost:
--- `retry:call(breaker.call, breaker, fn, ...)`.
---@param opts? leat.retry_options
---
--- * `attempts`: the number of calls in all (3).
--- * `base` (1 s), `factor` (2), `max` (60 s): after attempt n the wait is a random part of min(max, base *
---   factor^(n-1)); with `jitter="none"` it is all of it. `base_429` (2 * base): replaces `base` after a
---   429, and after a 503 with a Retry-After header that Leat cannot use.
--- * A hint is a wait that the server asks for: the header retry-after-ms; the header retry-after (seconds,
---   "1m30s" or a date); a text such as "try again in 20s" in the body of a 429 or 503; or err.retry_after.
---   A hint replaces the back-off. The call waits at least that long, and at most a quarter longer (or
---   `base` longer, if that is more). A hint of 0 or a date in the past is ignored. `max_retry_after` (120
---   s): if the hint is longer, the call fails at once.
--- * One refusal delays only its own call. Three refusals, if most calls since the first one were refused,
---   are a limit. A limit delays all calls of this object, or all calls with the same `key(...)`, a
---   function of the call's arguments. They continue after the hint, spread over `base` seconds or a
---   quarter of the hint. If the limit shows again, calls start evenly, at the rate that the calls let
---   through have shown.
--- * `idempotent` true: sending the request twice does no harm. false: it may do harm, so only a call that
---   did not reach the service (not connected, 429, 503 with a hint) is retried. Default: the request
---   decides; a POST or PATCH without an Idempotency-Key is not idempotent. Another function must set
---   err.retryable only if it may be called again. Around a `wait_for`, nobody knows what had been sent
---   when the time was over, so set `idempotent` there.
--- * `when(value, err, default)` decides whether to retry; `default` is what would happen without it. The
---   default is to retry after failures with err.retryable and after responses with status 408, 429 and 5xx
---   (but not 501 and 505); to obey the header x-should-retry; and never to retry after the kinds invalid,
---   denied, too_large, circuit_open and budget. `when` is not called after a cancel.
--- * `budget`: prevents retry storms. When most calls fail in the end, all calls together may retry at most
---   `ratio` (0.2) times the number of calls, plus `floor` (10), and at most `max` (20) at once. A call
---   that gets no further attempt waits for its back-off, at least a second, and then fails with err.reason
---   "retry_budget". While most calls succeed in the end, the budget has no effect. A 429 with a hint does
---   not count. false: no limit.
--- * `on_retry(attempt, err_or_response, delay)` is called before each wait.
---@return leat.retry retry with call; fields calls, retries
---
--- There is no wait after the last attempt, and none that would end after the deadline of the task.
--- Raises for an unknown option or one of a wrong type.
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
