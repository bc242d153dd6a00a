-- Rate limiter: spreads requests and tokens evenly over each minute. First come, first served.
local check = require "leat.internal.check"
local errors = require "leat.error"
local outside = require "leat.internal.outside"
local meter = require "leat.policy.rate_bucket"
local policy = require "leat.policy.common"
local reservation = require "leat.policy.reservation"
local rules = require "leat.policy.retry_rules"
local sync = require "leat.sync"
local task = require "leat.task"

local huge, max = math.huge, math.max
local now = task.now

local M = {}

-- ---- waiting

local Limiter = check.class({}, "limiter")
Limiter.__index = Limiter

function Limiter:__tostring()
    local s = self:stats()
    return ("limiter (%.4g requests, %.4g tokens per minute, %d waiting)"):format(s.rpm, s.tpm, s.waiting)
end

-- Returns the seconds until this many requests and tokens may pass, after the calls that wait already
-- (`ahead`).
local function delay_of(self, requests, tokens, ahead)
    return max(self.requests:delay(requests, ahead and ahead.requests or 0),
        self.tokens:delay(tokens, ahead and ahead.tokens or 0))
end

local function too_late(delay, why)
    return nil, errors.new {
        kind = "rate_limited", reason = "limiter", retry_after = delay, retryable = true,
        message = ("limiter: this call would have to wait %.3g s, which is beyond %s"):format(delay, why),
    }
end

-- Waits as the first in the line.
local function turn(self, requests, tokens)
    while true do
        local delay = delay_of(self, requests, tokens)
        if delay == 0 then
            return reservation.grant(self, requests, tokens)
        elseif now() + delay > (task.deadline() or huge) then
            return too_late(delay, "the deadline")
        end
        self.changed:clear()
        self.changed:wait(delay) -- or until a rate changes, so that the delay must be computed again
    end
end

local function in_line(self, requests, tokens)
    local waiting = self.waiting
    local function finished()
        waiting.requests, waiting.tokens = waiting.requests - requests, waiting.tokens - tokens
        waiting.n = waiting.n - 1
    end
    waiting.requests, waiting.tokens = waiting.requests + requests, waiting.tokens + tokens
    waiting.n = waiting.n + 1
    return policy.run(finished, self.line.with, self.line, turn, self, requests, tokens)
end

local RESERVE = { requests = "number", tokens = "number", max_wait = "number" }

--- Waits until a call is allowed.
---@param what? leat.reserve_options requests (1), tokens (0; how many the call will probably use),
---max_wait (s)
---@return leat.reservation|nil reservation with settle(tokens), cancel
---@return leat.error? err kind "rate_limited" with err.retry_after (s). It is returned at once if the
---wait would go beyond the deadline of the task, or be longer than max_wait
---
--- A call that needs more tokens than the burst holds does not wait forever: it is allowed when no tokens
--- are owed, and the calls behind it wait longer. A call that is cancelled while it waits leaves no gap.
--- ```lua
--- local limiter = leat.limiter { rpm = 600, tpm = 90000 }
--- local place = assert(limiter:reserve { tokens = 500 })
--- -- ... the call ...
--- place:settle(420)
--- ```
function Limiter:reserve(what)
    policy.own(self, Limiter, "limiter:reserve")
    what = check.options("reserve", what, RESERVE)
    local requests = policy.finite("reserve", what, "requests", 1)
    local tokens = policy.finite("reserve", what, "tokens", 0)
    local longest = policy.number("reserve", what, "max_wait", self.max_wait)
    local delay = delay_of(self, requests, tokens, self.waiting)
    if delay == 0 and self.waiting.n == 0 then
        return reservation.grant(self, requests, tokens)
    elseif now() + delay > (task.deadline() or huge) then
        return too_late(delay, "the deadline")
    elseif delay > longest then
        return too_late(delay, "max_wait")
    elseif longest == huge then
        return in_line(self, requests, tokens)
    end
    -- The rate may be lowered during the wait.
    local place, err = task.wait_for(longest, in_line, self, requests, tokens)
    if err and err.kind == "timeout" then
        return too_late(delay_of(self, requests, tokens, self.waiting), "max_wait")
    end
    return place, err
