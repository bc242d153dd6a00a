-- Counts the calls and failures of the last seconds, in ten time slices.
local task = require "leat.task"

local floor = math.floor

local SLICES = 10

local M = {}
local Window = {}
Window.__index = Window

function M.new(seconds)
    return setmetatable({ slice = seconds / SLICES, last = -math.huge, calls = {}, failures = {} }, Window)
end

function Window:add(failed)
    local at = floor(task.now() / self.slice)
    for i = math.max(self.last + 1, at - SLICES + 1), at do
        self.calls[i % SLICES], self.failures[i % SLICES] = 0, 0
    end
    self.last = at
    local i = at % SLICES
    self.calls[i] = self.calls[i] + 1
    if failed then
        self.failures[i] = self.failures[i] + 1
    end
end

-- The number of calls and of failures at the time of the last `add`.
function Window:sums()
    local calls, failures = 0, 0
    for i = 0, SLICES - 1 do
        calls, failures = calls + (self.calls[i] or 0), failures + (self.failures[i] or 0)
    end
    return calls, failures
end

return M
