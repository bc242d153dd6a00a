-- The pace of the calls that pass a gate (leat.policy.gate). No call starts before the time that a service
-- has named. After that, calls start evenly instead of in bursts, about as fast as the service lets them
-- through.
--
-- The target rate is the rate of calls that were let through between two refusals. At both refusals the
-- service's bucket was full, so this is the rate at which the bucket drains. After a refusal the pace starts
-- below the target. It returns to it along a cubic curve, stays near it for long, and then rises above it
-- faster and faster: S. Ha, I. Rhee, L. Xu, "CUBIC: A New TCP-Friendly High-Speed TCP Variant", 2008. Here
-- the curve is a function of the number of calls and not of seconds. So it behaves the same for two calls per
-- second and for two thousand.
local sync = require "leat.sync"
local task = require "leat.task"

local huge, max, min = math.huge, math.max, math.min
local now = task.now

local M = {}

local CUT = 0.85 -- factor of the rate after a refusal
local WINDOW_CUT = 0.9 -- the same, if the rate of a whole window is known
-- The number of calls from a reduction until the rate is back at the target. It starts with the least and
-- doubles after each refusal that came when it was expected, a little after 2 * back calls. Each test for a
-- higher rate costs one refused call.
local BACK, MOST_BACK = 16, 64
local DOUBLED = 16 -- calls in which a guessed rate doubles
local ENOUGH_WAITED = 10 -- factor of the longest hint: the maximum time between two calls
local ENOUGH = 8 -- calls that are enough to measure a rate
local LATE = 4 -- calls that may start at once to catch up after late starts
local EARLY = 0.75 -- share of `back`: before it, the pace is well below the rate let through
local USELESS = 5 -- so many early refusals in a row show that pacing does not help
local OF_WINDOW = 0.8 -- `back` is at least this share of the calls that a window allows
local FIRST = 4 -- if one of the first calls after a pause is refused, the pause was too short
M.WINDOW = 0.5 -- seconds; shorter hints come from a bucket, not from a window
local WINDOW = M.WINDOW

local Pace = {}
Pace.__index = Pace

function M.new()
    return setmetatable({
        due = -huge, -- when the next call may start
        paused_until = -huge,
        over = sync.event(),
        longest = 1e-3, -- the longest hint, in seconds
        late = LATE,
        aim = nil, -- target in calls per second; nil: not known yet
        guessed = true, -- aim is only a guess
        cut = 1 - CUT, -- share of the rate that a refusal removes
        through = nil, -- calls per second that were certainly let through
        back = BACK,
        refused_at = -huge, -- time of the last refusal; counted since then:
        started = 0, -- calls
        steps = 0, -- those of them that had to wait for their turn
        idle = 0, -- seconds in which no call wanted to start
        -- Consecutive refusals that came while the rate was below the rate that had been let through, and the
        -- calls started meanwhile.
        early = 0, early_started = 0,
    }, Pace)
end

local function rate(self)
    if self.guessed then
        return self.aim * (1 + (self.steps / DOUBLED) ^ 3)
    end
    return self.aim * (1 + self.cut * (self.steps / self.back - 1) ^ 3)
end

-- Updates the target rate from the calls since the last refusal. `waited`: the refused call had waited for
-- its turn. Then the pace itself was too fast; otherwise the call may only have been part of catching up.
local function learn(self, waited, windowed)
    local tried = rate(self)
    local n, span = self.started - 1, now() - max(self.refused_at, self.paused_until)
    if n < ENOUGH or self.idle > span / 2 then -- too few calls to estimate a rate
        self.aim = min(tried, self.through or CUT ^ (1 + self.early) * tried)
        self.back = BACK
    else
        self.through = min(tried, n / span)
        self.aim = self.through
        if windowed then
            self.aim, self.through, self.cut = windowed, windowed, 1 - WINDOW_CUT
            self.back = self.steps > self.back and min(2 * self.back, MOST_BACK) or BACK
        elseif self.guessed and waited or self.steps > 3 * self.back then
            -- The pace was slower than necessary: the limit is between the rate let through and the rate
            -- tried.
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

-- No call starts before the time `at`. `limit`: the pause is due to a limit, so the rate during it is not
-- measured.
function Pace:pause(at, limit)
    self.due = max(self.due, at)
    if limit then
        self.paused_until = max(self.paused_until, at)
        self.early, self.early_started = 0, 0
    end
end

-- Stops pacing: calls that wait for their turn go on at once.
function Pace:stop()
    self.stopped = true
    self.over:set()
end

-- Whether a refused call gives new information. Calls that were already running at the last refusal belong to
-- the same burst and give none.
function Pace:is_news(began)
    return began > self.refused_at
end

-- Call this for a refusal that gives new information but shows no limit. Returns true if such refusals
-- continue although the rate is below the rate that had been let through, and most calls are served. Then the
-- refusals are noise, and pacing does not help.
function Pace:seems_useless()
    if self.guessed or self.steps >= EARLY * self.back then
        self.early, self.early_started = 0, 0
        return false
    end
    self.early = self.early + 1
    return self.early >= USELESS and self.early <= 0.3 * self.early_started
end

-- Whether the first calls after a pause are running.
function Pace:has_just_resumed()
    return self.steps <= FIRST
end

-- A call was refused. `flight`: the number of other calls that are running. `latency`: the seconds that a
-- call takes, or nil if unknown. `passed`: the calls per second that were let through within the last
-- `window` seconds. `again`: the call before it was refused too. `hinted`: the service has said when to come
-- back.
function Pace:refused(call, flight, latency, passed, window, again, hinted)
    local windowed = window >= WINDOW and passed
    if call.began > self.refused_at then
        if self.aim and self:has_just_resumed() and (again or self.steps <= 1) then
            self.fresh = false -- right after a pause: the pause was too short
            return
        end
        self.fresh = not self.aim
        self.longest = max(self.longest, window)
        if self.aim then
            learn(self, call.waited, self.paused_until <= now() - window and windowed)
            -- Waiting ten times as long as the service asked for is enough.
            self.aim = max(self.aim, 1 / (ENOUGH_WAITED * self.longest))
            if windowed then -- a window shows the effect of a rate only after its full length
                self.back = max(self.back, OF_WINDOW * self.aim * window)
            end
        end
        self.refused_at, self.started, self.steps, self.idle = now(), 0, 0, 0
    end
    if self.fresh then
        -- The calls of a burst that are still running when its last refusal arrives were let through in the
        -- time of one call. Or the calls that passed in a whole window are what the window allows.
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

-- Waits for the turn of a call. Only one task calls it at a time. Returns whether it had to wait.
function Pace:wait()
    local waited = false
    while self.due > now() + 1e-9 and not self.stopped do -- loops because a pause may have begun meanwhile
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
