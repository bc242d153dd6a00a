-- The policies in one stack, in their fixed order: deadline, retry, breaker, limiter, adaptive slot, attempt
-- timeout, call. Random schedules by seed: whatever ends how and when, all that was lent is given back, and
-- nothing is called that must not be.
--
--     LEAT_SEEDS=1000-9999 build/leat --virtual-time tests/lua/test_virtual_policies.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"

local function response(status, headers)
    return { status = status, ok = status < 300, headers = headers or {} }
end

-- What a call may end with; sleeps meanwhile.
local function outcome(random)
    local kind = random(16)
    sleep(random() * (random(4) == 1 and 4 or 0.5))
    if kind <= 5 then
        return "value", nil, "third"
    elseif kind == 6 then
        return response(random(2) == 1 and 200 or 404)
    elseif kind == 7 then
        return response(429, { ["retry-after"] = tostring(random() * 3) })
    elseif kind == 8 then
        return response(random(2) == 1 and 500 or 503)
    elseif kind == 9 then
        return response(429, { ["retry-after"] = "1e14" })
    elseif kind <= 12 then
        return nil, leat.error { kind = "closed", message = "hung up", retryable = true }
    elseif kind == 13 then
        error(leat.error { kind = "connect", message = "raised", retryable = true })
    elseif kind == 14 then
        return nil, "no error value"
    elseif kind == 15 and random(4) == 1 then
        error("bug", 0)
    end
    sleep(100) -- until some limit passes
end

local CALLERS = 24

