-- limiter, on virtual time: never faster than said, first come first served, nothing lost.
local t = require "harness"
local leat = require "leat"

-- The moments, from now, at which n calls at once get their turns.
local function turns(limiter, n, what)
    local began, at = leat.now(), {}
    local list = {}
    for i = 1, n do
        list[i] = function()
            assert(limiter:reserve(what))
            at[#at + 1] = leat.now() - began
            return i
        end
    end
    local order = assert(gather(list))
    order.n = nil
    return at, order
end

local function near(list, expected)
    t.eq(#list, #expected)
    for i, v in ipairs(expected) do
        t.ok(math.abs(list[i] - v) < 1e-6, ("[%d] is %.9f, expected %g"):format(i, list[i], v))
    end
end

t.test("requests pass evenly, in the order of their coming", function()
    local at, order = turns(leat.limiter { rpm = 60 }, 5)
    near(at, { 0, 1, 2, 3, 4 })
    t.eq(order, { 1, 2, 3, 4, 5 })
    near((turns(leat.limiter { rps = 4 }, 6)), { 0, 0, 0, 0, 0.25, 0.5 })
    near((turns(leat.limiter { rps = 4, burst = 2 }, 4)), { 0, 0, 0.25, 0.5 })
end)

t.test("tokens pass evenly too", function()
    near((turns(leat.limiter { tpm = 6000 }, 4, { tokens = 50 })), { 0, 0, 0.5, 1 })
    near((turns(leat.limiter { tpm = 6000, token_burst = 300 }, 4, { tokens = 150 })), { 0, 0, 1.5, 3 })
end)

t.test("both limits hold", function()
    near((turns(leat.limiter { rpm = 60, tpm = 6000 }, 3, { tokens = 50 })), { 0, 1, 2 })
    near((turns(leat.limiter { rpm = 600, tpm = 6000 }, 3, { tokens = 100 })), { 0, 1, 2 })
end)

t.test("after a pause no more than the burst passes at once", function()
    local limiter = leat.limiter { rpm = 60, burst = 3 }
    sleep(1000)
    near((turns(limiter, 5)), { 0, 0, 0, 1, 2 })
end)

t.test("in any window of T seconds there pass at most rate * T + burst", function()
    for seed = 1, 10 do
        math.randomseed(seed)
        local rate, burst = math.random(1, 10), math.random(1, 20)
        local limiter = leat.limiter { rps = rate, burst = burst }
        local at = {}
        local list = {}
        for i = 1, 150 do
            list[i] = function()
                sleep(math.random() * 40)
                assert(limiter:call(function()
                    at[#at + 1] = leat.now()
                    return true
                end))
                return true
            end
        end
        assert(gather(list))
        table.sort(at)
        t.eq(#at, 150)
        for i = 1, #at do
            for j = i, #at do
                local passed, window = j - i + 1, at[j] - at[i]
                t.ok(passed <= rate * window + burst + 1e-6,
                    ("seed %d: %d in %g s at %g/s, burst %g"):format(seed, passed, window, rate, burst))
            end
        end
    end
end)

t.test("the rate is used up: waiting callers keep it busy", function()
    local at = turns(leat.limiter { rpm = 600, burst = 1 }, 601)
    t.near(at[601], 60, 1e-6)
end)

t.test("a waiter that is cancelled leaves no gap", function()
    local limiter = leat.limiter { rpm = 60, tpm = 6000, token_burst = 100 }
    assert(limiter:reserve { tokens = 100 })
    local began, tasks, at = leat.now(), {}, {}
    for i = 1, 5 do
        tasks[i] = spawn(function()
            assert(limiter:reserve { tokens = 100 })
            at[i] = leat.now() - began
            return true
        end)
    end
    sleep(0.5)
    t.eq(limiter:stats().waiting, 5)
    tasks[1]:cancel() -- at the head
    tasks[3]:cancel() -- in the line
    for i = 1, 5 do
        tasks[i]:await()
    end
    near({ at[2], at[4], at[5] }, { 1, 2, 3 })
    local stats = limiter:stats()
    t.eq({ stats.waiting, at[1], at[3] }, { 0, nil, nil })
    t.eq(limiter.waiting, { n = 0, requests = 0, tokens = 0 })
    t.eq(limiter.line.available, 1)
end)

t.test("a caller that needs less does not overtake one that waits for more", function()
    local limiter = leat.limiter { tpm = 600, token_burst = 10 }
    assert(limiter:reserve { tokens = 10 })
    local big = spawn(turns, limiter, 1, { tokens = 10 })
    sleep(0)
    local small = spawn(turns, limiter, 1, { tokens = 0 })
    near((big:await()), { 1 })
    near((small:await()), { 1 })
    t.eq(limiter:stats().waiting, 0)
end)

t.test("more tokens than the burst go into debt instead of waiting for ever", function()
    local limiter = leat.limiter { tpm = 600, token_burst = 10 } -- 10 a second
    near((turns(limiter, 1, { tokens = 100 })), { 0 })
    near((turns(limiter, 2, { tokens = 100 })), { 10, 20 })
    near((turns(limiter, 1, { tokens = 5 })), { 9.5 })
end)

t.test("settle gives back what was too much, and owes what was too little", function()
    local limiter = leat.limiter { tpm = 600, token_burst = 10 }
    local place = limiter:reserve { tokens = 100 }
    t.eq(limiter:stats().reserved, 100)
    local waiting = spawn(turns, limiter, 1, { tokens = 10 })
    sleep(1)
    place:settle(30) -- 30 since a second ago: 2 more to go
    near((waiting:await()), { 3 })
    place = limiter:reserve { tokens = 0 }
    place:settle(100)
    near((turns(limiter, 1, { tokens = 10 })), { 11 })
    t.eq(limiter:stats().reserved, 10 + 10) -- those of `turns`
end)

t.test("a late debt is owed from then on: time that has passed does not pay for it", function()
    local limiter = leat.limiter { tpm = 600, token_burst = 10 } -- 10 a second
    local place = limiter:reserve { tokens = 10 }
    sleep(100)
    place:settle(100)
    near((turns(limiter, 1, { tokens = 10 })), { 9 })
    limiter = leat.limiter { rpm = 60, burst = 10 }
    limiter:reserve { requests = 10 }
    sleep(4)
    t.near(limiter:stats().free_requests, 4, 1e-6)
    sleep(6)
    limiter:learn { ["x-ratelimit-remaining-requests"] = "8" }
    near((turns(limiter, 9)), { 0, 0, 0, 0, 0, 0, 0, 0, 1 })
    limiter:learn { ["x-ratelimit-remaining-requests"] = "0" }
    near((turns(limiter, 1)), { 1 })
end)

t.test("the last word of settle counts, and cancel gives all back", function()
    local limiter = leat.limiter { rpm = 1, tpm = 60, token_burst = 100 }
    local place = limiter:reserve { tokens = 50 }
    place:settle(80)
    t.eq(limiter:stats().free_tokens, 20)
    place:settle(10)
    t.eq(limiter:stats().free_tokens, 90)
    t.eq(limiter:stats().free_requests, 0)
    place:cancel()
    place:cancel()
    local stats = limiter:stats()
    t.eq({ stats.free_tokens, stats.free_requests, stats.reserved }, { 100, 1, 0 })
    limiter = leat.limiter { rpm = 1, burst = 2 }
    place = limiter:reserve()
    limiter:reserve()
    place:cancel()
    place:cancel()
    t.eq(limiter:stats().free_requests, 1)
    t.raises("settle: the tokens must be a number of at least 0, got -1", place.settle, place, -1)
end)

t.test("a caller that would come too late fails now, with the time until its turn", function()
    local limiter = leat.limiter { rpm = 60 }
    assert(limiter:reserve())
    local before = leat.now()
    local err = t.fails("rate_limited", limiter:reserve { max_wait = 0.5 })
    t.eq({ err.reason, err.retryable }, { "limiter", true })
    t.near(err.retry_after, 1, 1e-6)
    spawn(limiter.reserve, limiter)
    spawn(limiter.reserve, limiter)
    sleep(0)
    t.near(t.fails("rate_limited", limiter:reserve { max_wait = 2 }).retry_after, 3, 1e-6) -- behind two
    wait_for(2.5, function()
        err = t.fails("rate_limited", limiter:reserve())
        t.near(err.retry_after, 3, 1e-6)
        t.eq(err.retryable, true)
    end)
    t.eq(leat.now(), before)
    wait_for(3.5, function() t.ok(limiter:reserve()) end)
    t.near(leat.now() - before, 3, 1e-6)
end)

t.test("a limiter's own max_wait holds unless one is given", function()
    local limiter = leat.limiter { rpm = 60, max_wait = 0.5 }
    assert(limiter:reserve())
    local before = leat.now()
    t.fails("rate_limited", limiter:reserve())
    t.eq(leat.now(), before)
    t.ok(limiter:reserve { max_wait = 2 })
end)

t.test("a rate lowered under way fails those who come too late now", function()
    local limiter = leat.limiter { rpm = 60 }
    assert(limiter:reserve())
    local head = spawn(function() return limiter:reserve { max_wait = 2 } end)
    local second = spawn(function() return limiter:reserve { max_wait = 3 } end)
    local third = spawn(function() return wait_for(4, limiter.reserve, limiter) end)
    sleep(0.5)
    limiter:set { rpm = 1 }
    local before = leat.now()
    t.fails("rate_limited", head:await())
    t.fails("rate_limited", second:await())
    t.fails("rate_limited", third:await())
    t.ok(leat.now() - before <= 3.5)
    t.eq(limiter:stats().waiting, 0)
end)

t.test("a caller that has waited in the line for longer than max_wait fails then", function()
    local limiter = leat.limiter { rpm = 60 }
    assert(limiter:reserve())
    local head = spawn(limiter.reserve, limiter)
    local second = spawn(function() return limiter:reserve { max_wait = 3 } end)
    sleep(0.5)
    limiter:set { rpm = 1 }
    local before = leat.now()
    local err = t.fails("rate_limited", second:await())
    t.near(leat.now() - before, 2.5, 1e-6)
    t.ok(err.retry_after > 60 and tostring(err):find "beyond max_wait", tostring(err))
    head:cancel()
    t.eq(limiter:stats().waiting, 1)
    head:await()
    t.eq(limiter:stats().waiting, 0)
end)

t.test("set wakes those who wait: faster, slower, no limit", function()
    local limiter = leat.limiter { rpm = 1 }
    assert(limiter:reserve())
    local waiting = spawn(turns, limiter, 3)
    sleep(10)
    limiter:set { rpm = 60, burst = 1 } -- 50 of 60 s are left: at the new rate 50/60 s
    near((waiting:await()), { 10 + 50 / 60, 11 + 50 / 60, 12 + 50 / 60 })
    waiting = spawn(turns, limiter, 2)
    sleep(0.5)
    limiter:set { rpm = 6 }
    near((waiting:await()), { 5.5, 15.5 })
    waiting = spawn(turns, limiter, 3)
    sleep(1)
    limiter:set { rpm = math.huge }
    near((waiting:await()), { 1, 1, 1 })
end)

t.test("without a rate nothing waits", function()
    near((turns(leat.limiter(), 3, { tokens = 1e9 })), { 0, 0, 0 })
end)

t.test("call passes values, failures and bugs on", function()
    local limiter = leat.limiter { rpm = 600 }
    t.eq({ limiter:call(function(a, b) return b, nil, a end, 1, 2) }, { 2, nil, 1 })
    t.fails("closed", limiter:call(function() return nil, leat.error { kind = "closed" } end))
    t.raises("oh no", limiter.call, limiter, function() error "oh no" end)
end)

t.test("call reckons with tokens: an estimate, and what was used", function()
    local limiter = leat.limiter {
        tpm = 60, token_burst = 100,
        tokens = function(prompt) return #prompt end,
        usage = function(_, reply) return reply and reply.tokens end,
    }
    limiter:call(function()
        t.eq(limiter:stats().free_tokens, 90)
        t.eq(limiter:stats().reserved, 10)
        return "text", { tokens = 30 }
    end, "0123456789")
    t.eq(limiter:stats().free_tokens, 70)
    limiter:call(function() return "text" end, "0123456789") -- the estimate stands
    local stats = limiter:stats()
    t.eq({ stats.free_tokens, stats.reserved }, { 60, 0 })
    pcall(limiter.call, limiter, function() error "oh no" end, "0123456789")
    t.fails("timeout", wait_for(1, limiter.call, limiter, function() sleep(5) end, "0123456789"))
    t.eq(limiter:stats().reserved, 0)
end)

t.test("learn reads the limits of the server, in all its spellings of time", function()
    local function learned(limit, remaining, reset)
        local limiter = leat.limiter()
        t.ok(limiter:learn {
            ["x-ratelimit-limit-requests"] = limit, ["X-RateLimit-Remaining-Requests"] = remaining,
            ["x-ratelimit-reset-requests"] = reset,
        })
        return limiter:stats().rpm
    end
    t.eq(learned("60"), 60)
    t.eq(learned("60", "59", "1s"), 60)
    t.eq(learned("60", "59", "0s"), 60)
    t.eq(learned("60", "30"), 60)
    t.eq(learned("60", "90", "1h"), 60) -- more than all
    t.near(learned("100", "100", "1h"), 100 / 60, 1e-6)
    t.eq(learned("60000", "59999", "0.5"), 60000)
    t.eq(learned("60", "0", "60"), 60)
    t.eq(learned("60", "0", "1m0s"), 60)
    t.eq(learned("10000", "9999", "6ms"), 10000)
    t.eq(learned("500", "499", "120ms"), 500)
    -- Ten left for the hour, and the hour lasts: 100 an hour, not a minute.
    t.near(learned("100", "10", "54m0s"), 90 / 54, 1e-6)
    t.near(learned("14400", "30", "23h57m0s"), 10, 1e-6)
    t.eq(learned("20", "19", "1s"), 1200) -- a second: in a minute it would be 3 s until all is back
    t.eq(learned("100", "95", "0.9"), 6000)
    t.eq(learned("1200", "19", "50ms"), 1200) -- of a bucket that holds 20
    local other = leat.limiter()
    for _, row in ipairs { { "19", "1s", 1200 }, { "5", "0.4", 1200 }, { "0", "100ms", 1200 },
        { "20", "0s", 1200 }, { "19", "57s", 20 }, { "4", "12s", 20 } } do
        other:learn { ["x-ratelimit-limit-requests"] = "20", ["x-ratelimit-remaining-requests"] = row[1],
            ["x-ratelimit-reset-requests"] = row[2] }
        t.eq(other:stats().rpm, row[3], row[1] .. " left for " .. row[2])
    end
    -- Nonsense changes nothing.
    for _, text in ipairs { "", "abc", "-1", "0", "nan", "inf", "1e400", "1 s", "0x10", "1e300",
        "99999999999999999999" } do
        local limiter = leat.limiter()
        limiter:learn { ["x-ratelimit-limit-requests"] = "30" }
        t.eq(limiter:learn { ["x-ratelimit-limit-requests"] = text, ["x-ratelimit-reset-requests"] = text },
            false, text)
        t.eq(limiter:stats().rpm, 30)
        t.ok(limiter:learn { ["x-ratelimit-limit-requests"] = "10", ["x-ratelimit-reset-requests"] = text })
        t.eq(limiter:stats().rpm, 10)
    end
end)

t.test("the reset may be a moment: Unix seconds or milliseconds, a date", function()
    local at = math.floor(leat.time()) + 30
    local function learned(headers)
        headers.date = os.date("!%a, %d %b %Y %H:%M:%S GMT", at - 30)
        headers["x-ratelimit-limit-requests"] = "100"
        headers["x-ratelimit-remaining-requests"] = "50"
        local limiter = leat.limiter()
        limiter:learn(headers)
        return limiter:stats().rpm
    end
    for _, text in ipairs { tostring(at), ("%d000"):format(at), os.date("!%Y-%m-%dT%H:%M:%SZ", at),
        os.date("!%a, %d %b %Y %H:%M:%S GMT", at), "30s", "30", "30000ms", "0m30s" } do
        t.eq(learned { ["x-ratelimit-reset-requests"] = text }, 100, text)
    end
    for _, text in ipairs { tostring(at + 3570), os.date("!%Y-%m-%dT%H:%M:%SZ", at + 3570) } do -- an hour
        t.near(learned { ["x-ratelimit-reset-requests"] = text }, 50 / 60, 1e-6)
    end
    -- Two hundred days ago: it says nothing of the unit.
    t.eq(learned { ["x-ratelimit-reset-requests"] = tostring(at - 200 * 86400) }, 100)
    local limiter = leat.limiter()
    limiter:learn { ["anthropic-ratelimit-requests-limit"] = "50",
        ["anthropic-ratelimit-requests-remaining"] = "49",
        ["anthropic-ratelimit-requests-reset"] = os.date("!%Y-%m-%dT%H:%M:%SZ", at),
        ["anthropic-ratelimit-tokens-limit"] = "40000" }
    t.eq({ limiter:stats().rpm, limiter:stats().tpm }, { 50, 40000 })
end)

t.test("durations", function()
    local duration = require("leat.internal.outside").duration
    t.eq(duration "1s", 1)
    t.eq(duration "6m0s", 360)
    t.eq(duration "120ms", 0.12)
    t.near(duration "50us", 5e-5, 1e-9)
    t.eq(duration "1h2m3.5s", 3723.5)
    t.eq(duration "7.66", 7.66)
    for _, text in ipairs { "", "s", "1x", "1s2", "-1s", "1 s", "abc" } do
        t.eq(duration(text), nil, text)
    end
end)

t.test("a rate that was set is lowered only by refusals; a set overrides what the server says", function()
    local function answer(status)
        return { status = status, headers = { ["x-ratelimit-limit-requests"] = "60",
            ["x-ratelimit-limit-tokens"] = "9000" } }
    end
    local limiter = leat.limiter { rpm = 100, tpm = 1000, burst = 100 }
    limiter:call(answer, 200)
    t.eq({ limiter:stats().rpm, limiter:stats().tpm }, { 100, 1000 })
    limiter:call(function() return nil, leat.error { kind = "http", status = 500 } end)
    limiter:call(function() -- a quota that is used up is no rate
        return nil, leat.error { kind = "http", status = 429, code = "insufficient_quota", retryable = false }
    end)
    t.eq(limiter:stats().rpm, 100)
    limiter:call(answer, 429)
    t.eq({ limiter:stats().rpm, limiter:stats().tpm }, { 60, 1000 })
    limiter:learn { ["x-ratelimit-limit-requests"] = "80" }
    t.eq(limiter:stats().rpm, 80)
    limiter:set { rpm = 200 }
    t.eq(limiter:stats().rpm, 200)
    limiter:call(answer, 200)
    t.eq(limiter:stats().rpm, 200)
    limiter = leat.limiter { rpm = 2400, learn = false }
    limiter:call(answer, 429)
    t.eq(limiter:stats().rpm, 2400)
end)

t.test("a limit of 20 a second, reset after a second, leaves a stated 2,400 a minute alone", function()
    local limiter, n = leat.limiter { rpm = 2400 }, 0
    local began = leat.now()
    for i = 1, 400 do
        limiter:call(function()
            n = n + 1
            return { status = i % 50 == 0 and 429 or 200, headers = { ["x-ratelimit-limit-requests"] = "20",
                ["x-ratelimit-remaining-requests"] = tostring(19 - n % 20),
                ["x-ratelimit-reset-requests"] = i <= 40 and "1s" or "0.95" } }
        end)
    end
    t.eq(limiter:stats().rpm, 1200) -- refused, it goes down to what the server says, and not below
    t.ok(leat.now() - began < 21, leat.now() - began)
end)

t.test("what the server has left bounds the burst", function()
    local limiter = leat.limiter { rpm = 60, burst = 10 }
    limiter:learn { ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-remaining-requests"] = "2",
        ["x-ratelimit-reset-requests"] = "58s" }
    near((turns(limiter, 4)), { 0, 0, 1, 2 })
    assert(limiter:reserve())
    limiter:learn { ["x-ratelimit-remaining-requests"] = "60" } -- it adds none
    near((turns(limiter, 1)), { 1 })
    limiter = leat.limiter { tpm = 6000, token_burst = 1000 }
    limiter:learn { ["x-ratelimit-remaining-tokens"] = "100" }
    near((turns(limiter, 2, { tokens = 100 })), { 0, 1 })
end)

t.test("call learns from the responses that it sees, unless learn=false", function()
    local function response()
        return { status = 200, headers = { ["x-ratelimit-limit-requests"] = "30" } }
    end
    local limiter = leat.limiter()
    limiter:call(response)
    t.eq(limiter:stats().rpm, 30)
    limiter = leat.limiter { learn = false }
    limiter:call(response)
    t.eq(limiter:stats().rpm, math.huge)
end)

t.test("learning wakes those who wait", function()
    local limiter = leat.limiter()
    limiter:learn { ["x-ratelimit-limit-requests"] = "1" }
    assert(limiter:reserve())
    local waiting = spawn(turns, limiter, 1)
    sleep(10)
    limiter:learn { ["x-ratelimit-limit-requests"] = "60" }
    near((waiting:await()), { 10 + 50 / 60 })
end)

t.test("options are checked", function()
    t.raises("limiter: unknown option 'rmp' (did you mean 'rpm'?)", leat.limiter, { rmp = 1 })
    t.raises("option 'rpm' must be a number of at least 0, got -1", leat.limiter, { rpm = -1 })
    t.raises("option 'tpm' must be a number of at least 0, got nan", leat.limiter, { tpm = 0 / 0 })
    t.raises("option 'rpm' must be more than 0", leat.limiter, { rpm = 0 })
    t.raises("only one of the options 'rpm' and 'rps'", leat.limiter, { rpm = 1, rps = 1 })
    t.raises("option 'tokens' must be a number", leat.limiter, { tokens = "many" })
    local limiter = leat.limiter()
    t.raises("limiter:set: unknown option 'max_wait'", limiter.set, limiter, { max_wait = 1 })
    t.raises("limiter:set: option 'tpm' must be more than 0", limiter.set, limiter, { tpm = 0 })
    t.raises("reserve: unknown option 'token' (did you mean 'tokens'?)", limiter.reserve, limiter,
        { token = 1 })
    t.raises("reserve: option 'tokens' must be finite", limiter.reserve, limiter, { tokens = math.huge })
    t.raises("reserve: option 'requests' must be a number of at least 0", limiter.reserve, limiter,
        { requests = -1 })
    t.raises("limiter:call: the first argument must be a function", limiter.call, limiter)
    for _, name in ipairs { "call", "reserve", "set", "learn", "stats" } do
        t.raises("limiter:" .. name .. ": call it with a colon", limiter[name], {})
    end
    local place = limiter:reserve()
    t.raises("reservation:settle: call it with a colon", place.settle, 3)
    t.raises("reservation:cancel: call it with a colon", place.cancel)
    t.raises("limiter:learn: expected the headers of a response, got nil", limiter.learn, limiter)
end)

t.done()
