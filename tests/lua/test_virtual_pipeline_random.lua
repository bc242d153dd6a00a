-- Pipelines of random options, with random outcomes, cancels and changes of rate, by seed: every item has its
-- result or its error, the figures add up, and all that was lent is given back.
--
--     LEAT_SEEDS=1000-9999 build/leat --virtual-time tests/lua/test_virtual_pipeline_random.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"

local function response(status, headers)
    return { status = status, ok = status < 300, headers = headers or {} }
end

-- What a call may end with; sleeps meanwhile.
local function outcome(random, index)
    local kind = random(14)
    sleep(random() * (random(5) == 1 and 6 or 0.5))
    if kind <= 6 then
        return "value " .. index, { usage = { total_tokens = random(50) } }
    elseif kind == 7 then
        return response(200)
    elseif kind == 8 then
        return nil, leat.error { kind = "http", message = "slow down", status = 429, retryable = true,
            retry_after = random() * 3 }
    elseif kind == 9 then
        return nil, leat.error { kind = "http", message = "no", status = 404 }
    elseif kind <= 11 then
        return nil, leat.error { kind = "closed", message = "hung up", retryable = true }
    elseif kind == 12 then
        error(leat.error { kind = "connect", message = "raised", retryable = true })
    elseif kind == 13 then
        return nil, "no error value"
    end
    sleep(30) -- until some limit passes, if there is one
    return "value " .. index
end

-- Options of a pipeline, and what is to be known of them.
local function draw_options(random)
    local adaptive = { min = 1, start = random(3), max = 3 + random(5) }
    local limiter = random(2) == 1 and leat.limiter {
        rps = random(20), burst = random(4), tpm = random(3) == 1 and 6000 or nil, learn = false,
        max_wait = random(4) == 1 and 1 or nil,
    } or nil
    local breaker = random(2) == 1 and leat.breaker {
        threshold = 1 + random(5), reset = 1 + random() * 4, probes = random(2),
    } or nil
    return {
        concurrency = ({ random(6), "adaptive", adaptive })[random(3)], rate = limiter, breaker = breaker,
        timeout = random(3) > 1 and 1 + random() * 3 or nil,
        deadline = random(3) == 1 and 1 + random() * 9 or nil,
        retry = random(4) > 1 and { attempts = random(4), base = random(), max = 3,
            budget = random(2) == 1 and random() or nil } or random(2) == 1,
        batch = random(3) == 1 and { size = 1 + random(6), interval = random() } or nil,
    }
end

