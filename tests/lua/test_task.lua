-- Tasks on real time: what virtual time cannot show.
local t = require "harness"
local leat = require "leat"

t.test("no sleep ends early, whatever its length and however many sleep", function()
    local jobs = {}
    for i = 1, 300 do
        local s = (i * 37 % 101) / 2000 + i * 1e-7 -- 0 to 50 ms, in no order
        jobs[i] = function()
            local before = leat.now()
            sleep(s)
            local slept = leat.now() - before
            t.ok(slept >= s - 1e-9, ("slept %.9f instead of %.9f"):format(slept, s))
        end
    end
    t.ok(gather(jobs))
end)

t.test("no limit fires early", function()
    for i = 1, 10 do
        local s = i / 1000
        local took, v, err = t.took(wait_for, s, sleep, 60)
        t.fails("timeout", v, err)
        t.ok(took >= s - 1e-9)
        took, v, err = t.took(leat.queue().get, leat.queue(), s)
        t.fails("timeout", v, err)
        t.ok(took >= s - 1e-9)
    end
end)

t.test("a loop of sleep(0) neither holds a timer off nor starves the others", function()
    local stop = false
    local spins = 0
    local spinner = spawn(function()
        while not stop do
            sleep(0)
            spins = spins + 1
        end
    end)
    local turns = 0
    local other = spawn(function()
        for _ = 1, 100 do
            sleep(0)
            turns = turns + 1
        end
    end)
    other:await()
    t.eq(turns, 100)
    t.ok(spins >= 99, spins)
    sleep(0.01)
    stop = true
    spinner:await()
end)

t.test("a limit stops a loop of sleep(0)", function()
    t.fails("timeout", wait_for(0.01, function()
        while true do
            sleep(0)
        end
    end))
end)

t.test("the clocks: now goes forward, time is the wall's", function()
    local last = leat.now()
    for _ = 1, 1000 do
        local now = leat.now()
        t.ok(now >= last)
        last = now
    end
    local before, wall, after = os.time(), leat.time(), os.time()
    t.ok(wall >= before and wall < after + 2) -- time() may lag by a tick of the kernel
end)

t.test("100,000 tasks come and go", function()
    local n = 0
    local counts = leat.each(function()
        n = n + 1
        return n <= 100000 and n or nil
    end, function(x)
        if x % 100 == 0 then
            sleep(0)
        end
        return x
    end, { limit = 1000 })
    t.eq(counts.ok, 100000)
end)

t.test("a thousand waiters of one event, one semaphore and one queue all get their turn", function()
    local e, sem, q = leat.event(), semaphore(3), leat.queue(5)
    local jobs, done = {}, 0
    for i = 1, 1000 do
        jobs[i] = function()
            e:wait()
            sem:with(function() sleep(0) end)
            q:put(i)
            done = done + 1
        end
        jobs[1000 + i] = function() return q:get() end
    end
    jobs[2001] = function() sleep(0) e:set() end
    local r = t.ok(gather(jobs))
    t.eq(done, 1000)
    local seen = {}
    for i = 1001, 2000 do
        t.ok(not seen[r[i]])
        seen[r[i]] = true
    end
    t.eq(sem.available, 3)
end)

t.test("a result of the tick in which the limit passes gives one outcome, never two", function()
    for i = 1, 50 do
        local s = i / 10000
        local v, err = wait_for(s, function() sleep(s) return "done" end)
        t.ok(v == "done" and err == nil or v == nil and err.kind == "timeout")
    end
end)

t.done()
