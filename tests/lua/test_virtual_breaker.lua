-- breaker, on virtual time: what opens it, who may probe, what closes it.
local t = require "harness"
local leat = require "leat"

local function fail(kind, fields)
    return function()
        local err = { kind = kind or "connect", message = "down" }
        for k, v in pairs(fields or {}) do
            err[k] = v
        end
        return nil, leat.error(err)
    end
end

local function ok()
    return "ok"
end

local function status(n)
    return function() return { status = n, ok = n < 300, headers = {} } end
end

local function times(n, breaker, fn)
    for _ = 1, n do
        breaker:call(fn)
    end
end

-- One that is open, since now.
local function opened(opts)
    local breaker = leat.breaker(opts)
    times(breaker.threshold, breaker, fail())
    t.eq(breaker:state(), "open")
    return breaker
end

t.test("five failures in a row open it, four and a success do not", function()
    local breaker = leat.breaker()
    times(4, breaker, fail())
    breaker:call(ok)
    times(4, breaker, fail())
    t.eq(breaker:state(), "closed")
    breaker:call(fail())
    t.eq(breaker:state(), "open")
end)

t.test("an open circuit refuses without calling, and says until when", function()
    local breaker = opened { reset = 30 }
    sleep(10)
    local called = false
    local v, err = breaker:call(function() called = true end)
    t.near(t.fails("circuit_open", v, err).retry_after, 20, 1e-6)
    t.eq({ called, err.retryable, breaker.refused }, { false, false, 1 })
end)

t.test("after the reset one call is let through, and closes it", function()
    local breaker = opened { reset = 30 }
    sleep(30)
    t.eq(breaker:state(), "half-open")
    t.eq(breaker:call(ok), "ok")
    t.eq(breaker:state(), "closed")
    t.eq(breaker:call(ok), "ok")
end)

t.test("a probe that fails opens it for another reset", function()
    local breaker = opened { reset = 30 }
    sleep(30)
    t.fails("connect", breaker:call(fail()))
    t.eq(breaker:state(), "open")
    sleep(29)
    t.fails("circuit_open", breaker:call(ok))
    sleep(1)
    t.eq(breaker:call(ok), "ok")
end)

t.test("half-open lets through as many as it has probes, not every caller", function()
    for probes = 1, 3 do
        local breaker = opened { reset = 5, probes = probes }
        sleep(5)
        local running, peak, refused = 0, 0, 0
        local list = {}
        for i = 1, 20 do
            list[i] = function()
                local v, err = breaker:call(function()
                    running = running + 1
                    peak = math.max(peak, running)
                    sleep(1)
                    running = running - 1
                    return true
                end)
                if not v then
                    t.eq(err.kind, "circuit_open")
                    refused = refused + 1
                end
                return true
            end
        end
        assert(gather(list))
        t.eq({ peak, refused }, { probes, 20 - probes })
        t.eq(breaker:state(), "closed")
    end
end)

t.test("it closes when as many have succeeded as it has probes", function()
    local breaker = opened { reset = 5, probes = 2 }
    sleep(5)
    breaker:call(ok)
    t.eq(breaker:state(), "half-open")
    breaker:call(ok)
    t.eq(breaker:state(), "closed")
    breaker = opened { reset = 5, probes = 2 }
    sleep(5)
    breaker:call(ok)
    breaker:call(fail())
    t.eq(breaker:state(), "open")
end)

t.test("a probe that is cancelled gives its lease back", function()
    local breaker = opened { reset = 5 }
    sleep(5)
    local probe = spawn(function() breaker:call(sleep, 10) end)
    sleep(1)
    t.fails("circuit_open", breaker:call(ok))
    probe:cancel()
    t.fails("cancelled", probe:await())
    t.eq(breaker:state(), "half-open")
    t.eq(breaker:call(ok), "ok")
    t.eq(breaker:state(), "closed")
end)

t.test("a probe that times out from outside gives its lease back, one that fails by a timeout is a failure",
    function()
        local breaker = opened { reset = 5 }
        sleep(5)
        t.fails("timeout", wait_for(1, breaker.call, breaker, sleep, 10))
        t.eq(breaker:state(), "half-open")
        t.fails("timeout", breaker:call(wait_for, 1, sleep, 10))
        t.eq(breaker:state(), "open")
    end)

t.test("a probe with a bug gives its lease back", function()
    local breaker = opened { reset = 5 }
    sleep(5)
    t.raises("oh no", breaker.call, breaker, function() error "oh no" end)
    t.eq(breaker:state(), "half-open")
    t.eq(breaker:call(ok), "ok")
end)