-- One random program: returns a log of what it did, and what was wrong.
local function plan(seed)
    local random = generator(seed)
    math.randomseed(seed)
    local began = leat.now()
    local log, problems = {}, {}
    local function note(...)
        log[#log + 1] = table.concat({ ("%.4f"):format(leat.now() - began), ... }, " ")
    end
    local function wrong(...)
        problems[#problems + 1] = table.concat({ ... }, " ")
    end

    local changes = {}
    local rps, burst = random(20), random(4)
    local retry = leat.retry {
        attempts = random(4), base = random(), max = 5, idempotent = random(3) > 1 or nil,
        budget = random(3) > 1 and { ratio = random(), floor = random(10) } or false,
        on_retry = function(attempt, what, delay)
            note("retry", attempt, tostring(what.kind or what.status), ("%.4f"):format(delay))
        end,
    }
    local threshold, reset, probes, by_rate = random(5), 1 + random() * 4, random(2), random(3) == 1
    local breaker = leat.breaker {
        threshold = threshold, reset = reset, probes = probes,
        failure_rate = by_rate and 0.5 or nil, min_calls = by_rate and 4 or nil,
        on_change = function(old, new)
            note(old, new)
            if old ~= (changes[#changes] or "closed") then
                wrong("changed from", old, "but was", changes[#changes] or "closed")
            end
            changes[#changes + 1] = new
        end,
    }
    local limiter = leat.limiter {
        rps = rps, burst = burst, tpm = random(3) == 1 and 6000 or nil, tokens = random(50),
        max_wait = random(4) == 1 and 2 or nil, usage = function() return random(80) end, learn = false,
    }
    local slots = leat.adaptive { start = random(4), max = 3 + random(5) }

    local counts = { attempts = 0, limited = 0, granted = 0, started = 0, ended = 0, running = 0, ok = 0 }
    local attempts, cancelled, grants = {}, {}, {}
    local retries_due = 0

    local function call(id)
        counts.started = counts.started + 1
        if cancelled[id] then
            wrong("caller", id, "was cancelled, and called after that")
        end
        local deadline = leat.deadline()
        if deadline and leat.now() > deadline then
            wrong("caller", id, "called after its deadline")
        end
        if slots.in_flight > slots.max then
            wrong(slots.in_flight, "in flight")
        end
        note("start", id)
        counts.running = counts.running + 1
        local function ended(ok, ...)
            counts.running, counts.ended = counts.running - 1, counts.ended + 1
            if ok then
                return ...
            end
            error((...), 0)
        end
        return ended(pcall(outcome, random))
    end
    local function granted(id)
        counts.granted = counts.granted + 1
        grants[#grants + 1] = leat.now()
        return slots:call(wait_for, 1 + random() * 2, call, id)
    end
    local function limited(id)
        counts.limited = counts.limited + 1
        return limiter:call(granted, id)
    end
    local function attempt(id)
        counts.attempts = counts.attempts + 1
        attempts[id] = (attempts[id] or 0) + 1
        if attempts[id] > 1 then
            retries_due = retries_due + 1
        end
        if cancelled[id] then
            wrong("caller", id, "was cancelled, and tried again")
        end
        return breaker:call(limited, id)
    end

    local tasks, limits = {}, {}
    for id = 1, CALLERS do
        local late, limit = random() * 10, random(3) > 1 and random() * 15 or nil
        limits[id] = limit
        tasks[id] = spawn(function()
            sleep(late)
            local function run()
                local v, err, third = retry:call(attempt, id)
                if err ~= nil then
                    if type(err.attempts) ~= "number" or err.attempts ~= (attempts[id] or 0) then
                        wrong("caller", id, "made", attempts[id] or 0, "attempts; told of",
                            tostring(err.attempts))
                    end
                elseif v == "value" and third ~= "third" then
                    wrong("values were lost")
                elseif type(v) == "table" and attempts[id] > 1 and v.attempts ~= attempts[id] then
                    wrong("caller", id, "had a response after", tostring(v.attempts), "attempts")
                end
                if attempts[id] and attempts[id] > retry.attempts then
                    wrong("caller", id, "made", attempts[id], "attempts")
                end
                note("end", id, tostring(v == nil and err and err.kind or v and v.status or v))
                return v, err
            end
            local ok, v, err = pcall(function()
                if limit then
                    return wait_for(limit, run)
                end
                return run()
            end)
            if ok then
                return v, err
            elseif v ~= "bug" then
                error(v, 0)
            end
            return "bug"
        end)
    end
    -- Cancels and changes of rate, at random moments.
    local disturber = spawn(function()
        for _ = 1, 6 do
            sleep(random() * 4)
            local id = random(CALLERS)
            if random(3) == 1 then
                rps = math.max(rps, random(20)) -- the highest there ever was bounds all windows
                limiter:set { rps = rps }
            else
                cancelled[id] = true
                tasks[id]:cancel "at random"
            end
        end
    end)
    for id = 1, CALLERS do
        local ok, v, err = pcall(tasks[id].await, tasks[id])
        if not ok then
            wrong("caller", id, "raised", tostring(v))
        elseif v == nil and err and err.kind == "cancelled" and not cancelled[id] then
            wrong("caller", id, "ended as cancelled, and was not")
        elseif v == nil and err and err.kind == "timeout" and not err.attempts and not limits[id] then
            wrong("caller", id, "has timed out without a limit")
        end
    end
    disturber:cancel()
    pcall(disturber.await, disturber)

    if counts.running ~= 0 or counts.started ~= counts.ended then
        wrong(counts.started, "calls started,", counts.ended, "ended")
    end
    if retry.retries ~= retries_due then
        wrong(retry.retries, "retries counted,", retries_due, "made")
    end
    if counts.attempts ~= breaker.refused + counts.limited then
        wrong(counts.attempts, "attempts,", breaker.refused, "refused,", counts.limited, "let through")
    end
    if retry.budget and retry.budget.left < -1e-9 then
        wrong("the budget is overdrawn:", retry.budget.left)
    end
    if #breaker.leases ~= 0 then
        wrong(#breaker.leases, "leases are out")
    end
    if slots.in_flight ~= 0 or slots.sem.available ~= slots.limit or slots.sem.waiting ~= 0 then
        wrong(tostring(slots), slots.sem.available, "free,", slots.sem.waiting, "waiting")
    end
    if limiter.waiting.n ~= 0 or math.abs(limiter.waiting.requests) > 1e-9
        or math.abs(limiter.waiting.tokens) > 1e-9 or limiter.line.available ~= 1
        or limiter.line.waiting ~= 0 then
        wrong("waiting for the limiter:", limiter.waiting.n, limiter.waiting.requests, limiter.waiting.tokens)
    end
    if limiter.reserved ~= 0 then
        wrong(limiter.reserved, "tokens are reserved")
    end
    for i = 1, #grants do
        for j = i, #grants do
            if j - i + 1 > rps * (grants[j] - grants[i]) + burst + 1e-6 then
                wrong(j - i + 1, "calls in", grants[j] - grants[i], "s at", rps, "a second, burst", burst)
            end
        end
    end
    return log, problems, counts
end

local first, last = (os.getenv "LEAT_SEEDS" or "1-200"):match "^(%d+)%-(%d+)$"
local step = 50
local seen = { started = 0, limited = 0, attempts = 0, granted = 0 }

for from = tonumber(first), tonumber(last), step do
    local to = math.min(from + step - 1, tonumber(last))
    t.test(("random schedules %d to %d keep the promises"):format(from, to), function()
        for seed = from, to do
            local _, problems, counts = plan(seed)
            t.eq(problems, {}, "seed " .. seed)
            for name in pairs(seen) do
                seen[name] = seen[name] + counts[name]
            end
        end
    end)
end

t.test("random schedules reach refusals, waits in vain and cancels", function()
    t.ok(seen.attempts > seen.limited and seen.limited > seen.granted and seen.granted > seen.started,
        ("%d attempts, %d past the breaker, %d past the limiter, %d started"):format(seen.attempts,
            seen.limited, seen.granted, seen.started))
end)

t.test("the same seed does the same again", function()
    for seed = tonumber(first), tonumber(first) + 20 do
        local one = plan(seed)
        t.eq((plan(seed)), one, "seed " .. seed)
    end
end)

-- ---- an outage of half an hour

local MINUTE = 60

-- Forty minutes of two calls a second; the service is down from minute 5 to minute 35.
local function outage(seed)
    local random = generator(seed)
    math.randomseed(seed)
    -- From a power of two, where the same sums of seconds are rounded alike.
    local from = 2 ^ 17
    while from <= leat.now() do
        from = from * 2
    end
    sleep(from - leat.now())
    local began, log = leat.now(), {}
    local retry = leat.retry { base = 1, attempts = 3 }
    local breaker = leat.breaker { threshold = 5, reset = 30 }
    local limiter = leat.limiter { rps = 10 }
    local slots = leat.adaptive { start = 5, max = 20 }
    local r = { ok = 0, failed = 0, reached_in_outage = 0, failed_after = 0, opened = nil, back = nil }

    local function call()
        local at = leat.now() - began
        if at < 5 * MINUTE or at >= 35 * MINUTE then
            sleep(0.2 + random() * 0.6)
            return "fine"
        end
        r.reached_in_outage = r.reached_in_outage + 1
        if random(2) == 1 then
            sleep(0.01)
            return nil, leat.error { kind = "connect", message = "refused", retryable = true }
        end
        sleep(30)
    end

    local n = 0
    leat.each(function()
        sleep(0.5)
        n = n + 1
        return n < 40 * MINUTE * 2 and n or nil
    end, function()
        local start = leat.now() - began
        local v, err = wait_for(20, retry.call, retry, breaker.call, breaker, limiter.call, limiter,
            slots.call, slots, wait_for, 2, call)
        local at = leat.now() - began
        if v then
            r.ok = r.ok + 1
            if at > 35 * MINUTE then
                r.back = r.back or at
            end
        else
            r.failed = r.failed + 1
            if err.kind == "circuit_open" then
                r.opened = r.opened or at
            end
            if start > 36 * MINUTE then
                r.failed_after = r.failed_after + 1
            end
        end
        log[#log + 1] = ("%.3f %.3f %s"):format(start, at, v or err.kind)
    end, { limit = 1000 })
    return r, log
end

t.test("an outage of half an hour: the service is left alone, and used again when it is back", function()
    local r, log = outage(1)
    t.eq(r.ok + r.failed, #log)
    t.ok(#log > 4700, #log)
    t.ok(r.opened < 5 * MINUTE + 10, r.opened)
    t.ok(r.reached_in_outage >= 40 and r.reached_in_outage <= 100, r.reached_in_outage)
    t.ok(r.back < 35 * MINUTE + 35, r.back)
    t.eq(r.failed_after, 0)
    local again, log_again = outage(1)
    t.eq(again.reached_in_outage, r.reached_in_outage)
    t.eq(log_again, log)
end)

t.test("a burst of errors of ten seconds: all succeed, and there are no peaks in step", function()
    local retry = leat.retry { attempts = 16, base = 1, budget = false }
    local began, per_slot, sent = leat.now(), {}, 0
    local list = {}
    for i = 1, 200 do
        list[i] = function()
            return retry:call(function()
                local at = leat.now() - began
                sent = sent + 1
                if at > 0 then
                    local slot = math.floor(at * 10)
                    per_slot[slot] = (per_slot[slot] or 0) + 1
                end
                return response(at < 10 and 500 or 200)
            end)
        end
    end
    local results = assert(gather(list))
    for i = 1, 200 do
        t.eq(results[i].status, 200)
    end
    -- Two hundred at the start; after that a tenth of a second never sees a third of them again.
    for slot, n in pairs(per_slot) do
        t.ok(n < 67, ("%d calls in %.1f s"):format(n, slot / 10))
    end
    t.ok(sent < 200 * 7, sent)
end)

t.test("a task that ignores its cancel and is abandoned takes nothing with it", function()
    local breaker = leat.breaker { threshold = 1, reset = 1 }
    breaker:call(function() return nil, "down" end)
    sleep(1)
    local limiter, slots = leat.limiter { tokens = 10 }, leat.adaptive()
    local task = spawn(function()
        breaker:call(limiter.call, limiter, slots.call, slots, function()
            while true do
                pcall(sleep, 1)
            end
        end)
    end)
    sleep(1)
    t.eq({ breaker:state(), #breaker.leases, slots.in_flight, limiter.reserved }, { "half-open", 1, 1, 10 })
    task:cancel()
    t.eq(t.fails("internal", task:await()).reason, "cancel_ignored")
    sleep(1) -- its clean-ups run beside us
    t.eq({ #breaker.leases, slots.in_flight, limiter.reserved }, { 0, 0, 0 })
    t.eq({ slots.sem.available, slots.sem.waiting }, { 5, 0 })
end)

t.done()
