-- Decides whether the service of a batch can be reached. If it has answered before and cannot be reached now,
-- the run waits, because the service may be restarting. If it has never answered, the run ends.
local errors = require "leat.error"
local log = require "leat.log"
local policy = require "leat.policy.common"
local rules = require "leat.policy.retry_rules"
local sync = require "leat.sync"
local task = require "leat.task"

local max, min = math.max, math.min
local random = require("leat.native.runtime").random or math.random

local M = {}
local Service = {}
Service.__index = Service

-- MISSES: after this many attempts without a good answer, new rows are delayed. SLOW_PACE: then the seconds
-- between two rows.
local MISSES, SLOW_PACE = 20, 0.1
-- The run gives up when this many rows in a row have failed because of the service, and the last good answer
-- is at least this many seconds ago.
local MOST_IN_A_ROW, PATIENCE = 50, 30
-- Limits for a service that has never answered. The run gives up after NOBODY attempts that reached no
-- server, after two such attempts NOBODY_TIME seconds apart, or after NOTHING attempts of any kind.
local NOBODY, NOBODY_TIME, NOTHING = 5, 0.5, 20
-- Seconds between two attempts to reach the service again: the first pause, the factor, and the longest
-- pause.
local PROBE, PROBE_FACTOR, LONGEST_PROBE = 0.25, 1.5, 5
-- Seconds between two waiting rows that continue when the service can be reached again.
local RESUME_PACE = 0.02
-- The wait is first reported after FIRST_REPORT seconds. The time until the next report doubles, up to
-- LONGEST_REPORT.
local FIRST_REPORT, LONGEST_REPORT = 1, 60

-- url: for messages. patience: how many seconds to wait for a service that cannot be reached. moved: an event
-- that is set when anything changes in the batch.
function M.new(url, patience, moved)
    return setmetatable({ url = url, patience = patience, moved = moved, misses = 0, in_a_row = 0,
        unanswered = 0, waiting = 0, next_start = 0 }, Service)
end

-- ---- what the outcomes of attempts and rows show about the service

-- Statuses that the next row will get too: the address is wrong, or the model or the account does not exist.
local OF_THE_SERVICE = { [402] = true, [404] = true, [405] = true, [429] = true }

-- Kinds of errors whose request reached no server.
local NOBODY_THERE = { connect = true, dns = true, tls = true, denied = true }

local function of_the_service(err)
    if err.status then
        return err.retryable or OF_THE_SERVICE[err.status]
    end
    return err.kind ~= "invalid" and err.kind ~= "script"
end

-- Wakes all rows that wait for the service, so that they check again.
local function wake(away)
    local event = away.changed
    away.changed = sync.event()
    event:set()
end

local function changed(self)
    self.moved:set()
    if self.progress then
        self.progress:poke()
    end
end

-- The service has answered; the answer may be an error.
local function answered(self)
    self.reached = true
    local away = self.away
    if away then
        self.away, self.probe = nil, nil
        wake(away)
        self.next_start = max(self.next_start, task.now())
        if away.reported then
            log.warn(("%s answers again, after %.0f s"):format(self.url, task.now() - away.began))
        end
        changed(self)
    end
end

-- A row has got a good answer.
function Service:served()
    self.in_a_row, self.misses, self.served_at = 0, 0, task.now()
end

-- Handles the outcome of one attempt. Returns the reason why the run has to end, or nil.
function Service:attempted(row, res, err)
    if res ~= nil or err.status then
        answered(self)
    end
    if not (err and rules.never_connected(err)) then
        self:release(row)
    end
    if not err or self:is_away(err) then
        return nil
    end
    self.misses = of_the_service(err) and self.misses + 1 or 0
    if self.reached or not of_the_service(err) then
        return nil
    end
    local now = task.now()
    self.unanswered = self.unanswered + 1
    self.first_try = self.first_try or now
    local n = self.unanswered
    if n >= NOTHING or NOBODY_THERE[err.kind]
        and (n >= NOBODY or n > 1 and now - self.first_try >= NOBODY_TIME) then
        return errors.new { kind = err.kind, reason = err.reason, url = err.url, message = (
            "%s has never answered, in %d attempts; the last: %s"):format(self.url, n, err.message) }
    end
