-- The pace behind a gate (leat.policy.gate): nothing starts before the moment that a service has named, and
-- then
-- calls start evenly instead of in bursts, about as fast as the service lets them through. Internal.
--
-- The rate that is aimed at is what was let through from one refusal to the next: both times the service's
-- bucket was full, so it is what the bucket leaks. After a refusal the pace begins below it, comes back along
-- a cubic, stays about it for long, and then goes on beyond it ever faster: S. Ha, I. Rhee, L. Xu, "CUBIC: A
-- New TCP-Friendly High-Speed TCP Variant", 2008; but counted in calls rather than in seconds, so that two
-- calls a second and two thousand are alike.
local sync = require "leat.sync"
local task = require "leat.task"

local huge, max, min = math.huge, math.max, math.min
local now = task.now

local M = {}

local CUT = 0.85 -- what a refusal leaves of the rate
local WINDOW_CUT = 0.9 -- the same, where the rate is known well: by what passed in a whole window
-- Calls from a cut back to the rate before it: fewest at first; twice as many after each refusal that came
-- when it should, a little after 2 * back calls, as one is the price of each look whether there is more now.
local BACK, MOST_BACK = 16, 64
local DOUBLED = 16 -- calls in which a mere guess is doubled
local ENOUGH_WAITED = 10 -- times the longest hint: calls are never further apart
local ENOUGH = 8 -- calls that a rate can be told from
local LATE = 4 -- calls that may start at once to make up for those that came late
local EARLY = 0.75 -- of `back`: until then the pace is well below what was let through
local USELESS = 5 -- refusals in a row that come so early
local OF_WINDOW = 0.8 -- of the calls that a window allows are the least for `back`
local FIRST = 4 -- calls after a pause whose refusal shows that the pause was too short
M.WINDOW = 0.5 -- seconds; a service that asks for shorter waits has no window, but a bucket
local WINDOW = M.WINDOW

local Pace = {}
Pace.__index = Pace

function M.new()
    return setmetatable({
        due = -huge, -- when the next call may start
        paused_until = -huge,
        over = sync.event(),
        longest = 1e-3, -- hint in seconds
        late = LATE,
        aim = nil, -- calls per second; nil: not known yet
        guessed = true, -- aim is no more than a guess
        cut = 1 - CUT, -- what a refusal takes from the rate
        through = nil, -- calls per second that were let through for certain
        back = BACK,
        refused_at = -huge, -- the last time; since then:
        started = 0, -- calls
        steps = 0, -- those of them that had to wait for their turn
        idle = 0, -- seconds in which there was none to start
        -- Refusals in a row that came while it was below what had been let through, and the calls meanwhile.
        early = 0, early_started = 0,
    }, Pace)
end

local function rate(self)
    if self.guessed then
        return self.aim * (1 + (self.steps / DOUBLED) ^ 3)
    end
    return self.aim * (1 + self.cut * (self.steps / self.back - 1) ^ 3)
end

-- What the calls since the last refusal say of the rate. `waited`: the one refused now had waited for its
-- turn, so that it was the pace that was too fast, and not only too much that was made up for.
local function learn(self, waited, windowed)
    local tried = rate(self)
    local n, span = self.started - 1, now() - max(self.refused_at, self.paused_until)
    if n < ENOUGH or self.idle > span / 2 then -- too little to tell
        self.aim = min(tried, self.through or CUT ^ (1 + self.early) * tried)
        self.back = BACK
    else
        self.through = min(tried, n / span)
        self.aim = self.through
        if windowed then
            self.aim, self.through, self.cut = windowed, windowed, 1 - WINDOW_CUT
            self.back = self.steps > self.back and min(2 * self.back, MOST_BACK) or BACK
        elseif self.guessed and waited or self.steps > 3 * self.back then
            -- It has been slower than need be: it is between what was let through and what was tried.
            self.aim, self.back = math.sqrt(self.through * min(tried, 2 * self.through)), BACK
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

-- Nothing starts before the moment `at`. `limit`: because of a limit, so that the rate until then says
-- nothing.
function Pace:pause(at, limit)
    self.due = max(self.due, at)
    if limit then
        self.paused_until = max(self.paused_until, at)
        self.early, self.early_started = 0, 0
    end
end

-- It is given up: who waits for a turn goes on at once.
function Pace:stop()
    self.stopped = true
    self.over:set()
end

-- Whether a refused call says anything new: others that were under way when the last one was refused are of
-- the same burst.
function Pace:is_news(began)
    return began > self.refused_at
end

-- A call that says something new was refused, and it is no limit. Whether this goes on while the pace is
-- below the rate that had been let through, and most calls are served: then it is noise, and the pace is of
-- no use.
function Pace:seems_useless()
    if self.guessed or self.steps >= EARLY * self.back then
        self.early, self.early_started = 0, 0
        return false
    end
    self.early = self.early + 1
    return self.early >= USELESS and self.early <= 0.3 * self.early_started
end

-- Whether the first calls after a pause are under way.
function Pace:has_just_resumed()
    return self.steps <= FIRST
end

-- A call was refused, beside `flight` others; one takes `latency` seconds (nil: not known yet). `passed`
-- calls a second were let through within the last `window` seconds. `again`: the one before was refused as
-- well. `hinted`: the service has said when to come back.
function Pace:refused(call, flight, latency, passed, window, again, hinted)
    local windowed = window >= WINDOW and passed
    if call.began > self.refused_at then
        if self.aim and self:has_just_resumed() and (again or self.steps <= 1) then
            self.fresh = false -- after a pause: the pause was too short, whatever the pace
            return
        end
        self.fresh = not self.aim
        self.longest = max(self.longest, window)
        if self.aim then
            learn(self, call.waited, self.paused_until <= now() - window and windowed)
            -- Whoever waits ten times as long as was asked for has waited enough.
            self.aim = max(self.aim, 1 / (ENOUGH_WAITED * self.longest))
            if windowed then -- what a window thinks of a rate shows only after as long as it lasts
                self.back = max(self.back, OF_WINDOW * self.aim * window)
            end
        end
        self.refused_at, self.started, self.steps, self.idle = now(), 0, 0, 0
    end
    if self.fresh then
        -- What is left of a burst when its last refusal has come was let through in the time of one call. Or
        -- what passed in a whole window is what the window allows.
        local burst = hinted and latency and latency > 0 and max(1, flight) / latency
        local guess = min(self.aim or huge, burst or huge)
        if windowed and windowed <= guess then
            guess, self.guessed, self.through, self.back = windowed, false, windowed, 2 * BACK
            self.cut = 1 - WINDOW_CUT
        end
        self.aim = guess < huge and guess or nil
        if windowed and self.aim then
            self.back = max(self.back, OF_WINDOW * self.aim * window)
        end
    end
end

-- Waits for the turn of a call; called by one after the other. Returns whether it had to wait.
function Pace:wait()
    local waited = false
    while self.due > now() + 1e-9 and not self.stopped do -- again: a pause may have begun meanwhile
        waited = true
        local left = self.due - now()
        if left > 0 then
            self.over:wait(left)
        end
    end
    self.started = self.started + 1
    if waited then
        self.steps = self.steps + 1
    end
    self.early_started = self.early_started + 1
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
