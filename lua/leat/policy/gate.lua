-- The gate before a service that limits the rate of calls. It is open until refusals show that there is a
-- limit. Then no call starts before the time that the service has named. After that, calls start evenly
-- (leat.policy.pacer).
local pace = require "leat.policy.pacer"
local policy = require "leat.policy.common"
local refusals = require "leat.policy.refusals"
local rules = require "leat.policy.retry_rules"
local sync = require "leat.sync"
local task = require "leat.task"

local max, min = math.max, math.min
local now = task.now

local M = {}

-- Seconds. Without a hint the first pause lasts a second. It doubles each time that no call was let through.
local FIRST_PAUSE, LONGEST_PAUSE = 1, 60
local EVERY, SAMPLES = 0.02, 512 -- seconds between samples of the started calls; number of samples
local SHORT = 2 -- the pause after a refusal that is not a limit, in times of one call

local Gate = {}
Gate.__index = Gate

-- `longest`: a longer hint (in seconds) causes no pause, because retry gives up on it. `least`: the number of
-- recent calls that must have been let through before calls are paced.
function M.new(longest, least)
    return setmetatable({
        longest = longest or 120, least = least or 0,
        watch = refusals.new(true), line = sync.semaphore(1), samples = {}, last = 0, due = -math.huge,
        n = 0, flight = 0, held = 0, next = -math.huge, at = -math.huge, in_vain = 0, misses = 0,
        news = sync.event(),
    }, Gate)
end

-- Whether a call was refused recently, and it is not yet clear whether this is a limit. Then it is too early
-- to try a higher rate.
function Gate:doubtful()
    return self.watch.is_open and not self.watch.limit
end

-- While it is unclear whether a refusal is a limit, and until the time that the refusal has named, a new call
-- may start only when another call was served.
local function hold(self, limit)
    while self:doubtful() and self.hinted and self.flight > 0
        and self.flight >= max(self.held - self.watch.refused, limit / 2) do
        local left = self.at - now()
        if left <= 1e-9 then
            return
        end
        self.news:clear()
        self.news:wait(left)
    end
end

local function turn(self, limit, gap)
    hold(self, limit)
    if gap and not self.pace then
        if self.next > now() then
            task.sleep_until(self.next)
            hold(self, limit)
        end
        self.next = now() + gap
    end
    return self.pace ~= nil and self.pace:wait()
end

-- Waits until a call may start. `limit`: the maximum number of calls at once. `gap`: seconds between two
-- starts, or nil. Returns whether the pace made the call wait.
function Gate:wait(limit, gap)
    if self.pace == nil and not (self.watch.is_open and self.hinted) then
        if not gap then
            return false
        elseif self.next <= now() and self.line.available > 0 then
            self.next = now() + gap
            return false
        end
    end
    return self.line:with(turn, self, limit, gap)
end

-- A call starts now, at the time `began`. Returns its number.
function Gate:start(began)
    local n = self.n + 1
    self.n, self.flight = n, self.flight + 1
    if began >= self.due then
        self.due = began + EVERY
        self.last = self.last + 1
        local i = self.last % SAMPLES
        local sample = self.samples[i]
        if sample then
            sample.at, sample.n = began, n
        else
            self.samples[i] = { at = began, n = n }
        end
    end
    return n
end

-- The number of calls that had started before the time `at`, and 0. If `at` is older than the samples, it
-- returns the number of the oldest sample, and how many seconds later that was.
local function started_at(self, at)
    local samples, last = self.samples, self.last
    for i = last, max(1, last - SAMPLES + 1), -1 do
        local sample, later = samples[i % SAMPLES], samples[(i + 1) % SAMPLES]
        if sample.at <= at then
            local next_n = i < last and later.n - 1 or self.n
            return sample.n + (next_n - sample.n) * min(1, (at - sample.at) / EVERY), 0
        end
    end
    local oldest = last > SAMPLES and samples[(last + 1) % SAMPLES]
    if oldest then
        return oldest.n, oldest.at - at
    end
    return 0, 0
