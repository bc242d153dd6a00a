-- adaptive, on virtual time: when the limit grows, when it is cut.
local t = require "harness"
local leat = require "leat"

local function limits(slots)
    local list = {}
    for i, h in ipairs(slots:history()) do
        list[i] = h.limit
    end
    return list
end

-- Runs n calls at once, of one second each.
local function calls(slots, n, fn)
    local list = {}
    for i = 1, n do
        list[i] = function()
            slots:call(fn or function() sleep(1) return true end)
            return true
        end
    end
    assert(gather(list))
end

local function status(n, seconds)
    return function()
        sleep(seconds or 1)
        return { status = n, headers = {} }
    end
end

local function timeout()
    return wait_for(1, sleep, 5)
end

t.test("no more than the limit run at once, first come, first served", function()
    local slots = leat.adaptive { start = 3, max = 3 }
    local running, peak, order = 0, 0, {}
    local list = {}
    for i = 1, 10 do
        list[i] = function()
            return slots:call(function()
                order[#order + 1] = i
                running = running + 1
                peak = math.max(peak, running)
                t.eq(slots.in_flight, running)
                sleep(1)
                running = running - 1
                return true
            end)
        end
    end
    assert(gather(list))
    t.eq(peak, 3)
    t.eq(order, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
    t.eq(slots.in_flight, 0)
end)

t.test("slow start doubles the limit each round, up to max", function()
    local slots = leat.adaptive { start = 1, max = 20 }
    local before = leat.now()
    calls(slots, 31)
    t.eq(limits(slots), { 1, 2, 4, 8, 16, 20 })
    t.near(leat.now() - before, 5, 0.01) -- 1 + 2 + 4 + 8 + 16; and 2 ms between starts at most
    t.eq(slots:history()[2].reason, "slow start")
end)

t.test("the limit does not grow while it is not reached", function()
    local slots = leat.adaptive { start = 5 }
    for _ = 1, 20 do
        calls(slots, 4)
    end
    t.eq(limits(slots), { 5 })
end)

t.test("after the first cut it grows by one a round", function()
    local slots = leat.adaptive { start = 8 }
    slots:call(status(429))
    t.eq(slots.limit, 4)
    calls(slots, 4)
    t.eq(slots.limit, 5)
    calls(slots, 5)
    calls(slots, 6)
    t.eq(limits(slots), { 8, 4, 5, 6, 7 })
    t.eq(slots:history()[3].reason, "increase")
end)

t.test("after a cut the limit grows by half of the way back, then by one", function()
    local slots = leat.adaptive { start = 16, max = 40 }
    local n = 0
    calls(slots, 16, function() -- fifteen are served, and the last one is refused at once
        n = n + 1
        if n == 16 then
            return { status = 429, headers = {} }
        end
        sleep(1)
        return true
    end)
    calls(slots, 8)
    calls(slots, 11)
    calls(slots, 13)
    calls(slots, 14)
    calls(slots, 15)
    t.eq(limits(slots), { 16, 8, 11, 13, 14, 15, 16 })
end)

t.test("decrease says what a cut leaves", function()
    local slots = leat.adaptive { start = 10, decrease = 0.8 }
    slots:call(status(429))
    t.eq(limits(slots), { 10, 8 })
    t.raises("must be above 0 and below 1", leat.adaptive, { decrease = 1 })
    t.raises("decrease", leat.adaptive, { decrease = 0 })
end)

t.test("a round trip cuts it once, however many fail in it", function()
    local slots = leat.adaptive { start = 16 }
    calls(slots, 16, status(429))
    t.eq(slots.limit, 8)
    calls(slots, 8, status(503))
    t.eq(limits(slots), { 16, 8, 4 })
    t.eq(slots:history()[2].reason, "429")
    t.eq(slots:history()[3].reason, "503")
end)

t.test("a slow call from before the cut neither cuts again nor lets it grow", function()
    local slots = leat.adaptive { start = 4 }
    local late = spawn(function() slots:call(status(429, 9)) end)
    local good = spawn(function() slots:call(status(200, 9)) end)
    sleep(0)
    slots:call(status(429))
    t.eq(slots.limit, 2)
    late:await()
    good:await()
    t.eq(limits(slots), { 4, 2 })
    t.eq(slots.successes, 0)
end)

t.test("timeouts cut it, other failures do not", function()
    local slots = leat.adaptive { start = 8 }
    slots:call(timeout)
    t.eq(slots.limit, 4)
    t.eq(slots:history()[2].reason, "timeout")
    for _, kind in ipairs { "connect", "closed", "protocol", "invalid", "rate_limited", "script" } do
        slots:call(function() return nil, leat.error { kind = kind, message = "x" } end)
    end
    for _, n in ipairs { 400, 404, 500, 502 } do
        slots:call(status(n))
    end
    slots:call(function() return nil, leat.error { kind = "timeout", phase = "queue", message = "x" } end)
    slots:call(function() return nil, "text" end)
    t.eq(slots.limit, 4)
    slots:call(function() return nil, leat.error { kind = "http", status = 429, message = "x" } end)
    t.eq(slots.limit, 2)
    pcall(slots.call, slots, function() error(leat.error { kind = "timeout", message = "raised" }) end)
    t.eq(slots.limit, 1)
end)

t.test("it is never cut below min", function()
    local slots = leat.adaptive { min = 3, start = 8 }
    for _ = 1, 5 do
        slots:call(status(429, 0))
    end
    t.eq(limits(slots), { 8, 4, 3 })
end)

t.test("cancels and bugs give the slot back and are no sign of anything", function()
    local slots = leat.adaptive { start = 2 }
    local a = spawn(function() slots:call(sleep, 10) end)
    local b = spawn(function() slots:call(sleep, 10) end)
    local waits = spawn(function() slots:call(sleep, 10) end)
    sleep(1)
    t.eq(slots.in_flight, 2)
    waits:cancel()
    a:cancel()
    t.fails("timeout", wait_for(1, b))
    t.eq(slots.in_flight, 0)
    t.raises("oh no", slots.call, slots, function() error "oh no" end)
    t.eq(slots.in_flight, 0)
    t.eq(slots.sem.available, 2)
    t.eq(limits(slots), { 2 })
end)

t.test("it finds what a service takes, and stays about there", function()
    -- Takes 12 at once; what is above that is refused.
    local slots, running = leat.adaptive { start = 1, max = 100 }, 0
    local refused = 0
    local function service()
        if running >= 12 then
            refused = refused + 1
            sleep(0.1)
            return { status = 429, headers = {} }
        end
        running = running + 1
        sleep(1)
        running = running - 1
        return { status = 200, headers = {} }
    end
    local n = 0
    leat.each(function()
        n = n + 1
        return n <= 2000 and n or nil
    end, function() return slots:call(service) end, { limit = 200 })
    local low, high = math.huge, 0
    local h = slots:history()
    for i = math.floor(#h / 2), #h do
        low, high = math.min(low, h[i].limit), math.max(high, h[i].limit)
    end
    t.ok(low >= 6 and high <= 14, low .. " " .. high)
    t.ok(refused < 200, refused)
end)

t.test("the history says when and why, and is the caller's own copy", function()
    local slots = leat.adaptive { start = 4 }
    local before = leat.now()
    sleep(3)
    slots:call(status(503))
    local h = slots:history()
    t.eq({ h[1].reason, h[1].limit, h[2].reason, h[2].limit }, { "start", 4, "503", 2 })
    t.near(h[2].at - before, 4, 1e-6)
    h[1] = nil
    t.eq(#slots:history(), 2)
end)

t.test("the history keeps the last thousand changes", function()
    local slots = leat.adaptive { start = 2, max = 2 }
    for _ = 1, 1200 do
        slots:call(status(429, 0))
        slots:call(status(200, 0))
    end
    local h = slots:history()
    t.eq(#h, 1000)
    t.eq(h[1000].limit, slots.limit)
end)

t.test("classify decides what counts", function()
    local slots = leat.adaptive { start = 8, classify = function(v)
        return v == "slow" and "too slow" or nil
    end }
    slots:call(timeout)
    t.eq(slots.limit, 8)
    slots:call(function() return "slow" end)
    t.eq(slots.limit, 4)
    t.eq(slots:history()[2].reason, "too slow")
end)

t.test("options are checked", function()
    t.raises("adaptive: unknown option 'mx' (did you mean 'max'?)", leat.adaptive, { mx = 5 })
    t.raises("option 'min' must be a whole number of at least 1", leat.adaptive, { min = 0 })
    t.raises("option 'max' must be a whole number of at least 1", leat.adaptive, { max = 0 / 0 })
    t.raises("min <= start <= max must hold, got 1, 30, 20", leat.adaptive, { start = 30 })
    t.eq(leat.adaptive({ max = 3 }).limit, 3)
    t.eq(leat.adaptive({ min = 30 }).limit, 30)
    local slots = leat.adaptive()
    t.raises("adaptive:call: the first argument must be a function", slots.call, slots, {})
    t.raises("adaptive:call: call it with a colon", slots.call, print)
    t.raises("adaptive:history: call it with a colon", slots.history)
end)

t.test("a second value beside the first is no failure", function()
    local slots = leat.adaptive { start = 1, max = 4 }
    for _ = 1, 2 do slots:call(function() return "text", { status = 429 } end) end
    t.eq(slots.limit, 2)
end)

t.done()
