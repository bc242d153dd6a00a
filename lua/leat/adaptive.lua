-- Adaptive concurrency: the limit follows how many calls at once the service can serve. First the limit
-- doubles, then it grows additively; at each sign of congestion it is multiplied by a factor below 1. This
-- is how TCP finds the capacity of a path: V. Jacobson, "Congestion Avoidance and Control", 1988. After a
-- cut, each growth goes half the way back to the number of calls in flight when the limit was cut, as in L.
-- Xu, K. Harfoush, I. Rhee, "Binary Increase Congestion Control", 2004. Some services limit the rate of
-- calls, not the number of calls at once. For those there is a gate (leat.policy.gate).
local check = require "leat.internal.check"
local gates = require "leat.policy.gate"
local policy = require "leat.policy.common"
local rules = require "leat.policy.retry_rules"
local sync = require "leat.sync"
local task = require "leat.task"

local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

local M = {}

local HISTORY = 1000
-- While the limit doubles, calls do not all start at the same moment. So a refusal arrives before many more
-- calls have started. RAMP: how many calls start in the time that one call takes, as a multiple of the
-- limit. LONGEST_GAP: the longest time between two starts, in seconds.
local RAMP, LONGEST_GAP = 1.5, 0.002

local function status_of(value, err)
    return type(err) == "table" and err.status or policy.status(value)
end

-- Returns a reason to slow down, "success", or nil if the outcome counts as neither.
local function classify(value, err)
    local status = status_of(value, err)
    if status == 429 and type(err) == "table" and err.retryable == false then
        return nil -- the quota is used up: fewer calls at once do not bring it back
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

-- Calls that were running when the limit was cut show the same congestion again. So each cut begins a new
-- epoch, and only calls that started in this epoch can cut the limit again or make it grow. `least`: how
-- many calls at once the rate allows; the cut does not go below it.
local function cut(self, reason, least)
    self.epoch = self.epoch + 1
    self.cut_at = task.now()
    self.slow_start = false
    -- One call was refused; the service can serve the calls that were in flight beside it.
    self.goal = min(self.limit - 1, self.in_flight)
    set(self, max(self.min, floor(self.limit * self.decrease), min(self.limit, least)), reason)
    new_round(self)
end

-- A round is `limit` successes. If the limit was never reached during a round, the round does not show
-- whether a higher limit would work.
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

-- The service limits the rate, so the pace was too fast. The first such refusal cuts the limit. Later ones
-- cut it at most once in the time of a call, and only if the limit was reached. The limit never goes below
-- what the rate allows. While the rate is only a guess, the limit goes on doubling.
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
    if not p.guessed and p.aim then -- as many calls as the rate allows, and a few more
        set(self, min(self.max, max(self.limit, ceil(1.25 * p.aim * latency) + 1)), reason)
    end
end

-- Takes the cut back: the refusals were random, not a limit.
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
            return -- only this call was refused; it will be tried again
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
            err = nil -- success: a second value is not an error here, but for example the reply
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

--- Calls `fn(...)` as soon as a slot is free. Waiting calls get slots first come, first served.
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

--- Returns how the limit has changed. The first entry is the start value; at most the last 1000 entries
--- are kept.
---@return leat.limit_change[] list of {at, limit, reason}. `at` is a time of leat.now. The reason is
---"start", "slow start" or "increase"; for a cut it is "429", "503", "timeout", or what `classify`
---returned
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

--- A policy that adapts how many calls run at once to what the service can serve. It works with any
--- function.
---@param opts? leat.adaptive_options
---
--- * `min` (1), `start` (5), `max` (20): the lowest limit, the first limit and the highest limit.
--- * Growth: a round is as many successes as the limit. At first each success raises the limit by one, so
---   the limit doubles in each round. Calls then start a short time apart (at most 2 ms). After the first
---   sign of congestion, the limit grows once per round, and only if it was reached in that round. It grows
---   by half the way to the number of calls that were running at the last sign of congestion, and by at
---   least one. It can grow beyond that number.
--- * Cuts: at a sign of congestion the limit is multiplied by `decrease` (0.5; above 0 and below 1). Calls
---   that were already running then cannot cut it again.
--- * A refusal with a hint (a wait that the server asks for, as leat.retry reads it; up to 120 s): one or
---   two refusals do not change the limit, but meanwhile new calls start no faster than calls are served.
---   Three refusals count as a rate limit if most calls since the first refusal were refused. Then no call
---   starts before the time that the hint names. Afterwards calls start evenly, at the rate that the
---   service was found to accept. Further refusals lower that rate. They cut the limit only if it was
---   reached, and never below what the rate allows at once.
--- * A refusal without a hint cuts the limit. If calls that start later are refused as well, the cause is
---   the rate. If calls are refused at random, whatever the rate is, the rate is not limited any more.
--- * Several pipelines that call the same service can use one object of leat.adaptive. Then they share what
---   it has learned.
--- * `classify(value, err)` returns "success", or a word that says why to slow down, or nil if the outcome
---   is neither. By default, status 429 and 503 and errors of kind "timeout" slow down. Other failures are
---   neither. A 429 with err.retryable = false is neither, too, because waiting does not help.
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
