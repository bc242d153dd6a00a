-- Pipelines against limits as real servers have them, on virtual time and with figures: noise is no limit,
-- and a limit is found by learning alone.
local t = require "harness"
local leat = require "leat"

local numbers = t.numbers

local function median(list)
    table.sort(list)
    return list[math.ceil(#list / 2)]
end

-- ---- noise

local function refusal(seconds)
    return nil, leat.error {
        kind = "http", status = 429, message = "refused", retryable = true, retry_after = seconds,
    }
end

-- A service that refuses this share of all calls, at random.
local function noisy(share, latency)
    return function()
        local refused = math.random() < share
        sleep(latency * (0.8 + 0.4 * math.random()))
        if refused then return refusal(1) end
        return "ok"
    end
end

-- The seconds that 16 workers need of which only the one that is refused waits, as with the SDK of openai.
local function workers(fn, items)
    local began, drawn, list = leat.now(), 0, {}
    for w = 1, 16 do
        list[w] = function()
            while drawn < items do
                drawn = drawn + 1
                local v, err
                repeat
                    v, err = fn()
                    if not v then sleep(err.retry_after) end
                until v
            end
            return true
        end
    end
    assert(gather(list))
    return leat.now() - began
end

t.test("refusals at random cost no more than half as much again as where only the refused call waits",
    function()
    for _, share in ipairs { 0.01, 0.03, 0.1 } do
        for name, opts in pairs {
            fixed = { concurrency = 16 },
            adaptive = { concurrency = { start = 5, max = 16 } },
            ["a retry that the pipeline shares with others"] = { concurrency = 16,
                retry = function() return leat.retry { attempts = 10 } end },
        } do
            local ratios = {}
            for seed = 1, 10 do
                math.randomseed(seed)
                local ideal = workers(noisy(share, 0.03), 1000)
                local retry = opts.retry and opts.retry() or { attempts = 10 }
                local _, stats = leat.pipeline({ concurrency = opts.concurrency, retry = retry })
                    :run(numbers(1000), noisy(share, 0.03))
                t.eq(stats.ok, 1000)
                ratios[seed] = stats.wall / ideal
            end
            local middle = median(ratios)
            t.ok(middle <= 1.5 and ratios[10] <= 2, ("%g %% refused, %s: %.2f times as long, at most %.2f")
                :format(100 * share, name, middle, ratios[10]))
        end
    end
end)

t.test("three refusals in a row among calls that succeed cost a moment, not a pause", function()
    local n = 0
    local _, stats = leat.pipeline({ concurrency = 16 }):run(numbers(200), function()
        n = n + 1
        local refused = n >= 40 and n <= 42
        sleep(0.03)
        if refused then return refusal(20) end
        return "ok"
    end)
    t.eq(stats.ok, 200)
    -- The three wait for their twenty seconds; the others have long been done by then.
    t.ok(stats.serial < 10 and stats.wall < 32, tostring(stats))
    t.ok(stats.p99 < 0.05, stats.p99)
end)

-- ---- limits

-- haproxy's sliding window: `http-request deny deny_status 429 if { sc_http_req_rate(0) gt 20 }`. What it
-- refuses counts too.
local function sliding_window(rate, period)
    local current, before, tick = 0, 0, leat.now()
    return function()
        local elapsed = leat.now() - tick
        if elapsed >= period then
            local next_one = elapsed < 2 * period
            before, current = next_one and current or 0, 0
            tick = next_one and tick + period or leat.now()
            elapsed = leat.now() - tick
        end
        current = current + 1
        return math.floor(current + before * (1 - elapsed / period)) <= rate
    end
end

-- 500 chats over two keys of 20 calls a second each. Returns the seconds, and the share that was refused.
local function two_keys(seed, latency, hint)
    math.randomseed(seed)
    local windows = { sliding_window(20, 1), sliding_window(20, 1) }
    local calls, refused = 0, 0
    local server = assert(leat.simulate("https://llm.test", function(req)
        calls = calls + 1
        sleep(0.001)
        if not windows[tonumber(req.headers.authorization:match "%d+$")]() then
            refused = refused + 1
            sleep(0.001)
            return { status = 429, headers = { ["Retry-After"] = hint },
                body = "<h1>429 Too Many Requests</h1>" }
        end
        sleep(latency * (0.9 + 0.2 * math.random()))
        return { json = { choices = { { index = 0, finish_reason = "stop",
            message = { role = "assistant", content = "yes" } } } } }
    end))
    local clients = {}
    for key = 1, 2 do
        clients[key] = leat.openai { base_url = "https://llm.test/v1", api_key = "key" .. key, model = "m" }
    end
    local _, stats = leat.pipeline({ concurrency = "adaptive", retry = { attempts = 8 } })
        :run(numbers(500), function(i) return clients[i % 2 + 1]:chat "hello" end)
    server:close()
    t.eq({ stats.ok, stats.failed }, { 500, 0 })
    return stats.wall, refused / calls
end

t.test("two keys of 20 calls a second are used to four fifths by learning alone, with 3.5 % refused",
    function()
    local ideal = (500 - 40) / 40 -- each window is full at once
    for _, case in ipairs { { 0.03, "1" }, { 0.2, "1" }, { 0.03, nil }, { 0.2, nil } } do
        local seconds, shares = {}, {}
        for seed = 1, 9 do
            seconds[seed], shares[seed] = two_keys(seed, case[1], case[2])
        end
        local wall, share = median(seconds), median(shares)
        t.ok(wall <= 1.25 * ideal and share <= 0.035, ("latency %g s, hint %s: %.1f s, %.1f %%"):format(
            case[1], tostring(case[2]), wall, 100 * share))
    end
end)

-- `n` calls of fn at `at` waiting places behind `retry`. Returns the seconds.
local function through_retry(n, at, fn)
    local retry, began = leat.retry { attempts = 10 }, leat.now()
    local results = leat.map(numbers(n), function() return retry:call(fn) or false end, { concurrency = at })
    for i = 1, n do t.eq(results[i], "ok") end
    return leat.now() - began
end

-- A service behind a sliding window of 20 calls a second.
local function window_of_20(latency, hint)
    local s, window = { calls = 0, refused = 0 }, sliding_window(20, 1)
    function s.fn()
        s.calls = s.calls + 1
        sleep(0.001)
        if not window() then
            s.refused = s.refused + 1
            sleep(0.001)
            return refusal(hint)
        end
        sleep(latency * (0.9 + 0.2 * math.random()))
        return "ok"
    end
    return s
end

t.test("of two pipelines, each with a key of its own, at most 3.5 % are refused", function()
    local ideal = (250 - 20) / 20
    for _, case in ipairs { { 0.03, 1 }, { 0.03, nil }, { 0.2, 1 }, { 0.2, nil } } do
        local seconds, shares = {}, {}
        for seed = 1, 9 do
            math.randomseed(seed)
            local list, calls, refused, began = {}, 0, 0, leat.now()
            for p = 1, 2 do
                list[p] = function()
                    local s = window_of_20(case[1], case[2])
                    local _, stats = leat.pipeline({ concurrency = "adaptive", retry = { attempts = 8 } })
                        :run(numbers(250), s.fn)
                    t.eq(stats.ok, 250)
                    calls, refused = calls + s.calls, refused + s.refused
                    return true
                end
            end
            assert(gather(list))
            seconds[seed], shares[seed] = leat.now() - began, refused / calls
        end
        local wall, share = median(seconds), median(shares)
        t.ok(wall <= 1.2 * ideal and share <= 0.035, ("latency %g s, hint %s: %.1f s, %.1f %%"):format(
            case[1], tostring(case[2]), wall, 100 * share))
    end
end)

t.test("leat.retry alone learns the rate of a window: at most 6 % are refused", function()
    -- Before there was a pace: 6.0, 2.3, 8.3 and 5.5 % of the calls, in 41, 38, 39 and 40 s.
    for _, row in ipairs { { 4, 0.03, 0.03 }, { 4, 0.2, 0.023 }, { 16, 0.03, 0.06 }, { 16, 0.2, 0.03 } } do
        local seconds, shares = {}, {}
        for seed = 1, 5 do
            math.randomseed(seed)
            local s = window_of_20(row[2], 1)
            seconds[seed] = through_retry(500, row[1], s.fn)
            shares[seed] = s.refused / s.calls
        end
        local wall, share = median(seconds), median(shares)
        t.ok(share <= row[3] and wall <= 33, ("%d at once, latency %g s: %.1f s, %.1f %% refused"):format(
            row[1], row[2], wall, 100 * share))
    end
end)

-- A bucket, as `leat mock --rpm` has: so many calls a second, and so many at a blow.
local function bucket(rate, burst, latency)
    local s, level, at = { refused = 0 }, 0, leat.now()
    function s.fn()
        local now = leat.now()
        level, at = math.max(0, level - (now - at) * rate), now
        if level + 1 > burst + 1e-9 then
            s.refused = s.refused + 1
            local wait = (level + 1 - burst) / rate
            sleep(0.003)
            return refusal(math.ceil(wait * 1000) / 1000)
        end
        level = level + 1
        sleep(latency * (0.9 + 0.2 * math.random()))
        return "ok"
    end
    return s
end

t.test("where the limit is real, as few are refused as when the first refusal made all wait", function()
    -- What was refused then, the median of ten seeds: adaptive, and sixteen at once.
    for _, row in ipairs {
        { 10, 10, 1, 300, 14, 261 }, { 10, 10, 0.1, 300, 14, 352 }, { 100, 100, 0.05, 2000, 28, 398 },
        { 1, 1, 0.5, 60, 10, 77 }, { 8, 12, 1.5, 100, 8, 60 },
    } do
        local rate, burst, latency, calls = row[1], row[2], row[3], row[4]
        for i, concurrency in ipairs { "adaptive", 16 } do
            local refused, walls = {}, {}
            for seed = 1, 10 do
                math.randomseed(seed)
                local s = bucket(rate, burst, latency)
                local _, stats = leat.pipeline({ concurrency = concurrency, retry = { attempts = 10 } })
                    :run(numbers(calls), s.fn)
                t.eq(stats.ok, calls)
                refused[seed], walls[seed] = s.refused, stats.wall
            end
            local n, wall = median(refused), median(walls)
            t.ok(n <= row[4 + i], ("%g a second, %s: %d refused"):format(rate, tostring(concurrency), n))
            t.ok(wall <= 1.15 * ((calls - burst) / rate + latency), wall)
        end
    end
end)

t.test("a pipeline with a fixed number of slots learns the rate as well", function()
    math.randomseed(1)
    local s = bucket(50, 50, 0.02)
    local _, stats = leat.pipeline({ concurrency = 8 }):run(numbers(1000), s.fn)
    t.eq(stats.ok, 1000)
    t.ok(stats.wall < 1.1 * 19, stats.wall)
    t.ok(s.refused < 40, s.refused)
    t.eq(stats.bottleneck, "rate")
end)

t.test("a window of 2,000 calls a second is found as well as one of 20", function()
    for seed = 1, 1 do
        math.randomseed(seed)
        local window, refused = sliding_window(2000, 1), 0
        local _, stats = leat.pipeline({ concurrency = 100, retry = { attempts = 8 } }):run(numbers(12000),
            function()
            sleep(0.001)
            if not window() then
                refused = refused + 1
                return refusal(1)
            end
            sleep(0.02 * (0.9 + 0.2 * math.random()))
            return "ok"
        end)
        t.eq(stats.ok, 12000)
        t.ok(stats.wall <= 1.3 * 6, stats.wall) -- the last refused one waits for its second
        t.ok(refused <= 0.005 * 12000, refused)
    end
end)

t.test("a service that is asked for a third more than it allows is met by a pace, though most calls pass",
    function()
    math.randomseed(1)
    local s = bucket(100, 10, 0.05)
    local _, stats = leat.pipeline({ concurrency = 7 }):run(numbers(3000), s.fn) -- 140 a second
    t.eq(stats.ok, 3000)
    t.ok(s.refused < 150, s.refused)
end)

t.test("without a hint nothing is hammered", function()
    local allowed, calls = false, 0
    spawn(function() sleep(30) allowed = true end)
    local _, stats = leat.pipeline({ concurrency = 16, retry = { attempts = 20,
        budget = false } }):run(numbers(100), function()
        calls = calls + 1
        sleep(0.002)
        if not allowed then return refusal(nil) end
        return "ok"
    end)
    t.eq(stats.ok, 100)
    t.ok(calls < 200, calls)
end)

t.test("a service that refuses three calls of four, whatever the rate, is still called", function()
    math.randomseed(1)
    for _, concurrency in ipairs { "adaptive", 8 } do
        local calls = 0
        local _, stats = leat.pipeline({ concurrency = concurrency, retry = { attempts = 100 } })
            :run(numbers(100), function()
                calls = calls + 1
                sleep(0.01)
                if math.random() < 0.75 then return refusal(0.1) end
                return "ok"
            end)
        t.eq(stats.ok, 100)
        t.ok(stats.wall < 1.5 * calls, ("%d calls in %g s"):format(calls, stats.wall)) -- one in ten hints
    end
end)

t.test("a quota that is used up fails at once, and slows nobody down", function()
    local n = 0
    local began = leat.now()
    local results, stats = leat.pipeline({ concurrency = "adaptive", breaker = { threshold = 3 } })
        :run(numbers(100), function(i)
            n = n + 1
            sleep(0.01)
            if i % 2 == 0 then return "ok" end
            return nil, leat.error { kind = "http", status = 429, code = "insufficient_quota",
                retryable = false,
                message = "You exceeded your current quota", retry_after = 20 }
        end)
    t.eq({ stats.ok, stats.failed, stats.calls, n }, { 50, 50, 100, 100 })
    t.eq(results.errors[1].code, "insufficient_quota")
    t.ok(leat.now() - began < 0.5, leat.now() - began)
end)

t.done()
