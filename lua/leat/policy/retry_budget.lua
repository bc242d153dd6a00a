-- The retry budget: a bucket that calls fill and retries empty. It acts only in an overload, when most calls
-- fail in the end in spite of their retries.
local check = require "leat.internal.check"
local policy = require "leat.policy.common"

local max, min = math.max, math.min

local M = {}

local Budget = {}
Budget.__index = Budget

local ROWS = { ratio = "number", floor = "number", max = "number" }

-- The share of failed attempts is an average over about this many attempts.
local MEMORY = 96
local OUTAGE = 50 -- this many failed attempts in a row are an outage

-- `given`: the option `budget`. Returns nil if there is no budget. `attempts`: the maximum for one call.
function M.new(given, attempts)
    if given == false then
        return nil
    elseif given == nil or given == true then
        given = {}
    elseif type(given) == "number" then
        given = { ratio = given }
    end
    check.options("retry: budget", given, ROWS)
    local floor = policy.number("retry: budget", given, "floor", 10)
    return setmetatable({
        left = floor, floor = floor, attempts = attempts,
        ratio = policy.number("retry: budget", given, "ratio", 0.2),
        max = max(floor, policy.number("retry: budget", given, "max", 20)),
        tried = 0, failed = 0, in_a_row = 0,
    }, Budget)
end

-- A call begins.
function Budget:begin()
    self.left = min(self.max, self.left + self.ratio)
end

-- An attempt has ended.
function Budget:note(failed)
    self.tried = self.tried * (1 - 1 / MEMORY) + 1
    self.failed = self.failed * (1 - 1 / MEMORY) + (failed and 1 or 0)
    self.in_a_row = failed and self.in_a_row + 1 or 0
end

-- Whether no further retry is allowed now: the credit is used up, and so many attempts fail that most calls
-- fail in the end.
function Budget:forbids()
    return self.left < 1 - 1e-9 -- 0.1 added ten times is not exactly 1
        and (self.in_a_row >= OUTAGE or (self.failed / max(self.tried, 1)) ^ self.attempts >= 0.5)
end

function Budget:spend()
    self.left = max(0, self.left - 1)
end

return M