-- One random program: what it has come to, and what was wrong.
local function plan(seed)
    local random = generator(seed)
    math.randomseed(seed)
    local began, problems = leat.now(), {}
    local function wrong(...)
        problems[#problems + 1] = table.concat({ ... }, " ")
    end
    local opts = draw_options(random)
    local told, run = {}, nil -- `run`: what goes on now
    opts.on_result = function(index, value, err)
        told[index] = (told[index] or 0) + 1
        if (value == nil) == (err == nil) then
            wrong("item", index, "ended with", tostring(value), "and", tostring(err))
        end
    end
    local pipe = leat.pipeline(opts)
    local most = opts.retry == false and 1 or type(opts.retry) == "table" and opts.retry.attempts
        or pipe.adaptive and 5 or 3
    local seen = { calls = 0, running = 0, ok = 0, failed = 0, skipped = 0, retried = 0, cancelled = 0 }

    local function call(item, index)
        local r = run
        seen.calls, seen.running = seen.calls + 1, seen.running + 1
        r.calls[index] = (r.calls[index] or 0) + 1
        if r.calls[index] > most then
            wrong("item", index, "was called", r.calls[index], "times")
        elseif r.cancelled then
            wrong("item", index, "was called after the cancel")
        elseif item ~= index then
            wrong("item", tostring(item), "was called as", index)
        end
        local limit = pipe.limit or pipe.adaptive.max
        if seen.running > limit then
            wrong(seen.running, "calls at once, and not", limit)
        end
        local deadline = leat.deadline()
        if deadline and leat.now() > deadline then
            wrong("item", index, "was called after its deadline")
        elseif opts.deadline and (not deadline or deadline > leat.now() + opts.deadline + 1e-6) then
            wrong("item", index, "has no deadline")
        end
        local function ended(ok, ...)
            seen.running = seen.running - 1
            if ok then
                return ...
            end
            error((...), 0)
        end
        return ended(pcall(outcome, random, index))
    end

    -- Every item has one end; the figures are the sums of what was seen.
    local function check_run(n, results, stats)
        if results.n ~= n or stats.items ~= n then
            wrong(n, "items, but", tostring(results.n), "results and", stats.items, "counted")
        end
        local ok, failed, skipped, calls, called = 0, 0, 0, 0, 0
        for i = 1, n do
            local value, err = results[i], results.errors[i]
            local times = run.calls[i] or 0
            calls, called = calls + times, called + (times > 0 and 1 or 0)
            if (value == nil) == (err == nil) then
                wrong("item", i, "has", tostring(value), "and", tostring(err))
            elseif err == nil then
                ok = ok + 1
                if times == 0 or type(value) == "string" and value ~= "value " .. i then
                    wrong("item", i, "has", value, "after", times, "calls")
                end
            elseif times > 0 then
                failed = failed + 1
            else
                skipped = skipped + 1
            end
            if told[i] ~= 1 then
                wrong("item", i, "was told", told[i] or 0, "times")
            end
        end
        local sum = 0
        for _, s in pairs(stats.bounds) do
            sum = sum + s
        end
        if stats.ok ~= ok or stats.failed ~= failed or stats.skipped ~= skipped then
            wrong(tostring(stats), "but there were", ok, failed, skipped)
        elseif stats.calls ~= calls or stats.retried ~= calls - called or stats.in_flight ~= 0 then
            wrong(stats.calls, "calls and", stats.retried, "retries; there were", calls, "of", called)
        elseif math.abs(sum - stats.wall) > 1e-6 then
            wrong("the bounds are", sum, "of", stats.wall)
        end
        seen.ok, seen.failed, seen.skipped = seen.ok + ok, seen.failed + failed, seen.skipped + skipped
        seen.retried = seen.retried + calls - called
    end

    local function check_emptiness()
        local tally, limiter, breaker = pipe.tally, pipe.limiter, pipe.breaker
        for _, state in ipairs { "live", "pending", "rate", "slot", "call", "between" } do
            if tally[state] ~= 0 then
                wrong(tally[state], "are left as", state)
            end
        end
        local sem = pipe.sem or pipe.adaptive.sem
        if sem.available ~= (pipe.limit or pipe.adaptive.limit) or sem.waiting ~= 0 or seen.running ~= 0 then
            wrong(sem.available, "slots are free,", sem.waiting, "wait,", seen.running, "run")
        elseif pipe.adaptive and (pipe.adaptive.in_flight ~= 0 or pipe.adaptive.gate.line.available ~= 1) then
            wrong(tostring(pipe.adaptive))
        end
        if limiter and (limiter.waiting.n ~= 0 or limiter.reserved ~= 0 or limiter.line.available ~= 1) then
            wrong(limiter.waiting.n, "wait for the rate,", limiter.reserved, "tokens are reserved")
        end
        local rate = limiter and limiter.requests
        if rate and seen.calls > rate.rate * (leat.now() - began) + rate.burst + 1e-6 then
            wrong(seen.calls, "calls in", leat.now() - began, "s, which is above the rate")
        end
        if breaker and #breaker.leases ~= 0 then
            wrong(#breaker.leases, "leases are out")
        end
    end

    for _ = 1, 3 do
        local n, i = random(25), 0
        local items = {}
        for k = 1, n do items[k] = k end
        if random(2) == 1 then
            local slow = random(2) == 1
            items = function()
                if slow then sleep(random() * 0.3) end
                i = i + 1
                return i <= n and i or nil
            end
        end
        told, run = {}, { calls = {}, cancelled = false }
        local results, stats
        local task = spawn(function()
            results, stats = pipe:run(items, call)
        end)
        if random(3) == 1 then
            sleep(random() * 5)
            run.cancelled = true
            task:cancel "at random"
        end
        task:await()
        if results then
            check_run(n, results, stats)
        elseif run.cancelled then
            seen.cancelled = seen.cancelled + 1
        else
            wrong("a run without results")
        end
        check_emptiness()
    end
    return seen, problems
end

local first, last = (os.getenv "LEAT_SEEDS" or "1-200"):match "^(%d+)%-(%d+)$"
local step = 50
local all = { ok = 0, failed = 0, skipped = 0, retried = 0, cancelled = 0 }

for from = tonumber(first), tonumber(last), step do
    local to = math.min(from + step - 1, tonumber(last))
    t.test(("random pipelines %d to %d keep the promises"):format(from, to), function()
        for seed = from, to do
            local seen, problems = plan(seed)
            t.eq(problems, {}, "seed " .. seed)
            for name in pairs(all) do
                all[name] = all[name] + seen[name]
            end
        end
    end)
end

t.test("random pipelines reach failures, refusals, retries and cancels", function()
    for name, n in pairs(all) do
        t.ok(n > (tonumber(last) - tonumber(first)) / 10, name .. ": " .. n)
    end
end)

t.done()
