-- The rate meter beneath the limiter: the generic cell rate algorithm in its form as a leaky bucket (ITU-T
-- I.371; ATM Forum, Traffic Management 4.1), which allows the same as virtual scheduling, but keeps its level
-- in units rather than in time: so the rate may change under way. Internal.
local now = require("leat.task").now

local huge, max, min = math.huge, math.max, math.min

local M = {}
local Meter = {}
Meter.__index = Meter

function M.new()
    return setmetatable({ per_minute = huge, rate = huge, burst = huge, level = 0, at = now() }, Meter)
end

local function leak(m)
    local t = now()
    m.level = m.rate < huge and max(0, m.level - m.rate * (t - m.at)) or 0
    m.at = t
end

local function apply(m)
    leak(m) -- at the old rate, until now
    -- What the user has set is lowered only by refusals: a server may count by other units than it says.
    m.per_minute = m.asked and not m.yields and m.asked or min(m.asked or huge, m.said or huge)
    m.rate = m.per_minute / 60
    m.burst = m.asked_burst or max(1, m.rate) -- what comes in a second
end

-- Internal: what the user says, units per minute and units; nil leaves it as it is.
function Meter:set(per_minute, burst)
    self.asked, self.asked_burst = per_minute or self.asked, burst or self.asked_burst
    if per_minute then
        self.said, self.yields = nil, false
    end
    apply(self)
end

-- Internal: the seconds until `n` units may pass, behind `ahead` others. More than the burst can hold passes
-- when the bucket is empty, and leaves it in debt.
function Meter:delay(n, ahead)
    if self.rate == huge then
        return 0
    end
    leak(self)
    local s = (self.level + ahead - max(0, self.burst - n)) / self.rate
    return s > 1e-9 and s or 0 -- timers count nanoseconds
end

-- Internal: `n` units pass; fewer than none give back.
function Meter:charge(n)
    leak(self)
    if self.rate < huge then
        self.level = max(0, self.level + n)
    end
end

-- Internal: units that may pass at once.
function Meter:free()
    leak(self)
    return self.rate == huge and huge or max(0, self.burst - self.level)
end

-- ---- what servers say

-- The time of the reset tells what the limit is counted by. Some servers say how long until the window begins
-- anew, others how long until a bucket that refills all the time is full again. Times may be rounded up to
-- whole seconds.
local function is_bucket(limit, remaining, reset)
    local full = (limit - remaining) / limit * 60
    return full <= reset * 1.05 + 0.001 and reset <= math.ceil(full) * 1.05 + 0.001
end

-- Units per minute of `limit`. Without a reset, a limit is one per minute.
local function per_minute_of(self, limit, remaining, reset)
    if not reset or reset == 0 then
        return self.per_second and limit * 60 or limit
    elseif reset > 1.05 then
        self.per_second = false
    elseif remaining and remaining <= limit and remaining >= 0.9 * limit
        and not is_bucket(limit, remaining, reset) then
        self.per_second = true -- a window of a minute that is nearly unused has longer to go
    end
    if self.per_second then
        return limit * 60
    elseif reset <= 63 or not remaining or remaining > limit then
        return limit
    end
    -- A longer window: an hour, a day. Either what is used comes back until the reset, or what is left has to
    -- last until then.
    return min(limit, max(limit - remaining, remaining) / reset * 60)
end

-- Internal: takes up what a response says: the limit, what is left of it, and the seconds until all is back;
-- each may be nil. Returns whether it said anything.
function Meter:learn(limit, remaining, reset)
    if limit then
        self.said = per_minute_of(self, limit, remaining, reset)
        apply(self)
    end
    if remaining then
        leak(self)
        if self.rate < huge then
            self.level = max(self.level, self.burst - remaining)
        end
    end
    return limit ~= nil or remaining ~= nil
end

-- Internal: the server has refused a call. From now on what it says goes before what the user has set.
function Meter:refused()
    if not self.yields then
        self.yields = true
        apply(self)
    end
end

return M
