-- How retry waits: for the moment that a server has named to a call, and for the pauses of all calls of a
-- key. Internal.
local refusals = require "leat.policy.refusals"
local sync = require "leat.sync"
local task = require "leat.task"

local max = math.max
local random = require("leat.native.runtime").random or math.random -- a host's own is left alone
local now = task.now

local M = {}

-- The calls that a pause has held go on within so many seconds after it.
function M.spread_of(self, seconds)
    return self.jitter and max(self.base, seconds / 4) or 0
end

-- The same for a single call, which holds nobody.
function M.own_spread_of(self, seconds)
    return self.jitter and not self.paced and max(seconds / 4, math.min(self.base, seconds / 2)) or 0
end

-- Nobody of this key starts anything before `at`, and then not all of them in one instant.
local function pause(self, key, at, seconds)
    local paused = self.paused
    local old = paused[key]
    if old and old.at >= at then
        return
    end
    local spread = self.paced and 0 or M.spread_of(self, seconds)
    if old and old.at >= now() then
        old.at, old.spread = at, spread -- those who wait look again
    else
        paused[key] = { at = at, spread = spread, over = sync.event() }
    end
end

-- Forgets the keys whose pauses are over.
local function forget(self)
    for key, p in pairs(self.paused) do
        if p.at < now() then
            self.paused[key], self.refusals[key] = nil, nil
        end
    end
    for key, r in pairs(self.refusals) do
        if not self.paused[key] and r.at < now() then
            self.refusals[key] = nil
        end
    end
end

-- The server has refused the `number`th call. That call waits for so many seconds; if it is a limit, all
-- calls of the key do.
function M.refused(self, key, number, seconds)
    local watch = self.refusals[key]
    if not watch then
        watch = refusals.new()
        self.refusals[key] = watch
    end
    local p = self.paused[key]
    local at = now() + seconds
    local limit = watch:refuse(number, self.started, not p or p.at < now())
    watch.at = watch.refused == 1 and at or max(watch.at, at) -- of this episode
    if limit then
        pause(self, key, watch.at, seconds)
    end
    self.pauses = self.pauses + 1
    if self.pauses % 256 == 0 then
        forget(self)
    end
end

-- A call was answered otherwise.
function M.passed(self, key, number)
    local watch, p = self.refusals[key], self.paused[key]
    if watch and watch:pass(number, not p or p.at < now()) and p then
        self.paused[key] = nil
        p.over:set()
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

-- Waits until `at`, or as long as the key is paused meanwhile; false if that is past the deadline. `own`: the
-- call's own moment, before which it does not go on even if the pause is taken back.
function M.wait(self, key, at, heeded, own)
    while true do
        if M.past_deadline(at) then
            return false
        end
        local left = at - now()
        if heeded and left > 0 then
            if heeded.over:wait(left) then
                heeded, at = nil, own
                task.sleep_until(own)
            end
        else
            task.sleep_until(at)
        end
        local p = self.paused[key]
        if not p or p == heeded and p.at <= at then
            return true
        end
        at, heeded = M.resume_at(self, key, now())
        if not heeded then
            return true
        end
    end
end

return M
