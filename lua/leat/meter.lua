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

local function drain(m)
    local t = now()
    m.level = m.rate < huge and max(0, m.level - m.rate * (t - m.at)) or 0
    m.at = t
end

local function apply(m)
    drain(m) -- at the old rate, until now
    m.per_minute = min(m.asked or huge, m.learned or huge)
    m.rate = m.per_minute / 60
    m.burst = m.asked_burst or max(1, m.rate) -- what comes in a second
end

-- Internal: what the user says, units per minute and units; nil leaves it as it is.
function Meter:set(per_minute, burst)
    self.asked, self.asked_burst = per_minute or self.asked, burst or self.asked_burst
    if per_minute then
        self.learned = nil
    end
    apply(self)
end

-- Internal: the seconds until `n` units may pass, behind `ahead` others. More than the burst can hold passes
-- when the bucket is empty, and leaves it in debt.
function Meter:delay(n, ahead)
    if self.rate == huge then
        return 0
    end
    drain(self)
    local s = (self.level + ahead - max(0, self.burst - n)) / self.rate
    return s > 1e-9 and s or 0 -- timers count nanoseconds
end

-- Internal: `n` units pass; fewer than none give back.
function Meter:charge(n)
    drain(self)
    if self.rate < huge then
        self.level = max(0, self.level + n)
    end
end

-- Internal: units that may pass at once.
function Meter:free()
    drain(self)
    return self.rate == huge and huge or max(0, self.burst - self.level)
end

-- ---- what servers say

local UNITS = { h = 3600, m = 60, s = 1, ms = 0.001, us = 1e-6 }

-- "1s", "6m0s", "120ms", "1h2m3.5s", or plain seconds; nil if it is none of these.
function M.duration(text)
    if text:find "^%d+%.?%d*$" then
        return tonumber(text)
    end
    local total, rest = 0, text
    while rest ~= "" do
        local number, unit, after = rest:match "^(%d+%.?%d*)(%a+)(.*)$"
        if not number or not UNITS[unit] then
            return nil
        end
        total, rest = total + number * UNITS[unit], after
    end
    return text ~= "" and total or nil
end

local function amount(text, least)
    local n = text and text:find "^%d+%.?%d*$" and tonumber(text)
    return n and n >= least and n < huge and n or nil
end

-- Internal: takes up what a response says: the limit per minute, what is left of it, and when all is back.
-- Returns whether it said anything.
function Meter:learn(limit, remaining, reset)
    limit, remaining = amount(limit, 1), amount(remaining, 0)
    reset = reset and M.duration(reset)
    if limit then
        local per_minute = limit
        if remaining and reset and reset > 0 and remaining <= limit then
            -- Either a bucket that refills all the time or a window that begins anew at the reset: one of
            -- them is what the server allows.
            per_minute = min(limit, max(limit - remaining, remaining) / reset * 60)
        end
        self.learned = per_minute
        apply(self)
    end
    if remaining then
        drain(self)
        if self.rate < huge then
            self.level = max(self.level, self.burst - remaining)
        end
    end
    return limit ~= nil or remaining ~= nil
end

return M
