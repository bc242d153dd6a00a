-- The rate meter of the limiter: the generic cell rate algorithm as a leaky bucket (ITU-T I.371; ATM Forum,
-- Traffic Management 4.1). It allows exactly what virtual scheduling allows. But its level is in units and
-- not in time, so the rate may change while it runs.
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
    leak(m) -- until now, the old rate applies
    -- Only refusals lower the rate that the user has set: a server may count in other units than its headers
    -- say.
    m.per_minute = m.asked and not m.yields and m.asked or min(m.asked or huge, m.said or huge)
    m.rate = m.per_minute / 60
    m.burst = m.asked_burst or max(1, m.rate) -- the units of one second
end

-- Sets the user's values: units per minute, and units of the burst. nil leaves a value unchanged.
function Meter:set(per_minute, burst)
    self.asked, self.asked_burst = per_minute or self.asked, burst or self.asked_burst
    if per_minute then
        self.said, self.yields = nil, false
    end
    apply(self)
end

-- The seconds until `n` units may pass, after `ahead` other units. More units than the burst allows may pass
-- when the bucket is empty; they leave it in debt.
function Meter:delay(n, ahead)
    if self.rate == huge then
        return 0
    end
    leak(self)
    local s = (self.level + ahead - max(0, self.burst - n)) / self.rate
    return s > 1e-9 and s or 0 -- timers count nanoseconds
end

-- Counts `n` units as passed. A negative n gives units back.
function Meter:charge(n)
    leak(self)
    if self.rate < huge then
        self.level = max(0, self.level + n)
    end
end

-- The number of units that may pass now.
function Meter:free()
    leak(self)
    return self.rate == huge and huge or max(0, self.burst - self.level)
end

-- ---- what servers say

-- The reset time shows how the server counts. For some servers it is the time until the next window begins.
-- For others it is the time until a continuously refilled bucket is full. Times may be rounded up to whole
-- seconds.
local function is_bucket(limit, remaining, reset)
    local full = (limit - remaining) / limit * 60
    return full <= reset * 1.05 + 0.001 and reset <= math.ceil(full) * 1.05 + 0.001
end

-- The rate that `limit` means, in units per minute. Without a reset time, the limit is per minute.
local function per_minute_of(self, limit, remaining, reset)
    if not reset or reset == 0 then
        return self.per_second and limit * 60 or limit
    elseif reset > 1.05 then
        self.per_second = false
    elseif remaining and remaining <= limit and remaining >= 0.9 * limit
        and not is_bucket(limit, remaining, reset) then
        self.per_second = true -- in a window of a minute, a nearly unused limit has a later reset
    end
    if self.per_second then
        return limit * 60
    elseif reset <= 63 or not remaining or remaining > limit then
        return limit
    end
    -- A longer window, such as an hour or a day. Either the used units come back until the reset, or the
    -- remaining units must last until then.
    return min(limit, max(limit - remaining, remaining) / reset * 60)
end

-- Learns from the headers of a response: the limit, the remaining units, and the seconds until all units are
-- back. Each may be nil. Returns whether there was any information.
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

-- The server has refused a call. From now on, its own values take precedence over those of the user.
function Meter:refused()
    if not self.yields then
        self.yields = true
        apply(self)
    end
end

return M
