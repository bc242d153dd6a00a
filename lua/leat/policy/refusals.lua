-- Tells a limit from noise: whether the refusals (status 429) of a service mean that all callers have to slow
-- down, or only that one call was unlucky. Internal.
--
-- An episode begins with a refusal. It is a limit as soon as most answers since then are refusals, and at
-- least three are. It is noise, and over, when three answers in four are no refusals. A verdict can be
-- wrong: where one call in ten is refused at random, three in a row are refused now and then. So the verdict
-- is taken back if the calls that were started after the first refused one mostly succeed. A service that is
-- asked for a little more than it allows refuses only some calls: if those are a quarter of the last
-- hundred, that is a limit too.
local M = {}

local LEAST = 3 -- refusals of a limit
local NOISE = 3 -- other answers for each refusal
local QUARTER, OF = 25, 100
-- Once a limit is certain, single refusals are believed, so many at a time; each time that it shows again,
-- twice as many.
local TRUST, MOST_TRUST = 32, 256

local Refusals = {}
Refusals.__index = Refusals

-- Calls are numbered in the order of their starts. `doubting`: single refusals are never believed.
function M.new(doubting)
    return setmetatable({ refusals = 0, many = {}, trust = 0, grant = doubting and 0 or TRUST }, Refusals)
end

local function open(self, number, started)
    self.first, self.known = number, started
    self.refused, self.passed = 0, 0
    self.later_refused, self.later_passed = 0, 0 -- of the calls that were started after the first refused one
    self.still_refused, self.still_passed = 0, 0 -- of those that were started when its refusal was known
    self.is_open, self.limit, self.shown = true, self.trust > 0, false
    if self.limit then
        self.trust = self.trust - 1
    end
end

-- The episode has been a limit to its end.
local function confirm(self)
    self.is_open = false
    if self.shown then
        self.trust = self.grant
        self.grant = math.min(2 * self.grant, MOST_TRUST)
    end
end

-- Call `number` was refused; `started` have been started so far. `over`: the pause after the last limit has
-- ended. Returns whether it is a limit.
function Refusals:refuse(number, started, over)
    if self.is_open and self.limit and over then
        confirm(self)
    end
    if not self.is_open then
        open(self, number, started)
    end
    self.refused = self.refused + 1
    self.later_refused = self.later_refused + (number > self.first and 1 or 0)
    self.still_refused = self.still_refused + (number > self.known and 1 or 0)
    self.refusals = self.refusals + 1
    local i = self.refusals % QUARTER
    local many = self.many[i] and started - self.many[i] < OF
    self.many[i] = started
    if not self.limit and (many or self.refused >= LEAST and self.refused > self.passed) then
        self.limit, self.shown = true, true
    end
    return self.limit
end

-- Whether most of the calls that were started when the first refusal was known were refused too, and at least
-- three of them.
function Refusals:goes_on()
    return self.is_open and self.still_refused >= LEAST and self.still_refused > self.still_passed
end

-- Call `number` was answered, and not refused. `idle`: nobody has acted on a verdict. Returns whether one is
-- taken back.
function Refusals:pass(number, over, idle)
    if not self.is_open then
        return false
    elseif self.limit and over then
        confirm(self)
        return false
    end
    self.passed = self.passed + 1
    self.later_passed = self.later_passed + (number > self.first and 1 or 0)
    self.still_passed = self.still_passed + (number > self.known and 1 or 0)
    if self.limit and not idle then
        if self.later_passed >= LEAST and self.later_passed > self.later_refused then
            self.is_open, self.limit, self.trust = false, false, 0
            self.grant = math.min(self.grant, TRUST)
            return true
        end
    elseif self.passed >= NOISE * self.refused then
        self.is_open = false
    end
    return false
end

return M
