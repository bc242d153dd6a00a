-- The pace of an adaptive limiter: once a service has said when to come back, nothing starts before then; and
-- after a 429 calls start evenly instead of in bursts, about as fast as the service lets them through.
-- Internal.
--
-- The rate that is aimed at is what was let through from one refusal to the next: both times the service's
-- bucket was full, so it is what the bucket leaks. After a refusal the pace begins below it, comes back along
-- a cubic, stays about it for long, and then goes on beyond it ever faster: S. Ha, I. Rhee, L. Xu, "CUBIC: A
-- New TCP-Friendly High-Speed TCP Variant", 2008; but counted in calls rather than in seconds, so that two
-- calls a second and two thousand are alike.
local task = require "leat.task"

local huge, max, min = math.huge, math.max, math.min
local now = task.now

local M = {}

local CUT = 0.85 -- what a refusal leaves of the rate
-- Calls from a cut back to the rate before it: fewest at first; twice as many after each refusal that came
-- when it should, a little after 2 * back calls, as one is the price of each look whether there is more now.
local BACK, MOST_BACK = 16, 48
local DOUBLED = 16 -- calls in which a mere guess is doubled
local ENOUGH = 8 -- calls that a rate can be told from
local LATE = 4 -- calls that may start at once to make up for those that came late
local LONGEST = 120 -- seconds; as retry, which gives up on what asks for longer

local Pace = {}
Pace.__index = Pace

function M.new()
    return setmetatable({
        due = -huge, -- when the next call may start
        late = LATE,
        aim = nil, -- calls per second; nil: not known yet
        guessed = true, -- aim is no more than a guess
        through = nil, -- calls per second that were let through for certain
        back = BACK,
        refused_at = -huge, -- the last time; since then:
        started = 0, -- calls
        steps = 0, -- those of them that had to wait for their turn
        idle = 0, -- seconds in which there was none to start
    }, Pace)
end

local function rate(self)
    if self.guessed then
        return self.aim * (1 + (self.steps / DOUBLED) ^ 3)
    end
    return self.aim * (1 + (1 - CUT) * (self.steps / self.back - 1) ^ 3)
end

-- What the calls since the last refusal say of the rate. `waited`: the one refused now had waited for its
-- turn, so that it was the pace that was too fast, and not only too much that was made up for.
local function learn(self, waited)
    local tried = rate(self)
    local n, span = self.started - 1, now() - self.refused_at
    if n < ENOUGH or self.idle > span / 2 then -- too little to tell
        self.aim = min(tried, self.through or CUT * tried)
        self.back = BACK
    else
        self.through = min(tried, n / span)
        self.aim = self.through
        if self.guessed and waited or self.steps > 3 * self.back then
            -- It has been slower than need be: it is between what was let through and what was tried.
            self.aim, self.back = math.sqrt(self.through * tried), BACK
        else
            self.back = self.steps > self.back and min(2 * self.back, MOST_BACK) or BACK
        end
    end
    if waited then
        self.guessed = false
    else
        self.late = self.late / 2
    end
end

-- Nothing starts within the next `seconds`.
function Pace:pause(seconds)
    if seconds <= LONGEST then
        self.due = max(self.due, now() + seconds)
    end
end

-- A call that began at `began`, having waited for its turn or not, was refused; `flight` others are under
-- way, and one takes `latency` seconds (nil: not known yet).
function Pace:refused(began, waited, flight, latency)
    if began > self.refused_at then
        self.fresh = not self.aim
        if self.aim then
            learn(self, waited)
        end
        self.refused_at, self.started, self.steps, self.idle = now(), 0, 0, 0
    end
    if self.fresh and latency and latency > 0 then
        -- What is left of a burst when its last refusal has come was let through in the time of one call.
        self.aim = min(self.aim or huge, max(1, flight) / latency)
    end
end

-- Waits for the turn of a call; called by one after the other. Returns whether it had to wait.
function Pace:wait()
    local waited = false
    while self.due > now() + 1e-9 do -- again after each wait: a pause may have begun meanwhile
        waited = true
        task.sleep_until(self.due)
    end
    self.started = self.started + 1
    if waited then
        self.steps = self.steps + 1
    end
    if self.aim then
        local r = rate(self)
        local latest = now() - self.late / r
        if self.due < latest then
            self.idle = self.idle + latest - self.due
            self.due = latest
        end
        self.due = self.due + 1 / r
    end
    return waited
end

return M
