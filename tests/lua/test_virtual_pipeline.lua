-- pipeline, on virtual time: the order of its policies, what it counts, and what it shows.
local t = require "harness"
local ffi = require "ffi"
local leat = require "leat"

local function hung_up(fields)
    local err = { kind = "closed", message = "hung up", retryable = true }
    for k, v in pairs(fields or {}) do err[k] = v end
    return nil, leat.error(err)
end

local function since(began) return math.floor((leat.now() - began) * 1e6 + 0.5) / 1e6 end

local numbers = t.numbers

local function slow(x) sleep(1) return x end

-- Runs fn and says how much went on at most at once.
local function watched(fn)
    local w = { now = 0, peak = 0, started = {} }
    w.fn = function(...)
        w.now = w.now + 1
        w.peak = math.max(w.peak, w.now)
        w.started[#w.started + 1] = leat.now()
        local v, err = fn(...)
        w.now = w.now - 1
        return v, err
    end
    return w
end

t.test("results in the order of the items, no more at once than the limit", function()
    local w = watched(function(x) sleep((11 - x) / 10) return x * x end)
    local results, stats = leat.pipeline({ concurrency = 3 }):run(numbers(10), w.fn)
    t.eq(results.n, 10)
    for i = 1, 10 do t.eq(results[i], i * i) end
    t.eq(next(results.errors), nil)
    t.eq(w.peak, 3)
    t.eq({ stats.items, stats.ok, stats.failed, stats.skipped, stats.retried, stats.calls },
        { 10, 10, 0, 0, 0, 10 })
end)

t.test("an iterator is drawn from only when there is a slot", function()
    local drawn, most, done = 0, 0, 0
    local results = leat.pipeline({ concurrency = 4 }):run(function()
        if drawn < 20 then
            drawn = drawn + 1
            most = math.max(most, drawn - done)
            return drawn
        end
    end, function(x) sleep(0.1) done = done + 1 return x end)
    t.eq({ results.n, results[20], most }, { 20, 20, 4 })
end)

t.test("a failed item keeps its error in its place, and stops nothing", function()
    local told = {}
    local pipe = leat.pipeline { retry = { attempts = 2, jitter = "none" },
        on_result = function(i, value, err, item) told[#told + 1] = { i, value, err and err.kind, item } end }
    local results, stats = pipe:run({ "a", "b", "c" }, function(x)
        if x == "b" then return hung_up() end
        return x .. x
    end)
    t.eq({ results[1], results[2], results[3] }, { "aa", nil, "cc" })
    t.eq(t.fails("closed", nil, results.errors[2]).attempts, 2)
    t.eq({ stats.ok, stats.failed, stats.retried, stats.calls }, { 2, 1, 1, 4 })
    t.eq(told, { { 1, "aa", nil, "a" }, { 3, "cc", nil, "c" }, { 2, nil, "closed", "b" } })
end)

t.test("a wait for the next attempt holds no slot, and other items begin meanwhile", function()
    local began, calls = leat.now(), {}
    local results = leat.pipeline { concurrency = 1, retry = { base = 10, jitter = "none" } }:run({ 1, 2, 3 },
        function(x)
            calls[#calls + 1] = { x, since(began) }
            if x == 1 and #calls == 1 then return hung_up() end
            sleep(1)
            return x
        end)
    t.eq(results[1], 1)
    t.eq(calls, { { 1, 0 }, { 2, 0 }, { 3, 1 }, { 1, 10 } })
end)

t.test("the timeout is for one attempt, the deadline for the item", function()
    local n = 0
    local function second_is_quick(x)
        n = n + 1
        if n == 1 then sleep(100) end
        return x
    end
    local pipe = leat.pipeline { timeout = 2, retry = { base = 1, jitter = "none" } }
    local before = leat.now()
    t.eq(pipe:run({ 5 }, second_is_quick)[1], 5)
    t.eq(since(before), 3)
    pipe = leat.pipeline { timeout = 2, deadline = 4, retry = { attempts = 9, base = 1, jitter = "none" } }
    before = leat.now()
    local results = pipe:run({ 1 }, function() sleep(100) end)
    t.fails("timeout", results[1], results.errors[1])
    t.ok(since(before) <= 4)
end)

t.test("an item that ran out of time says which limit it was, and where that was set", function()
    local here = debug.getinfo(1, "S").short_src .. ":" .. debug.getinfo(1, "l").currentline + 1
    local pipe = leat.pipeline { timeout = 2, deadline = 7, retry = { attempts = 2, jitter = "none" } }
    local function forever() sleep(100) end
    local results = pipe:run({ 1 }, forever)
    local err = t.fails("timeout", results[1], results.errors[1])
    t.eq({ err.limit, err.at, err.phase, err.attempts }, { 2, here, "total", 2 })
    t.eq(tostring(err), "timeout: no result within 2 s (the pipeline's timeout, set at " .. here .. ")")
    err = t.fails("timeout", pipe:call(forever))
    t.eq({ err.limit, err.at }, { 2, here })
    err = t.fails("timeout", leat.pipeline({ timeout = 0, retry = false }):call(forever))
    t.ok(tostring(err):find("within 0 s (the pipeline's timeout", 1, true), tostring(err))
    err = t.fails("timeout", leat.pipeline({ deadline = 7 }):call(forever))
    t.ok(tostring(err):find("within 7 s (the pipeline's deadline, set at ", 1, true), tostring(err))
    -- The function's own limit stays its own.
    err = t.fails("timeout", leat.pipeline({ timeout = 2, retry = false }):call(wait_for, 1, sleep, 5))
    t.ok(tostring(err):find("wait_for: no result within 1 s", 1, true), tostring(err))
    err = t.fails("timeout", leat.pipeline({ timeout = 2, retry = false }):call(function()
        return nil, leat.error { kind = "timeout", message = "the function's" }
    end))
    t.eq(err.message, "the function's")
end)

t.test("a call that was cancelled while it waited for a slot gives its place in the rate back", function()
    local limiter = leat.limiter { rpm = 1, burst = 3, tpm = 1, token_burst = 100, tokens = 10 }
    local pipe = leat.pipeline { concurrency = 1, rate = limiter, retry = false }
    local called = 0
    local first = spawn(pipe.call, pipe, function() called = called + 1 sleep(100) return nil end)
    local second = spawn(pipe.call, pipe, function() called = called + 1 end)
    sleep(0.001)
    t.near(limiter:stats().free_requests, 1, 0.01)
    second:cancel()
    second:await()
    t.near(limiter:stats().free_requests, 2, 0.01)
    t.near(limiter:stats().free_tokens, 90, 0.01)
    t.eq({ called, limiter:stats().reserved }, { 1, 10 })
    first:cancel() -- this one was called: it has been used
    first:await()
    t.near(limiter:stats().free_requests, 2, 0.01)
    t.eq(limiter:stats().reserved, 0)
end)

t.test("a hole in a list is an item like any other: none after it is lost", function()
    local seen = {}
    local results, stats = leat.pipeline { concurrency = 2 }:run({ "a", nil, "c", "d" }, function(x, i)
        seen[i] = x or "none"
        if x == nil then return nil, "a hole" end
        return x
    end)
    t.eq(seen, { "a", "none", "c", "d" })
    t.eq({ results.n, results[4], stats.ok, stats.failed }, { 4, "d", 3, 1 })
    t.eq(results.errors[2].cause, "a hole")
end)

t.test("what waits for a slot does not use up the timeout of its attempt", function()
    local pipe = leat.pipeline { concurrency = 1, timeout = 1.5, retry = false }
    local list = {}
    for i = 1, 5 do list[i] = function() return pipe:call(slow, i) end end
    t.eq(assert(gather(list))[5], 5)
    local stats = pipe:stats()
    t.eq({ stats.ok, stats.bottleneck }, { 5, "concurrency" })
    t.near(stats.wall, 5, 1e-6)
end)

t.test("an item at its second attempt has its place again: nothing is drawn ahead of it", function()
    local began, drawn, i = leat.now(), {}, 0
    local tried = {}
    leat.pipeline { concurrency = 2, retry = { base = 0.5, jitter = "none" } }:run(function()
        i = i + 1
        drawn[i] = i <= 6 and since(began) or nil
        return i <= 6 and i or nil
    end, function(x)
        if x <= 2 and not tried[x] then
            tried[x] = true
            return hung_up()
        end
        return slow(x)
    end)
    t.eq(drawn, { 0, 0, 0, 0, 2, 2 })
end)

t.test("items that all wait for their next attempt do not draw an endless source empty", function()
    local drawn = 0
    local pipe = leat.pipeline { concurrency = 5, retry = { base = 100, jitter = "none", budget = false } }
    local run = spawn(function()
        pipe:each(function() drawn = drawn + 1 return drawn end, function() return hung_up() end)
    end)
    sleep(50)
    t.eq(drawn, 1005)
    run:cancel()
    run:await()
end)

t.test("a pipeline's limiter learns from the responses that it sees, unless learn=false", function()
    local function learnt(learn)
        local limiter = leat.limiter { learn = learn }
        leat.pipeline({ rate = limiter }):run({ 1 }, function()
            return { status = 200, headers = { ["x-ratelimit-limit-requests"] = "60" } }
        end)
        return limiter:stats().rpm
    end
    t.eq({ learnt(nil), learnt(false) }, { 60, math.huge })
end)

t.test("an open circuit skips items without calling them, and takes nothing of the rate", function()
    local limiter = leat.limiter { rpm = 60, burst = 10 }
    local n = 0
    local results, stats = leat.pipeline {
        concurrency = 1, retry = false, breaker = { threshold = 3 }, rate = limiter,
    }:run(numbers(10), function() n = n + 1 return hung_up() end)
    t.eq(n, 3)
    t.eq({ stats.failed, stats.skipped, stats.calls }, { 3, 7, 3 })
    t.eq(results.errors[4].kind, "circuit_open")
    t.eq(limiter:stats().free_requests, 7)
end)

t.test("the rate is kept, and is the bottleneck", function()
    local w = watched(function() sleep(0.1) return true end)
    local _, stats = leat.pipeline { concurrency = 5, rate = { rpm = 60, burst = 1 } }:run(numbers(10), w.fn)
    for i = 2, 10 do t.ok(w.started[i] - w.started[i - 1] > 0.999) end
    t.eq(stats.bottleneck, "rate")
    t.near(stats.wall, 9.1, 0.01)
end)

t.test("slots are the bottleneck where calls wait for them, the service where nothing does", function()
    local _, stats = leat.pipeline({ concurrency = 2 }):run(numbers(20), slow)
    t.eq(stats.bottleneck, "concurrency")
    t.near(stats.wall, 10, 1e-6)
    t.near(stats.serial, 20, 1e-6)
    t.near(stats.rate, 2, 1e-6)
    t.near(stats.p50, 1, 0.02)
    t.near(stats.p99, 1, 0.02)
    local sum = 0
    for _, s in pairs(stats.bounds) do sum = sum + s end
    t.near(sum, stats.wall, 1e-9)
    _, stats = leat.pipeline({ concurrency = 20 }):run(numbers(20), slow)
    t.eq(stats.bottleneck, "service")
    t.near(stats.wall, 1, 1e-6)
    _, stats = leat.pipeline({ retry = { base = 30, jitter = "none" } }):run({ 1 }, function()
        sleep(1)
        return hung_up()
    end)
    t.eq(stats.bottleneck, "retry")
    t.near(stats.wall, 93, 1e-6)
end)

t.test("the wall time is that in which something was under way", function()
    local pipe = leat.pipeline()
    for _ = 1, 3 do
        pipe:call(slow, 1)
        sleep(100)
    end
    t.near(pipe:stats().wall, 3, 1e-6)
    t.near(pipe:stats().rate, 1, 1e-6)
end)

t.test("quantiles are times of real calls", function()
    local pipe = leat.pipeline()
    for i, seconds in ipairs { 3, 1, 1 } do
        pipe:call(function() sleep(seconds) return i end)
        local stats = pipe:stats()
        t.near(stats.p50, i < 3 and ({ 3, 1 })[i] or 1, 0.02)
        t.near(stats.p99, 3, 0.02)
    end
end)

t.test("quantiles are exact to two per cent", function()
    local _, stats = leat.pipeline({ concurrency = 7 }):run(numbers(1000), function(x)
        sleep(x / 1000)
        return x
    end)
    t.near(stats.p50, 0.5, 0.02)
    t.near(stats.p95, 0.95, 0.02)
    t.near(stats.p99, 0.99, 0.02)
end)

t.test("batches: the next begins the interval after the last of the one before has ended", function()
    local w = watched(function(x) sleep(x % 2 + 1) return x end)
    local began = leat.now()
    local results, stats = leat.pipeline { concurrency = 5, batch = { size = 2, interval = 0.5 } }
        :run(numbers(5), w.fn)
    t.eq(results.n, 5)
    for i, at in ipairs(w.started) do w.started[i] = math.floor((at - began) * 1e6 + 0.5) / 1e6 end
    t.eq(w.started, { 0, 0, 2.5, 2.5, 5 })
    t.eq({ w.peak, stats.bottleneck }, { 2, "batch" })
    t.near(stats.wall, 7, 1e-6)
end)

t.test("adaptive slots grow while all goes well, and shrink at a 429", function()
    local slots = leat.adaptive { min = 1, start = 2, max = 8 }
    local w = watched(slow)
    leat.pipeline({ concurrency = slots }):run(numbers(40), w.fn)
    t.eq({ slots.limit, w.peak }, { 8, 8 })
    leat.pipeline({ concurrency = slots, retry = false }):run({ 1 }, function()
        return hung_up { status = 429 }
    end)
    t.eq(slots.limit, 4)
    local _, stats = leat.pipeline({ concurrency = "adaptive" }):run(numbers(3), slow)
    t.eq(stats.ok, 3)
    _, stats = leat.pipeline({ concurrency = { start = 1, max = 1 } }):run(numbers(3), slow)
    t.near(stats.wall, 3, 1e-6)
end)

t.test("tokens are counted from usage, and settle the rate", function()
    local limiter = leat.limiter { tpm = 6000, token_burst = 1000 }
    local pipe = leat.pipeline { rate = limiter }
    local _, stats = pipe:run({ 1, 2 }, function(x)
        return x, { usage = { prompt_tokens = 10, completion_tokens = 20, total_tokens = 30 } }
    end)
    t.eq({ stats.tokens, stats.prompt_tokens, stats.completion_tokens }, { 60, 20, 40 })
    t.eq(limiter:stats().free_tokens, 940)
end)

t.test("what a call will use of the rate's tokens is guessed by what the ones before have used", function()
    local limiter, reserved = leat.limiter { tpm = 60000 }, {}
    leat.pipeline({ rate = limiter, concurrency = 1 }):run({ 100, 200, 150, 150 }, function(x, i)
        reserved[i] = limiter:stats().reserved
        return x, { usage = { total_tokens = x } }
    end)
    t.eq(reserved, { 0, 100, 110, 114 }) -- a mean that moves on by a tenth
end)

t.test("the tokens of a failed attempt count once, and not again with the next", function()
    local function tell(n) -- as leat.openai does
        local scope = require("leat.policy.common").scope()
        while not scope.tell do scope = scope.outer end
        scope:tell({}, { total_tokens = n })
    end
    local attempt = 0
    local _, stats = leat.pipeline({ retry = { jitter = "none" } }):run({ 1 }, function(x)
        attempt = attempt + 1
        if attempt == 1 then
            tell(10)
            tell(5)
        elseif attempt == 3 then
            return x
        end
        return hung_up()
    end)
    t.eq({ stats.tokens, stats.calls }, { 15, 3 })
end)

t.test("a bug is raised, after the others have been cancelled", function()
    local ended = 0
    t.raises("no such field", function()
        leat.pipeline({ concurrency = 3 }):run(numbers(9), function(x)
            if x == 3 then error "no such field" end
            return leat.finally(function() sleep(100) end, function() ended = ended + 1 end)
        end)
    end)
    t.eq(ended, 2)
end)

t.test("a cancel ends a run, and gives back all places", function()
    local pipe = leat.pipeline { concurrency = 2, rate = { rpm = 600 }, retry = { base = 5 } }
    local run = spawn(function() return pipe:run(numbers(9), function(x)
        if x == 1 then return hung_up() end
        return slow(x)
    end) end)
    sleep(1.5)
    run:cancel()
    t.fails("cancelled", run:await())
    t.eq(pipe:run(numbers(2), slow).n, 2)
    t.eq(pipe:stats().in_flight, 0)
end)

t.test("two runs and a call share the slots of a pipeline", function()
    local pipe = leat.pipeline { concurrency = 2 }
    local w = watched(slow)
    gather {
        function() return pipe:run(numbers(4), w.fn) end, function() return pipe:run(numbers(4), w.fn) end,
        function() return pipe:call(w.fn, 1) end,
    }
    t.eq({ w.peak, pipe:stats().ok }, { 2, 9 })
end)

t.test("call gives all of fn's values, or what went wrong", function()
    local pipe = leat.pipeline { retry = { base = 1, jitter = "none" } }
    local a, b, c = pipe:call(function(...) return ... end, 1, nil, 3)
    t.eq({ a, b, c }, { 1, nil, 3 })
    t.eq(t.fails("closed", pipe:call(hung_up)).attempts, 3)
    local stats = pipe:stats()
    t.eq({ stats.ok, stats.failed, stats.retried }, { 1, 1, 2 })
end)

t.test("the summary has counts, times, tokens and the bottleneck", function()
    local _, stats = leat.pipeline({ concurrency = 5, retry = false }):run(numbers(100), function(x)
        sleep(1.5)
        if x > 97 then return hung_up() end
        return x, { usage = { total_tokens = 2 } }
    end)
    t.eq(tostring(stats), [[
100 items: 97 ok, 3 failed, 0 skipped; 100 calls, 0 of them retries; 194 tokens
3 failed: 3 × closed
30 s, 3.33 items/s; one after the other 2:30 min (5 times as long)
calls: p50 1.5 s, p95 1.5 s, p99 1.5 s
bottleneck: concurrency (95 % of the time)]])
    t.eq(tostring(leat.pipeline():stats()), "0 items: 0 ok, 0 failed, 0 skipped; 0 calls, 0 of them retries")
    local alone = leat.pipeline { retry = false }
    alone:run({ 1 }, slow)
    t.ok(tostring(alone:stats()):find "\n1 s, 1 items/s\n") -- nothing to compare with
end)

t.test("what an item waits for is shown with its number", function()
    local told
    leat.pipeline({ concurrency = 2 }):run(numbers(2), function(x)
        sleep(1)
        told = told or tostring(leat.tasks())
        return slow(x)
    end)
    t.ok(told:find("(item 2)", 1, true) and told:find("waiting in sleep", 1, true), told)
end)

t.test("no items", function()
    local results, stats = leat.pipeline { progress = function() end, batch = { size = 2 } }:run({}, slow)
    t.eq({ results.n, stats.items, stats.wall, stats.p50 }, { 0, 0, 0, nil })
end)

t.test("wrong use raises at once", function()
    t.raises("did you mean 'concurrency'", leat.pipeline, { concurency = 3 })
    t.raises("option 'concurrency' must be", leat.pipeline, { concurrency = "many" })
    t.raises("option 'retry' must be", leat.pipeline, { retry = 3 })
    t.raises("unknown option 'atempts'", leat.pipeline, { retry = { atempts = 3 } })
    t.raises("must be a number of at least 0", leat.pipeline, { timeout = -1 })
    t.raises("option 'progress'", leat.pipeline, { progress = 1 })
    local pipe = leat.pipeline()
    t.raises("must be a function", pipe.run, pipe, {})
    t.raises("pipeline:run: the items, unless a list, must be a function, got 5", pipe.run, pipe, 5, slow)
    t.raises("must be a function", pipe.call, pipe, 1)
    t.raises("pipeline:run: call it with a colon, as in pipeline:run(...)", pipe.run, { 1 }, slow)
    t.raises("pipeline:each: call it with a colon", pipe.each, { 1 }, slow)
    t.raises("pipeline:call: call it with a colon", pipe.call, slow)
    t.raises("pipeline:stats: call it with a colon", pipe.stats)
    -- At once, and not only when it runs.
    t.raises("progress: unknown option 'intervall'", leat.pipeline, { progress = { intervall = 1 } })
    t.raises("progress: option 'interval' must be a number of at least 0, got -1", leat.pipeline,
        { progress = { interval = -1 } })
    t.eq(tostring(pipe), "pipeline (0 ok, 0 failed, 0 skipped, 0 in flight)")
end)

-- ---- progress

-- What is shown while 10 calls of a second go through two slots.
local function shown(opts, fn)
    local out = {}
    opts.sink = function(text) out[#out + 1] = text end
    leat.pipeline({ concurrency = 2, progress = opts, retry = { base = 0.1, jitter = "none" } })
        :run(numbers(10), fn or slow)
    return out
end

t.test("the last line of progress says how long it took, even where it ended before the last item", function()
    local out = {}
    local opts = { sink = function(text) out[#out + 1] = text end, terminal = true, color = false }
    local line = require("leat.pipeline.progress").new(opts, require("leat.pipeline.stats").new(), 5)
    sleep(2)
    line:finish()
    t.eq(out[1], "\r0/5  0/s  0 in flight  in 2 s\27[K")
end)

t.test("progress on a terminal is one line that changes, and stays at the end", function()
    local out = shown { terminal = true, color = false }
    t.eq(table.remove(out), "\n")
    t.eq(out[1], "\r0/10  0/s  2 in flight\27[K") -- before anything has ended
    t.eq(out[2], "\r1/10  1/s  0 in flight  p50 1.01 s p95 1.01 s  ETA 9 s\27[K")
    t.eq(out[#out], "\r10/10  2/s  0 in flight  p50 1.01 s p95 1.01 s  in 5 s\27[K")
    for _, text in ipairs(out) do t.ok(not text:find("\27[3", 1, true)) end
end)

t.test("progress elsewhere is a plain line now and then, and one at the end", function()
    local out = shown { terminal = false, interval = 2 }
    for _, text in ipairs(out) do t.ok(text:find "^[^\r\27]*\n$", text) end
    t.ok(#out >= 2 and #out <= 4, #out .. " lines")
    t.ok(out[#out]:find "^10/10 ", out[#out])
end)

t.test("progress is throttled, and shows what came in the meantime when its time has come", function()
    local out = shown({ terminal = false, interval = 1 }, function(x) sleep(0.01) return x end)
    t.eq(#out, 1)
    out = shown({ terminal = false, interval = 0.5 }, function(x)
        if x > 2 then sleep(x == 3 and 0.01 or 10) end
        return x
    end)
    t.ok(out[1]:find "^3/10 ", out[1]) -- after half a second, though nothing ended then
end)

t.test("large rates are plain numbers", function()
    local out = {}
    local _, stats = leat.pipeline { concurrency = 100, progress = { terminal = true, sink = function(text)
        out[#out + 1] = text
    end } }:run(numbers(12345), function(x) sleep(0.001) return x end)
    local all = table.concat(out) .. tostring(stats)
    t.ok(all:find "  %d%d%d%d+/s  " and all:find " %d%d%d%d+ items/s" and not all:find "e%+", all:sub(-400))
end)

t.test("what is no item is counted with the rest, and a run that is over has reached its total", function()
    local out = shown { terminal = true, color = false, total = 14, others = function() return 3 end }
    t.ok(out[1]:find("\r3/10", 1, true), out[1])
    t.ok(out[#out - 1]:find("\r13/13  2/s  0 in flight  p50 1.01 s p95 1.01 s  in 5 s", 1, true))
end)

-- Two stages that are joined by a queue, stopped after a while: how many each has done.
local function two_stages(stage_two)
    local fetch, q = leat.pipeline { concurrency = 5 }, leat.queue(2)
    local stop = spawn(function() sleep(1) leat.stopping:set() end)
    local counts = assert(gather {
        function()
            return leat.finally(function()
                return fetch:each(numbers(1000), function(i) sleep(0.07) return q:put(i) end)
            end, function() q:close() end)
        end,
        function() return stage_two(q:iter(), function(i) sleep(0.1) return i end) end,
    })
    stop:await()
    leat.stopping:clear()
    return counts[1], counts[2]
end

t.test("two stages joined by a queue end in order when they are stopped: nothing is left behind", function()
    local path = os.tmpname()
    local stages = {
        pipeline = function(items, fn) return leat.pipeline { concurrency = 2 }:each(items, fn) end,
        journalled = function(items, fn)
            return leat.pipeline { concurrency = 2, journal = path .. "1" }:each(items, fn)
        end,
        each = function(items, fn) return leat.each(items, fn, { limit = 2, journal = path .. "2" }) end,
        map = function(items, fn)
            local results = assert(leat.map(items, fn, { limit = 2, journal = path .. "3" }))
            return { ok = results.n }
        end,
    }
    for name, stage in pairs(stages) do
        local one, two = two_stages(stage)
        t.ok(one.interrupted and one.ok >= 10 and one.ok < 50, name .. ": " .. one.ok)
        t.eq(two.ok, one.ok, name)
        t.ok(not two.interrupted, name)
    end
    for _, ending in ipairs { "", "1", "2", "3" } do
        os.remove(path .. ending)
    end
end)

t.test("a stage whose items come from elsewhere starts nothing new when it is stopped", function()
    local i = 0
    local function draw() sleep(0.01) i = i + 1 return i end
    local stop = spawn(function() sleep(1) leat.stopping:set() end)
    local stats = leat.pipeline { concurrency = 2 }:each(draw, function() sleep(0.1) return true end)
    stop:await()
    t.ok(leat.is_stopping() and stats.interrupted)
    leat.stopping:clear()
    t.ok(not leat.is_stopping() and stats.ok < 30)
end)

t.test("NO_COLOR is obeyed", function()
    ffi.cdef "int setenv(const char *, const char *, int); int unsetenv(const char *);"
    local function fail() sleep(1) return nil, "no" end
    ffi.C.setenv("NO_COLOR", "1", 1)
    local plain = shown({ terminal = true }, fail)[2]
    ffi.C.unsetenv "NO_COLOR"
    local colored = shown({ terminal = true }, fail)[2]
    t.ok(not plain:find("\27[31m", 1, true) and colored:find("\27[31m", 1, true))
end)

t.test("failures stand out in colour, unless that is not wanted", function()
    local function fail() sleep(1) return nil, "no" end
    local out = shown({ terminal = true, color = true }, fail)
    t.ok(out[2]:find("\27[31m1 failed\27[0m", 1, true), out[2])
    out = shown({ terminal = true, color = false }, fail)
    t.ok(out[2]:find("  1 failed", 1, true), out[2])
end)

t.done()
