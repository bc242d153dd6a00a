-- Items from an iterator that waits itself (a queue, a stream, standard input): what ends meanwhile is told
-- at once, a failure ends the run, and nothing is drawn ahead. On virtual time.
local leat = require "leat"
local t = require "harness"

-- A queue that gets 1, 2, 3 ... `n`, one each `pause` seconds; and how many were drawn.
local function feed(n, pause)
    local q = leat.queue(1)
    spawn(function()
        for i = 1, n do
            sleep(pause)
            if not q:put(i) then
                return
            end
        end
        q:close()
    end)
    return q
end

local function work(x)
    sleep(1)
    return x * 10
end

-- What each form tells, and when: "value@second".
local function tells(run)
    local began, got = leat.now(), {}
    run(function(_, v)
        got[#got + 1] = ("%g@%g"):format(v, leat.now() - began)
    end)
    return got
end

local ALONE = 2 -- tasks: the script, and the test
local AS_THEY_COME = { "10@11", "20@21", "30@31" }

t.test("as_completed over a queue gives each result when it is there", function()
    t.eq(tells(function(tell)
        for i, v in leat.as_completed(feed(3, 10):iter(), work) do
            tell(i, v)
        end
    end), AS_THEY_COME)
end)

t.test("map and a pipeline report a result before the next item has come", function()
    t.eq(tells(function(tell)
        t.eq(leat.map(feed(3, 10):iter(), work, { on_result = tell }).n, 3)
    end), AS_THEY_COME)
    for _, concurrency in ipairs { 1, 5, "adaptive" } do
        t.eq(tells(function(tell)
            local pipe = leat.pipeline { concurrency = concurrency, on_result = tell }
            local results, stats = pipe:run(feed(3, 10):iter(), work)
            t.eq({ results.n, stats.ok, stats.bottleneck }, { 3, 3, "items" })
        end), AS_THEY_COME)
    end
end)

t.test("merge reads the sources that it has while it waits for another", function()
    local function open(x)
        local given
        return function()
            if not given then
                given = true
                return work(x)
            end
        end
    end
    t.eq(tells(function(tell)
        for v in leat.merge(feed(3, 10):iter(), open) do
            tell(nil, v)
        end
    end), AS_THEY_COME)
end)

t.test("a failure ends a map whose next item never comes, and the queue has all that it had", function()
    local q = leat.queue(1)
    q:put "bad"
    local _, err = leat.map(q:iter(), function() return nil, "no" end)
    t.eq(err.message, "no")
    q:put "kept"
    t.eq(q:get(), "kept")
    t.eq(#leat.tasks(), ALONE)
end)

t.test("a bug ends each, a pipeline and as_completed whose next item never comes", function()
    local function bug()
        error "a bug"
    end
    for name, run in pairs {
        each = function(q) leat.each(q:iter(), bug) end,
        pipeline = function(q) leat.pipeline {}:run(q:iter(), bug) end,
        as_completed = function(q) leat.as_completed(q:iter(), bug)() end,
    } do
        local q = leat.queue(1)
        q:put(1)
        local ok, err = pcall(run, q)
        t.ok(not ok and tostring(err):find("a bug", 1, true), name .. ": " .. tostring(err))
        t.eq(#leat.tasks(), ALONE, name)
    end
end)

t.test("nothing is drawn before there is a place for it", function()
    local function source(pause)
        local drawn = 0
        return function()
            if drawn < 30 then
                sleep(pause)
                drawn = drawn + 1
                return drawn
            end
        end, function()
            return drawn
        end
    end
    for _, pause in ipairs { 0, 0.2 } do
        for name, run in pairs {
            map = function(next_item, fn) leat.map(next_item, fn, { limit = 3 }) end,
            as_completed = function(next_item, fn)
                for _ in leat.as_completed(next_item, fn, { limit = 3 }) do sleep(0.1) end
            end,
            pipeline = function(next_item, fn) leat.pipeline { concurrency = 3 }:run(next_item, fn) end,
            merge = function(next_item, fn)
                for _ in leat.merge(next_item, function(x)
                    return function()
                        local v = x and fn(x)
                        x = nil
                        return v
                    end
                end, { limit = 3 }) do sleep(0) end
            end,
        } do
            local ended, ahead = 0, 0
            local next_item, drawn = source(pause)
            run(next_item, function(x)
                ahead = math.max(ahead, drawn() - ended)
                sleep(1)
                ended = ended + 1
                return x
            end)
            t.eq({ name, ended, ahead }, { name, 30, 3 })
        end
    end
end)

t.test("an iterator that breaks ends the run with its own error, and the rest is cancelled", function()
    local function breaks(with)
        local i = 0
        return function()
            i = i + 1
            if i == 3 then
                sleep(5)
                error(with, 0)
            end
            return i
        end
    end
    local broken = leat.error { kind = "io", message = "the disk" }
    for name, run in pairs {
        map = function(items) leat.map(items, sleep) end,
        each = function(items) leat.each(items, sleep) end,
        as_completed = function(items) for _ in leat.as_completed(items, sleep) do sleep(0) end end,
        pipeline = function(items) leat.pipeline {}:run(items, sleep) end,
        merge = function(items)
            local function open(x)
                return function() sleep(x) end
            end
            for _ in leat.merge(items, open) do sleep(0) end
        end,
    } do
        local function long(items)
            return run(function()
                return items() and 1e6
            end)
        end
        local ok, err = pcall(long, breaks(broken))
        t.ok(not ok and err == broken, name .. ": " .. tostring(err))
        ok, err = pcall(long, breaks "a bug of the iterator")
        t.ok(not ok and tostring(err):find("a bug of the iterator", 1, true), name .. ": " .. tostring(err))
        t.eq(#leat.tasks(), ALONE, name)
    end
end)

t.test("a cancel of the run ends the wait for its next item", function()
    for name, run in pairs {
        map = function(items) leat.map(items, work) end,
        pipeline = function(items) leat.pipeline {}:run(items, work) end,
        as_completed = function(items) for _ in leat.as_completed(items, work) do sleep(0) end end,
        merge = function(items) for _ in leat.merge(items, work) do sleep(0) end end,
    } do
        local q = leat.queue(1)
        local _, err = wait_for(3, run, q:iter())
        t.eq({ name, err.kind }, { name, "timeout" })
        q:put "kept"
        t.eq(q:get(), "kept", name)
        t.eq(#leat.tasks(), ALONE, name)
    end
end)

t.test("what an iterator opens at its first item is open until its last", function()
    local function tasks_of_its_own()
        local q
        return function()
            if not q then
                q = feed(3, 1)
            end
            return q:get()
        end
    end
    t.eq(leat.map(tasks_of_its_own(), work), { 10, 20, 30, n = 3 })
    t.eq((leat.pipeline {}:run(tasks_of_its_own(), work)), { 10, 20, 30, n = 3, errors = {} })
end)

t.test("as_completed is closed while it waits for an item", function()
    local q = leat.queue(1)
    local results = leat.as_completed(q:iter(), work)
    local reader = spawn(function() return results() end)
    sleep(1)
    results:close()
    t.eq(reader:await(), nil)
    t.eq(#leat.tasks(), ALONE)
end)

t.done()
