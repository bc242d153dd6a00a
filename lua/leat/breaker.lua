-- Circuit breaker: refuses calls to a failing service at once, until a probe call succeeds again.
local check = require "leat.internal.check"
local errors = require "leat.error"
local policy = require "leat.policy.common"
local task = require "leat.task"
local window = require "leat.policy.failure_window"

local huge = math.huge
local now = task.now

local M = {}

-- ---- what counts

-- Errors of these kinds say nothing about the service: this side makes them, or the caller causes them.
local NEUTRAL = {
    cancelled = true, invalid = true, denied = true, too_large = true, circuit_open = true,
    rate_limited = true, budget = true, memory = true, raised = true, internal = true,
}

-- Returns "failure", "success", or nil if the outcome counts as neither.
local function classify(value, err)
    local of = type(err) == "table" and err or {}
    local status = of.status or policy.status(value)
    if status == 429 or status == 408 or of.at_once then -- at_once: only a kept connection was lost
        return nil
    elseif status and status >= 400 then
        return status >= 500 and "failure" or "success" -- 4xx: the service works, and refuses the request
    elseif err == nil then
        return "success"
    end
    return not NEUTRAL[of.kind] and of.phase ~= "queue" and "failure" or nil
end

-- ---- the three states

local Breaker = check.class({}, "breaker")
Breaker.__index = Breaker

-- Each change begins a new epoch: a call that started in an earlier epoch says nothing about this one.
local function change(self, state)
    local old = self.current
    self.current, self.since, self.epoch = state, now(), self.epoch + 1
    self.in_a_row, self.successes, self.leases = 0, 0, {}
    self.seen = self.rate and window.new(self.window)
    if self.on_change then
        self.on_change(old, state)
    end
end

-- After `reset` seconds an open circuit becomes half-open. Returns the state, and for an open circuit also
-- the seconds until it becomes half-open.
local function refresh(self)
    local left = self.current == "open" and self.since + self.reset - now()
    if left and left <= 0 then
        change(self, "half-open")
        return self.current
    end
    return self.current, left or nil
end

function Breaker:__tostring()
    return "breaker (" .. (refresh(self)) .. ")"
end

--- Returns the state of the circuit.
---@return "closed"|"open"|"half-open" state "closed", "open" or "half-open"
--- ```lua
--- assert(leat.breaker():state() == "closed")
--- ```
function Breaker:state()
    policy.own(self, Breaker, "breaker:state")
    return (refresh(self))
end