t.test("a probe that hangs makes room for another after the reset, and has no say then", function()
    local breaker = opened { reset = 5 }
    sleep(5)
    local hung = spawn(function() return breaker:call(function() sleep(12) return fail()() end) end)
    sleep(1)
    local _, err = breaker:call(ok)
    t.near(err.retry_after, 4, 1e-6)
    sleep(4)
    local second = spawn(function() return breaker:call(function() sleep(8) return true end) end)
    sleep(0)
    hung:await()
    t.eq(breaker:state(), "half-open")
    t.eq(second:await(), true)
    t.eq(breaker:state(), "closed")
end)

t.test("a late result of a call from before it opened does not close it", function()
    local breaker = leat.breaker { threshold = 2, reset = 5 }
    local late = spawn(function() return breaker:call(function() sleep(6) return "late" end) end)
    local late_failure = spawn(function() return breaker:call(function() sleep(7) return fail()() end) end)
    sleep(0)
    times(2, breaker, fail())
    sleep(5.5)
    t.eq(breaker:state(), "half-open")
    t.eq(late:await(), "late")
    t.eq(breaker:state(), "half-open")
    t.fails("connect", late_failure:await())
    t.eq(breaker:state(), "half-open")
end)

t.test("4xx, 408 and 429 do not open it, 5xx do", function()
    for _, n in ipairs { 400, 401, 404, 408, 422, 429 } do
        local breaker = leat.breaker()
        times(20, breaker, status(n))
        t.eq(breaker:state(), "closed", n)
    end
    for _, n in ipairs { 500, 502, 503, 529 } do
        local breaker = leat.breaker()
        times(5, breaker, status(n))
        t.eq(breaker:state(), "open", n)
    end
    local breaker = leat.breaker()
    times(5, breaker, fail("http", { status = 500 }))
    t.eq(breaker:state(), "open")
    breaker = leat.breaker()
    times(9, breaker, fail("http", { status = 404 }))
    t.eq(breaker:state(), "closed")
end)

t.test("a 4xx closes a half-open circuit: the service is well; a 429 leaves it to the next probe", function()
    local breaker = opened { reset = 5 }
    sleep(5)
    for _, n in ipairs { 429, 408 } do
        t.eq(breaker:call(status(n)).status, n)
        t.eq(breaker:state(), "half-open")
    end
    t.eq(breaker:call(status(404)).status, 404)
    t.eq(breaker:state(), "closed")
    for _, n in ipairs { 400, 409 } do
        breaker = opened { reset = 5 }
        sleep(5)
        breaker:call(status(n))
        t.eq(breaker:state(), "closed", n)
    end
end)

t.test("once closed again it takes as many failures to open it as before", function()
    local breaker = opened { reset = 5 }
    sleep(5)
    breaker:call(ok)
    times(4, breaker, fail())
    t.eq(breaker:state(), "closed")
    breaker:call(fail())
    t.eq(breaker:state(), "open")
end)

t.test("what the caller did, and cancels, do not count", function()
    local kinds = { "cancelled", "invalid", "denied", "too_large", "circuit_open", "rate_limited", "budget",
        "memory", "raised", "internal" }
    for _, kind in ipairs(kinds) do
        local breaker = leat.breaker { threshold = 2 }
        breaker:call(fail())
        times(9, breaker, fail(kind))
        t.eq(breaker:state(), "closed", kind)
        breaker:call(fail()) -- nor do they break a row
        t.eq(breaker:state(), "open", kind)
    end
    local breaker = leat.breaker { threshold = 2 }
    times(9, breaker, fail("timeout", { phase = "queue" }))
    t.eq(breaker:state(), "closed")
    for _ = 1, 9 do
        t.fails("timeout", wait_for(1, breaker.call, breaker, sleep, 10))
    end
    t.eq(breaker:state(), "closed")
end)

t.test("any function's failure counts, returned or raised", function()
    local breaker = leat.breaker { threshold = 3 }
    breaker:call(function() return nil, "text" end)
    breaker:call(function() return nil, 7 end)
    pcall(breaker.call, breaker, function() error((select(2, fail()()))) end)
    t.eq(breaker:state(), "open")
end)

