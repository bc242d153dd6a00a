-- What the mock draws: repeatable random numbers, latencies, and the rate limit. Internal.
local tasks = require "leat.task"

local floor, max, ceil = math.floor, math.max, math.ceil

local M = {}

-- ---- randomness: the "minimal standard" generator with its revised multiplier (Park and Miller, "Random
-- number generators: good ones are hard to find", 1988; 1993). Its products fit a double exactly.

function M.generator(seed)
    local state = seed % 2147483646 + 1
    local function random()
        state = state * 48271 % 2147483647
        return state / 2147483647
    end
    for _ = 1, 8 do -- neighbouring seeds begin alike
        random()
    end
    return random
end

-- ---- latency: a function that draws seconds

-- The long tail is lognormal: half of the answers take longer than the median, one in twenty 3.7 times as
-- long, one in a hundred 6.4 times.
local TAIL_SIGMA = 0.8

-- nil if the text is not a latency.
function M.latency(text, random)
    local fixed = tonumber(text)
    local low, high = tostring(text):match "^([%d.]+)%-([%d.]+)$"
    low, high = tonumber(low), tonumber(high)
    local median = tonumber((tostring(text):match "^tail:([%d.]+)$"))
    if fixed and fixed >= 0 and fixed < math.huge then
        return function()
            random()
            return fixed
        end
    elseif low and high and low <= high then
        return function()
            return low + (high - low) * random()
        end
    elseif median then
        return function() -- Box and Muller, one of the two
            local radius = math.sqrt(-2 * math.log(random()))
            return median * math.exp(TAIL_SIGMA * radius * math.cos(2 * math.pi * random()))
        end
    end
end

-- ---- the rate limit: the generic cell rate algorithm (ITU-T I.371, virtual scheduling)

-- Returns a function of no arguments: whether to admit, requests left, seconds until all are back, seconds
-- to wait where it was refused.
function M.limiter(rpm, burst)
    local interval = 60 / rpm
    local tolerance = (burst - 1) * interval
    local due = -math.huge -- when the next request would come if all came evenly
    return function()
        local now = tasks.now()
        local at = max(due, now)
        local early = at - now
        if early > tolerance + 1e-9 then
            return false, 0, early, early - tolerance
        end
        due = at + interval
        return true, floor((tolerance + interval - (due - now)) / interval + 1e-9), due - now
    end
end

-- The way the API writes a time: 120ms, 1.5s, 6m0s.
function M.duration(seconds)
    if seconds < 1 then
        return ("%dms"):format(ceil(seconds * 1000))
    elseif seconds < 60 then
        return ("%gs"):format(ceil(seconds * 1000) / 1000)
    end
    return ("%dm%ds"):format(floor(seconds / 60), floor(seconds % 60))
end

return M
