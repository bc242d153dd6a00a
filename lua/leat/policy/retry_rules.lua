-- How retry judges an outcome: whether to try again, and when the server wants the next attempt.
local outside = require "leat.internal.outside"
local policy = require "leat.policy.common"

local M = {}

-- ---- what the body of a refusal says

local said_by = setmetatable({}, { __mode = "k" }) -- by response

-- What the body of a response with status 429 or 503 says, as leat.http.reply_error reads it. Empty for any
-- other response.
local function said_of(value)
    local status = policy.status(value)
    if status ~= 429 and status ~= 503 or type(value.body) ~= "string" then
        return {}
    elseif not said_by[value] then
        said_by[value] = require("leat.http.reply_error").read(value.body, { url = value.url })
    end
    return said_by[value]
end

-- ---- what is tried again

-- Errors that are never retried: another attempt would give the same error, or somebody has forbidden it (a
-- cancel, a breaker, a budget).
local NEVER = {
    invalid = true, denied = true, too_large = true, cancelled = true, circuit_open = true, budget = true,
}

local BEFORE_SENDING = { queue = true, dns = true, connect = true, tls = true }

-- Whether the request has not reached the server. Then sending it again is safe.
local function never_sent(err)
    return err.kind == "connect" or err.kind == "dns" or err.kind == "rate_limited"
        or err.kind == "timeout" and BEFORE_SENDING[err.phase] == true
end

-- Whether there was no connection for the request, for a reason that may be temporary.
function M.never_connected(err)
    return err.kind == "tls" and err.retryable == true or err.reason == "too_many_files"
        or never_sent(err) and err.kind ~= "rate_limited" and err.phase ~= "queue"
end

-- Whether a request that failed with this status may succeed later.
function M.passing(status)
    return status == 408 or status == 429 or status >= 500 and status ~= 501 and status ~= 505
end

-- Whether a call was refused because there were too many calls. False if a quota is used up, because waiting
-- does not help then.
function M.over_rate(value, err)
    if value == nil and type(err) == "table" then
        return err.status == 429 and err.retryable ~= false
    end
    return policy.status(value) == 429 and not said_of(value).final
end

-- Whether the server refused the request without processing it. Then any request may be sent again.
local function turned_away(status, hint)
    return status == 429 or status == 503 and hint ~= nil
end

-- Whether sending the request a second time may do harm, according to the caller or to the request.
local function harmful(idempotent, outcome)
    if idempotent ~= nil then
        return not idempotent
    end
    return outcome.idempotent == false
end

-- Whether the server asks for another attempt, or may give another answer to one.
function M.asked(res, status)
    local asked = policy.header(res.headers, "x-should-retry")
    if asked == "true" or asked == "false" then
        return asked == "true"
    end
    return M.passing(status)
end

-- Whether another attempt may succeed after this outcome. `idempotent`: what the caller says, or nil.
function M.worth_trying(idempotent, value, err, status, hint)
    if err then
        if NEVER[err.kind] then
            return false
        elseif harmful(idempotent, err) then
            return never_sent(err) and err.retryable ~= false or status ~= nil and turned_away(status, hint)
        elseif err.retryable == nil then
            return status ~= nil and M.passing(status)
        end
        return err.retryable
    elseif not status or status < 400 then
        return false
    end
    local asked = policy.header(value.headers, "x-should-retry")
    if said_of(value).final then
        return false -- a quota that is used up
    elseif asked == "true" or asked == "false" then
        return asked == "true"
    end
    return M.passing(status) and (not harmful(idempotent, value) or turned_away(status, hint))
end

-- The reason why worth_trying has refused a retry, if the only reason is that it may do harm; otherwise nil.
function M.not_retried(idempotent, value, err, status, hint)
    local outcome = err or value
    if not harmful(idempotent, outcome) or not M.worth_trying(true, value, err, status, hint) then
        return nil
    elseif idempotent == false then
        return "retry's option idempotent is false"
    end
    return (type(outcome.method) == "string" and outcome.method or "a request") .. " without idempotency key"
end

-- ---- hints

local function hint_in_headers(value)
    local headers = value.headers
    local ms = policy.header(headers, "retry-after-ms")
    local from = { url = value.url, unit = 0.001 }
    local wait = ms and outside.wait(ms, "retry-after-ms", from)
    if wait then
        return wait
    end
    local after = policy.header(headers, "retry-after")
    if after then
        from.unit, from.date = 1, policy.header(headers, "date")
        return outside.wait(after, "retry-after", from)
    end
end

-- The seconds after which the server wants to be asked again, bounded; nil if it does not say. 0 means "at
-- once" or a date in the past; then the back-off decides. Headers take precedence over the body.
function M.hint(value, err)
    if err then
        return outside.bounded(err.retry_after, "err.retry_after", err.url)
    end
    local wait = hint_in_headers(value)
    return wait and wait > 0 and wait or said_of(value).retry_after or wait
end

return M
