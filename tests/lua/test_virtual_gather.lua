-- Many at once, on virtual time: gather, map, each, as_completed, race, group.
local t = require "harness"
local leat = require "leat"

local function after(s, ...)
    local values = { ... }
    return function()
        sleep(s)
        return unpack(values)
    end
end

t.test("gather of nothing returns at once", function()
    t.eq(gather {}, { n = 0 })
end)

t.test("gather: results stand at their index, whatever ends first", function()
    local before = leat.now()
    t.eq(gather { after(3, "a"), after(1, "b"), after(2, "c") }, { n = 3, "a", "b", "c" })
    t.near(leat.now() - before, 3)
end)

t.test("gather of 10,000", function()
    local jobs = {}
    for i = 1, 10000 do
        jobs[i] = function() sleep(i % 7) return i end
    end
    local r = gather(jobs)
    t.eq(r.n, 10000)
    for i = 1, 10000 do
        t.ok(r[i] == i)
    end
end)

t.test("gather nested 1,000 deep", function()
    local function nest(depth)
        if depth == 0 then
            sleep(1)
            return "bottom"
        end
        local r, err = gather { function() return nest(depth - 1) end }
        return r and r[1], err
    end
    t.eq(nest(1000), "bottom")
    local task = spawn(nest, 1000)
    sleep(0.5)
    task:cancel()
    t.fails("cancelled", task:await())
end)

t.test("gather: the first failure cancels the rest and waits for their clean-up", function()
    local cleaned
    local before = leat.now()
    local err = t.fails("script", gather {
        after(0.5, "early"),
        after(1, nil, "broken"),
        function()
            leat.finally(function() sleep(100) end, function() sleep(2) cleaned = true end)
        end,
    })
    t.eq(err.message, "broken")
    t.eq(err.partial[1], "early")
    t.eq(cleaned, true)
    t.near(leat.now() - before, 3)
end)

t.test("gather, map: a failure keeps what it holds itself, such as the part of a body that came", function()
    local function broken()
        sleep(1)
        return nil, leat.error { kind = "closed", message = "cut", partial = "half of it", status = 200 }
    end
    local function outer()
        return gather { after(0, "outer"), function() return gather { after(0, "inner"), broken } end }
    end
    local err = t.fails("closed", leat.map({ 1 }, broken))
    t.eq({ err.partial.n, err.cause.partial, err.message, err.status }, { 1, "half of it", "cut", 200 })
    err = t.fails("closed", outer())
    t.eq({ err.partial[1], err.cause.partial[1] }, { "outer", "inner" })
    t.eq(err.cause.cause.partial, "half of it")
    err = t.fails("closed", leat.batch({ 1, 2 }, { size = 1, settle = false, interval = 0 }, function(x)
        if x == 2 then return broken() end
        return x
    end))
    t.eq({ err.partial[1], err.cause.partial }, { 1, "half of it" })
end)

t.test("gather: a bug ends it like a failure, and is then raised", function()
    local cancelled
    local ok, raised = pcall(gather, {
        function() sleep(1) error("boom", 0) end,
        function()
            leat.finally(function() sleep(100) end, function() cancelled = true end)
        end,
    })
    t.eq(ok, false)
    t.eq(raised, "boom")
    t.eq(cancelled, true)
end)

t.test("gather: a bug among the cancelled is not lost behind the failure", function()
    t.raises("in the clean-up", gather, {
        after(1, nil, "broken"),
        function()
            pcall(sleep, 100)
            error "in the clean-up"
        end,
    })
end)

t.test("gather with settle keeps every end in its slot, bugs too", function()
    local r = gather({ after(1, "v"), after(2, nil, "f"), function() error("b", 0) end },
        { settle = true })
    t.eq(r[1], { ok = true, value = "v" })
    t.eq(r[2].ok, false)
    t.eq(r[2].err.message, "f")
    t.eq(r[3].err.kind, "raised")
    t.eq(r[3].err.cause, "b")
    t.ok(r[3].err.traceback:find("test_virtual_gather.lua", 1, true))
end)

