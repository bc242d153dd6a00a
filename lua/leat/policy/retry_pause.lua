-- How retry waits: one call waits for the time that a server has named to it, and all calls of a key wait for
-- the key's pauses.
local gates = require "leat.policy.gate"
local refusals = require "leat.policy.refusals"
local sync = require "leat.sync"
local task = require "leat.task"

local max = math.max
local random = require("leat.native.runtime").random or math.random -- a host's own math.random is not touched
local now = task.now

local M = {}

local LEAST = 8 -- calls that are enough to measure a rate
local REMEMBERED = 60 -- seconds after which an unused rate is forgotten

-- The calls that wait for a pause go on at random times within this many seconds after it.
function M.spread_of(self, seconds)
    return self.jitter and max(self.base, seconds / 4) or 0
end

-- The same for a single call that does not pause other calls.
function M.own_spread_of(self, seconds)
    return self.jitter and not self.paced and max(seconds / 4, math.min(self.base, seconds / 2)) or 0
end

-- No call of this key starts before `at`. After that the calls start at different times.
local function pause(self, key, at, seconds)
    local paused = self.paused
    local old = paused[key]
    if old and old.at >= at then
        return
    end
    local spread = self.paced and 0 or M.spread_of(self, seconds)
    if old and old.at >= now() then
        old.at, old.spread = at, spread -- calls that already wait check this again
    else
        paused[key] = { at = at, spread = spread, over = sync.event() }
    end
end

-- Removes the keys whose pauses have ended.
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
    for key, gate in pairs(self.gates) do
        if gate.due < now() - REMEMBERED and not self.refusals[key] then
            self.gates[key] = nil
        end
    end
end

-- The time until which the gate of the key is closed, if that is later than the deadline; otherwise nil.
function M.paced_until(self, key)
    local gate = self.gates[key]
    local at = gate and gate.pace and gate.pace.paused_until
    return at and M.past_deadline(at) and at or nil
end

-- A call of the key starts. If there was a limit recently, the call is paced by what was learnt then. Returns
-- the call, for M.refused and M.passed; nil if no call of the key was refused recently.
function M.start(self, key)
    local gate = self.gates[key]
    if not gate then
        return nil
    end
    local waited = gate.pace ~= nil and gate:wait(math.huge)
    local began = now()
    return { gate = gate, began = began, number = gate:start(began), waited = waited }
end

-- The server has refused a call. `number` is its number; `call` is what M.start returned. The call waits for
-- `seconds`. If it is a limit, all calls of the key wait. `hint`: the seconds that the server has named, or
-- nil.
function M.refused(self, key, number, seconds, call, hint)
    local watch = self.refusals[key]
    if not watch then
        watch = refusals.new(false, self.key ~= nil)
        self.refusals[key] = watch
        self.gates[key] = self.gates[key] or gates.new(self.max_retry_after, LEAST)
    end
    local p = self.paused[key]
    local at = now() + seconds
    local limit = watch:refuse(number, self.started, not p or p.at < now(),
        call and now() - call.began or 0)
    watch.at = watch.refused == 1 and at or max(watch.at, at) -- in this episode
    local paced = call and call.gate.pace ~= nil -- a gate itself pauses the calls that wait for it
    if call then
        call.gate:refused(call, hint, nil, nil, not paced and limit or nil)
    end
    if limit and not paced then
        pause(self, key, watch.at, seconds)
    end
    self.pauses = self.pauses + 1
    if self.pauses % 256 == 0 then
        forget(self)
    end
end

-- A call was answered and not refused.
function M.passed(self, key, number, call)
    if call then
        call.gate:passed(call.number)
    end
    local watch, p = self.refusals[key], self.paused[key]
    if watch and watch:pass(number, self.started, not p or p.at < now()) and p then
        self.paused[key] = nil
        p.over:set()
    end
end

-- The time when a call may go on that must itself wait until `at`, and the pause that is included in this
-- time.
function M.resume_at(self, key, at)
    local p = self.paused[key]
    if p and p.at >= now() then -- many calls may hear "at once", so they are spread too
        return max(at, p.at + random() * p.spread), p
    end
    return at, nil
end

function M.past_deadline(at)
    local deadline = task.deadline()
    return deadline ~= nil and at > now() and at >= deadline
end

-- Waits until `at`, or until the pause of the key ends if that is later. Returns false if that is past the
-- deadline. `own`: the call's own time; it does not go on earlier even if the pause is withdrawn.
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
