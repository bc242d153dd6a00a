-- The retry budget, on virtual time and with figures: it acts in a storm, and at no other time.
local t = require "harness"
local leat = require "leat"

local function busy()
    return nil, leat.error { kind = "http", status = 503, message = "busy", retryable = true }
end

-- So many workers, each of which makes one call after the other through `retry` until `stop(item)` says so.
-- Returns what became of the items.
local function work(retry, workers, fn, stop)
    local out = { items = 0, lost = 0, by_budget = 0, seconds = 0, errors = {} }
    local list = {}
    for w = 1, workers do
        list[w] = function()
            while not stop(out.items) do
                out.items = out.items + 1
                local began = leat.now()
                local v, err = retry:call(fn)
                out.seconds = out.seconds + leat.now() - began
                if v == nil then
                    out.lost = out.lost + 1
                    out.by_budget = out.by_budget + (err.reason == "retry_budget" and 1 or 0)
                    out.last = err
                end
            end
            return true
        end
    end
    assert(gather(list))
    return out
end

-- A service that fails at random.
local function failing(share, seconds)
    local s = { calls = 0 }
    function s.fn()
        s.calls = s.calls + 1
        local fails = math.random() < share()
        sleep(seconds)
        if fails then return busy() end
        return "ok"
    end
    return s
end

t.test("with 30 % failures and 8 attempts at most 0.01 % of the items are lost, none by the budget",
    function()
    local items, lost = 0, 0
    for seed = 1, 20 do
        math.randomseed(seed)
        local s = failing(function() return 0.3 end, 0.05)
        local out = work(leat.retry { attempts = 8, base = 0.2 }, 20, s.fn, function(n) return n >= 2000 end)
        items, lost = items + out.items, lost + out.lost
        t.eq(out.by_budget, 0, "seed " .. seed)
    end
    t.ok(lost / items <= 1e-4, lost .. " of " .. items)
end)

t.test("of 500 items in a pipeline with 30 % failures and 8 attempts none is lost", function()
    local list = {}
    for i = 1, 500 do list[i] = i end
    for seed = 1, 10 do
        math.randomseed(1000 + seed)
        local s = failing(function() return 0.3 end, 0.05)
        local _, stats = leat.pipeline({ concurrency = 10, retry = { attempts = 8 } }):run(list, s.fn)
        t.eq({ stats.ok, stats.failed }, { 500, 0 }, "seed " .. seed)
    end
end)

t.test("it does not act while most calls succeed in the end, however many attempts fail", function()
    for _, case in ipairs { { 3, 0.6 }, { 5, 0.75 }, { 8, 0.8 } } do
        local attempts, share = case[1], case[2]
        for seed = 1, 3 do
            math.randomseed(seed)
            local s = failing(function() return share end, 0.05)
            local out = work(leat.retry { attempts = attempts, base = 0.05 }, 10, s.fn,
                function(n) return n >= 1000 end)
            t.ok(out.by_budget <= 0.005 * out.items, ("%d of %d by the budget, %g %% failing"):format(
                out.by_budget, out.items, 100 * share))
        end
    end
end)

t.test("in a total outage there are at most 1.2 calls a second for each item that is under way", function()
    for _, attempts in ipairs { 3, 8 } do
        for _, workers in ipairs { 5, 50 } do
            for _, seconds in ipairs { 0, 0.05 } do
                for _, before in ipairs { 0, 2 } do -- seconds in which all was well
                    math.randomseed(workers)
                    local down, stop = leat.now() + before, leat.now() + before + 40
                    local s = failing(function() return leat.now() >= down and 1 or 0 end, math.max(seconds,
                        0.001))
                    local retry = leat.retry { attempts = attempts }
                    work(retry, workers, s.fn, function() return leat.now() >= down end)
                    s.calls = 0
                    local out = work(retry, workers, s.fn, function() return leat.now() >= stop end)
                    local rate = s.calls / out.seconds
                    t.ok(rate <= 1.2, ("%.3f calls a second for each of %d items, %d attempts"):format(rate,
                        workers, attempts))
                    t.ok(attempts > 3 or out.by_budget > 0)
                end
            end
        end
    end
end)

t.test("in a pipeline too, which draws the next item as soon as one waits for its retry", function()
    for seed = 1, 3 do
        math.randomseed(seed)
        local under_way, area, at, calls, n = 0, 0, leat.now(), 0, 0
        local function change(by)
            local now = leat.now()
            area, at, under_way = area + under_way * (now - at), now, under_way + by
        end
        local stop = leat.now() + 20
        leat.pipeline {
            concurrency = 20, on_result = function() change(-1) end,
        }:each(function()
            if leat.now() >= stop then return nil end
            n = n + 1
            change(1)
            return n
        end, function()
            calls = calls + 1
            sleep(0.02)
            return busy()
        end)
        t.ok(calls / area <= 1.2, ("%d calls in %g item-seconds"):format(calls, area))
    end
end)

t.test("when it acts, the error says so, and a storm that ends in time loses nothing", function()
    math.randomseed(1)
    local retry = leat.retry { jitter = "none", budget = { floor = 0, ratio = 0 } }
    local began = leat.now()
    local v, err = retry:call(busy)
    t.fails("http", v, err)
    t.eq({ err.reason, err.gave_up, err.attempts, err.cause.message }, { "retry_budget", "retry_budget", 1,
        "busy" })
    t.ok(err.message:find("busy (not retried: most calls fail, and the retry budget is used up)", 1, true),
        err.message)
    t.near(leat.now() - began, 1, 1e-6) -- it does not make room for the next call at once
    -- While one waits, others find the service well again.
    local n = 0
    local first = spawn(retry.call, retry, function()
        n = n + 1
        if n == 1 then return busy() end
        return "ok"
    end)
    sleep(0.5)
    for _ = 1, 20 do retry:call(function() return "ok" end) end
    t.eq({ first:await(), n }, { "ok", 2 })
end)

t.test("a 429 that says when to come back costs nothing", function()
    local retry = leat.retry { jitter = "none", budget = { floor = 2, ratio = 0 }, base = 0.01 }
    for _ = 1, 10 do
        local n = 0
        t.eq(retry:call(function()
            n = n + 1
            if n < 3 then
                return nil, leat.error { kind = "http", status = 429, retry_after = 0.5, retryable = true }
            end
            return "ok"
        end), "ok")
    end
    t.eq(retry.budget.left, 2)
end)

t.test("the summary of a pipeline says that the budget has acted", function()
    math.randomseed(1)
    local list = {}
    for i = 1, 40 do list[i] = i end
    local _, stats = leat.pipeline({ concurrency = 5 }):run(list, busy)
    t.eq(stats.failed, 40)
    t.ok(tostring(stats):find("503 (not retried: retry budget used up)", 1, true), tostring(stats))
end)

t.done()
