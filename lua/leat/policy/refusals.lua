-- Decides whether refusals (status 429) are a limit, so that all callers must slow down, or noise, so that
-- only single calls were unlucky.
--
-- An episode begins with a refusal. It is a limit as soon as most calls that started with or after the
-- refused call are refused, and at least three are. It is noise, and ends, when three of four such calls are
-- served. Refusals come quickly. So a call counts as served if it has not been refused, and it either started
-- before another call that was refused, or started longer ago than twice the time that the first refusal
-- took. A verdict can be wrong: if a service refuses one call in ten at random, three refusals in a row do
-- occur. So the verdict is withdrawn if most of the calls that started after the first refused one succeed.
-- If calls are only slightly above the limit, the service refuses only some of them. So it is also a limit if
-- a quarter of the last hundred calls are refused.
local now = require("leat.task").now

local M = {}

local LEAST = 3 -- so many refusals can be a limit
local STILL = 2 -- of calls that started after the first refusal was known
local NOISE = 3 -- other answers for each refusal
local QUARTER, OF = 25, 100
-- Once a limit is certain, this many following single refusals count as the limit. The number doubles each
-- time that the limit shows again.
local TRUST, MOST_TRUST = 32, 256

local Refusals = {}
Refusals.__index = Refusals

-- Calls are numbered in the order in which they start. `doubting`: a single refusal never counts as a limit.
-- `sparse`: other calls share the numbering, so only answers show which calls were served.
function M.new(doubting, sparse)
    return setmetatable({
        refusals = 0, many = {}, trust = 0, grant = doubting and 0 or TRUST, sparse = sparse,
    }, Refusals)
end

local function open(self, number, started, took)
    self.first, self.last, self.known = number, number, started
    self.took, self.mark, self.marked = took, now(), started
    self.refused, self.passed = 0, 0
    self.later_refused, self.later_passed = 0, 0 -- of the calls that were started after the first refused one
    self.still_refused, self.still_passed = 0, 0 -- of those that were started when its refusal was known
    self.is_open, self.limit, self.shown = true, self.trust > 0, false
    if self.limit then
        self.trust = self.trust - 1
    end
end

-- How many of the calls that started with or after the first refused one are served, as far as is known.
local function served(self)
    return self.sparse and self.passed or self.last - self.first + 1 - self.refused
end

-- The episode ends, and it was a limit.
local function confirm(self)
    self.is_open = false
    if self.shown then
        self.trust = self.grant
        self.grant = math.min(2 * self.grant, MOST_TRUST)
    end
end

-- Call `number` was refused after `took` seconds. `started`: how many calls have started. `over`: the pause
-- after the last limit has ended. Returns whether it is a limit.
function Refusals:refuse(number, started, over, took)
    if self.is_open and self.limit and over then
        confirm(self)
    end
    if not self.is_open then
        open(self, number, started, took)
    end
    self.first, self.last = math.min(self.first, number), math.max(self.last, number)
    self.refused = self.refused + 1
    self.later_refused = self.later_refused + (number > self.first and 1 or 0)
    self.still_refused = self.still_refused + (number > self.known and 1 or 0)
    self.refusals = self.refusals + 1
    local i = self.refusals % QUARTER
    local many = self.many[i] and started - self.many[i] < OF
    self.many[i] = started
    if not self.limit and (many or self.refused >= LEAST and self.refused > served(self)) then
        self.limit, self.shown = true, true
    end
    return self.limit
end

-- Whether most of the calls that had started when the first refusal arrived were refused too, and at least
-- two of them, beside two others.
function Refusals:goes_on()
    return self.is_open and self.refused > LEAST and self.still_refused >= STILL
        and self.still_refused > self.still_passed
end

-- Call `number` was answered and not refused. `started`: how many calls have started. `idle`: no caller has
-- acted on a verdict. Returns whether a verdict is withdrawn.
function Refusals:pass(number, started, over, idle)
    if not self.is_open then
        return false
    elseif self.limit and over then
        confirm(self)
        return false
    end
    self.passed = self.passed + 1
    self.last = math.max(self.last, number)
    local t = now()
    if t >= self.mark + 2 * self.took then
        self.last = math.max(self.last, self.marked)
        self.mark, self.marked = t, started
    end
    self.later_passed = self.later_passed + (number > self.first and 1 or 0)
    self.still_passed = self.still_passed + (number > self.known and 1 or 0)
    if self.limit and not idle then
        if self.later_passed >= LEAST and self.later_passed > self.later_refused then
            self.is_open, self.limit, self.trust = false, false, 0
            self.grant = math.min(self.grant, TRUST)
            return true
        end
    elseif served(self) >= NOISE * self.refused then
        self.is_open = false
    end
    return false
end

return M
