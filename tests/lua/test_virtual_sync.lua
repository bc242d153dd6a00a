-- Semaphore, queue and event, on virtual time: hand-off, cancel and timeout in the same tick.
local t = require "harness"
local leat = require "leat"
local generator = require "random"

-- ---- semaphore

t.test("permits are handed out first come, first served", function()
    local sem, log = semaphore(1), {}
    local jobs = {}
    for i = 1, 5 do
        jobs[i] = function()
            sem:with(function() log[#log + 1] = i sleep(1) end)
        end
    end
    gather(jobs)
    t.eq(log, { 1, 2, 3, 4, 5 })
    t.eq(sem.available, 1)
    t.eq(sem.waiting, 0)
end)

t.test("a waiter that is cancelled leaves the line, the next one gets the permit", function()
    local sem = semaphore(1)
    sem:acquire()
    local a = spawn(sem.acquire, sem)
    local b = spawn(function() sem:acquire() return "b" end)
    sleep(1)
    t.eq(sem.waiting, 2)
    a:cancel()
    t.fails("cancelled", a:await())
    t.eq(sem.waiting, 1)
    sem:release()
    t.eq(b:await(), "b")
    sem:release()
    t.eq(sem.available, 1)
end)

t.test("a waiter that is cancelled after the hand-off passes its permit on", function()
    local sem = semaphore(1)
    sem:acquire()
    local a = spawn(function() sem:acquire() return "a" end)
    local b = spawn(function() sem:acquire() return "b" end)
    sleep(1)
    sem:release() -- a is woken, and has not run yet
    a:cancel()
    t.fails("cancelled", a:await())
    t.eq(b:await(), "b")
    sem:release()
    t.eq(sem.available, 1)
end)

t.test("with gives the permit back after a value, a failure, a bug and a cancel", function()
    local sem = semaphore(2)
    t.eq(sem:with(function(a, b) t.eq(sem.available, 1) return a + b end, 1, 2), 3)
    t.fails("script", spawn(sem.with, sem, function() return nil, "x" end):await())
    t.raises("bug", sem.with, sem, function() error "bug" end)
    local task = spawn(sem.with, sem, function() sleep(100) end)
    sleep(0)
    t.eq(sem.available, 1)
    task:cancel()
    task:await()
    t.eq(sem.available, 2)
end)

t.test("acquire with a timeout leaves the line", function()
    local sem = semaphore(0)
    local before = leat.now()
    local err = t.fails("timeout", sem:acquire(2))
    t.eq(err.limit, 2)
    t.near(leat.now() - before, 2)
    t.eq(sem.waiting, 0)
end)

t.test("a limit around a waiter frees its place", function()
    local sem = semaphore(1)
    sem:acquire()
    t.fails("timeout", wait_for(1, sem.with, sem, print))
    t.eq(sem.waiting, 0)
    sem:release()
    t.eq(sem.available, 1)
end)

t.test("releasing too often raises", function()
    local sem = semaphore(1)
    t.raises("released twice", sem.release, sem)
    t.raises("semaphore: the number of permits must be a whole number", semaphore, -1)
    t.raises("semaphore: the number of permits must be a whole number", semaphore, 1.5)
    t.raises("semaphore: the number of permits must be a whole number", semaphore, "x")
end)

t.test("try_acquire does not wait, and does not overtake", function()
    local sem = semaphore(1)
    t.eq(sem:try_acquire(), true)
    t.eq(sem:try_acquire(), false)
    sem:release()
    t.eq(sem.available, 1)
end)

t.test("resize up serves those who wait, resize down revokes nothing", function()
    local sem = semaphore(1)
    local peak, running = 0, 0
    local jobs = {}
    for i = 1, 6 do
        jobs[i] = function()
            sem:with(function()
                running = running + 1
                peak = math.max(peak, running)
                sleep(1)
                running = running - 1
            end)
        end
    end
    jobs[7] = function()
        sleep(0.5)
        sem:resize(3)
        sleep(0)
        t.eq(running, 3)
        sem:resize(1)
        t.eq(sem.available, 0)
    end
    gather(jobs)
    t.eq(peak, 3)
    t.eq(sem.limit, 1)
    t.eq(sem.available, 1)
end)

t.test("another task may release a permit", function()
    local sem = semaphore(1)
    sem:acquire()
    spawn(function() sem:release() end):await()
    t.eq(sem.available, 1)
end)

t.test("of many holders of one semaphore each that releases is forgotten, and tasks() answers", function()
    local sem, e, tasks = semaphore(5000), leat.event(), {}
    for i = 1, 5000 do
        tasks[i] = spawn(function()
            sem:acquire()
            e:wait()
            sleep(i * 7919 % 5000)
            sem:release()
        end)
    end
    sleep(0)
    local last = spawn(sem.acquire, sem)
    sleep(1)
    t.ok(tostring(leat.tasks()):find("waiting in acquire (5000 permits; held by task", 1, true))
    e:set()
    gather(tasks)
    t.eq(last:await(), true)
    sem:release()
    t.eq(sem.available, 5000)
end)

t.test("a permit that its task took with it is named by tasks()", function()
    local sem = semaphore(1)
    local lost = spawn(function() sem:acquire() end)
    lost:await()
    local waiter = spawn(sem.acquire, sem)
    sleep(1)
    local text = tostring(leat.tasks())
    t.ok(text:find("held by task %d+ since .-test_virtual_sync.lua:%d+ %(ended%)"), text)
    sem:release()
    waiter:await()
    sem:release()
end)

t.test("two tasks that wait for each other's semaphore get an error that says who holds it", function()
    local a, b = semaphore(1), semaphore(1)
    local function both(one, other)
        return spawn(one.with, one, function() sleep(0) return other:with(sleep, 0) end)
    end
    local first, second = both(a, b), both(b, a)
    sleep(1)
    local text = tostring(leat.tasks())
    t.ok(text:find("task " .. first.id .. " .-1 permit, 1 waiting; held by task " .. second.id), text)
    t.ok(text:find("task " .. second.id .. " .-1 permit, 1 waiting; held by task " .. first.id), text)
    first:cancel()
    second:await()
end)

-- ---- queue

t.test("a queue keeps its order, and a bounded one makes its putters wait", function()
    local q, log = leat.queue(2), {}
    local producer = spawn(function()
        for i = 1, 6 do
            q:put(i)
            log[#log + 1] = "put" .. i
        end
        q:close()
    end)
    sleep(1)
    t.eq(#log, 2)
    t.eq(q.size, 2)
    local got = {}
    for v in q:iter() do
        got[#got + 1] = v
    end
    t.eq(got, { 1, 2, 3, 4, 5, 6 })
    producer:await()
end)

t.test("an item that was handed to a getter which is cancelled stays at the front", function()
    local q = leat.queue()
    local a = spawn(q.get, q)
    sleep(1)
    q:put "first"
    q:put "second"
    a:cancel()
    t.fails("cancelled", a:await())
    t.eq(q:get(), "first")
    t.eq(q:get(), "second")
end)

t.test("an item passes from a cancelled getter to the next in line", function()
    local q = leat.queue()
    local a = spawn(q.get, q)
    local b = spawn(q.get, q)
    sleep(1)
    q:put "item"
    a:cancel()
    a:await()
    t.eq(b:await(), "item")
end)

t.test("tasks that wait for a queue go before one that comes in the tick in which they are woken", function()
    local q = leat.queue(2)
    local first = spawn(q.get, q)
    sleep(1)
    q:put "one"
    q:put "two"
    t.eq(q:get(), "two")
    t.eq(first:await(), "one")

    q:put "a"
    q:put "b"
    local waiting = spawn(q.put, q, "c")
    sleep(1)
    t.eq({ q:get(), q:get() }, { "a", "b" })
    t.eq(q:put("d", 1), true)
    t.eq({ q:get(), q:get() }, { "c", "d" })
    t.eq(waiting:await(), true)
end)

t.test("consumers that wait for one queue take turns", function()
    local q, log = leat.queue(), {}
    local function consume(name)
        for item in q:iter() do
            log[#log + 1] = name .. item
        end
    end
    local a, b = spawn(consume, "a"), spawn(consume, "b")
    sleep(1)
    for i = 1, 6 do
        q:put(i)
    end
    q:close()
    a:await()
    b:await()
    t.eq(table.concat(log, " "), "a1 b2 a3 b4 a5 b6")
end)

t.test("a putter that is cancelled puts nothing, and its place goes to the next", function()
    local q = leat.queue(1)
    q:put "one"
    local a = spawn(q.put, q, "two")
    local b = spawn(q.put, q, "three")
    sleep(1)
    t.eq(q:get(), "one") -- a has the place to its name now
    a:cancel()
    t.fails("cancelled", a:await())
    t.eq(b:await(), true)
    t.eq(q:get(), "three")
    t.eq(q.size, 0)
end)

t.test("close lets getters empty it, then they get nil, or the error it was closed with", function()
    local q = leat.queue()
    q:put(1)
    q:close()
    t.eq(q:get(), 1)
    t.eq({ q:get() }, {})
    t.fails("closed", q:put(2))
    t.eq(q:try_put(2), false)
    q = leat.queue()
    local waiting = spawn(q.get, q)
    sleep(1)
    q:close(leat.error { kind = "io", message = "source broke" })
    t.fails("io", waiting:await())
    t.raises("source broke", function()
        for _ in q:iter() do
            error "no item expected"
        end
    end)
end)

t.test("a queue that is closed with a text ends its readers with a failure, not with a bug", function()
    local q = leat.queue()
    q:put(1)
    q:close "the disk is full"
    local v, err = spawn(function()
        for _ in q:iter() do
            sleep(0)
        end
    end):await()
    t.eq(t.fails("script", v, err).message, "the disk is full")
    t.ok(rawequal(select(2, q:get()), err))
end)

t.test("putters of a queue that is closed get a failure", function()
    local q = leat.queue(1)
    q:put(1)
    local putter = spawn(q.put, q, 2)
    sleep(1)
    q:close()
    t.fails("closed", putter:await())
    t.eq(q:get(), 1)
    t.eq(q:get(), nil)
end)

t.test("get and put with a timeout", function()
    local q = leat.queue(1)
    t.fails("timeout", q:get(1))
    q:put(1)
    t.fails("timeout", q:put(2, 1))
    t.eq(q:get(), 1)
    t.eq(q.size, 0)
    t.eq(q:try_get(), nil)
    t.raises("put: nil cannot be put", q.put, q, nil)
    t.raises("queue: the capacity must be a whole number", leat.queue, 0)
    q:put(false)
    t.eq(q:get(), false)
    q:put ""
    t.eq(q:get(), "")
end)

t.test("no item is lost or doubled whatever is cancelled when", function()
    local random = generator(7)
    for round = 1, 40 do
        local q = leat.queue(random(4))
        local put, got, tasks = {}, {}, {}
        for i = 1, 30 do
            tasks[#tasks + 1] = spawn(function()
                sleep(random(5))
                if q:put(i) then
                    put[i] = true
                end
            end)
            tasks[#tasks + 1] = spawn(function()
                sleep(random(5))
                local v = q:get()
                t.eq(got[v], nil)
                got[v] = true
            end)
        end
        for _ = 1, 15 do
            sleep(random(3) - 1)
            tasks[random(#tasks)]:cancel()
        end
        sleep(20)
        for _, task in ipairs(tasks) do
            task:cancel()
        end
        for _, task in ipairs(tasks) do
            task:await()
        end
        while q.size > 0 do
            local v = q:get()
            t.eq(got[v], nil)
            got[v] = true
        end
        t.eq(got, put, "round " .. round)
    end
end)

t.test("every permit comes back whatever is cancelled when", function()
    local random = generator(11)
    for round = 1, 40 do
        local limit = random(4)
        local sem = semaphore(limit)
        local running, tasks = 0, {}
        for _ = 1, 40 do
            tasks[#tasks + 1] = spawn(function()
                sleep(random(5))
                return wait_for(random(6), sem.with, sem, function()
                    running = running + 1
                    t.ok(running <= limit)
                    pcall(sleep, random(3))
                    running = running - 1
                end)
            end)
        end
        for _ = 1, 20 do
            sleep(random(3) - 1)
            tasks[random(#tasks)]:cancel()
        end
        for _, task in ipairs(tasks) do
            task:await()
        end
        t.eq(sem.available, limit, "round " .. round)
        t.eq(sem.waiting, 0)
    end
end)

-- ---- event

t.test("an event wakes all who wait, and passes those who come later", function()
    local e, n = leat.event(), 0
    for _ = 1, 3 do
        spawn(function() e:wait() n = n + 1 end)
    end
    sleep(1)
    e:set()
    sleep(0)
    t.eq(n, 3)
    t.eq(e:wait(), true)
    t.eq(e:is_set(), true)
    e:clear()
    t.eq(e:is_set(), false)
    t.fails("timeout", e:wait(1))
end)

t.test("print of each shows what it is and its state", function()
    local sem, q, e = semaphore(3), leat.queue(2), leat.event()
    sem:acquire()
    q:put(1)
    t.eq(tostring(sem), "semaphore (2 of 3 free, 0 waiting)")
    t.eq(tostring(semaphore(3e9)), "semaphore (3000000000 of 3000000000 free, 0 waiting)")
    t.eq(tostring(q), "queue (1 items)")
    t.eq(tostring(e), "event (not set)")
    sem:release()
    q:close()
    e:set()
    t.eq(tostring(q), "queue (1 items, closed)")
    t.eq(tostring(e), "event (set)")
end)

t.done()