end

--- Waits for its turn and then calls `fn(...)`.
---@param fn function
---@param ... any its arguments
---@return any ... the values of fn; or nil, err as from reserve
---
--- The limiter's option `tokens` says how many tokens the call will probably use; `usage` corrects that
--- number after the call. If fn returns a response, the limiter learns from its x-ratelimit headers (see
--- learn).
--- ```lua
--- local limiter = leat.limiter { rpm = 600 }
--- local res = assert(limiter:call(request, url .. "/ok"))
--- assert(res.ok)
--- ```
function Limiter:call(fn, ...)
    policy.own(self, Limiter, "limiter:call")
    check.callable("limiter:call", "the first argument", fn)
    local tokens = self.cost
    if type(tokens) == "function" then
        tokens = tokens(...)
    end
    local place, refusal
    local function finished(ended, value, second)
        place:_close()
        if not ended then
            return
        end
        self:_answered(value, second)
        local used = outside.tokens(self.usage and self.usage(value, second), "usage", policy.url(value))
        if used then
            place:settle(used)
        end
    end
    place, refusal = self:reserve { tokens = tokens }
    if not place then
        return nil, refusal
    end
    return policy.run(finished, fn, ...)
end

-- Internal: learns from the outcome of a call: from the headers of a response, and from a refusal.
function Limiter:_answered(value, err)
    if not self.learns then
        return
    elseif policy.status(value) then
        self:_learn(value.headers, value.url)
    end
    if rules.over_rate(value, err) then
        self.requests:refused()
        self.tokens:refused()
        self.changed:set()
    end
end

-- ---- rates

local function set(self, who, opts)
    local rpm, rps = policy.positive(who, opts, "rpm"), policy.positive(who, opts, "rps")
    if rpm and rps then
        check.fail(who .. ": only one of the options 'rpm' and 'rps' may be given")
    end
    local tpm, burst, token_burst = policy.positive(who, opts, "tpm"), policy.positive(who, opts, "burst"),
        policy.positive(who, opts, "token_burst")
    self.requests:set(rpm or rps and rps * 60, burst)
    self.tokens:set(tpm, token_burst)
    self.changed:set()
end

local SET = { rpm = "number", rps = "number", tpm = "number", burst = "number", token_burst = "number" }

--- Changes the rates. Calls that wait already are served at the new rates.
---@param opts leat.rates rpm (or rps), tpm, burst, token_burst; the others stay as they are. math.huge:
---no limit
--- ```lua
--- local limiter = leat.limiter { rpm = 60 }
--- limiter:set { rpm = 600 }
--- assert(limiter:stats().rpm == 600)
--- ```
function Limiter:set(opts)
    policy.own(self, Limiter, "limiter:set")
    set(self, "limiter:set", check.options("limiter:set", opts, SET))
end

--- Learns the rates from the headers of a response: x-ratelimit-limit-requests,
--- x-ratelimit-remaining-requests, x-ratelimit-reset-requests, and the same names with -tokens. It also
--- knows Anthropic's names.
---@param headers table<string, string> of a response
---@return boolean learned true if the headers have a limit, or what is left of it
---
--- The reset header tells the unit: a limit of 20 that resets after at most one second means 20 per
--- second. Without a reset header, a limit is per minute. A rate that you have set stays until the server
--- refuses a call (status 429); from then on the lower of the two rates holds. Another `set` overrides
--- both. Impossible values are ignored, with one warning.
--- ```lua
--- local limiter = leat.limiter()
--- limiter:learn { ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-remaining-requests"] = "59",
---     ["x-ratelimit-reset-requests"] = "1s" }
--- assert(limiter:stats().rpm == 60)
--- ```
function Limiter:learn(headers)
    policy.own(self, Limiter, "limiter:learn")
    if type(headers) ~= "table" then
        check.fail("limiter:learn: expected the headers of a response, got "
            .. check.picture(headers, "headers"))
    end
    return self:_learn(headers)