-- Returns a lease for a probe; or nil and the seconds until the oldest lease may be taken over. Without
-- taking over, a probe that hangs would keep the circuit from ever closing.
local function lease(self)
    local leases = self.leases
    if #leases >= self.probes then
        local left = leases[1].at + self.reset - now()
        if left > 0 then
            return nil, left
        end
        table.remove(leases, 1)
    end
    leases[#leases + 1] = { at = now() }
    return leases[#leases]
end

-- Ends the lease. Returns false if another probe has taken it over.
local function end_lease(self, probe)
    for i, l in ipairs(self.leases) do
        if l == probe then
            table.remove(self.leases, i)
            return true
        end
    end
    return false
end

local function refused(self, seconds)
    self.refused = self.refused + 1
    return nil, errors.new {
        kind = "circuit_open", retry_after = seconds, retryable = false,
        message = ("the circuit is %s: not called; try again in %.3g s"):format(self.current, seconds),
    }
end

local function count_failure(self)
    self.in_a_row = self.in_a_row + 1
    local open = self.current == "half-open" or self.in_a_row >= self.threshold
    if self.rate and not open then
        self.seen:add(true)
        local calls, failures = self.seen:sums()
        open = calls >= self.min_calls and failures >= self.rate * calls
    end
    if open then
        change(self, "open")
    end
end

local function count_success(self)
    self.in_a_row = 0
    if self.current == "half-open" then
        self.successes = self.successes + 1
        if self.successes >= self.probes then
            change(self, "closed")
        end
    elseif self.rate then
        self.seen:add(false)
    end
end

--- Calls `fn(...)`, unless the circuit is open.
---@param fn function
---@param ... any its arguments
---@return any ... the values of fn. If the circuit is open, fn is not called and the result is nil, err
---of kind "circuit_open"; err.retry_after is the number of seconds after which a new call makes sense
---
--- A cancel and a bug in fn are raised. They count neither as success nor as failure, and a probe gives
--- its place back. A call that started before the circuit changed its state does not count when it ends.
--- ```lua
--- local breaker = leat.breaker { threshold = 2, reset = 30 }
--- local function down() return nil, leat.error { kind = "connect", message = "refused" } end
--- breaker:call(down)
--- breaker:call(down)
--- local v, err = breaker:call(down)
--- assert(v == nil and err.kind == "circuit_open" and err.retry_after > 29)
--- ```
function Breaker:call(fn, ...)
    policy.own(self, Breaker, "breaker:call")
    check.callable("breaker:call", "the first argument", fn)
    local state, left = refresh(self)
    local probe
    if state == "open" then
        return refused(self, left)
    elseif state == "half-open" then
        probe, left = lease(self)
        if not probe then
            return refused(self, left)
        end
    end
    local epoch = self.epoch
    return policy.run(function(ended, value, err)
        if value ~= nil then
            err = nil -- success: a second value is not an error here, but for example the reply
        end
        if epoch ~= self.epoch or probe and not end_lease(self, probe) then
            return
        end
        local verdict = ended and self._classify(value, err)
        if verdict == "failure" then
            count_failure(self)
        elseif verdict == "success" then
            count_success(self)
        end
    end, fn, ...)
end

local ROWS = {
    threshold = "number", failure_rate = "number", min_calls = "number", window = "number",
    reset = "number", probes = "number", classify = "function", on_change = "function",
}

--- A policy that stops calling a service that fails. It works with any function.
---@param opts? leat.breaker_options
---
--- * `threshold`: this many failures in a row open the circuit (5; no such threshold if failure_rate is
---   given).
--- * `failure_rate`: this share of failures, such as 0.5, opens the circuit. It is measured over the last
---   `window` seconds (60), and only if they contain at least `min_calls` calls (10).
--- * `reset`: after this many seconds (30) an open circuit becomes half-open. A half-open circuit lets at
---   most `probes` calls (1) through at a time and refuses the others. When that many calls have succeeded,
---   the circuit closes. When one fails, it opens again. A probe that runs for longer than `reset` seconds
---   makes room for another one.
--- * `classify(value, err)` returns "failure", "success", or nil if the outcome counts as neither. By
---   default, failures and status 5xx count as failures. A 4xx counts as a success, because the service
---   works. Some outcomes count as neither: status 408 and 429, the kinds invalid, denied, too_large,
---   cancelled, circuit_open, rate_limited and budget, and a timeout while the call waited in a queue on
---   this side.
--- * `on_change(old, new)` is called at each change of state.
---@return leat.breaker breaker with call, state; field refused (the number of refused calls)
---
--- Raises for an unknown option or one of a wrong type.
--- ```lua
--- local breaker = leat.breaker { failure_rate = 0.5, min_calls = 20, window = 10, on_change = print }
--- local res = assert(breaker:call(request, url .. "/ok"))
--- assert(res.ok and breaker:state() == "closed")
--- ```
function M.breaker(opts)
    opts = check.options("breaker", opts, ROWS)
    local rate = policy.number("breaker", opts, "failure_rate")
    if rate and (rate == 0 or rate > 1) then
        check.fail("breaker: option 'failure_rate' must be a share such as 0.5, got "
            .. check.picture(rate, "failure_rate"))
    end
    local seconds = policy.number("breaker", opts, "window", 60)
    local reset = policy.number("breaker", opts, "reset", 30)
    if seconds == 0 or reset == 0 then
        check.fail "breaker: options 'window' and 'reset' must be more than 0 seconds"
    end
    local idle = not rate and (opts.min_calls and "min_calls" or opts.window and "window")
    if idle then
        check.fail(("breaker: option '%s' requires 'failure_rate'"):format(idle))
    end
    return setmetatable({
        threshold = policy.count("breaker", opts, "threshold", rate and huge or 5),
        rate = rate,
        min_calls = policy.count("breaker", opts, "min_calls", 10),
        window = seconds,
        reset = reset,
        probes = policy.count("breaker", opts, "probes", 1),
        _classify = opts.classify or classify,
        on_change = opts.on_change,
        current = "closed", since = now(), epoch = 0, refused = 0,
        in_a_row = 0, successes = 0, leases = {}, seen = rate and window.new(seconds),
    }, Breaker)
end

return M