end

-- A row has failed after all its attempts. Returns the reason why the run has to end, or nil.
function Service:lost(err)
    if err.status == 401 or err.status == 403 then
        return err
    elseif of_the_service(err) then
        self.in_a_row = self.in_a_row + 1
        if self.in_a_row >= MOST_IN_A_ROW
            and (not self.served_at or task.now() - self.served_at >= PATIENCE) then
            return errors.new { kind = err.kind, status = err.status, reason = err.reason,
                message = ("%d rows in a row have failed; the last: %s"):format(self.in_a_row, err.message) }
        end
    end
end

-- ---- waiting for the service

-- Whether a failed attempt shows that a service that has answered before cannot be reached now.
function Service:is_away(err)
    return self.reached and rules.never_connected(err)
end

local function report(self, away, elapsed)
    if elapsed >= (away.next_report or FIRST_REPORT) then
        away.next_report = elapsed + min(max(elapsed, FIRST_REPORT), LONGEST_REPORT)
        away.reported = true
        log.warn(("%s for %s: %s"):format(self:text(), self.url, away.err.message))
    end
end

local function given_up(self, away, elapsed)
    local err = away.err
    return errors.new { kind = err.kind, reason = err.reason, url = err.url,
        message = ("%s has been unreachable since %s, for %.0f s, and the run waits at most %g s "
            .. "(--patience); the last attempt: %s"):format(self.url, away.since, elapsed,
            self.patience, err.message) }
end

-- Waits until the next attempt to reach the service. Returns the reason why the run has to end, or nil.
local function next_probe(self, away)
    local now = task.now()
    local elapsed = now - away.began
    local left = self.patience - elapsed
    if left < 0.001 then -- the clock may count less as no time
        return given_up(self, away, elapsed)
    end
    report(self, away, elapsed)
    local pause = away.pause * (0.75 + random() / 2)
    away.pause = min(away.pause * PROBE_FACTOR, LONGEST_PROBE)
    away.changed:wait(min(pause, left))
end

-- Waits until a row may be sent again: when it is the row that tests the service, or when the service can be
-- reached again.
local function turn(self, row)
    while true do
        local away = self.away
        if not away then
            task.sleep_until(self:next_turn())
            if not self.away then
                return nil
            end
        elseif self.probe == nil or self.probe == row then
            self.probe = row
            local why = next_probe(self, away)
            if why or self.away == away then
                return why
            end
        else
            away.changed:wait()
        end
    end
end

-- The time when the next row may go on while other rows wait, so that not all of them start at once.
function Service:next_turn()
    local at = max(task.now(), self.next_start)
    self.next_start = at + RESUME_PACE
    return at
end

-- Called after an attempt of `row` for which is_away is true. Waits until the row may be sent again. Returns
-- the reason why the run has to end, or nil.
function Service:wait(row, err)
    local away = self.away
    if not away then
        local now = task.now()
        away = { began = now, since = os.date("%H:%M:%S", math.floor(task.time())), pause = PROBE,
            changed = sync.event() }
        self.away = away
    end
    away.err = err
    self.waiting = self.waiting + 1
    return policy.run(function(ended)
        self.waiting = self.waiting - 1
        if not ended then
            self:release(row)
        end
    end, turn, self, row)
end

-- The row no longer tests the service, so another row may.
function Service:release(row)
    if self.probe == row then
        self.probe = nil
        if self.away then
            wake(self.away)
        end
    end
end

-- Called before a new row starts. Waits while it makes no sense to start one.
function Service:hold(out)
    while not out.broken and (self.away
        or self.misses >= MISSES and out.under_way >= MOST_IN_A_ROW) do
        self.moved:clear()
        self.moved:wait()
    end
    if self.waiting > 0 then
        task.sleep_until(self:next_turn())
    elseif self.misses >= MISSES and self.served_at then
        task.sleep(SLOW_PACE)
    end
end

-- "waiting since 12:01:07", or nil.
function Service:text()
    return self.away and "waiting since " .. self.away.since
end

return M