t.test("gather with a limit starts no more than that, lazily", function()
    local running, peak, started = 0, 0, 0
    local jobs = {}
    for i = 1, 20 do
        jobs[i] = function()
            started = started + 1
            running = running + 1
            peak = math.max(peak, running)
            sleep(1)
            running = running - 1
        end
    end
    local before = leat.now()
    gather(jobs, { limit = 5 })
    t.eq(peak, 5)
    t.eq(started, 20)
    t.near(leat.now() - before, 4)
    t.eq(gather({ after(1, 1) }, { concurrency = 1 }), { n = 1, 1 })
end)

t.test("gather takes tasks too, and cancels them at a failure", function()
    local task = spawn(after(2, "task"))
    t.eq(gather { task, after(1, "fn") }, { n = 2, "task", "fn" })
    task = spawn(sleep, 100)
    t.fails("script", gather { task, after(1, nil, "x") })
    t.eq(task:status(), "cancelled")
end)

t.test("a cancelled gather raises only when its tasks are gone", function()
    local gone
    local outer = spawn(function()
        local ok, err = pcall(gather, { function()
            leat.finally(function() sleep(100) end, function() sleep(2) gone = true end)
        end })
        t.eq(ok, false)
        t.eq(err.kind, "cancelled")
        t.eq(gone, true)
        error(err)
    end)
    sleep(1)
    outer:cancel()
    t.fails("cancelled", outer:await())
end)

t.test("map: items from a list and from an iterator, drawn only as slots free up", function()
    t.eq(leat.map({ 3, 1, 2 }, function(x, i) sleep(x) return x * 10 + i end), { n = 3, 31, 12, 23 })
    local drawn, done = 0, 0
    local r = leat.map(function()
        drawn = drawn + 1
        t.ok(drawn - done <= 3)
        return drawn <= 10 and drawn or nil
    end, function(x) sleep(1) done = done + 1 return x end, { limit = 2 })
    t.eq(r.n, 10)
    t.eq(r[10], 10)
end)

t.test("map: an iterator that waits, and one that raises", function()
    local i = 0
    local r = leat.map(function() sleep(1) i = i + 1 return i <= 3 and i or nil end,
        function(x) return x end)
    t.eq(r, { n = 3, 1, 2, 3 })
    local cancelled
    t.raises("no more", leat.map, function()
        i = i + 1
        if i > 8 then
            error "no more"
        end
        sleep(0)
        return i
    end, function() leat.finally(function() sleep(100) end, function() cancelled = true end) end)
    t.eq(cancelled, true)
end)

t.test("map: on_result gets the end of each item", function()
    local seen = {}
    leat.map({ 1, 2 }, function(x) if x == 2 then return nil, "two" end return "one" end, {
        settle = true,
        on_result = function(i, v, err) seen[i] = v or err.message end,
    })
    t.eq(seen, { "one", "two" })
end)

t.test("map runs at most 100 at once unless limit= says otherwise", function()
    local running, peak = 0, 0
    local items = {}
    for i = 1, 300 do
        items[i] = i
    end
    leat.map(items, function()
        running = running + 1
        peak = math.max(peak, running)
        sleep(1)
        running = running - 1
    end)
    t.eq(peak, 100)
end)

t.test("each counts, goes on after failures, and raises a bug", function()
    local c = leat.each({ 1, 2, 3, 4 }, function(x)
        if x % 2 == 0 then
            return nil, "even " .. x
        end
        return x
    end)
    t.eq(c.ok, 2)
    t.eq(c.failed, 2)
    t.eq(c.first_error.message, "even 2")
    t.raises("bug", leat.each, { 1 }, function() error "bug" end)
end)

