-- merge over plain iterators, on virtual time: order, keys, limits, errors, fairness, closing.
local leat = require "leat"
local t = require "harness"

-- An iterator of n items, one each `pause` seconds.
local function source(n, pause, name)
    local i = 0
    return function()
        if i < n then
            i = i + 1
            sleep(pause)
            return (name or "") .. i
        end
    end
end

local function collect(m)
    local got = {}
    for item, key in m do
        got[#got + 1] = tostring(key) .. ":" .. item
    end
    return got
end

t.test("items come in the order in which they arrive, with the key of their source", function()
    local got = collect(leat.merge { source(2, 3), source(3, 1.9) })
    t.eq(got, { "2:1", "1:1", "2:2", "2:3", "1:2" })
    got = collect(leat.merge { fast = source(1, 1), slow = source(1, 2) })
    t.eq(got, { "fast:1", "slow:1" })
    t.eq(collect(leat.merge {}), {})
end)

t.test("with open, at most `limit` sources are open, and each is opened when there is room", function()
    local open, peak, order = 0, 0, {}
    local function start(item, index)
        open = open + 1
        peak = math.max(peak, open)
        order[#order + 1] = item .. index
        local read = source(1, 1, item)
        return function()
            local v = read()
            if not v then
                open = open - 1
            end
            return v
        end
    end
    local items = {}
    for i = 1, 10 do
        items[i] = "x"
    end
    local before = leat.now()
    local got = collect(leat.merge(items, start, { limit = 3 }))
    t.eq(#got, 10)
    t.eq(peak, 3)
    t.eq(order[10], "x10")
    t.near(leat.now() - before, 4, 1e-6)
    local i = 0
    got = collect(leat.merge(function() i = i + 1 return i <= 4 and i or nil end, start, { limit = 2 }))
    t.eq(#got, 4)
end)

local function breaking(after, err)
    local read = source(after, 1)
    return function()
        local v = read()
        if v then
            return v
        end
        return nil, err
    end
end

t.test("a source that breaks raises its error with the key, and the others are closed", function()
    local cleaned = 0
    local function watched()
        local done = leat.finally(function() sleep(100) return "late" end,
            function() sleep(0.1) cleaned = cleaned + 1 end)
        return done
    end
    local got = {}
    local ok, err = pcall(function()
        for item, key in leat.merge { a = watched, b = breaking(2, "it broke") } do
            got[#got + 1] = key .. item
        end
    end)
    t.eq(ok, false)
    t.eq(err.kind, "script")
    t.eq(err.message, "it broke")
    t.eq(err.key, "b")
    t.eq(got, { "b1", "b2" })
    t.eq(cleaned, 1)
end)

t.test("on_error = skip goes on with the others and keeps count", function()
    local m = leat.merge({ breaking(1, "one"), source(3, 1), breaking(0, "three") }, { on_error = "skip" })
    t.eq(#collect(m), 4)
    t.eq(m.broken, 2)
    t.eq(m.first_error.message, "three")
end)

t.test("on_error as a function gets the error and the key", function()
    local told = {}
    local gone = leat.error { kind = "closed", message = "gone" }
    local m = leat.merge({ a = breaking(1, gone), b = source(2, 1) }, {
        on_error = function(err, key) told[#told + 1] = key .. ":" .. err.kind end })
    t.eq(#collect(m), 3)
    t.eq(told, { "a:closed" })
end)

t.test("an item that cannot be opened counts as a source that broke", function()
    local function open(item)
        if item == "bad" then
            return nil, leat.error { kind = "connect", message = "no" }
        end
        return source(1, 1, item)
    end
    local m = leat.merge({ "a", "bad", "b" }, open, { on_error = "skip" })
    t.eq(#collect(m), 2)
    t.eq(m.first_error.kind, "connect")
    local ok, err = pcall(collect, leat.merge({ "bad" }, open))
    t.eq({ ok, err.key }, { false, 1 })
end)

t.test("a bug in a source is raised whatever on_error says", function()
    local ok, err = pcall(collect, leat.merge({ source(5, 1), function() sleep(1) error "a bug" end },
        { on_error = "skip" }))
    t.eq(ok, false)
    t.ok(tostring(err):find "a bug", tostring(err))
end)

t.test("a source that never waits starves nobody, and nothing is read far ahead", function()
    local n = 0
    local function greedy()
        n = n + 1
        return "g"
    end
    local seen, ahead = {}, 0
    local m = leat.merge { greedy = greedy, slow = source(5, 1) }
    for _, key in m do
        seen[key] = (seen[key] or 0) + 1
        ahead = math.max(ahead, n - (seen.greedy or 0))
        sleep(0.01)
        if seen.slow == 5 then
            break
        end
    end
    m:close()
    t.eq(seen.slow, 5)
    t.ok(ahead <= 20, ahead)
    t.ok(n < 1000, n)
end)

t.test("two sources that never wait take turns", function()
    local counts = { 0, 0 }
    local m = leat.merge { function() return 1 end, function() return 2 end }
    for i = 1, 400 do
        local item = m()
        counts[item] = counts[item] + 1
        t.ok(i < 50 or math.abs(counts[1] - counts[2]) < 8)
    end
    m:close()
end)

t.test("close cancels what is left and waits for its clean-up; then there is nothing more", function()
    local cleaned = false
    local m = leat.merge { function()
        return leat.finally(function() sleep(50) return 1 end, function() sleep(1) cleaned = true end)
    end, source(1, 1) }
    t.eq(m(), "1")
    m:close()
    t.ok(cleaned)
    t.eq(m(), nil)
    m:close()
end)

t.test("the end of the task that opened it closes it", function()
    local cleaned = false
    local task = spawn(function()
        local m = leat.merge { source(1, 1), function()
            return leat.finally(function() sleep(1000) return 1 end, function() cleaned = true end)
        end }
        t.eq(m(), "1")
        return "done"
    end)
    local before = leat.now()
    t.eq(task:await(), "done")
    t.ok(cleaned)
    t.ok(leat.now() - before < 2)
end)

t.test("a cancel in the middle of a merge leaves nothing behind", function()
    local cleaned = 0
    local v, err = wait_for(2.5, function()
        for _ in leat.merge { source(10, 1), function()
            return leat.finally(function() sleep(1000) return 1 end, function() cleaned = cleaned + 1 end)
        end } do -- luacheck: ignore 542
        end
    end)
    t.eq(v, nil)
    t.eq(err.kind, "timeout")
    t.eq(cleaned, 1)
end)

t.test("a queue is a source too", function()
    local q = leat.queue(1)
    spawn(function()
        for i = 1, 3 do
            q:put(i)
        end
        q:close()
    end)
    t.eq(collect(leat.merge { q = q }), { "q:1", "q:2", "q:3" })
end)

t.test("wrong use says what is accepted", function()
    t.raises("merge takes one list of sources: merge{ a, b }; got nil", leat.merge)
    t.raises("merge: source a must be an iterator function, a streamed response or a queue, got 5",
        leat.merge, { a = 5 })
    t.raises("merge: unknown option 'limt' (did you mean 'limit'?)", leat.merge, {}, { limt = 1 })
    t.raises("merge: limit must be a whole number of at least 1, got 0", leat.merge, {}, { limit = 0 })
    t.raises("merge: option 'on_error', unless \"raise\" or \"skip\", must be a function, got 'stop'",
        leat.merge, {}, { on_error = "stop" })
end)

t.done()