end

local LONGEST_WINDOW = 86400 * 1.05

-- The names of the headers, by what they limit.
local FAMILIES = {
    { requests = { "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests" },
      tokens = { "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens" } },
    { requests = { "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset" },
      tokens = { "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset" } },
}

-- Internal. `url`: of the response, for a warning.
function Limiter:_learn(headers, url)
    local learned, from = false, { url = url }
    for _, family in ipairs(FAMILIES) do
        for what, names in pairs(family) do
            local limit = outside.amount(policy.header(headers, names[1]), 1, names[1], url)
            local remaining = outside.amount(policy.header(headers, names[2]), 0, names[2], url)
            local reset = (limit or remaining) and policy.header(headers, names[3])
            if reset then
                from.date = policy.header(headers, "date")
                reset = outside.wait(reset, names[3], from) or nil
            end
            if reset == outside.LONGEST then
                reset = nil -- not a plausible time
            elseif reset and reset > LONGEST_WINDOW then
                limit, reset = nil, nil -- for example a monthly quota, which is not a rate
            end
            learned = self[what]:learn(limit, remaining, reset) or learned
        end
        if learned then
            self.changed:set()
            break
        end
    end
    return learned
end

--- Returns the limiter's current state.
---@return leat.limiter_stats stats rpm, tpm (math.huge: no limit), waiting (calls), reserved (tokens not
---yet settled), free_requests, free_tokens (how many may pass now)
--- ```lua
--- assert(leat.limiter({ rpm = 60 }):stats().waiting == 0)
--- ```
function Limiter:stats()
    policy.own(self, Limiter, "limiter:stats")
    return {
        rpm = self.requests.per_minute, tpm = self.tokens.per_minute,
        waiting = self.waiting.n, reserved = self.reserved,
        free_requests = self.requests:free(), free_tokens = self.tokens:free(),
    }
end

local ROWS = {
    rpm = "number", rps = "number", tpm = "number", burst = "number", token_burst = "number",
    max_wait = "number", tokens = true, usage = "function", learn = "boolean",
}

--- A policy that limits the rate of calls. It works with any function.
---@param opts? leat.limiter_options
---
--- * `rpm`: requests per minute (or `rps`: per second). `tpm`: tokens per minute. Default: no limit.
--- * `burst`, `token_burst`: how much may pass at once after a pause. Default: the amount of one second, at
---   least 1. In any T seconds at most rate * T + burst pass.
--- * `max_wait`: seconds. A call that would have to wait longer fails at once. Default: no limit.
--- * `tokens`: how many tokens a `call` will probably use: a number, or a function of its arguments (0).
---   `usage(value, second)` gets the first two results of the call and returns how many tokens it has used,
---   or nil. Impossible numbers (negative, or over a hundred million) are ignored, with one warning.
--- * `learn` false: ignore the headers of responses.
---@return leat.limiter limiter with call, reserve, set, learn, stats
---
--- Raises for an unknown option, one of a wrong type, and a rate of 0 or less.
--- ```lua
--- local limiter = leat.limiter { rps = 100, burst = 1 }
--- local before = leat.now()
--- for _ = 1, 3 do assert(limiter:call(function() return true end)) end
--- assert(leat.now() - before >= 0.0199)
--- ```
function M.limiter(opts)
    opts = check.options("limiter", opts, ROWS)
    if type(opts.tokens) ~= "function" then
        policy.finite("limiter", opts, "tokens")
    end
    local self = setmetatable({
        requests = meter.new(), tokens = meter.new(),
        line = sync.semaphore(1), changed = sync.event(),
        waiting = { n = 0, requests = 0, tokens = 0 }, reserved = 0,
        max_wait = policy.number("limiter", opts, "max_wait", huge),
        cost = opts.tokens or 0, usage = opts.usage, learns = opts.learn ~= false,
    }, Limiter)
    set(self, "limiter", opts)
    return self
end

return M
