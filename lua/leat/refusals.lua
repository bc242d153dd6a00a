-- Tells a limit from noise: whether the refusals (status 429) of a service mean that all callers have to slow
-- down, or only that one call was unlucky. Internal.
--
-- An episode begins with a refusal. It is a limit as soon as most answers since then are refusals, and at
-- least three are. It is noise, and over, when three answers in four are no refusals. A verdict can be
-- wrong: where one call in ten is refused at random, three in a row are refused now and then. So the verdict
-- is taken back if the calls that were started after the first refusal mostly succeed. A service that is
-- asked for a little more than it allows refuses only some calls: if those are a quarter of the last
-- hundred, that is a limit too.
local M = {}

local LEAST = 3 -- refusals of a limit
local NOISE = 3 -- other answers for each refusal
local DOUBT = 2 -- the same, where a limit was seen, but nothing was refused that was started later
local QUARTER, OF = 25, 100
-- Once a limit is certain, single refusals are believed, so many at a time; each time that it shows again,
-- twice as many.
local TRUST, MOST_TRUST = 4, 64

local Refusals = {}
Refusals.__index = Refusals

-- `doubting`: single refusals are never believed.
function M.new(doubting)
    return setmetatable({ started = 0, refusals = 0, many = {}, trust = 0,
        grant = doubting and 0 or TRUST }, Refusals)
end

-- A call starts. Returns its number, which its answer is to name.
function Refusals:start()
    self.started = self.started + 1
    return self.started
end

local function open(self)
    self.first = self.started -- calls with a higher number have been started after the first refusal
    self.refused, self.passed, self.late_refused, self.late_passed = 0, 0, 0, 0
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

-- Call `number` was refused. `over`: the pause after the last limit has ended. Returns whether it is a limit.
function Refusals:refuse(number, over)
    if self.is_open and self.limit and over then
        confirm(self)
    end
    if not self.is_open then
        open(self)
    end
    self.refused = self.refused + 1
    if number > self.first then
        self.late_refused = self.late_refused + 1
    end
    self.refusals = self.refusals + 1
    local i = self.refusals % QUARTER
    local many = self.many[i] and self.started - self.many[i] < OF
    self.many[i] = self.started
    if not self.limit and (many or self.refused >= LEAST and self.refused > self.passed) then
        self.limit, self.shown = true, true
    end
    return self.limit
end

-- Whether most of the calls that were started after the first refusal were refused too, three of them at
-- least.
function Refusals:still_refused()
    return self.is_open and self.late_refused >= LEAST and self.late_refused > self.late_passed
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
    if number > self.first then
        self.late_passed = self.late_passed + 1
    end
    if self.limit and not idle then
        if self.late_passed >= LEAST and self.late_passed > self.late_refused
            or self.shown and self.late_refused == 0 and self.passed >= DOUBT * self.refused then
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
