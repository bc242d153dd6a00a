-- Cancels, limits and bugs that meet results in one tick, on virtual time.
local t = require "harness"
local leat = require "leat"

-- Runs `fn` as a task and cancels it after `s` seconds; its outcome and how long its end took.
local function cancelled_after(s, fn, ...)
    local task = spawn(fn, ...)
    sleep(s)
    local before = leat.now()
    task:cancel("test")
    local ok, value, err = pcall(task.await, task)
    return { ok = ok, value = value, err = err, took = leat.now() - before, status = task:status() }
end

-- ---- the cancel and the hand-off in one tick

t.test("a permit handed to a task that is cancelled in the same tick passes to the next in line", function()
    for _, cancel_first in ipairs { true, false } do
        local sem = semaphore(1)
        local got = {}
        sem:acquire()
        local function wanter(name)
            return spawn(function()
                sem:acquire()
                got[#got + 1] = name
                sem:release()
            end)
        end
        local first, second, third = wanter "first", wanter "second", wanter "third"
        sleep(1)
        if cancel_first then
            first:cancel()
            sem:release()
        else
            sem:release()
            first:cancel()
        end
        second:await()
        third:await()
        t.eq(got, { "second", "third" })
        t.eq(first:status(), "cancelled")
        t.eq(sem.available, 1)
    end
end)

t.test("when everyone in line is cancelled after the hand-off the permit is free again", function()
    local sem = semaphore(1)
    sem:acquire()
    local line = {}
    for i = 1, 5 do
        line[i] = spawn(sem.with, sem, print)
    end
    sleep(1)
    sem:release()
    for i = 1, 5 do
        line[i]:cancel()
    end
    sleep(0)
    t.eq(sem.available, 1)
    t.eq(sem.waiting, 0)
    t.eq(sem:try_acquire(), true)
    sem:release()
end)

t.test("an item handed to a task that is cancelled in the same tick goes back to the front", function()
    local q = leat.queue()
    local getter = spawn(function() return q:get() end)
    sleep(1)
    q:put("a")
    q:put("b")
    getter:cancel()
    t.fails("cancelled", getter:await())
    t.eq(q.size, 2)
    t.eq({ q:get(), q:get() }, { "a", "b" })
end)

t.test("an item whose getter was cancelled goes to the getter behind it", function()
    local q = leat.queue()
    local first = spawn(function() return q:get() end)
    local second = spawn(function() return q:get() end)
    sleep(1)
    q:put("a")
    first:cancel()
    t.eq(second:await(), "a")
    t.eq(q.size, 0)
end)

t.test("a place in a full queue whose putter was cancelled goes to the putter behind it", function()
    local q = leat.queue(1)
    q:put("there")
    local first = spawn(function() q:put("first") end)
    local second = spawn(function() q:put("second") end)
    sleep(1)
    t.eq(q:get(), "there")
    first:cancel()
    second:await()
    t.eq(q:get(), "second")
    t.eq(q.size, 0)
    t.eq(q:try_get(), nil)
end)

t.test("a cancelled sleeper, event waiter and awaiter leave no timer behind", function()
    local e = leat.event()
    local other = spawn(sleep, 5)
    local tasks = {
        spawn(sleep, 1000), spawn(e.wait, e, 1000), spawn(function() other:await() end),
        spawn(wait_for, 1000, sleep, 1000), spawn(function() semaphore(0):acquire(1000) end),
        spawn(function() leat.queue():get(1000) end),
        spawn(function() leat.stopping:wait(1000) end),
    }
    sleep(1)
    local before = leat.stats().timers
    t.ok(before >= 6)
    for _, task in ipairs(tasks) do
        task:cancel()
    end
    sleep(0)
    sleep(0)
    for i, task in ipairs(tasks) do
        t.eq(task:status(), "cancelled", "task " .. i)
    end
    t.eq(leat.stats().timers, 1) -- that of `other`
    t.eq(other:status(), "waiting")
end)

t.test("a task that was woken and then cancelled before it ran is cancelled", function()
    local e = leat.event()
    local waiter = spawn(function() e:wait() return "went on" end)
    sleep(1)
    e:set()
    waiter:cancel()
    t.fails("cancelled", waiter:await())
end)

t.test("cancelling twice, or what has ended, or what has not begun, is harmless", function()
    local task = spawn(sleep, 10)
    sleep(1)
    task:cancel("one")
    task:cancel("two")
    t.eq(t.fails("cancelled", task:await()).message, "one")
    task:cancel("three")
    t.eq(task:status(), "cancelled")
    local done = spawn(function() return "value" end)
    sleep(0)
    done:cancel()
    t.eq(done:await(), "value")
end)

t.test("a long reason is cut between two characters, and shows it", function()
    for shift = 0, 1 do
        local reason = ("x"):rep(shift) .. ("\195\188"):rep(60)
        local task = spawn(sleep, 10)
        task:cancel(reason)
        local v, err = task:await()
        local message = t.fails("cancelled", v, err).message
        local kept = message:match "^x?([\195\188]+)%.%.%.$"
        t.ok(kept and #kept % 2 == 0 and #message > 70, message)
    end
    for _, reason in ipairs { "", "%s %d %n", ("x"):rep(79) } do
        local task = spawn(sleep, 10)
        task:cancel(reason)
        local v, err = task:await()
        t.eq(t.fails("cancelled", v, err).message, reason == "" and "by request" or reason)
    end
end)

t.test("a task that cancels itself stops at its next wait", function()
    local reached, went_on
    local me
    me = spawn(function()
        me:cancel()
        reached = true
        sleep(0)
        went_on = true
    end)
    t.fails("cancelled", me:await())
    t.eq(reached, true)
    t.eq(went_on, nil)
end)

t.test("what a cancelled task still spawns never begins", function()
    local began
    local r = cancelled_after(1, function()
        pcall(sleep, 10)
        spawn(function() began = true end)
        pcall(gather, { function() began = true end })
        pcall(wait_for, 1, function() began = true end)
    end)
    t.eq(r.took, 0)
    t.eq(began, nil)
end)

-- ---- limits

t.test("of nested limits the one that fired is named, however deep", function()
    for fires = 1, 4 do
        local function nest(level)
            if level == 5 then
                sleep(100)
            end
            local limit = level == fires and 1 or 10 + level
            local v, err = wait_for(limit, nest, level + 1)
            if level == fires then
                t.fails("timeout", v, err)
                t.eq(err.limit, 1)
                return "level " .. level
            end
            return v, err
        end
        local before = leat.now()
        t.eq(nest(1), "level " .. fires)
        t.eq(leat.now() - before, 1)
    end
end)

t.test("nested limits that pass in the same tick give one timeout", function()
    for _ = 1, 10 do
        local function inner() return wait_for(1, sleep, 9) end
        local v, err = wait_for(1, wait_for, 1, inner)
        t.fails("timeout", v, err)
    end
end)

t.test("a failure of the same tick wins over the timeout too", function()
    local v, err = wait_for(1, function() sleep(1) return nil, "own failure" end)
    t.fails("script", v, err)
end)

t.test("a limit of 0 lets a function that does not wait finish", function()
    t.eq(wait_for(0, function() return "at once" end), "at once")
    t.fails("timeout", wait_for(0, sleep, 1))
end)

t.test("a limit covers the children that the function left running", function()
    local before = leat.now()
    t.fails("timeout", wait_for(1, function()
        spawn(sleep, 100)
        return "body"
    end))
    t.eq(leat.now() - before, 1)
end)

t.test("a limit reaches a generator, a metamethod and a pcall", function()
    local function limited(fn)
        local before = leat.now()
        t.fails("timeout", wait_for(1, fn))
        t.eq(leat.now() - before, 1)
    end
    limited(function()
        for _ in coroutine.wrap(function() sleep(100) end) do
            t.ok(false)
        end
    end)
    limited(function() return setmetatable({}, { __index = function() sleep(100) end }).x end)
    limited(function()
        local _, err = pcall(sleep, 100)
        error(err)
    end)
end)

t.test("the time a limit leaves to its clean-up is the clean-up's own", function()
    local left
    local before = leat.now()
    t.fails("timeout", wait_for(1, leat.finally, function() sleep(100) end, function()
        left = leat.deadline() - leat.now()
        sleep(3)
    end))
    t.eq(left, 5)
    t.eq(leat.now() - before, 4)
end)

t.test("an acquire, a get and a wait that time out leave the line, and nothing is lost", function()
    local sem, q, e = semaphore(1), leat.queue(1), leat.event()
    sem:acquire()
    local v, err = sem:acquire(1)
    t.eq(t.fails("timeout", v, err).limit, 1)
    t.fails("timeout", q:get(1))
    q:put("x")
    t.fails("timeout", q:put("y", 1))
    t.fails("timeout", e:wait(1))
    t.fails("timeout", sem:acquire(0))
    sem:release()
    t.eq(sem.waiting, 0)
    t.eq(sem.available, 1)
    t.eq(q:get(), "x")
    t.eq(q.size, 0)
end)

t.test("a permit that comes free in the tick of the waiter's limit is not lost", function()
    for _, release_first in ipairs { true, false } do
        local sem = semaphore(1)
        sem:acquire()
        local waiter
        local function wait()
            waiter = spawn(function()
                local ok = sem:acquire(1)
                if ok then
                    sem:release()
                end
                return ok or "timed out"
            end)
        end
        local function free()
            spawn(function() sleep(1) sem:release() end)
        end
        if release_first then
            free()
            wait()
        else
            wait()
            free()
        end
        local outcome = waiter:await()
        t.ok(outcome == true or outcome == "timed out")
        sleep(1)
        t.eq(sem.available, 1)
    end
end)

-- ---- a bug is never lost, whoever is cancelled

t.test("a bug in the clean-up of a cancelled wait_for is raised, not lost behind the cancel", function()
    local r = cancelled_after(1, wait_for, 50, leat.finally, function() sleep(100) end,
        function() error("bug in the clean-up", 0) end)
    t.eq(r.ok, false)
    t.eq(r.value, "bug in the clean-up")
end)

t.test("a bug in the clean-up of a cancelled gather is raised, not lost behind the cancel", function()
    for _, way in ipairs { "gather", "map", "group", "race", "each" } do
        local function job()
            return leat.finally(function() sleep(100) end, function() error("bug in the clean-up", 0) end)
        end
        local run = {
            gather = function() gather { job, function() sleep(100) end } end,
            map = function() leat.map({ 1 }, job) end,
            each = function() leat.each({ 1 }, job) end,
            race = function() leat.race { job } end,
            group = function() leat.group(function(g) g:spawn(job) sleep(100) end) end,
        }
        local r = cancelled_after(1, run[way])
        t.eq(r.ok, false, way)
        t.eq(r.value, "bug in the clean-up", way)
    end
end)

t.test("a bug is not lost when its awaiter is cancelled in the same tick", function()
    local owner = spawn(function()
        local broken = spawn(function() sleep(1) error("boom", 0) end)
        local awaiter = spawn(function() return broken:await() end)
        sleep(1)
        sleep(0) -- now `broken` has ended, and its awaiter is about to be told
        awaiter:cancel()
        sleep(10)
    end)
    local ok, raised = pcall(owner.await, owner)
    t.eq(ok, false)
    t.eq(raised, "boom")
end)

t.test("a bug after the loop over as_completed was left is raised in its opener", function()
    local before = leat.now()
    local task = spawn(function()
        local function job(s)
            sleep(s)
            if s == 2 then
                error("late bug", 0)
            end
        end
        local it = leat.as_completed({ 1, 2 }, job)
        it() -- and no more
        sleep(10)
    end)
    local ok, raised = pcall(task.await, task)
    t.eq(ok, false)
    t.eq(raised, "late bug")
    t.ok(leat.now() - before <= 12)
end)

t.test("a bug in the clean-up of what as_completed:close() cancels is raised by close", function()
    local it = leat.as_completed({ 1 }, function()
        return leat.finally(function() sleep(100) end, function() error("at close", 0) end)
    end)
    sleep(1)
    t.raises("at close", it.close, it)
end)

t.test("as_completed closed by another task ends the loop that waits on it", function()
    local started = 0
    local function job(s)
        started = started + 1
        sleep(s)
        return s
    end
    local it
    local reader = spawn(function()
        local n = 0
        it = leat.as_completed({ 1, 50, 60, 70 }, job, { limit = 2 })
        for _ in it do
            n = n + 1
        end
        return n
    end)
    sleep(2)
    it:close()
    t.eq(reader:await(), 1)
    t.eq(started, 3)
end)

t.test("a job that closes the as_completed it is part of gets an error, not a hang", function()
    local it
    it = leat.as_completed({ 1 }, function() it:close() end)
    t.raises("called by a task that it would wait for", it)
end)

t.test("the bugs of two siblings: one is raised, and both are waited for", function()
    local cleaned
    local ok, raised = pcall(gather, {
        function() sleep(1) error("one", 0) end,
        function()
            leat.finally(function() sleep(1) error("two", 0) end, function() sleep(1) cleaned = true end)
        end,
    })
    t.eq(ok, false)
    t.eq(raised, "one")
    t.eq(cleaned, true)
end)

-- ---- swallowing

t.test("a task that answers its cancel with one shield after another is abandoned", function()
    local cleaned
    local r = cancelled_after(1, function()
        leat.finally(function()
            while true do
                local ok = pcall(sleep, 1)
                if not ok then
                    leat.shield(1, sleep, 0.5) -- an honest clean-up, again and again
                end
            end
        end, function() cleaned = true end)
    end)
    t.eq(r.ok, true)
    t.fails("internal", r.value, r.err)
    t.eq(r.err.reason, "cancel_ignored")
    t.eq(cleaned, true)
end)

t.test("a pcall loop that ignores its cancel inside a generator is abandoned as well", function()
    local r = cancelled_after(1, function()
        for _ in coroutine.wrap(function()
            while true do
                pcall(sleep, 1)
            end
        end) do
            t.ok(false)
        end
    end)
    t.eq(t.fails("internal", r.value, r.err).reason, "cancel_ignored")
end)

t.test("an abandoned task's children are cancelled, and its clean-ups run last first", function()
    local log = {}
    local child
    local r = cancelled_after(1, function()
        child = spawn(function()
            leat.finally(function() sleep(1000) end, function() log[#log + 1] = "child" end)
        end)
        leat.finally(function()
            leat.finally(function()
                repeat
                    pcall(sleep, 1)
                until false
            end, function() sleep(1) log[#log + 1] = "inner" end)
        end, function() log[#log + 1] = "outer" end)
    end)
    t.fails("internal", r.value, r.err)
    t.eq(log, { "child", "inner", "outer" })
    t.eq(child:status(), "cancelled")
end)

t.test("a task that gives in at last has its clean-up run once, for its grace and no more", function()
    for swallowed = 998, 1002 do
        local cleaned = 0
        local r = cancelled_after(1, leat.finally, function()
            for _ = 1, swallowed do
                pcall(sleep, 1)
            end
        end, function()
            cleaned = cleaned + 1
            sleep(1e6)
        end, 2)
        t.eq(cleaned, 1)
        t.ok(r.took < 10, "took " .. r.took)
    end
end)

t.test("the permits that an abandoned task holds come back, each once", function()
    local a, b = semaphore(2), semaphore(1)
    local r = cancelled_after(1, function()
        a:with(function()
            b:with(function()
                while true do
                    pcall(sleep, 1)
                end
            end)
        end)
    end)
    t.fails("internal", r.value, r.err)
    t.eq(a.available, 2)
    t.eq(b.available, 1)
end)

t.test("finally: whatever the function and its clean-up raise, nothing is lost silently", function()
    t.raises("text of the bug", leat.finally, function() error("text of the bug") end,
        function() return nil, "cleanup failed" end)
    local ok = pcall(leat.finally, function() return 1 end, function() error(nil) end)
    t.eq(ok, false)
    ok = pcall(leat.finally, function() return 1 end, function() error(false, 0) end)
    t.eq(ok, false)
end)

t.test("finally hands over every value, nils included", function()
    local function values(...) return select("#", ...), ... end
    local n, a, b, c = values(leat.finally(function() return 1, nil, nil end, function() end))
    t.eq({ n, a, b, c }, { 3, 1, nil, nil })
    t.eq((values(leat.finally(function() end, function() end))), 0)
end)

t.test("shield: values, failure and bug of the work come through", function()
    t.eq({ leat.shield(5, function(...) sleep(1) return ... end, 1, 2) }, { 1, 2 })
    t.fails("script", leat.shield(5, function() return nil, "no" end))
    t.raises("boom", leat.shield, 5, function() error "boom" end)
end)

t.test("shield: its own limit says that it was a shield's", function()
    local v, err = leat.shield(1, sleep, 10)
    t.fails("timeout", v, err)
    t.eq(err.limit, 1)
    t.ok(tostring(err):find("shield", 1, true))
end)

t.test("what a shielded function spawned is shielded with it", function()
    local done
    local r = cancelled_after(1, leat.shield, 5, function()
        gather { function() sleep(2) done = true end }
    end)
    t.eq(done, true)
    t.eq(r.took, 1)
end)

t.test("a wait that nothing can end under a shield without a limit ends the stuck run", function()
    -- Runs beside a sleeper, so that this program itself is not stuck: the shield must be cancellable
    -- by hand.
    local e = leat.event()
    local task = spawn(leat.shield, math.huge, function() e:wait() end)
    sleep(1)
    task:cancel()
    sleep(1)
    t.eq(task:status(), "waiting")
    e:set()
    task:await()
end)

t.done()
