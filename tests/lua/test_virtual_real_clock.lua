-- The policies, under a clock that goes on between any two readings of it, as a real one does. On virtual
-- time the clock stands still while Lua runs, so that nobody sees what this shows.
local t = require "harness"
local leat = require "leat"
local task = require "leat.task"

-- Before any policy is loaded: each reading of their clock is a little later than the one before.
local read, gone = task.now, 0
local TICKS = { 1e-9, 86e-9, 1.3e-6, 4e-5 }
local ticks = 0
local function now()
    ticks = ticks + 1
    gone = gone + TICKS[ticks % #TICKS + 1]
    return read() + gone
end
-- luacheck: ignore 122
task.now = now
require("leat.native.task").now = now

local function refusal(seconds)
    return nil, leat.error { kind = "http", status = 429, message = "refused", retryable = true,
        retry_after = seconds }
end

-- A service of so many calls a second, and as many at a blow.
local function limited(rate)
    local level, at = 0, read()
    return function()
        local time = read()
        level, at = math.max(0, level - (time - at) * rate), time
        if level + 1 > rate then
            sleep(1e-3)
            return refusal((level + 1 - rate) / rate)
        end
        level = level + 1
        sleep(2e-3)
        return true
    end
end

t.test("slots that call 2,000 times a second go on for minutes", function()
    local slots = leat.adaptive { max = 60 }
    local call, ok = limited(2000), 0
    local stop = read() + 120
    leat.each(function() return read() < stop and 1 or nil end, function()
        if slots:call(call) then ok = ok + 1 end
        return true
    end, { limit = 60 })
    t.ok(ok > 20000, ok)
end)

t.test("a loop over slots:call of 2 ms each goes on for minutes", function()
    local slots = leat.adaptive { start = 1, max = 4 }
    local call, ok = limited(400), 0
    for _ = 1, 20000 do
        if slots:call(call) then ok = ok + 1 end
    end
    t.ok(ok > 15000, ok)
end)

t.test("a pipeline of retries, rates, breakers and progress goes on for hours", function()
    local call, n, log = limited(50), 0, 0
    local pipe = leat.pipeline {
        concurrency = "adaptive", rate = { rps = 45 }, breaker = { failure_rate = 0.9, reset = 0.01 },
        retry = { attempts = 5, base = 0.01, max = 0.1 }, timeout = 30, deadline = 600,
        progress = function() log = log + 1 end,
    }
    local stats = pipe:each(function() n = n + 1 return n <= 2 * 3600 * 5 and n or nil end, call)
    t.ok(stats.ok > 35000, tostring(stats))
    t.ok(log > 10, log)
end)

t.test("an open circuit never asks for a negative wait", function()
    local breaker = leat.breaker { threshold = 1, reset = 0.001 }
    local refused = 0
    for _ = 1, 5000 do
        local _, err = breaker:call(refusal)
        breaker:call(function() return nil, leat.error { kind = "connect", message = "down" } end)
        if err.kind == "circuit_open" then
            refused = refused + 1
            t.ok(err.retry_after >= 0, err.retry_after)
        end
    end
    t.ok(refused > 100, refused)
end)

t.test("a retry after a hint of a few nanoseconds does not end the call", function()
    local retry = leat.retry { attempts = 1000, base = 1e-9, base_429 = 1e-9, max = 1e-8, budget = false }
    local n = 0
    t.ok(retry:call(function()
        n = n + 1
        if n < 1000 then return refusal(n * 1e-10) end
        return true
    end))
end)

t.test("a limiter of 100,000 a second goes on", function()
    local limiter = leat.limiter { rps = 100000, burst = 1, max_wait = 1 }
    for _ = 1, 20000 do
        assert(limiter:call(function() return true end))
    end
end)

t.test("a bug inside a policy says which row it met, and in which policy", function()
    local logger = require "leat.log"
    local warn, said = logger.warn, nil
    local function told(opts, item)
        said = nil
        logger.warn = function(text) said = text end -- luacheck: ignore 122
        local pipe = leat.pipeline(opts)
        local ran = pcall(pipe.run, pipe, { item or 7 }, function()
            return nil, leat.error { kind = "closed", retryable = true }
        end)
        logger.warn = warn -- luacheck: ignore 122
        t.ok(not ran)
        return said
    end
    local function bug() error "oh no" end
    local slots = leat.adaptive()
    slots.gate.pace = { wait = bug }
    t.eq(told({ concurrency = slots }, { custom_id = "row-7" }),
        "pipeline: a bug in the concurrency limit ended the run, at item 1 (row-7)")
    t.eq(told { concurrency = { classify = bug } },
        "pipeline: a bug in the policies, after the answer, ended the run, at item 1")
    t.eq(told { rate = { tokens = bug } }, "pipeline: a bug in the rate limiter ended the run, at item 1")
    t.eq(told { retry = { when = bug } }, "pipeline: a bug in the retry ended the run, at item 1")
    t.eq(told { retry = { key = bug } },
        "pipeline: a bug in the retry or the breaker ended the run, at item 1")
    local function raises() error "oh no" end -- the script's own: its traceback says all
    logger.warn = function(text) said = text end -- luacheck: ignore 122
    said = nil
    pcall(function() leat.pipeline({ concurrency = "adaptive" }):run({ 1 }, raises) end)
    logger.warn = warn -- luacheck: ignore 122
    t.eq(said, nil)
end)

t.done()
