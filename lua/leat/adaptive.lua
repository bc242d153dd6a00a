-- Adaptive concurrency: as many calls at once as the service takes. Doubling at first and then additive
-- increase, multiplicative decrease, as TCP finds the capacity of a path: V. Jacobson, "Congestion Avoidance
-- and Control", 1988. After a cut it comes back in steps of half the way to what was being served when it was
-- cut, as in L. Xu, K. Harfoush, I. Rhee, "Binary Increase Congestion Control", 2004. A service that limits
-- the rate, rather than how many there are at once, is met by a gate (leat.policy.gate).
local check = require "leat.internal.check"
local gates = require "leat.policy.gate"
local policy = require "leat.policy.common"
local rules = require "leat.policy.retry_rules"
local sync = require "leat.sync"
local task = require "leat.task"

local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

local M = {}

local HISTORY = 1000
-- While the limit is doubled, calls do not start in one blow: so a refusal comes back before many more have
-- been started. Their rate, in slots per time of a call; and the longest time between two, in seconds.
local RAMP, LONGEST_GAP = 1.5, 0.002

local function status_of(value, err)
    return type(err) == "table" and err.status or policy.status(value)
end

-- A reason to slow down, "success", or nil: counts as neither.
local function classify(value, err)
    local status = status_of(value, err)
    if status == 429 and type(err) == "table" and err.retryable == false then
        return nil -- a quota that is used up: it does not come back by calling less often
    elseif status == 429 or status == 503 then
        return tostring(status)
    elseif err == nil then
        return "success"
    elseif type(err) == "table" and err.kind == "timeout" and err.phase ~= "queue" then
        return "timeout"
    end
end

local Adaptive = check.class({}, "adaptive")
Adaptive.__index = Adaptive

function Adaptive:__tostring()
    return ("adaptive (%d of %d in flight)"):format(self.in_flight, self.limit)
end

local function resize(self, limit)
    self.limit = limit
    self.sem:resize(limit)
end