t.test("a share of failures opens it, once there were enough calls", function()
    local breaker = leat.breaker { failure_rate = 0.5, min_calls = 10 }
    for _ = 1, 4 do
        breaker:call(ok)
        breaker:call(fail())
    end
    t.eq(breaker:state(), "closed") -- 4 of 8
    breaker:call(ok)
    breaker:call(fail())
    t.eq(breaker:state(), "open") -- 5 of 10
end)

t.test("the share is that of the window: old failures are forgotten", function()
    local breaker = leat.breaker { failure_rate = 0.5, min_calls = 10, window = 60 }
    times(9, breaker, fail())
    sleep(70)
    times(9, breaker, ok)
    t.eq(breaker:call(fail()), nil)
    t.eq(breaker:state(), "closed") -- 1 of 10
    for i = 1, 7 do -- a slow trickle never has enough calls in one window
        sleep(30)
        breaker:call(fail())
        t.eq(breaker:state(), "closed", i)
    end
    times(10, breaker, fail())
    t.eq(breaker:state(), "open")
end)

t.test("the window holds what came in its seconds, all but a tenth of them, and nothing older", function()
    for seed = 1, 20 do
        math.randomseed(seed)
        local w, came = require("leat.policy.failure_window").new(60), {}
        for i = 1, 200 do
            sleep(math.random() * (i % 40 == 0 and 90 or 4))
            local failed = math.random() < 0.4
            w:add(failed)
            came[i] = { at = leat.now(), failed = failed }
            local function of_last(seconds)
                local calls, failures = 0, 0
                for _, c in ipairs(came) do
                    if leat.now() - c.at <= seconds then
                        calls, failures = calls + 1, failures + (c.failed and 1 or 0)
                    end
                end
                return calls, failures
            end
            local calls, failures = w:sums()
            local least, least_failures = of_last(54)
            local most, most_failures = of_last(60)
            t.ok(least <= calls and calls <= most,
                ("seed %d: %d, not %d to %d"):format(seed, calls, least, most))
            t.ok(least_failures <= failures and failures <= most_failures,
                ("seed %d: %d failures, not %d to %d"):format(seed, failures, least_failures, most_failures))
        end
    end
end)

t.test("on_change sees every change", function()
    local log = {}
    local breaker = leat.breaker { threshold = 1, reset = 5, on_change = function(old, new)
        log[#log + 1] = ("%s>%s"):format(old, new)
    end }
    breaker:call(fail())
    sleep(5)
    breaker:call(fail())
    sleep(5)
    breaker:call(ok)
    t.eq(table.concat(log, " "), "closed>open open>half-open half-open>open open>half-open half-open>closed")
    t.eq(tostring(breaker), "breaker (closed)")
end)

t.test("classify decides what counts", function()
    local breaker = leat.breaker { threshold = 2, classify = function(v, err)
        return v == "bad" and "failure" or not err and "success" or nil
    end }
    times(5, breaker, fail())
    t.eq(breaker:state(), "closed")
    times(2, breaker, function() return "bad" end)
    t.eq(breaker:state(), "open")
end)

t.test("options are checked", function()
    t.raises("breaker: unknown option 'treshold' (did you mean 'threshold'?)", leat.breaker, { treshold = 5 })
    t.raises("option 'threshold' must be a whole number of at least 1", leat.breaker, { threshold = 0 })
    t.raises("option 'reset' must be a number of at least 0, got -1", leat.breaker, { reset = -1 })
    t.raises("option 'reset' must be a number of at least 0, got nan", leat.breaker, { reset = 0 / 0 })
    t.raises("must be more than 0 seconds", leat.breaker, { window = 0 })
    for _, rate in ipairs { 50, 1.01, 0 } do
        t.raises("'failure_rate' must be a share such as 0.5, got " .. rate, leat.breaker,
            { failure_rate = rate })
    end
    t.eq(leat.breaker({ failure_rate = 1 }):state(), "closed")
    t.raises("option 'min_calls' requires 'failure_rate'", leat.breaker, { min_calls = 3 })
    t.raises("option 'window' requires 'failure_rate'", leat.breaker, { window = 3 })
    local breaker = leat.breaker()
    t.raises("breaker:call: the first argument must be a function", breaker.call, breaker)
    t.raises("breaker:call: call it with a colon", breaker.call, print)
    t.raises("breaker:state: call it with a colon", breaker.state)
end)

t.test("a second value beside the first is no failure", function()
    local breaker = leat.breaker { threshold = 1 }
    local text, reply = breaker:call(function() return "text", { status = 500 } end)
    t.eq({ text, reply.status, breaker:state() }, { "text", 500, "closed" })
end)

t.done()
