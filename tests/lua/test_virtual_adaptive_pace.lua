-- adaptive and a service that limits the rate, on virtual time: pauses, an even pace, and how much is lost.
local t = require "harness"
local leat = require "leat"

local function refusal(seconds, status)
    return nil, leat.error {
        kind = "http", status = status or 429, message = "refused", retryable = true, retry_after = seconds,
    }
end

-- A service that takes `rate` calls a second and `burst` at a blow, and refuses others after 5 ms.
local function limited(o)
    local s = { refused = 0, starts = {}, rate = o.rate }
    local level, at = 0, leat.now()
    function s.fn()
        local now = leat.now()
        level, at = math.max(0, level - (now - at) * s.rate), now
        if level + 1 > o.burst + 1e-9 then
            s.refused = s.refused + 1
            local wait = (level + 1 - o.burst) / s.rate
            sleep(o.refusal or 0.005)
            return refusal(math.ceil(wait * 1000) / 1000)
        end
        level = level + 1
        s.starts[#s.starts + 1] = now
        sleep(o.latency * (1 + (o.jitter or 0) * (2 * math.random() - 1)))
        return "ok"
    end
    return s
end

local numbers = t.numbers

-- How much longer than the best possible n calls take, in percent; and how many were refused.
local function over_ideal(o)
    math.randomseed(o.seed)
    local s = limited(o)
    local pipe = leat.pipeline {
        concurrency = { min = 1, start = 5, max = 20, decrease = o.decrease },
        retry = { attempts = 5, base = o.latency / 1.5 },
    }
    local _, stats = pipe:run(numbers(o.calls), s.fn)
    t.eq(stats.ok, o.calls)
    return 100 * (stats.wall / ((o.calls - o.burst) / o.rate + o.latency) - 1), s.refused
end

-- The same with each of twenty seeds: the median, the worst, and the most that were refused.
local function of_seeds(o)
    local list, most = {}, 0
    for seed = 1, 20 do
        o.seed = seed
        local over, refused = over_ideal(o)
        list[seed], most = over, math.max(most, refused)
    end
    table.sort(list)
    return list[10], list[20], most
end

t.test("it comes within 15 % of what a service of 8 calls a second allows, with few refusals", function()
    for _, after in ipairs { 0.001, 0.005, 0.02 } do
        local median, worst, refused = of_seeds {
            rate = 8, burst = 12, latency = 1.5, calls = 100, decrease = 0.85, refusal = after,
        }
        t.ok(median <= 13 and worst <= 15, ("median %.1f %%, worst %.1f %%"):format(median, worst))
        t.ok(refused <= 13, refused)
    end
    local median, worst = of_seeds { rate = 8, burst = 12, latency = 1.5, calls = 100 }
    t.ok(median <= 15 and worst <= 15, ("halving: %.1f %%, %.1f %%"):format(median, worst))
end)

t.test("the same holds for slow and fast, even and uneven services", function()
    for _, case in ipairs {
        { rate = 20, burst = 12, latency = 0.3, calls = 200 },
        { rate = 20, burst = 12, latency = 0.3, calls = 200, jitter = 0.2, decrease = 0.85 },
        { rate = 2, burst = 12, latency = 5, calls = 100 },
        { rate = 2, burst = 12, latency = 5, calls = 100, jitter = 0.2, decrease = 0.85 },
        { rate = 8, burst = 12, latency = 1.5, calls = 1000, jitter = 0.3 },
    } do
        local median, worst = of_seeds(case)
        t.ok(worst <= 15, ("%g a second: median %.1f %%, worst %.1f %%"):format(case.rate, median, worst))
    end
end)

t.test("of 300 chats at 600 a minute with 5 % errors none is lost, and few are refused", function()
    local over = {}
    for seed = 1, 5 do
        local mock = assert(require("leat.mock").start { latency = 1, rpm = 600, errors = 0.05, seed = seed })
        local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "none", model = "mock" }
        local calls, refused = 0, 0
        local answers, stats = leat.pipeline({ concurrency = "adaptive" }):run(numbers(300), function(i)
            local text, err = ai:chat("item " .. i)
            calls = calls + 1
            refused = refused + (err and err.status == 429 and 1 or 0)
            return text, err
        end)
        t.eq(stats.ok, 300)
        t.eq(#answers, 300)
        t.ok(refused <= 0.035 * calls, ("%d of %d refused"):format(refused, calls))
        local sent = request(mock.url .. "/mock/stats"):json().by_status
        local allowed = (300 + (sent["500"] or 0) - 10) / 10 + 1
        over[seed] = stats.wall / allowed - 1
        mock:close()
    end
    table.sort(over) -- where the last item fails twice, nothing makes up for its waits
    t.ok(over[3] < 0.1 and over[5] < 0.2, table.concat(over, ", "))
end)

t.test("the longer a service stays the same, the less often it is tried for more", function()
    local median, worst, refused = of_seeds {
        rate = 10, burst = 10, latency = 1, calls = 1000, jitter = 0.05,
    }
    t.ok(median <= 2 and worst <= 2, ("median %.1f %%, worst %.1f %%"):format(median, worst))
    t.ok(refused <= 25, refused) -- ten of them at the start
end)

t.test("what is refused by nobody is not slowed down", function()
    local _, stats = leat.pipeline({ concurrency = { start = 5, max = 20 } }):run(numbers(100), function()
        sleep(1.5)
        return true
    end)
    t.near(stats.wall, 10.5, 0.01) -- 5, 10, 20, 20, 20, 20, 5; and 2 ms between starts at most
end)

-- The moments, from now, at which n calls start that all want to at once.
local function starts(slots, n, seconds)
    local began, at, list = leat.now(), {}, {}
    for i = 1, n do
        list[i] = function()
            return slots:call(function()
                at[#at + 1] = math.floor((leat.now() - began) * 1e6 + 0.5) / 1e6
                sleep(seconds)
                return true
            end)
        end
    end
    assert(gather(list))
    return at
end

-- Three calls at once that are refused: a limit.
local function refused_thrice(slots, ...)
    local list = {}
    for i = 1, 3 do
        list[i] = spawn(slots.call, slots, ...)
    end
    for i = 1, 3 do
        list[i]:await()
    end
end

t.test("nothing starts before the moment that refusals of a limit have named", function()
    for _, status in ipairs { 429, 503 } do
        local slots = leat.adaptive { start = 4 }
        refused_thrice(slots, refusal, 7, status)
        t.eq(starts(slots, 1, 0), { 7 })
    end
    local slots = leat.adaptive { start = 4 }
    refused_thrice(slots, function() return { status = 503, headers = { ["Retry-After"] = "3" } } end)
    t.eq(starts(slots, 1, 0), { 3 })
    slots = leat.adaptive { start = 4 }
    refused_thrice(slots, refusal, 121) -- nobody waits for that
    t.eq(starts(slots, 1, 0), { 0 })
end)

t.test("refusals without a hint are a limit where what is started later is refused too", function()
    local slots = leat.adaptive { start = 4 }
    slots:call(refusal, nil)
    slots:call(refusal, nil)
    slots:call(refusal, nil)
    t.eq(starts(slots, 1, 0), { 0 })
    slots = leat.adaptive { start = 4 }
    for _ = 1, 4 do slots:call(refusal, nil) end
    t.eq(starts(slots, 1, 0), { 1 }) -- a second, since nothing is known
end)

t.test("one refusal or two hold nobody, and do not cut the limit", function()
    local slots = leat.adaptive { start = 4 }
    slots:call(refusal, 7)
    t.eq(starts(slots, 1, 0), { 0 })
    slots:call(refusal, 7)
    t.eq(starts(slots, 1, 0), { 0 })
    t.eq(slots.limit, 4)
end)

t.test("a quota that is used up is no limit of the rate", function()
    local slots = leat.adaptive { start = 8 }
    refused_thrice(slots, function()
        return nil, leat.error { kind = "http", status = 429, code = "insufficient_quota", retryable = false,
            message = "no money", retry_after = 7 }
    end)
    t.eq(starts(slots, 1, 0), { 0 })
    t.eq(slots.limit, 8)
end)

t.test("calls that had their slot before the refusal wait too, and go in their order", function()
    local slots, order = leat.adaptive { start = 8 }, {}
    refused_thrice(slots, refusal, 5)
    local list = {}
    for i = 1, 4 do
        list[i] = function()
            return slots:call(function()
                order[#order + 1] = { i, leat.now() }
                if i == 1 then return refusal(10) end
                return true
            end)
        end
    end
    local began = leat.now()
    gather(list, { settle = true })
    for i = 1, 4 do
        t.eq(order[i][1], i)
        -- Nothing has been let through yet: one call in the time that was named.
        t.near(order[i][2] - began, i == 1 and 5 or 10 * i - 5, 0.5)
    end
end)

t.test("several refusals of one burst cut the limit once", function()
    local slots = leat.adaptive { start = 16 }
    local list = {}
    for i = 1, 16 do
        list[i] = function()
            return slots:call(function()
                sleep(0.01)
                return refusal(1)
            end)
        end
    end
    gather(list, { settle = true })
    t.eq(slots.limit, 8)
end)

-- Runs calls of s through slots for some time; returns how many were let through per second.
local function throughput(slots, s, seconds)
    local stop, before = leat.now() + seconds, #s.starts
    leat.each(function() return leat.now() < stop and 1 or nil end, function()
        return slots:call(s.fn) or true
    end, { limit = 60 })
    return (#s.starts - before) / seconds
end

t.test("after a 429 calls start evenly", function()
    local s = limited { rate = 10, burst = 20, latency = 1 }
    throughput(leat.adaptive { max = 60 }, s, 60)
    local at, last = s.starts, #s.starts
    for i = last - 299, last do
        t.ok(at[i] - at[i - 5] > 0.25, ("%.3f s for five calls"):format(at[i] - at[i - 5]))
    end
end)

t.test("a rate that rises or falls is found again", function()
    math.randomseed(1)
    local slots = leat.adaptive { max = 60 }
    local s = limited { rate = 10, burst = 10, latency = 1 }
    t.ok(throughput(slots, s, 60) > 9)
    s.rate = 30
    throughput(slots, s, 30)
    t.ok(throughput(slots, s, 30) > 27)
    s.rate = 5
    throughput(slots, s, 30)
    local refused = s.refused
    t.ok(throughput(slots, s, 60) > 4.5)
    t.ok(s.refused - refused < 40, s.refused - refused) -- of three hundred
end)

t.test("a pause in the work says nothing about the rate", function()
    math.randomseed(1)
    local slots = leat.adaptive { max = 60 }
    local s = limited { rate = 10, burst = 10, latency = 1 }
    throughput(slots, s, 60)
    sleep(3600)
    t.ok(throughput(slots, s, 20) > 9)
end)

t.test("the limit is not cut below what the rate takes", function()
    math.randomseed(1)
    local slots = leat.adaptive { max = 60, decrease = 0.1 }
    local s = limited { rate = 20, burst = 10, latency = 1 }
    throughput(slots, s, 60)
    local known, refused = leat.now(), s.refused
    throughput(slots, s, 60)
    t.ok(s.refused > refused)
    for _, h in ipairs(slots:history()) do
        t.ok(h.at < known or h.limit >= 15, h.limit)
    end
end)

t.test("a call that is cancelled while it waits for the pace gives back its slot and its place", function()
    local slots = leat.adaptive { start = 4 }
    refused_thrice(slots, refusal, 60)
    local first = spawn(function() return slots:call(sleep, 1) end)
    local second = spawn(function() return slots:call(sleep, 1) end)
    sleep(1)
    t.eq(slots.in_flight, 0)
    first:cancel()
    second:cancel()
    sleep(0)
    t.eq({ slots.sem.available, slots.gate.line.available }, { slots.limit, 1 })
    t.eq(starts(slots, 1, 0), { 59 })
end)

t.test("a pipeline of adaptive slots leaves it to them to spread its retries", function()
    local function resumed(concurrency, retry)
        local n, at = 0, nil
        leat.pipeline({ concurrency = concurrency, retry = retry }):run({ 1 }, function()
            n, at = n + 1, leat.now()
            if n == 1 then return refusal(10) end
            return true
        end)
        return at
    end
    local began = leat.now()
    t.near(resumed("adaptive", { base = 4 }) - began, 10, 1e-6)
    began = leat.now()
    t.ok(resumed(5, { base = 4 }) - began > 10.001)
    began = leat.now()
    t.ok(resumed("adaptive", leat.retry { base = 4 }) - began > 10.001) -- an object of others too
end)

t.done()
