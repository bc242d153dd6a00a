-- The random values of the mock: repeatable random numbers, and latencies.
local M = {}

-- ---- randomness: the "minimal standard" generator with its revised multiplier (Park and Miller, "Random
-- number generators: good ones are hard to find", 1988; 1993). Its products fit a double exactly.

function M.generator(seed)
    local state = seed % 2147483646 + 1
    local function random()
        state = state * 48271 % 2147483647
        return state / 2147483647
    end
    for _ = 1, 8 do -- similar seeds give similar first numbers
        random()
    end
    return random
end

-- ---- latency: a function that returns random seconds

-- The long tail is a lognormal distribution: half of the answers take longer than the median, one in twenty
-- takes 3.7 times as long, and one in a hundred takes 6.4 times as long.
local TAIL_SIGMA = 0.8

-- Returns nil if the text is not a valid latency.
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
        return function() -- Box and Muller; only one of the two values is used
            local radius = math.sqrt(-2 * math.log(random()))
            return median * math.exp(TAIL_SIGMA * radius * math.cos(2 * math.pi * random()))
        end
    end
end

return M
