-- batch, on virtual time: barriers, the pause between them, failures at their places.
local t = require "harness"
local leat = require "leat"

local function upto(n)
    local items = {}
    for i = 1, n do
        items[i] = i
    end
    return items
end

t.test("results are in the order of the items, failures at their places", function()
    local r = leat.batch(upto(25), { size = 10 }, function(x)
        sleep(math.random())
        if x % 7 == 0 then
            return nil, "seven"
        end
        return x * x
    end)
    t.eq(r.n, 25)
    for i = 1, 25 do
        if i % 7 == 0 then
            t.eq({ r[i].ok, r[i].err.kind, r[i].err.cause }, { false, "script", "seven" })
        else
            t.eq(r[i], { ok = true, value = i * i })
        end
    end
end)

t.test("a batch begins an interval after the last of the one before has ended; no wait at the end", function()
    local began, at = leat.now(), {}
    leat.batch(upto(5), { size = 2, interval = 0.5 }, function(x)
        at[x] = leat.now() - began
        sleep(x == 1 and 3 or 1) -- a straggler holds up its batch
        return x
    end)
    for i, expected in ipairs { 0, 0, 3.5, 3.5, 5 } do
        t.near(at[i] + 1, expected + 1, 1e-6)
    end
    t.near(leat.now() - began, 6, 1e-6)
end)

t.test("the article's defaults: ten at a time, half a second between", function()
    local running, peak = 0, 0
    local took = t.took(leat.batch, upto(20), nil, function()
        running = running + 1
        peak = math.max(peak, running)
        sleep(1)
        running = running - 1
    end)
    t.eq(peak, 10)
    t.near(took, 2.5, 1e-6)
end)

t.test("items may come from an iterator, one batch at a time", function()
    local drawn = 0
    local r = leat.batch(function()
        drawn = drawn + 1
        return drawn <= 5 and drawn or nil
    end, { size = 2, interval = 1 }, function(x, i)
        t.eq(x, i)
        t.ok(drawn <= x + 1)
        return -x
    end)
    t.eq({ r.n, r[1].value, r[5].value }, { 5, -1, -5 })
end)

t.test("fn is given the index among all items", function()
    local r = leat.batch({ "a", "b", "c" }, { size = 2, interval = 0 }, function(x, i) return x .. i end)
    t.eq({ r[1].value, r[2].value, r[3].value }, { "a1", "b2", "c3" })
end)

t.test("on_batch gets the results of each batch", function()
    local log = {}
    leat.batch(upto(5), { size = 2, on_batch = function(n, results)
        log[#log + 1] = { n, results.n, results[1].value }
    end }, function(x) return x end)
    t.eq(log, { { 1, 2, 1 }, { 2, 2, 3 }, { 3, 1, 5 } })
end)

t.test("without items it ends at once", function()
    local before = leat.now()
    t.eq(leat.batch({}, {}, print), { n = 0 })
    t.eq(leat.now(), before)
end)

t.test("without settle the first failure ends it, what was finished is kept", function()
    local called = 0
    local v, err = leat.batch(upto(9), { size = 3, settle = false }, function(x)
        called = called + 1
        sleep(x)
        if x == 5 then
            return nil, leat.error { kind = "io", message = "no" }
        end
        return x
    end)
    t.fails("io", v, err)
    t.eq(called, 6)
    t.eq(err.partial, { 1, 2, 3, 4, n = 6 })
    local r = leat.batch(upto(3), { settle = false }, function(x) return x end)
    t.eq(r, { 1, 2, 3, n = 3 })
end)

t.test("a bug is a value with settle, and raised without", function()
    local function buggy()
        error "oh no"
    end
    local r = leat.batch(upto(2), {}, buggy)
    t.eq({ r[1].err.kind, r[2].err.kind }, { "raised", "raised" })
    t.raises("oh no", leat.batch, upto(2), { settle = false }, buggy)
end)

t.test("a cancel stops it between and within batches", function()
    local called = 0
    local task = spawn(function()
        leat.batch(upto(9), { size = 3, interval = 10 }, function() called = called + 1 sleep(1) end)
    end)
    sleep(5)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(called, 3)
end)

t.test("the order of map's arguments is understood too", function()
    t.eq(leat.batch({ 1 }, function(x) return x end, { size = 1 })[1].value, 1)
    t.eq(leat.batch({ 1 }, function(x) return x end)[1].value, 1)
end)

t.test("options are checked", function()
    t.raises("batch: unknown option 'sise' (did you mean 'size'?)", leat.batch, {}, { sise = 1 }, print)
    t.raises("option 'size' must be a whole number of at least 1", leat.batch, {}, { size = 0 }, print)
    t.raises("option 'interval' must be a number of at least 0, got -1", leat.batch, {},
        { interval = -1 }, print)
    t.raises("batch: the last argument must be a function", leat.batch, {}, {})
    t.raises("batch: the items, unless a list, must be a function", leat.batch, 3, {}, print)
end)

t.done()
