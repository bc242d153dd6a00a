-- Numbers that come from outside: whatever a server states, it is bounded, told of once, and ends no run.
local t = require "harness"
local leat = require "leat"
local outside = require "leat.internal.outside"
local logger = require "leat.log"

-- What fn(...) warns of.
local function warnings(fn, ...)
    local warn, list = logger.warn, {}
    logger.warn = function(text) list[#list + 1] = text end -- luacheck: ignore 122
    local ran, why = pcall(fn, ...)
    logger.warn = warn -- luacheck: ignore 122
    if not ran then error(why, 0) end
    return list
end

local numbers = t.numbers

local NOW = 1767225600 -- the first of January 2026

t.test("a wait is read in each format", function()
    local function wait(text)
        return outside.wait(text, "test", { date = "Thu, 01 Jan 2026 00:00:00 GMT" })
    end
    for text, seconds in pairs {
        ["0"] = 0, ["7"] = 7, [" 7 "] = 7, ["1.5"] = 1.5, ["2e1"] = 20,
        ["1s"] = 1, ["6ms"] = 0.006, ["1m30s"] = 90, ["1h2m3.5s"] = 3723.5, ["2d"] = 172800, ["50us"] = 5e-5,
        ["Thu, 01 Jan 2026 00:01:00 GMT"] = 60, ["Thursday, 01-Jan-26 00:01:00 GMT"] = 60,
        ["2026-01-01T00:00:30Z"] = 30, ["2026-01-01T00:00:30.5Z"] = 30.5, ["2026-01-01 00:00:30"] = 30,
        ["2026-01-01T02:00:30+02:00"] = 30, ["2025-12-31T19:00:30-0500"] = 30,
        [tostring(NOW + 45)] = 45, [("%d000"):format(NOW + 45)] = 45, [("%d.25"):format(NOW + 45)] = 45.25,
        -- Past: at once.
        [tostring(NOW - 1)] = 0, ["Wed, 31 Dec 2025 23:00:00 GMT"] = 0, ["2020-01-01T00:00:00Z"] = 0,
        ["1000000000"] = 0,
    } do
        t.ok(math.abs((wait(text) or -1) - seconds) < 1e-6, text .. ": " .. tostring(wait(text)))
    end
end)

t.test("what cannot be a wait is none, or as long as the longest that is believed", function()
    outside.forget()
    local function wait(text) return outside.wait(text, "test", {}) end
    warnings(function()
        for _, text in ipairs { "", "soon", "-1", "nan", "inf", "0x10", "1,5", "1m30", "30 s", "1e", "1.2.3",
            "2026-13-01T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+1",
            "2026-01-01", ("9"):rep(400) .. "x" } do
            t.eq(wait(text), nil, text)
        end
        for _, text in ipairs { "40000000", "1e14", ("9"):rep(400), "9999d", "Fri, 01 Jan 2100 00:00:00 GMT",
            "9999-12-31T23:59:59Z" } do
            t.eq(wait(text), outside.LONGEST, text)
        end
        for _, n in ipairs { -1, 0 / 0, -math.huge } do
            t.eq(outside.bounded(n, "test"), nil)
        end
        t.eq(outside.bounded(math.huge, "test"), outside.LONGEST)
        t.eq(outside.bounded("5", "test"), nil)
        t.eq(outside.bounded(nil, "test"), nil)
    end)
end)

t.test("a number that is not believed is reported once for each kind and origin", function()
    outside.forget()
    local list = warnings(function()
        for _ = 1, 3 do
            outside.wait("soon", "retry-after", { url = "https://user:secret@one.test/a?key=x" })
            outside.wait("later", "retry-after", { url = "https://one.test/b" })
            outside.wait("soon", "retry-after", { url = "https://two.test/" })
            outside.tokens(-1, "usage.total_tokens", "https://one.test/")
            outside.amount("1e300", 1, "x-ratelimit-limit-requests", nil)
        end
    end)
    t.eq(list, {
        "https://one.test: retry-after: 'soon' is not a usable value; it is ignored",
        "https://two.test: retry-after: 'soon' is not a usable value; it is ignored",
        "https://one.test: usage.total_tokens: -1 is not a usable value; it is not counted",
        "x-ratelimit-limit-requests: '1e300' is not a usable value; it is ignored",
    })
    -- However many there are, they end.
    outside.forget()
    list = warnings(function()
        for i = 1, 3000 do outside.tokens(-1, "usage", "https://" .. i .. ".test/") end
    end)
    t.eq(#list, 1000)
end)

-- A simulated API; `answer(n)` gives the n-th answer.
local function api(answer)
    local n = 0
    local server = assert(leat.simulate("https://llm.test", function()
        n = n + 1
        local number = n
        sleep(0.01)
        return answer(number)
    end))
    return leat.openai { base_url = "https://llm.test/v1", api_key = "k", model = "m" }, server, function()
        return n
    end
end

local function completion(usage, headers)
    return { headers = headers, json = { usage = usage, choices = { { index = 0, finish_reason = "stop",
        message = { role = "assistant", content = "yes" } } } } }
end

t.test("Retry-After: 0 and past dates at each of five attempts leave it to the back-off", function()
    for _, after in ipairs { "0", "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z",
        "1577836800000" } do
        local ai, server, calls = api(function(n)
            return n < 5 and { status = 429, headers = { ["Retry-After"] = after },
                body = "" } or completion()
        end)
        local took, answer = t.took(function()
            return leat.retry({ attempts = 5, jitter = "none" }):call(ai.chat, ai, "hello")
        end)
        t.eq({ answer, calls() }, { "yes", 5 })
        t.ok(took >= 2 + 4 + 8 + 16, ("%s: %g s"):format(after, took))
        server:close()
    end
end)

t.test("a hint above 0 is a floor, and goes before the back-off", function()
    for _, seconds in ipairs { 0.001, 3, 50 } do
        local ai, server = api(function(n)
            return n < 3 and { status = 429, headers = { ["retry-after-ms"] = tostring(seconds * 1000) },
                body = "" } or completion()
        end)
        local took = t.took(function()
            assert(leat.retry({ jitter = "none", base = 20 }):call(ai.chat, ai, "hello"))
        end)
        t.ok(took >= 2 * seconds and took < 2 * seconds + 0.1, took)
        server:close()
    end
end)

t.test("x-ratelimit-reset as Unix time leaves the rate what it is", function()
    outside.forget()
    for _, reset in ipairs { function() return leat.time() + 3 end,
        function() return (leat.time() + 3) * 1000 end,
        function() return 1e300 end, function() return -1 end, function() return leat.time() - 1e6 end } do
        local n = 0
        local ai, server = api(function()
            n = n + 1
            return completion(nil, { ["x-ratelimit-limit-requests"] = "600",
                ["x-ratelimit-remaining-requests"] = tostring(600 - n),
                ["x-ratelimit-reset-requests"] = ("%.0f"):format(reset()) })
        end)
        warnings(function()
            for _, rate in ipairs { {}, { rpm = 600 } } do
                local took = t.took(function()
                    local _, stats = leat.pipeline({ concurrency = 5, rate = rate }):run(numbers(100),
                        function()
                        return ai:chat "hello"
                    end)
                    t.eq(stats.ok, 100)
                end)
                t.ok(took < 11, took)
            end
        end)
        server:close()
    end
end)

t.test("usage of -1, 1e300 and the like is not counted, and the run goes on", function()
    outside.forget()
    local odd = { -1, 1e300, 1e9, -1e300, 12, "12", false }
    local ai, server = api(function(n)
        local v = odd[n % #odd + 1]
        return completion({ prompt_tokens = v, completion_tokens = 5, total_tokens = v })
    end)
    local stats
    local list = warnings(function()
        local pipe = leat.pipeline { concurrency = 4, rate = { tpm = 60000 }, price = { prompt = 1,
            completion = 1 } }
        local took = t.took(function()
            stats = select(2, pipe:run(numbers(70), function() return ai:chat "hello" end))
        end)
        t.ok(took < 30, took)
    end)
    t.eq(stats.ok, 70)
    t.eq({ stats.prompt_tokens, stats.completion_tokens }, { 120, 350 })
    t.ok(stats.tokens >= 120 and stats.tokens < 1000, stats.tokens)
    t.near(stats.cost, 470e-6, 1e-6)
    t.eq(#list, 2) -- prompt_tokens, total_tokens
    t.ok(list[1]:find("https://llm.test: usage.", 1, true), list[1])
    server:close()
end)

t.test("what `usage` makes of an answer never ends a call; a wrong argument of settle still raises",
    function()
    outside.forget()
    for _, used in ipairs { -1, 1e300, 0 / 0, math.huge, "many", {}, true } do
        local limiter = leat.limiter { tpm = 6000, token_burst = 100, tokens = 10,
            usage = function() return used end }
        warnings(function()
            t.eq(limiter:call(function() return "answer" end), "answer")
            local pipe = leat.pipeline { rate = limiter }
            t.eq(pipe:call(function() return "answer" end), "answer")
        end)
        t.ok(limiter:stats().free_tokens >= 80, tostring(used)) -- the estimate stands
        t.eq(limiter:stats().reserved, 0)
        if used ~= 1e300 then
            t.raises("settle: the tokens must be a number of at least 0", function()
                limiter:reserve():settle(used)
            end)
        end
    end
end)

t.test("a wait that stands in an error is bounded too", function()
    outside.forget()
    local function waited(retry_after)
        local n = 0
        local took, v, err = t.took(function()
            return leat.retry({ jitter = "none", attempts = 2 }):call(function()
                n = n + 1
                if n == 2 then return "ok" end
                return nil, leat.error { kind = "http", status = 429, retryable = true,
                    retry_after = retry_after }
            end)
        end)
        return v and took or err
    end
    warnings(function()
        for _, nonsense in ipairs { -1, 0, 0 / 0, "5", {}, false } do
            t.near(waited(nonsense), 2, 1e-6) -- the back-off of a 429
        end
        t.near(waited(5), 5, 1e-6)
        for _, long in ipairs { 1e14, math.huge } do
            local err = waited(long)
            t.eq({ err.gave_up, err.retry_after }, { "retry_after", outside.LONGEST })
        end
    end)
end)

t.test("adaptive slots and breakers do not believe them either", function()
    outside.forget()
    warnings(function()
        local slots = leat.adaptive { start = 8 }
        local list = {}
        for i, after in ipairs { "1e300", "-5", "nan", "0", "99999999999999999999", "soon" } do
            list[i] = spawn(slots.call, slots, function()
                return { status = 429, headers = { ["retry-after"] = after } }
            end)
        end
        for i = 1, #list do list[i]:await() end
        local took = t.took(function() slots:call(function() return "ok" end) end)
        t.ok(took <= 2, took)
    end)
end)

t.test("random headers and usages never raise, and never hold a pipeline up for long", function()
    local texts = { "", "0", "1", "-1", "1e300", "nan", "inf", "1767225600", "1767225600000", "1s", "6m0s",
        "0ms",
        "Thu, 01 Jan 2026 00:00:00 GMT", "2026-01-01T00:00:00Z", "soon", "60", "100000",
            "9999999999999999999", "\1" }
    local names = { "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-reset" }
    local values = { -1, 0, 1, 1e300, 0 / 0, -math.huge, "1", false, 50 }
    for seed = 1, 100 do
        math.randomseed(seed)
        local function any(list) return list[math.random(#list)] end
        local pipe = leat.pipeline { concurrency = 4, rate = { rpm = 6000, tpm = 1e6 },
            retry = { attempts = 3 } }
        local list = warnings(function()
            local _, stats = pipe:run(numbers(20), function()
                sleep(0.01)
                local headers = {}
                for _, name in ipairs(names) do
                    if math.random() < 0.5 then headers[name] = any(texts) end
                end
                return { status = 200, ok = true, headers = headers, usage = { total_tokens = any(values),
                    prompt_tokens = any(values), completion_tokens = any(values) } }
            end)
            t.eq(stats.ok, 20)
            t.ok(stats.wall < 60, ("seed %d: %g s"):format(seed, stats.wall))
            t.ok(stats.tokens >= 0 and stats.tokens < 1e10, stats.tokens)
        end)
        t.ok(#list < 20)
    end
end)

t.done()
