-- Retry, breaker, limiter and adaptive, each alone and one inside the other: no permit, no probe is lost.
local function flaky(fails)
    local calls = 0
    return function()
        calls = calls + 1
        sleep(0.01)
        if calls <= fails then
            return nil, leat.error { kind = "timeout", message = "no", retryable = true, retry_after = 0.1 }
        end
        return calls
    end
end

local seen = 0
local function count() seen = seen + 1 end
local retry = leat.retry { attempts = 4, base = 0.01, budget = 0.5, on_retry = count }
expect(expect(retry:call(flaky(2))) == 3 and seen == 2)
local none, err = retry:call(flaky(9))
expect(none == nil and err.kind == "timeout" and err.attempts, err)

local breaker = leat.breaker { threshold = 2, reset = 1, probes = 1 }
local ill = flaky(2)
for _ = 1, 2 do
    none, err = breaker:call(ill)
    expect(none == nil and err.kind == "timeout", err)
end
none, err = breaker:call(ill)
expect(none == nil and err.kind == "circuit_open" and err.retry_after > 0, err)
sleep(1)
none, err = gather { function() return breaker:call(ill) end, function() return breaker:call(ill) end }
expect(none == nil and err.kind == "circuit_open" or none, err)
sleep(1.1)
expect(breaker:call(ill))
expect(breaker:state() == "closed")

local limiter = leat.limiter { rps = 20, tpm = 6000, burst = 2 }
local got = expect(leat.map({ 1, 2, 3, 4 }, function(i)
    local held, why = limiter:reserve { tokens = 10 }
    if not held then
        return nil, why
    end
    held:settle(i)
    return limiter:call(function() return i end)
end))
expect(got[4] == 4)
none, err = gather { function() return limiter:reserve { max_wait = 0.001, tokens = 5000 } end }
expect(none or err.kind == "rate_limited", err)

local slots = leat.adaptive { min = 1, start = 2, max = 4 }
local function limited(i)
    sleep(0.05)
    if i % 5 == 0 then
        return { status = 429, headers = { ["retry-after"] = "0.1" } }
    end
    return { status = 200, ok = true, headers = {} }
end
local all = expect(leat.map({ 1, 2, 3, 4, 5, 6 }, function(i) return slots:call(limited, i) end))
expect(all.n == 6 and slots.in_flight == 0 and #slots:history() > 0)
local task = spawn(slots.call, slots, sleep, 60)
sleep(0.01)
task:cancel()
task:await()
expect(slots.in_flight == 0)
local stack = flaky(1)
got = expect(retry:call(breaker.call, breaker, limiter.call, limiter, slots.call, slots, wait_for, 10, stack))
expect(got == 2)
return true
