-- What the mock draws: repeatable random numbers, and latencies. Internal.
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

return M
