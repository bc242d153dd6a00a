-- How retry waits: the pauses that servers have asked for, which hold for all calls of a key. Internal.
local task = require "leat.task"

local max = math.max
local random = require("leat.core.runtime").random or math.random -- a host's own is left alone
local now = task.now

local M = {}

function M.spread_of(self, seconds)
    return self.jitter and max(self.base, seconds / 4) or 0
end

-- What a server asks of one caller it asks of all: nobody of this key starts anything before `at`, and then
-- not all of them in one instant.
function M.pause(self, key, seconds)
    local paused = self.paused
    local at = now() + seconds
    local old = paused[key]
    if not old or old.at < at then
        paused[key] = { at = at, spread = self.paced and 0 or M.spread_of(self, seconds) }
    end
    self.pauses = self.pauses + 1
    if self.pauses % 256 == 0 then
        for k, p in pairs(paused) do
            if p.at < now() then
                paused[k] = nil
            end
        end
    end
end

-- When a call may go on that has to wait until `at` for reasons of its own; and the pause it has heeded.
function M.resume_at(self, key, at)
    local p = self.paused[key]
    if p and p.at >= now() then -- "at once" too is for many: spread
        return max(at, p.at + random() * p.spread), p
    end
    return at, nil
end

function M.past_deadline(at)
    local deadline = task.deadline()
    return deadline ~= nil and at > now() and at >= deadline
end

-- Waits until `at`, or as long as the key is paused meanwhile; false if that is past the deadline.
function M.wait(self, key, at, heeded)
    while true do
        if M.past_deadline(at) then
            return false
        end
        task.sleep_until(at)
        local p = self.paused[key]
        if not p or p == heeded then
            return true
        end
        at, heeded = M.resume_at(self, key, now())
        if not heeded then
            return true
        end
    end
end

return M
