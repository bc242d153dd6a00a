-- retry, on virtual time: what is tried again, when, and when no more.
local t = require "harness"
local leat = require "leat"

local function failing(fields)
    local err = { kind = "closed", message = "hung up", retryable = true }
    for k, v in pairs(fields or {}) do
        err[k] = v
    end
    return nil, leat.error(err)
end

local function response(status, headers)
    return { status = status, ok = status < 300, headers = headers or {} }
end

local function since(began)
    return math.floor((leat.now() - began) * 1e6 + 0.5) / 1e6
end

-- Calls what `outcomes` lists, the last for ever; returns the moments of the calls, and the result.
local function run(retry, outcomes, ...)
    local began, at = leat.now(), {}
    local function fn()
        at[#at + 1] = since(began)
        local o = outcomes[math.min(#at, #outcomes)]
        if type(o) == "function" then
            return o()
        end
        return o
    end
    local v, err = retry:call(fn, ...)
    return at, v, err
end

-- A 429 that comes after a while, then success.
local function late_429(seconds, after)
    return { function()
        sleep(seconds)
        return response(429, { ["retry-after"] = after })
    end, response(200) }
end

-- Three calls at once that are refused: a limit, which pauses their key.
local function refused_thrice(retry, after, ...)
    local list = {}
    for i = 1, 3 do
        list[i] = spawn(run, retry, { response(429, { ["retry-after"] = after }), response(200) }, ...)
    end
    return list
end

local function plain(opts)
    opts = opts or {}
    opts.jitter = "none"
    return leat.retry(opts)
end

t.test("three attempts, with waits of 1 and 2 s between them", function()
    local at, v, err = run(plain(), { failing })
    t.eq(at, { 0, 1, 3 })
    t.eq(t.fails("closed", v, err).attempts, 3)
    t.eq(err.gave_up, "attempts")
end)

t.test("no wait after the last attempt", function()
    local before = leat.now()
    run(plain { attempts = 1 }, { failing })
    t.eq(leat.now(), before)
end)

t.test("a success ends it, with all its values", function()
    local n = 0
    local a, b, c, d = plain():call(function(x, y)
        n = n + 1
        if n < 2 then
            return failing()
        end
        return x, nil, y, nil
    end, "x", "y")
    t.eq({ a, b, c, d }, { "x", nil, "y", nil })
    t.eq(n, 2)
    t.eq(select("#", plain():call(function() return nil end)), 1)
    t.eq(select("#", plain():call(function() end)), 0)
    t.eq(select("#", plain():call(function() return 1 end)), 1)
    t.eq(select("#", plain():call(function() return 1, nil, nil end)), 3)
end)

t.test("the wait does not grow beyond max", function()
    local at = run(plain { attempts = 5, max = 3 }, { failing })
    t.eq(at, { 0, 1, 3, 6, 9 })
end)

t.test("full jitter: waits are spread over all of the back-off", function()
    local retry = leat.retry { attempts = 2, base = 8, budget = false }
    local low, high, sum = 9, 0, 0
    for _ = 1, 400 do
        local at = run(retry, { failing })
        low, high, sum = math.min(low, at[2]), math.max(high, at[2]), sum + at[2]
    end
    t.ok(low >= 0 and low < 0.5 and high > 7.5 and high <= 8, low .. " " .. high)
    t.near(sum / 400, 4, 0.15)
end)

t.test("a 429 has a longer back-off of its own", function()
    t.eq(run(plain(), { response(429) }), { 0, 2, 6 })
    t.eq(run(plain { base_429 = 5 }, { response(429) }), { 0, 5, 15 })
    t.eq(run(plain { base = 3 }, { response(429) }), { 0, 6, 18 })
    t.eq(run(plain(), { function() return failing { kind = "rate_limited" } end }), { 0, 2, 6 })
    t.eq(run(plain(), { response(503) }), { 0, 1, 3 })
    t.eq(run(plain(), { response(503, { ["retry-after"] = "soon" }) }), { 0, 2, 6 })
end)

t.test("a response stays a response when the attempts run out", function()
    local res = response(500)
    local at, v, err = run(plain(), { res })
    t.eq(#at, 3)
    t.ok(v == res and err == nil)
    t.eq(v.attempts, 3)
    t.eq(v.gave_up, "attempts")
end)

t.test("a response that came at the second attempt says so", function()
    local _, v = run(plain(), { response(502), response(200) })
    t.eq(v.status, 200)
    t.eq(v.attempts, 2)
    t.eq(v.gave_up, nil)
    _, v = run(plain(), { response(200) })
    t.eq({ v.status, v.attempts }, { 200, nil }) -- at the first: it is left as it was
end)

t.test("a second value beside the first is no failure", function()
    local at, v, second = run(plain(), { function() return "text", { retryable = true } end })
    t.eq({ #at, v, second.attempts }, { 1, "text", nil })
end)

t.test("statuses that pass are tried again, all others are not", function()
    for _, status in ipairs { 408, 429, 500, 502, 503, 504, 529 } do
        t.eq(#run(plain(), { response(status) }), 3, status)
    end
    for _, status in ipairs { 200, 204, 301, 400, 401, 403, 404, 409, 422, 501, 505 } do
        t.eq(#run(plain(), { response(status) }), 1, status)
    end
end)

t.test("x-should-retry is obeyed, both ways", function()
    t.eq(#run(plain(), { response(500, { ["x-should-retry"] = "false" }) }), 1)
    t.eq(#run(plain(), { response(409, { ["X-Should-Retry"] = "true" }) }), 3)
    t.eq(#run(plain(), { response(400, { ["x-should-retry"] = "true" }) }), 3)
    t.eq(#run(plain(), { response(404, { ["x-should-retry"] = "perhaps" }) }), 1)
    t.eq(#run(plain(), { response(399, { ["x-should-retry"] = "true" }) }), 1) -- nothing is wrong
end)

t.test("retry-after: seconds, fractions, milliseconds first", function()
    local function second(headers)
        return run(plain { attempts = 2 }, { response(429, headers) })[2]
    end
    t.eq(second { ["retry-after"] = "2" }, 2)
    t.eq(second { ["Retry-After"] = "1.5" }, 1.5)
    t.eq(second { ["retry-after"] = " 7 " }, 7)
    t.eq(second { ["retry-after"] = "0" }, 2) -- says nothing: the back-off decides
    t.eq(second { ["retry-after-ms"] = "0", ["retry-after"] = "0" }, 2)
    t.eq(second { ["retry-after"] = "1m30s" }, 90)
    t.eq(second { ["retry-after"] = "6ms" }, 0.006)
    t.eq(second { ["retry-after-ms"] = "250", ["retry-after"] = "9" }, 0.25)
    t.eq(second { ["retry-after-ms"] = "0.5", ["retry-after"] = "9" }, 0.0005)
    for _, nonsense in ipairs { "-250", "soon", "", "inf", "2e" } do -- as if it were not there
        t.eq(second { ["retry-after-ms"] = nonsense, ["retry-after"] = "9" }, 9, nonsense)
        t.eq(second { ["retry-after-ms"] = nonsense }, 2, nonsense)
    end
    t.eq(second { ["retry-after"] = { "3", "9" } }, 3) -- sent twice: the first counts
    t.eq(second { ["retry-after"] = "120" }, 120) -- just not too long
    t.eq(#run(plain(), { response(429, { ["retry-after-ms"] = "1e17" }) }), 1)
end)

t.test("retry-after as a date counts from the response's own date", function()
    local function second(after, date)
        local res = response(503, { ["retry-after"] = after, date = date })
        return run(plain { attempts = 2, max_retry_after = 1e6 }, { res })[2]
    end
    local date = "Sun, 06 Nov 1994 08:49:37 GMT"
    t.eq(second("Sun, 06 Nov 1994 08:49:40 GMT", date), 3)
    t.eq(second("Sunday, 06-Nov-94 08:50:37 GMT", date), 60)
    t.eq(second("Sun Nov  6 08:49:38 1994", date), 1)
    t.eq(second("Sun, 06 Nov 1994 08:00:00 GMT", date), 2) -- it has passed: the back-off of a 503 with a hint
    t.eq(second("1994-11-06T08:49:40Z", date), 3)
    t.eq(second("Tue, 01 Mar 2016 00:00:00 GMT", "Sun, 28 Feb 2016 23:59:59 GMT"), 86401) -- a leap year
    t.eq(second("Mon, 01 Jan 2035 00:00:00 GMT", "Sun, 31 Dec 2034 23:59:00 GMT"), 60)
    -- Without a date of its own: by our clock, which is the first of 2026 under virtual time.
    local soon = os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(leat.time()) + 30)
    local s = second(soon)
    t.ok(s > 28 and s <= 30, s)
end)

t.test("every date of forty years is read as the moment that it is", function()
    local parse = require("leat.internal.http_date").parse
    local at = 1640995199 -- the last second of 2021
    for _ = 1, 40 * 36 do
        for _, form in ipairs { "!%a, %d %b %Y %H:%M:%S GMT", "!%A, %d-%b-%y %H:%M:%S GMT",
            "!%a %b %d %H:%M:%S %Y" } do
            t.eq(parse((os.date(form, at))), at, os.date(form, at))
        end
        at = at + 10 * 86400 + 3661
    end
end)

t.test("nonsense in retry-after falls back to the back-off", function()
    for _, text in ipairs { "abc", "-5", "", "1, 2", "0x10", "nan", "inf", "1.2.3", "1e", "Sun, 06 Nov 1994",
        "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 32 Nov 2094 08:49:37 GMT",
        "Sun, 06 Nov 2094 24:49:37 GMT", "Sun, 06 Nov 2094 08:60:37 GMT", "Sun, 06 Nov 2094 08:49:61 GMT",
        "Sun, 06 Nov 2094 08:49:37 CET", "Sun Nov 66 08:49:38 2094" } do
        t.eq(run(plain(), { response(429, { ["retry-after"] = text }) }), { 0, 2, 6 }, text)
    end
end)

t.test("a hint to come back at once leaves it to the back-off, which grows", function()
    local date = "Sun, 06 Nov 1994 08:49:37 GMT"
    local now = response(429, { ["retry-after"] = "0" })
    local past = response(429, { ["retry-after"] = "Sun, 06 Nov 1994 08:00:00 GMT", date = date })
    local err = function() return failing { kind = "http", status = 429, retry_after = 0 } end
    for _, res in ipairs { now, past, err } do
        t.eq(run(plain { attempts = 5 }, { res }), { 0, 2, 6, 14, 30 })
        local at = run(leat.retry { attempts = 2, base = 4 }, { res })
        t.ok(at[2] > 0 and at[2] <= 8, at[2])
    end
end)

t.test("an error's own retry_after is a hint too", function()
    local function second(retry, seconds)
        return run(retry, { function() return failing { retry_after = seconds } end })[2]
    end
    t.eq(second(plain { attempts = 2 }, 12), 12)
    t.eq(second(plain { attempts = 2 }, 120), 120)
    t.eq(second(plain { attempts = 2 }, 0), 1) -- the back-off
    t.eq(second(plain { attempts = 2 }, 0 / 0), 1)
    t.eq(second(plain { attempts = 2 }, -3), 1) -- nonsense
    t.eq(second(plain { attempts = 2 }, "3"), 1)
    for _ = 1, 20 do -- later, in no step with the others
        local s = second(leat.retry { attempts = 2 }, 12)
        t.ok(s > 12 and s <= 15, s)
    end
end)

t.test("calls that come back are spread over the base, or a quarter of a long wait", function()
    local function last(opts)
        opts.attempts = 2
        local latest = 0
        for _ = 1, 60 do
            local at = run(leat.retry(opts), { response(429, { ["retry-after"] = "40" }) })
            latest = math.max(latest, at[2])
        end
        return latest
    end
    local quarter, base = last { base = 0.01 }, last { base = 20 }
    t.ok(quarter > 48.5 and quarter <= 50, quarter)
    t.ok(base > 57 and base <= 60, base)
end)

t.test("pauses that are over are forgotten, of however many keys", function()
    local retry = plain { attempts = 1, key = function(key) return key end }
    for i = 1, 1000 do
        for _ = 1, i % 2 == 1 and 3 or 1 do -- with one refusal nothing is paused, but it is remembered
            run(retry, { response(429, { ["retry-after"] = i == 1 and "100" or "0.001" }) }, i)
        end
        sleep(0.01)
    end
    for _, name in ipairs { "paused", "refusals" } do
        local kept = 0
        for _ in pairs(retry[name]) do
            kept = kept + 1
        end
        t.ok(kept < 260, kept)
    end
    t.ok(retry.paused[1] and retry.refusals[1], "what is not over was forgotten")
end)

t.test("a hint longer than max_retry_after fails now, with the hint", function()
    for _, text in ipairs { "1e14", "100000000000000", "121" } do
        local at, v, err = run(plain(), { response(429, { ["retry-after"] = text }) })
        t.eq(#at, 1)
        -- Nobody believes in three million years.
        t.eq(t.fails("rate_limited", v, err).retry_after, math.min(tonumber(text), 366 * 86400))
        t.eq({ err.attempts, err.status, err.gave_up }, { 1, 429, "retry_after" })
        t.eq({ err.retryable, err.response.status }, { true, 429 })
    end
    local impatient = plain { max_retry_after = 5 }
    local _, v, err = run(impatient, { function() return failing { retry_after = 6 } end })
    t.eq(t.fails("closed", v, err).retry_after, 6)
    -- Nobody else waits for it.
    local retry = plain()
    run(retry, { response(429, { ["retry-after"] = "1e14" }) })
    t.eq((run(retry, { response(200) })), { 0 })
end)

t.test("one refusal makes one call wait, and nobody else", function()
    local retry = plain { attempts = 2 }
    local first = spawn(run, retry, { response(429, { ["retry-after"] = "10" }), response(200) })
    local second = spawn(run, retry, { response(429, { ["retry-after"] = "5" }), response(200) })
    sleep(1)
    t.eq((run(retry, { response(200) })), { 0 })
    t.eq((second:await()), { 0, 5 })
    t.eq((first:await()), { 0, 10 })
end)

t.test("three refusals are a limit, and pause all calls of the object", function()
    local retry = plain { attempts = 2 }
    local list = refused_thrice(retry, "10")
    sleep(4)
    t.eq((run(retry, { response(200) })), { 6 })
    for _, first in ipairs(list) do
        t.eq((first:await()), { 0, 10 })
    end
    t.eq((run(retry, { response(200) })), { 0 })
end)

t.test("refusals without a hint pause all calls as long as the last of them waits", function()
    local retry = plain { attempts = 2, budget = false }
    local list = {}
    for i = 1, 3 do list[i] = spawn(run, retry, { response(429), response(200) }) end
    sleep(0.5)
    t.eq((run(retry, { response(200) })), { 1.5 })
    for _, first in ipairs(list) do t.eq((first:await()), { 0, 2 }) end
end)

t.test("three refusals among more successes are noise", function()
    local retry = plain { attempts = 2 }
    local list = {}
    local function refused() return run(retry, { response(429, { ["retry-after"] = "10" }),
        response(200) }) end
    for i = 1, 7 do
        list[i] = spawn(i % 3 == 1 and refused or function() run(retry, { response(200) }) end)
    end
    sleep(1)
    t.eq((run(retry, { response(200) })), { 0 })
    for _, task in ipairs(list) do task:await() end
end)

t.test("a pause is taken back where the calls that were started meanwhile succeed", function()
    local retry = plain { attempts = 2 }
    local list = {}
    for i = 1, 3 do
        list[i] = spawn(run, retry, late_429(i / 10, "10"))
    end
    sleep(0.15)
    for i = 4, 6 do -- started after the first refusal, and before the third
        list[i] = spawn(run, retry, { function() sleep(1) return response(200) end })
    end
    sleep(0.2)
    t.eq((run(retry, { response(200) })), { 0.8 }) -- with the third success it goes on
    for i = 1, 3 do
        t.eq((list[i]:await()), { 0, 10 + i / 10 }) -- who was refused waits all the same
    end
    for i = 4, 6 do list[i]:await() end
end)

t.test("a shorter hint does not shorten a pause", function()
    local retry = plain { attempts = 2 }
    local short = spawn(run, retry, late_429(1, "2"))
    local long = refused_thrice(retry, "10")
    t.eq((short:await()), { 0, 10 })
    for _, first in ipairs(long) do t.eq((first:await()), { 0, 10 }) end
end)

t.test("the hint of an error from this side pauses nobody else", function()
    local retry = plain { attempts = 2 }
    local hint = { kind = "rate_limited", retry_after = 10 }
    local first = spawn(run, retry, { function() return failing(hint) end, "done" })
    sleep(1)
    t.eq((run(retry, { "done" })), { 0 })
    t.eq((first:await()), { 0, 10 })
    -- One that carries a status is the server's.
    hint = { kind = "http", status = 429, retry_after = 10 }
    local list = {}
    for i = 1, 3 do list[i] = spawn(run, retry, { function() return failing(hint) end, "done" }) end
    sleep(1)
    t.eq((run(retry, { "done" })), { 9 })
    for _, task in ipairs(list) do t.eq((task:await()), { 0, 10 }) end
end)

t.test("a pause that comes during the back-off and lasts beyond the deadline ends the call then", function()
    local retry, others = plain(), {}
    for i = 1, 3 do others[i] = spawn(run, retry, late_429(0.5, "10")) end
    local at, v, err, took
    wait_for(5, function()
        local began = leat.now()
        at, v, err = run(retry, { failing })
        took = since(began)
    end)
    t.eq({ at, took }, { { 0 }, 1 })
    t.eq(t.fails("closed", v, err).gave_up, "deadline")
    for _, other in ipairs(others) do other:await() end
end)

t.test("a pause that grows while a call waits for it is obeyed", function()
    local retry = plain { attempts = 2 }
    local second = spawn(run, retry, late_429(5, "20"))
    local list = refused_thrice(retry, "10")
    for _, first in ipairs(list) do t.eq((first:await()), { 0, 25 }) end
    t.eq((second:await()), { 0, 25 })
end)

t.test("a hint pauses its key and no other", function()
    local retry = plain { attempts = 2, key = function(key) return key end }
    refused_thrice(retry, "10", "a")
    sleep(1)
    t.eq((run(retry, { response(200) }, "b")), { 0 })
    t.eq((run(retry, { response(200) }, "a")), { 9 })
end)

t.test("calls that waited for a pause to end do not start in one instant", function()
    local retry = leat.retry { attempts = 2, budget = false }
    local began, moments, seen = leat.now(), {}, {}
    local hit = false
    local list = {}
    for i = 1, 50 do
        list[i] = function()
            return retry:call(function()
                if leat.now() - began < 20 then
                    hit = true
                    return response(429, { ["retry-after"] = "20" })
                end
                local at = leat.now() - began
                moments[#moments + 1] = at
                seen[("%.3f"):format(at)] = true
                return response(200)
            end)
        end
    end
    assert(gather(list))
    t.ok(hit and #moments == 50)
    local distinct = 0
    for _ in pairs(seen) do
        distinct = distinct + 1
    end
    t.ok(distinct >= 45, distinct)
    for _, at in ipairs(moments) do
        t.ok(at >= 20 and at <= 25, at)
    end
end)

t.test("kinds that would fail again are not tried again", function()
    for _, kind in ipairs { "invalid", "denied", "too_large", "cancelled", "circuit_open", "budget" } do
        t.eq(#run(plain(), { function() return failing { kind = kind } end }), 1, kind)
    end
    t.eq(#run(plain(), { function() return failing { retryable = false } end }), 1)
    local _, v, err = run(plain(), { function() return nil, "text" end })
    t.eq(t.fails("script", v, err).attempts, 1)
    t.eq(err.gave_up, nil)
end)

t.test("a raised failure is a failure, a bug is raised at once", function()
    local at, v, err = run(plain(), { function() error((select(2, failing()))) end })
    t.eq(#at, 3)
    t.fails("closed", v, err)
    local n = 0
    t.raises("oh no", function() plain():call(function() n = n + 1 error "oh no" end) end)
    t.eq(n, 1)
end)

t.test("a cancel is never tried again", function()
    local n = 0
    local retry = plain { when = function() return true end }
    local task = spawn(function()
        retry:call(function() n = n + 1 sleep(10) return 1 end)
    end)
    sleep(1)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(n, 1)
    t.eq(#run(retry, { function() return failing { kind = "cancelled" } end }), 1) -- of an awaited child
    local waits = spawn(function() plain():call(function() n = n + 1 return failing() end) end)
    sleep(0.5) -- in its back-off
    waits:cancel()
    t.fails("cancelled", waits:await())
    t.eq(n, 2)
end)

t.test("no attempt is begun whose back-off would end past the deadline", function()
    local at, v, err, took
    local told = 0
    local retry = plain { on_retry = function() told = told + 1 end, budget = { ratio = 0 } }
    wait_for(2.5, function()
        local began = leat.now()
        at, v, err = run(retry, { failing })
        took = since(began)
    end)
    t.eq({ told, retry.retries, retry.budget.left }, { 1, 1, 9 }) -- nor is it told, or paid for
    t.eq(at, { 0, 1 })
    t.eq(took, 1) -- at once, not at the deadline
    t.eq(t.fails("closed", v, err).gave_up, "deadline")
    t.eq(err.attempts, 2)
    wait_for(5, function() at, v = run(plain(), { response(429, { ["retry-after"] = "5" }) }) end)
    t.eq({ #at, v.status, v.gave_up }, { 1, 429, "deadline" })
end)

t.test("a pause that lasts beyond the deadline fails a first attempt", function()
    local retry = plain { attempts = 2 }
    local list = refused_thrice(retry, "10")
    sleep(1)
    local at, v, err
    wait_for(5, function() at, v, err = run(retry, { response(200) }) end)
    t.eq(at, {})
    t.near(t.fails("rate_limited", v, err).retry_after, 9, 1e-6)
    t.eq({ err.reason, err.attempts, err.retryable }, { "paused", 0, true })
    for _, first in ipairs(list) do first:await() end
end)

t.test("what may do harm is tried again only if it never reached the server", function()
    local retry = plain { idempotent = false, budget = false }
    local function count(o)
        return #run(retry, { o })
    end
    t.eq(count(failing), 1)
    t.eq(count(response(500)), 1)
    t.eq(count(response(503)), 1)
    t.eq(count(function() return failing { kind = "timeout", phase = "first_byte" } end), 1)
    t.eq(count(function() return failing { kind = "timeout", phase = "total" } end), 1)
    t.eq(count(function() return failing { kind = "timeout", phase = "connect" } end), 3)
    t.eq(count(function() return failing { kind = "timeout", phase = "queue" } end), 3)
    t.eq(count(function() return failing { kind = "timeout", phase = "dns" } end), 3)
    t.eq(count(function() return failing { kind = "timeout", phase = "tls" } end), 3)
    t.eq(count(function() return failing { kind = "connect" } end), 3)
    t.eq(count(function() return failing { kind = "dns" } end), 3)
    t.eq(count(function() return failing { kind = "dns", retryable = false } end), 1)
    t.eq(count(response(429)), 3)
    t.eq(count(response(503, { ["retry-after"] = "1" })), 3)
    -- The same where the status is in an err.
    t.eq(count(function() return failing { kind = "http", status = 500 } end), 1)
    t.eq(count(function() return failing { kind = "http", status = 503 } end), 1)
    t.eq(count(function() return failing { kind = "http", status = 429 } end), 3)
    t.eq(count(function() return failing { kind = "http", status = 503, retry_after = 1 } end), 3)
    t.eq(count(function() return failing { retry_after = 1 } end), 1)
end)

t.test("a request that may do harm says so itself, unless the caller knows better", function()
    local function post()
        local res = response(500)
        res.idempotent = false
        return res
    end
    t.eq(#run(plain(), { post }), 1)
    t.eq(#run(plain(), { function() return failing { idempotent = false } end }), 1)
    t.eq(#run(plain { idempotent = true }, { post }), 3)
    t.eq(#run(plain { idempotent = true }, { function() return failing { idempotent = false } end }), 3)
end)

t.test("when decides, and gets what the default would be", function()
    local retry = plain { when = function(v, err, default)
        if err then
            return not default
        end
        return v == "no"
    end }
    t.eq(#run(retry, { "no", "no", "yes" }), 3)
    t.eq(#run(retry, { failing }), 1)
    t.eq(#run(retry, { function() return nil, "text" end }), 3)
end)

t.test("on_retry gets the attempt, the outcome and the wait", function()
    local log = {}
    run(plain { on_retry = function(attempt, what, delay)
        log[#log + 1] = { attempt, what.kind or what.status, delay }
    end }, { failing, response(429, { ["retry-after"] = "4" }), "done" })
    t.eq(log, { { 1, "closed", 1 }, { 2, 429, 4 } })
end)

t.test("the budget ends a retry storm, with the failure and why", function()
    local retry = plain()
    local calls, spent = 0, 0
    for _ = 1, 100 do
        local _, v, err = run(retry, { function() calls = calls + 1 return failing() end })
        t.fails("closed", v, err)
        if err.gave_up == "retry_budget" then
            spent = spent + 1
            t.eq(err.reason, "retry_budget")
            t.eq({ err.cause.kind, err.cause.reason }, { "closed", nil })
        end
    end
    t.eq(calls, 100 + 10 + 20) -- the floor, and a fifth of the first attempts
    t.ok(spent > 80, spent)
    t.eq({ retry.calls, retry.retries }, { 100, 30 })
end)

t.test("the budget can be set, and turned off", function()
    local function calls(budget)
        local retry, n = plain { budget = budget }, 0
        for _ = 1, 40 do
            run(retry, { function() n = n + 1 return response(500) end })
        end
        return n
    end
    t.eq(calls(false), 120)
    t.eq(calls(true), 40 + 10 + 8)
    t.eq(calls { ratio = 0, floor = 5 }, 45)
    t.eq(calls { ratio = 0.5, floor = 0 }, 60)
    t.eq(calls(0.5), 70)
    t.eq(calls { ratio = 1, floor = 2, max = 2 }, 81)
end)

t.test("an empty budget leaves a response a response", function()
    local _, v = run(plain { budget = { floor = 0 } }, { response(500) })
    t.eq({ v.status, v.gave_up }, { 500, "retry_budget" })
end)

t.test("a thousand calls that are all refused end in bounded time", function()
    local retry, sent = leat.retry(), 0
    local began = leat.now()
    local list = {}
    for i = 1, 1000 do
        list[i] = function()
            return retry:call(function()
                sent = sent + 1
                return response(429, { ["retry-after"] = "2" })
            end)
        end
    end
    local results = gather(list)
    t.eq(results.n, 1000)
    t.eq(sent, 3000) -- a 429 that says when to come back costs nothing of the budget
    t.ok(leat.now() - began < 3 * sent) -- a limit makes all wait
end)

t.test("options are checked", function()
    t.raises("retry: unknown option 'atempts' (did you mean 'attempts'?)", leat.retry, { atempts = 3 })
    t.raises("retry: option 'base' must be a number of at least 0, got -1", leat.retry, { base = -1 })
    t.raises("retry: option 'max' must be a number of at least 0, got nan", leat.retry, { max = 0 / 0 })
    t.raises("option 'attempts' must be a whole number of at least 1", leat.retry, { attempts = 0 })
    t.raises("'jitter' must be \"full\" or \"none\"", leat.retry, { jitter = "some" })
    t.raises("retry: budget: unknown option 'ration' (did you mean 'ratio'?)", leat.retry,
        { budget = { ration = 1 } })
    t.raises("option 'ratio' must be a number", leat.retry, { budget = -1 })
    t.raises("retry:call: the first argument must be a function, got 3", plain().call, plain(), 3)
    t.raises("retry:call: call it with a colon, as in retry:call(...)", plain().call, print)
    t.raises("'key' must return a value that can be a table key, got nan", function()
        plain({ key = function() return 0 / 0 end }):call(print)
    end)
    t.eq(tostring(plain()), "retry (at most 3 attempts; 0 calls, 0 retries)")
end)

t.test("the same seed draws the same waits", function()
    local function waits()
        math.randomseed(7)
        return run(leat.retry { attempts = 6, budget = false }, { failing })
    end
    local one, two = waits(), waits()
    for i = 1, 6 do
        t.ok(math.abs(one[i] - two[i]) < 1e-6)
    end
    t.ok(one[6] > 0)
end)

t.done()