end

-- The calls per second, over the last `seconds`, that were let through. Calls without an outcome yet are
-- included.
local function rate_let_through(self, seconds)
    local n, later = started_at(self, now() - seconds)
    return max(1, self.n - n - self.watch.refused) / (seconds - later)
end

-- A call has ended in any way. `answered` has been called with its outcome before.
function Gate:ended()
    self.flight = self.flight - 1
    self.news:set()
end

local function is_over(self)
    return self.pace ~= nil and self.pace.paused_until <= now()
end

-- A call was answered and not refused. Returns true if this shows that an assumed limit was noise.
function Gate:passed(number)
    self.in_vain, self.misses = 0, 0
    local p = self.pace
    if self.watch.is_open and self.watch:pass(number, self.n, is_over(self), p == nil) and p and p.fresh then
        p:stop()
        self.pace = nil
        return true
    end
    return false
end

-- A call was refused. `hint`: the seconds after which the service wants to be asked again, or nil. Without a
-- hint, the service may limit how many calls run at once. In that case it serves the calls that start after
-- the first refusal, because fewer calls run then. `flight`: the number of other calls that are running.
-- `latency`: the seconds that a call takes, or nil. `certain`: whether it is a limit, if the caller knows.
-- Returns "limit" if calls have to slow down, "noise" if the pace did not help and is removed, or nil.
function Gate:refused(call, hint, flight, latency, certain)
    if not self.watch.is_open then
        self.held = self.flight
    end
    local limit = self.watch:refuse(call.number, self.n, is_over(self), now() - call.began)
    self.hinted = hint ~= nil
    if certain ~= nil then
        limit = certain
    elseif not hint and not self.pace or limit and self.pace and not self.pace.fresh then
        limit = self.watch:goes_on() -- calls that ran when the pace was reduced do not count
    end
    if hint and hint > self.longest then
        return nil
    end
    local wait = hint or min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ self.in_vain)
    self.at = max(self.watch.refused > 1 and self.at or 0, now() + wait)
    local p = self.pace
    local window = hint or FIRST_PAUSE
    local through = rate_let_through(self, window)
    if not p then
        if not limit or through * window < self.least then
            return nil
        end
        p = pace.new()
        self.pace = p
    elseif p:is_news(call.began) and not limit then
        if p:seems_useless() then
            p:stop()
            self.pace = nil
            return "noise"
        end
        -- The pace had become slightly too fast. A short hint is exact. A long hint is the length of a
        -- window; if the window slides, it has room again much sooner.
        self.misses = self.misses + 1
        local short = wait
        if p.aim and wait >= pace.WINDOW then
            short = (p:has_just_resumed() and wait / 8 or SHORT / p.aim) * 2 ^ (self.misses - 1)
        end
        p:pause(now() + min(wait, short))
    end
    if limit and (hint or p.paused_until <= now()) then
        self.in_vain = self.in_vain + 1
        p:pause(self.at, true)
    end
    p:refused(call, flight, latency, through, window, self.misses > 1, hint)
    return "limit"
end

-- Whether `answered` needs the outcome of a call. `took`: the seconds that the call took.
function Gate:is_news(value, took)
    if value == nil then
        return true
    end
    local status = policy.status(value)
    if status and status >= 400 then
        return true
    end
    self.latency = self.latency and self.latency + (took - self.latency) / 8 or took
    return self.watch.is_open
end

-- Processes the outcome of `call`, {began, number, waited}. `flight`: the number of other calls that are
-- running.
function Gate:answered(call, value, err, flight)
    local status = type(err) == "table" and err.status or policy.status(value)
    local hint = (status == 429 or status == 503) and rules.hint(value, err)
    if rules.over_rate(value, err) or status == 503 and hint then
        self:refused(call, hint and hint > 0 and hint or nil, flight, self.latency)
    elseif err == nil or status then
        self:passed(call.number)
    end
end

return M