t.test("as_completed gives each result as it arrives, failures too", function()
    local log = {}
    for i, v, err in leat.as_completed({ 3, 1, 2 }, function(s)
        sleep(s)
        if s == 2 then
            return nil, "two"
        end
        return "v" .. s
    end) do
        log[#log + 1] = i .. "=" .. (v or err.message)
    end
    t.eq(log, { "2=v1", "3=two", "1=v3" })
end)

t.test("as_completed: after a break the rest is cancelled when its opener ends, or at close", function()
    local cancelled = 0
    local function job(s)
        leat.finally(function() sleep(s) end, function()
            if s > 1 then
                cancelled = cancelled + 1
            end
        end)
        return s
    end
    local before = leat.now()
    spawn(function()
        for i in leat.as_completed({ 1, 50, 60 }, job) do
            if i == 1 then
                break
            end
        end
    end):await()
    t.eq(cancelled, 2)
    local it = leat.as_completed({ 1, 50 }, job)
    it()
    it:close()
    t.eq(cancelled, 3)
    t.eq(it(), nil)
    t.near(leat.now() - before, 2)
end)

t.test("as_completed: what a break has left does not depend on the collector", function()
    local function job(s)
        sleep(s)
        if s == 2 then
            return nil, "nobody asks"
        elseif s == 3 then
            error("a bug", 0)
        end
    end
    for _, collect in ipairs { function() end, collectgarbage } do
        local before = leat.now()
        local function opener(list)
            leat.as_completed(list, job)()
            collect()
            sleep(5)
            return "well"
        end
        t.eq(spawn(opener, { 1, 2, 50 }):await(), "well")
        t.near(leat.now() - before, 6)
        before = leat.now()
        t.raises("a bug", function() spawn(opener, { 1, 3, 50 }):await() end)
        t.near(leat.now() - before, 6)
    end
end)

t.test("race: the first success wins, the losers are cancelled and waited for", function()
    local cleaned
    local before = leat.now()
    t.eq(leat.race {
        after(1, nil, "failed first"),
        after(2, "winner"),
        function() leat.finally(function() sleep(100) end, function() sleep(1) cleaned = true end) end,
    }, "winner")
    t.eq(cleaned, true)
    t.near(leat.now() - before, 3)
end)

t.test("race: when all fail every cause is kept at its index", function()
    local err = t.fails("script", leat.race { after(2, nil, "a"), after(1, nil, "b") })
    t.eq(err.causes[1].message, "a")
    t.eq(err.causes[2].message, "b")
    t.raises("bug", leat.race, { after(5, 1), function() error "bug" end })
    t.raises("list is empty", leat.race, {})
end)

t.test("group: what it started ends before it does; the first failure cancels the others", function()
    local sum = 0
    t.eq(leat.group(function(g)
        for i = 1, 3 do
            g:spawn(function() sleep(i) sum = sum + i end)
        end
        return "body"
    end), "body")
    t.eq(sum, 6)
    local before = leat.now()
    local err = t.fails("script", leat.group(function(g)
        g:spawn(after(1, nil, "member"))
        sleep(100)
    end))
    t.eq(err.message, "member")
    t.near(leat.now() - before, 1)
    t.raises("bug", leat.group, function(g) g:spawn(function() error "bug" end) sleep(10) end)
end)

t.test("group: a member that someone awaited is still there for the group to take", function()
    t.eq(leat.group(function(g)
        for i = 1, 20 do
            t.eq(g:spawn(function() sleep(0.01) return i end):await(), i)
            collectgarbage()
            collectgarbage()
        end
        return "done"
    end), "done")
end)

t.test("group: cancel ends its members, not its body", function()
    t.eq(leat.group(function(g)
        g:spawn(sleep, 100)
        sleep(1)
        g:cancel()
        return "body"
    end), "body")
    local kept
    leat.group(function(g) kept = g end)
    t.raises("this group has ended", kept.spawn, kept, print)
end)

t.test("wrong use names the argument, what was given and what is accepted", function()
    t.raises("gather takes one list of functions: gather{ f, g }; got 5", gather, 5)
    t.raises("gather: item 2 must be a function, got 'x'", gather, { print, "x" })
    t.raises("gather: unknown option 'limt' (did you mean 'limit'?)", gather, {}, { limt = 1 })
    t.raises("gather: limit must be a whole number of at least 1, got 0", gather, {}, { limit = 0 })
    t.raises("map: option 'settle' must be a boolean, got 1", leat.map, {}, print, { settle = 1 })
    t.raises("map: the second argument must be a function, got nil", leat.map, {})
    t.raises("each: the items, unless a list, must be a function, got 'x'", leat.each, "x", print)
    t.raises("group: the argument must be a function", leat.group)
    t.raises("spawn: the first argument must be a function, got nil", spawn)
    t.raises("finally: the clean-up must be a function, got nil", leat.finally, print)
end)

t.test("real and virtual time give the same order", function()
    local log = {}
    gather {
        function() sleep(0.02) log[#log + 1] = "b" end,
        function() sleep(0.01) log[#log + 1] = "a" sleep(0.02) log[#log + 1] = "c" end,
        function() log[#log + 1] = "first" end,
    }
    t.eq(log, { "first", "a", "b", "c" })
end)

t.test("gather: a bug of a task is raised or settled there, even one at its very start", function()
    local function bug() error("boom", 0) end
    local slot = gather({ spawn(bug), spawn(after(1, "fine")) }, { settle = true })
    t.eq(slot[1].err.kind, "raised")
    t.eq(slot[2].value, "fine")
    local soon = spawn(function() sleep(0) bug() end)
    slot = wait_for(5, gather, { soon }, { settle = true }) -- in a task below the one that spawned it
    t.eq(slot[1].err.kind, "raised")
    for _, fn in ipairs { gather, leat.race } do
        local other = spawn(sleep, 100)
        local ok, raised = pcall(fn, { other, spawn(bug) })
        t.eq(ok, false)
        t.eq(raised, "boom")
        t.eq(other:status(), "cancelled")
    end
    sleep(1) -- the task that has caught them goes on
end)

t.test("gather: what a limit has not come to yet is cancelled with the rest, and holds nothing up", function()
    local before, late = leat.now(), spawn(sleep, 100)
    local jobs = { after(1, "a"), after(1, nil, "broken"), late, spawn(after(0, "b")) }
    local err = t.fails("script", gather(jobs, { limit = 1 }))
    t.eq({ err.partial[1], err.partial[4], late:status() }, { "a", "b", "cancelled" })
    t.near(leat.now() - before, 2)
    local twice = spawn(after(1, "twice"))
    t.eq(gather { twice, twice }, { n = 2, "twice", "twice" })
    t.eq(gather { twice }, { n = 1, "twice" })
end)

t.test("gather of tasks: a limit cancels them, the end of the task that spawned it does not", function()
    local cleaned
    local work = spawn(leat.finally, after(100), function() sleep(1) cleaned = true end)
    t.fails("timeout", wait_for(1, gather, { work }))
    t.eq(cleaned, true)
    local got
    spawn(function()
        local long = spawn(after(5, "whole"))
        spawn(function() got = gather { long } end) -- goes on when the body above has ended
        sleep(0)
    end):await()
    t.eq(got, { n = 1, "whole" })
    local inner = spawn(function() return gather { leat.tasks } and wait_for(1, sleep, 0) end)
    t.eq(gather { inner }, { n = 1, true })
end)

t.test("an error value whose __tostring fails is shown by its type, wherever it ends up", function()
    local says = "a table whose __tostring fails"
    for _, fails in ipairs { error, function() return nil end, function() return {} end } do
        local value = setmetatable({}, { __tostring = fails })
        local function failing() return nil, value end
        local slot = gather({ function() error(value) end }, { settle = true })[1]
        t.eq({ slot.err.kind, slot.err.message, slot.err.cause == value }, { "raised", says, true })
        local retry = leat.retry { attempts = 2, idempotent = true }
        local err = t.fails("script", retry:call(failing))
        t.eq(err.message, says)
        local results = leat.pipeline { retry = false }:run({ 1 }, failing)
        t.ok(tostring(results.errors[1]):find "^script: a? ?table")
        t.raises(says, function() for _ in leat.merge { failing } do t.ok(false) end end)
        t.eq(tostring(leat.error { kind = "io", message = value }), "io: " .. says)
        leat.log.debug(value, { at = value })
    end
end)

t.done()