local function set(self, limit, reason)
    local changes = self.changes
    if limit ~= self.limit or limit ~= changes[#changes].limit then
        resize(self, limit)
        if #changes == HISTORY then
            table.remove(changes, 1)
        end
        changes[#changes + 1] = { at = task.now(), limit = limit, reason = reason }
    end
end

local function new_round(self)
    self.successes = 0
    self.saturated = self.in_flight >= self.limit
end

-- Those already under way when it was cut are signs of the same congestion: a cut begins an epoch, and only
-- calls of this epoch can cut again, or count towards a growth. `least`: what the rate takes at once.
local function cut(self, reason, least)
    self.epoch = self.epoch + 1
    self.cut_at = task.now()
    self.slow_start = false
    -- What goes on while one is refused is as much as the service takes.
    self.goal = min(self.limit - 1, self.in_flight)
    set(self, max(self.min, floor(self.limit * self.decrease), min(self.limit, least)), reason)
    new_round(self)
end

-- A round is as many successes as calls fit in at once. What never reached the limit says nothing about
-- whether there is room above it.
local function succeeded(self)
    self.successes = self.successes + 1
    if self.slow_start then
        if self.saturated and self.limit < self.max and not self.gate:doubtful() then
            resize(self, self.limit + 1)
            self.grown = self.grown + 1
            if self.grown * 2 >= self.limit or self.limit == self.max then
                set(self, self.limit, "slow start")
                self.grown = 0
                new_round(self)
            end
        elseif self.successes >= self.limit then
            self.settled = self.limit == self.max -- for a round
            new_round(self)
        end
    elseif self.successes >= self.limit then
        if self.saturated then
            local step = max(1, floor((self.goal - self.limit) / 2))
            set(self, min(self.max, self.limit + step), "increase")
        end
        new_round(self)
    end
end

-- The service limits the rate: then the pace was wrong. The limit is cut by the first refusal of such a kind,
-- and later once in the time of a call and only if it was reached; but not below what the rate takes, and
-- while the rate is a guess the limit goes on doubling.
local function over_rate(self, reason, call)
    local p, known = self.gate.pace, self.paced
    self.paced = true
    local latency = self.latency or 0
    if call.epoch == self.epoch
        and not (known and (not self.saturated or task.now() - self.cut_at < latency)) then
        local doubling = self.slow_start and p.guessed
        self.before = { limit = self.limit, slow_start = self.slow_start }
        cut(self, reason, p.guessed and 0 or ceil((p.aim or 0) * latency))
        self.slow_start = doubling
    end
    if not p.guessed and p.aim then -- as many as the rate takes, and a few more
        set(self, min(self.max, max(self.limit, ceil(1.25 * p.aim * latency) + 1)), reason)
    end
end

-- What looked like a limit was noise.
local function undo(self)
    self.paced = nil
    if self.before then
        self.slow_start = true
        set(self, min(self.max, max(self.limit, self.before.limit)), "noise")
        self.before = nil
        new_round(self)
    end
end

local function congested(self, reason, call, value, err)
    local status = status_of(value, err)
    local hint = status and rules.hint(value, type(err) == "table" and err or nil)
    local refused = rules.over_rate(value, err) or status == 503 and hint
    if refused then
        local verdict = self.gate:refused(call, hint ~= 0 and hint or nil, self.in_flight, self.latency)
        if verdict == "limit" and status == 429 then
            return over_rate(self, reason, call)
        elseif verdict == "noise" then
            return undo(self)
        elseif verdict == nil and hint then
            return -- one call was unlucky, and will come back
        end
    end
    if call.epoch == self.epoch then
        cut(self, reason, 0)
    end
end

local function with_slot(self, fn, ...)
    local gate = self.gate
    local gap = self.slow_start and not self.settled and self.latency
        and min(LONGEST_GAP, self.latency / (RAMP * self.limit))
    local waited = gate:wait(self.limit, gap)
    local epoch, began = self.epoch, task.now()
    local number = gate:start(began)
    local function finished(ended, value, err)
        self.in_flight = self.in_flight - 1
        if value ~= nil then
            err = nil -- no failure: a second value, such as the reply that a text was taken from
        end
        local verdict = ended and self._classify(value, err)
        if verdict == "success" then
            local took = task.now() - began
            self.latency = self.latency and self.latency + (took - self.latency) / 8 or took
            if (gate.pace or gate.watch.is_open) and gate:passed(number) then
                undo(self)
            end
            if epoch == self.epoch then
                succeeded(self)
            end
        elseif verdict then
            local call = { epoch = epoch, began = began, waited = waited, number = number }
            congested(self, verdict, call, value, err)
        end
        gate:ended()
    end
    self.in_flight = self.in_flight + 1
    if self.in_flight >= self.limit then
        self.saturated = true
    end
    return policy.run(finished, fn, ...)
end

--- Calls `fn(...)` as soon as there is a slot; those who wait are served first come, first served.
---@param fn function
---@param ... any its arguments
---@return any ... what fn returns
--- ```lua
--- local slots = leat.adaptive { start = 2 }
--- local r = leat.map({ 1, 2, 3 }, function(x)
---     return slots:call(function() sleep(0) return x * x end)
--- end)
--- assert(r[3] == 9 and slots.in_flight == 0)
--- ```
function Adaptive:call(fn, ...)
    policy.own(self, Adaptive, "adaptive:call")
    check.callable("adaptive:call", "the first argument", fn)
    return self.sem:with(with_slot, self, fn, ...)
end

--- How the limit has changed; the first entry is its start, the last thousand are kept.
---@return leat.limit_change[] list of {at (leat.now), limit, reason}: "start", "slow start", "increase", or
---why it was cut: "429", "503", "timeout", or what `classify` said
--- ```lua
--- local slots = leat.adaptive { start = 4 }
--- slots:call(function() return nil, leat.error { kind = "timeout", message = "too slow" } end)
--- local h = slots:history()
--- assert(h[1].limit == 4 and h[2].limit == 2 and h[2].reason == "timeout")
--- ```
function Adaptive:history()
    policy.own(self, Adaptive, "adaptive:history")
    return { unpack(self.changes) }
end

local ROWS = {
    min = "number", start = "number", max = "number", decrease = "number", classify = "function",
}

--- A policy that lets as many calls run at once as the service takes. Works with any function.
---@param opts? leat.adaptive_options
---
--- * `min` (1), `start` (5), `max` (20): the limit's bounds and its beginning.
--- * The limit is doubled in each round (as many successes as the limit), by one with each success, until the
---   first sign of congestion. Meanwhile calls start a moment apart (2 ms at most). From then on it grows by
---   half the way to what went on at the last sign, by one at least and beyond that; only if it was reached
---   in that round. At a sign of congestion it is multiplied by `decrease` (0.5, above 0 and below 1); calls
---   that were running then cannot cut it again.
--- * Refusals with a hint (as leat.retry reads it; up to 120 s) are judged before anything follows. One or
---   two mean nothing, but no more calls start meanwhile than are served. Three are a limit if most calls
---   since the first one are refused. Then nothing starts before the moment that the hint names, and
---   afterwards calls start evenly, at the rate that the service is found to let through. Further refusals
---   cut that rate, and the limit only if it was reached, and not below what the rate takes at once. Without
---   a hint, a refusal cuts the limit; if what is started later is refused as well, the rate is to blame.
---   Where calls are refused at random, whatever the rate, the rate is set free again.
--- * Pipelines that call the same service share what they learn if all are given one object of leat.adaptive.
--- * `classify(value, err)` returns "success", a word that says why to slow down, or nil for what is a sign
---   of neither. Unless said: status 429 and 503 and kind timeout slow down, other failures are neither, nor
---   is a 429 that no wait helps against (err.retryable is false).
---@return leat.adaptive adaptive with call, history; fields limit, in_flight
---
--- Raises for an unknown option or one of a wrong type.
--- ```lua
--- local slots = leat.adaptive { min = 1, start = 5, max = 20 }
--- local res = assert(slots:call(request, url .. "/ok"))
--- assert(res.ok and slots.limit == 5)
--- ```
function M.adaptive(opts)
    opts = check.options("adaptive", opts, ROWS)
    local least = policy.count("adaptive", opts, "min", 1)
    local most = policy.count("adaptive", opts, "max", max(20, least))
    local decrease = policy.number("adaptive", opts, "decrease", 0.5)
    if decrease <= 0 or decrease >= 1 then
        check.fail(("adaptive: option 'decrease' must be above 0 and below 1, got %g"):format(decrease))
    end
    local start = policy.count("adaptive", opts, "start", max(least, min(5, most)))
    if not (least <= start and start <= most) or least == math.huge or start == math.huge then
        check.fail(("adaptive: min <= start <= max must hold, got %g, %g, %g"):format(least, start, most))
    end
    return setmetatable({
        min = least, max = most, limit = start, in_flight = 0,
        sem = sync.semaphore(start), gate = gates.new(),
        decrease = decrease, goal = 0, epoch = 0, slow_start = true, settled = false, successes = 0,
        grown = 0, saturated = false,
        _classify = opts.classify or classify,
        changes = { { at = task.now(), limit = start, reason = "start" } },
    }, Adaptive)
end

return M
