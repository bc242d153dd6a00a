-- Tells a limit from noise: whether the refusals (status 429) of a service mean that all callers have to slow
-- down, or only that one call was unlucky. Internal.
--
-- An episode begins with a refusal. It is a limit as soon as most calls that were started from the refused
-- one on are refused, and at least three are. It is noise, and over, when three of four are served. Refusals
-- come quickly: what was started before another refused call, or two times as long ago as the first one took,
-- and has not been refused, is being served. A verdict can be
-- wrong: where one call in ten is refused at random, three in a row are refused now and then. So the verdict
-- is taken back if the calls that were started after the first refused one mostly succeed. A service that is
-- asked for a little more than it allows refuses only some calls: if those are a quarter of the last
-- hundred, that is a limit too.
local now = require("leat.task").now

local M = {}

local LEAST = 3 -- refusals of a limit
local STILL = 2 -- of those that were started when the first one was known
local NOISE = 3 -- other answers for each refusal
local QUARTER, OF = 25, 100
-- Once a limit is certain, single refusals are believed, so many at a time; each time that it shows again,
-- twice as many.
local TRUST, MOST_TRUST = 32, 256

local Refusals = {}
Refusals.__index = Refusals

-- Calls are numbered in the order of their starts. `doubting`: single refusals are never believed. `sparse`:
-- others are numbered along with them, so that only answers tell what is served.
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

-- How many of the calls from the first refused one on are served, as far as it shows.
local function served(self)
    return self.sparse and self.passed or self.last - self.first + 1 - self.refused
end

-- The episode has been a limit to its end.
local function confirm(self)
    self.is_open = false
    if self.shown then
        self.trust = self.grant
        self.grant = math.min(2 * self.grant, MOST_TRUST)
    end
end

-- Call `number` was refused, after `took` seconds; `started` have been started so far. `over`: the pause
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

-- Whether most of the calls that were started when the first refusal was known were refused too, and at least
-- two of them, beside two others.
function Refusals:goes_on()
    return self.is_open and self.refused > LEAST and self.still_refused >= STILL
        and self.still_refused > self.still_passed
end

-- Call `number` was answered, and not refused; `started` have been started. `idle`: nobody has acted on a
-- verdict. Returns whether one is taken back.
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
