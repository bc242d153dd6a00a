-- Tasks as scopes, on virtual time: spawn, await, wait_for, shield, finally.
local t = require "harness"
local leat = require "leat"

local function yielder(log, name)
    return function()
        for i = 1, 2 do
            log[#log + 1] = name .. i
            sleep(0)
        end
    end
end

t.test("sleep(0) lets every other ready task run once", function()
    local log = {}
    gather { yielder(log, "a"), yielder(log, "b"), yielder(log, "c") }
    t.eq(table.concat(log, " "), "a1 b1 c1 a2 b2 c2")
end)

t.test("sleeps end in the order of their times, and never early", function()
    local log = {}
    local function nap(s)
        return function()
            local before = leat.now()
            sleep(s)
            t.ok(leat.now() - before >= s - 1e-9)
            log[#log + 1] = s
        end
    end
    gather { nap(3600), nap(0.5), nap(60), nap(1) }
    t.eq(log, { 0.5, 1, 60, 3600 })
end)

t.test("an invalid time raises an error that names what was given", function()
    t.raises("sleep: seconds must be 0 or more seconds, got -1", sleep, -1)
    t.raises("sleep: seconds must be 0 or more seconds, got nan", sleep, 0 / 0)
    t.raises("sleep: seconds must be a number of seconds, got 'x'", sleep, "x")
    t.raises("wait_for: seconds", wait_for, nil, sleep, 1)
    local s, err = wait_for(5, sleep, math.huge)
    t.fails("timeout", s, err)
end)

t.test("a spawned task starts at its parent's next wait, not before", function()
    local started
    local task = spawn(function() started = true end)
    t.eq(started, nil)
    t.eq(task:status(), "new")
    sleep(0)
    t.eq(started, true)
    t.eq(task:status(), "ok")
end)

t.test("await hands over every value, and as often as it is asked", function()
    local task = spawn(function(...) sleep(1) return select("#", ...), ... end, 1, nil, 3, nil)
    local function values(...) return { n = select("#", ...), ... } end
    t.eq(values(task:await()), { n = 5, 4, 1, nil, 3, nil })
    t.eq(values(task:await()), { n = 5, 4, 1, nil, 3, nil })
end)

t.test("await hands over no value, and thousands, as they are", function()
    local many = {}
    for i = 1, 6000 do
        many[i] = i
    end
    for _, wait in ipairs { 0, 1 } do
        local function none() sleep(wait) end
        local function all() sleep(wait) return unpack(many) end
        t.eq(select("#", spawn(none):await()), 0)
        t.eq(select("#", wait_for(5, none)), 0)
        t.eq({ spawn(all):await() }, many)
        t.eq({ wait_for(5, all) }, many)
    end
end)

t.test("nil alone, and false, are values", function()
    local v, err = spawn(function() return nil end):await()
    t.eq(v, nil)
    t.eq(err, nil)
    t.eq(spawn(function() return false, "no error" end):await(), false)
end)

t.test("nil and a text is a failure like io.open's, wrapped where it crosses a task", function()
    local err = t.fails("script", spawn(io.open, "/nowhere/at/all"):await())
    t.ok(err.message:find("No such file", 1, true))
    t.eq(type(err.cause), "string")
end)

t.test("whatever stands behind nil is a failure with the text that tostring makes of it", function()
    local long = ("a long text "):rep(100)
    local object = setmetatable({ code = 7 }, { __tostring = function(o) return "code " .. o.code end })
    local broken = setmetatable({}, { __tostring = function() error "broken" end })
    local slow = setmetatable({}, { __tostring = function() sleep(1) end })
    for _, case in ipairs {
        { false, "false" }, { 5, "5" }, { long, long }, { object, "code 7" }, { broken, "table" },
        { slow, "table" }, { {}, "table" },
    } do
        local v, err = spawn(function() return nil, case[1] end):await()
        t.eq(t.fails("script", v, err).message, case[2])
        t.ok(rawequal(err.cause, case[1]))
    end
end)

t.test("raising an error value is the same as returning it", function()
    local e = leat.error { kind = "invalid", message = "x" }
    local v, err = spawn(function() sleep(1) error(e) end):await()
    t.eq(v, nil)
    t.ok(rawequal(err, e))
    v, err = spawn(function() assert(nil, e) end):await()
    t.eq(v, nil)
    t.ok(rawequal(err, e))
end)

t.test("a bug is raised again in whoever awaits it, unchanged", function()
    local value = {}
    local ok, raised = pcall(function() spawn(function() sleep(1) error(value) end):await() end)
    t.eq(ok, false)
    t.ok(rawequal(raised, value))
    for _, odd in ipairs { 42, false, true } do
        ok, raised = pcall(function() spawn(function() error(odd, 0) end):await() end)
        t.eq(ok, false)
        t.eq(raised, odd)
    end
    ok, raised = pcall(function() spawn(function() error(nil) end):await() end)
    t.eq(ok, false)
    t.eq(raised, nil)
end)

t.test("a task ends only when its children have ended", function()
    local done
    local task = spawn(function()
        spawn(function() sleep(5) done = true end)
        return "body"
    end)
    t.eq(task:await(), "body")
    t.eq(done, true)
end)

t.test("a failure that nobody awaits becomes the parent's result, after its body", function()
    local body_ended
    local task = spawn(function()
        spawn(function() return nil, "lost?" end)
        sleep(1)
        body_ended = true
        return "fine"
    end)
    local err = t.fails("script", task:await())
    t.eq(err.message, "lost?")
    t.eq(body_ended, true)
end)

t.test("a failure that someone awaited is not reported twice", function()
    local task = spawn(function()
        local child = spawn(function() return nil, "known" end)
        sleep(1)
        local _, err = child:await()
        return err.message
    end)
    t.eq(task:await(), "known")
end)

t.test("a bug that nobody awaits cancels the parent at once and is raised there", function()
    local reached
    local task = spawn(function()
        spawn(function() sleep(1) error("boom", 0) end)
        sleep(10)
        reached = true
    end)
    local before = leat.now()
    local ok, raised = pcall(task.await, task)
    t.eq(ok, false)
    t.eq(raised, "boom")
    t.eq(reached, nil)
    t.near(leat.now() - before, 1)
end)

t.test("a cancel that was asked for is neither a failure nor a bug of the parent", function()
    local task = spawn(function()
        local child = spawn(sleep, 100)
        sleep(1)
        child:cancel("enough")
        return "fine"
    end)
    t.eq(task:await(), "fine")
end)

t.test("cancelling a task cancels what is below it, and waits for it", function()
    local log = {}
    local task = spawn(function()
        spawn(function()
            leat.finally(function() sleep(100) end, function() sleep(1) log[#log + 1] = "grandchild" end)
        end)
        leat.finally(function() sleep(100) end, function() log[#log + 1] = "child" end)
    end)
    sleep(1)
    local before = leat.now()
    task:cancel("enough")
    local err = t.fails("cancelled", task:await())
    t.eq(err.message, "enough")
    t.eq(log, { "child", "grandchild" })
    t.near(leat.now() - before, 1)
end)

t.test("a task that is cancelled before it began never begins", function()
    local began
    local task = spawn(function() began = true end)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(began, nil)
end)

t.test("a task cannot wait for itself, nor for a task above it", function()
    local outer
    outer = spawn(function() return pcall(function() outer:await() end) end)
    local _, message = outer:await()
    t.ok(message:find("would wait for itself", 1, true), message)
    outer = spawn(function() return spawn(function() return pcall(wait_for, 1, outer) end):await() end)
    _, message = outer:await()
    t.ok(message:find("would wait for itself", 1, true), message)
end)

-- ---- wait_for

t.test("wait_for: the values, or a timeout that says how long and where", function()
    local function f() sleep(1) return 1, nil, 3 end
    local function count(...) return select("#", ...), ... end
    local n, a, b, c = count(wait_for(2, f))
    t.eq({ n, a, b, c }, { 3, 1, nil, 3 })
    local before = leat.now()
    local err = t.fails("timeout", wait_for(0.5, f))
    t.near(leat.now() - before, 0.5)
    t.eq(err.limit, 0.5)
    t.ok(err.at:find("test_virtual_task.lua:%d+$"), err.at)
    t.eq(err.retryable, true)
end)

t.test("a limit and a permit that a function's return sets or takes say where it begins", function()
    local line = debug.getinfo(1, "l").currentline
    local _, err = spawn(function() return wait_for(1, sleep, 5) end):await()
    t.eq(err.at, "tests/lua/test_virtual_task.lua:" .. line + 1)
    local sem = semaphore(1)
    spawn(function() return sem:acquire() end):await()
    local waiting = spawn(sem.acquire, sem, 5)
    sleep(0)
    t.ok(tostring(leat.tasks()):find("since tests/lua/test_virtual_task.lua:" .. line + 4, 1, true))
    sem:release()
    waiting:await()
    sem:release()
end)

t.test("wait_for waits for the clean-up of what it cancelled", function()
    local cleaned
    local before = leat.now()
    t.fails("timeout", wait_for(1, leat.finally, function() sleep(10) end,
        function() sleep(2) cleaned = true end))
    t.eq(cleaned, true)
    t.near(leat.now() - before, 3)
end)

t.test("wait_for: a result of the same tick wins over the timeout", function()
    for _ = 1, 20 do
        t.eq(wait_for(1, function() sleep(1) return "result" end), "result")
        t.eq(wait_for(1, function() return wait_for(5, function() sleep(1) return "deep" end) end), "deep")
    end
end)

t.test("wait_for: a cancel from outside wins over a result of the same tick", function()
    local inner = spawn(function()
        return wait_for(2, function() sleep(1) return "result" end)
    end)
    sleep(1)
    inner:cancel()
    t.fails("cancelled", inner:await())
end)

t.test("wait_for: of two nested limits the smaller fires, whichever is outside", function()
    local before = leat.now()
    local err = t.fails("timeout", wait_for(1, function() return wait_for(5, sleep, 10) end))
    t.eq(err.limit, 1)
    t.near(leat.now() - before, 1)
    before = leat.now()
    err = t.fails("timeout", wait_for(5, function() return wait_for(1, sleep, 10) end))
    t.eq(err.limit, 1)
    t.near(leat.now() - before, 1)
end)

t.test("wait_for: the deadline is inherited by children, and read by leat.deadline", function()
    t.eq(leat.deadline(), nil)
    wait_for(5, function()
        t.near(leat.deadline() - leat.now(), 5)
        wait_for(50, function()
            t.near(leat.deadline() - leat.now(), 5)
            spawn(function() t.near(leat.deadline() - leat.now(), 5) end)
        end)
        wait_for(2, function() t.near(leat.deadline() - leat.now(), 2) end)
    end)
    t.eq(leat.deadline(), nil)
end)

t.test("wait_for on a task cancels it at the limit, and hands over its result before", function()
    local task = spawn(function() sleep(1) return "done" end)
    t.eq(wait_for(5, task), "done")
    t.eq(wait_for(5, task), "done")
    task = spawn(sleep, 10)
    t.fails("timeout", wait_for(1, task))
    t.eq(task:status(), "cancelled")
end)

t.test("wait_for: a bug inside is raised, a failure handed through", function()
    t.raises("boom", wait_for, 5, function() error("boom") end)
    local err = t.fails("script", wait_for(5, function() return nil, "no" end))
    t.eq(err.message, "no")
end)

-- ---- shield and finally

t.test("shield: the work ends although the task is cancelled, then the cancel comes", function()
    local value, after
    local task = spawn(function()
        value = leat.shield(5, function() sleep(2) return "saved" end)
        sleep(0)
        after = true
    end)
    sleep(1)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(value, "saved")
    t.eq(after, nil)
end)

t.test("shield: past its own limit the work is cancelled", function()
    local before = leat.now()
    t.fails("timeout", leat.shield(2, sleep, 10))
    t.near(leat.now() - before, 2)
end)

t.test("shield: it delays an outer limit by at most its own", function()
    local before = leat.now()
    t.fails("timeout", wait_for(1, function() leat.shield(3, sleep, 10) sleep(100) end))
    t.near(leat.now() - before, 3)
end)

t.test("shield: inside another shield the smaller limit holds", function()
    local before = leat.now()
    leat.shield(2, function() leat.shield(50, sleep, 100) end)
    t.near(leat.now() - before, 2)
end)

t.test("finally: the clean-up runs after a value, a failure, a bug and a cancel", function()
    local runs = 0
    local function clean() runs = runs + 1 end
    t.eq(leat.finally(function() return "v" end, clean), "v")
    t.fails("script", spawn(leat.finally, function() return nil, "f" end, clean):await())
    t.raises("bug", leat.finally, function() error("bug") end, clean)
    local task = spawn(leat.finally, function() sleep(100) end, clean)
    sleep(0)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(runs, 4)
end)

t.test("finally: the clean-up may wait under a cancel, for its grace and no longer", function()
    local log = {}
    local function run(grace)
        local task = spawn(leat.finally, function() sleep(100) end, function()
            sleep(3)
            log[#log + 1] = "cleaned"
        end, grace)
        sleep(0)
        local before = leat.now()
        task:cancel()
        local _, err = task:await()
        return leat.now() - before, err
    end
    t.near((run(5)), 3)
    t.eq(log, { "cleaned" })
    local took, err = run(1)
    t.near(took, 1)
    t.eq(log, { "cleaned" })
    t.eq(err.kind, "cancelled")
    t.eq(err.cleanup.kind, "timeout")
end)

t.test("finally: a failed clean-up never hides the first error", function()
    local err = t.fails("script", spawn(leat.finally, function()
        return nil, leat.error { message = "first" }
    end, function() return nil, "second" end):await())
    t.eq(err.message, "first")
    t.eq(err.cleanup.message, "second")
    t.ok(tostring(err):find("second", 1, true))
    t.fails("script", leat.finally(function() return "fine" end, function() return nil, "only" end))
    t.raises("clean bug", leat.finally, function() return "fine" end, function() error "clean bug" end)
end)

-- ---- cancel is level-triggered

t.test("a pcall that swallows a cancel meets it again at the next wait", function()
    local raised = 0
    local task = spawn(function()
        for _ = 1, 3 do
            local ok, err = pcall(sleep, 100)
            if not ok and err.kind == "cancelled" then
                raised = raised + 1
            end
        end
        return "gave in"
    end)
    sleep(1)
    task:cancel()
    t.eq(task:await(), "gave in")
    t.eq(raised, 3)
end)

t.test("a loop that swallows its cancel does not starve the others, and is abandoned", function()
    local sem = semaphore(1)
    local cleaned
    local task = spawn(function()
        sem:with(function()
            leat.finally(function()
                while true do
                    pcall(sleep, 1)
                end
            end, function() sleep(1) cleaned = true end)
        end)
    end)
    sleep(1)
    task:cancel()
    local turns = 0
    local other = spawn(function()
        for _ = 1, 100 do
            sleep(0)
            turns = turns + 1
        end
    end)
    other:await()
    t.eq(turns, 100)
    local err = t.fails("internal", task:await())
    t.eq(err.reason, "cancel_ignored")
    t.eq(cleaned, true)
    t.eq(sem.available, 1)
end)

t.test("an error value's text is fit to show, and a wrong kind is refused", function()
    t.eq(tostring(leat.error { kind = "io", message = "disk full" }), "io: disk full")
    t.raises("unknown kind 'oi'", leat.error, { kind = "oi" })
    t.raises("expected a table", leat.error, "x")
end)

t.test("tasks() says who waits for what, since when, and who holds it", function()
    local sem = semaphore(1)
    local holder = spawn(function() sem:acquire() sleep(50) sem:release() end)
    holder.name = "holder"
    local waiter = spawn(function() sem:acquire() sem:release() end)
    sleep(10)
    local text = tostring(leat.tasks())
    t.ok(text:find("holder", 1, true), text)
    t.ok(text:find("waiting in acquire", 1, true), text)
    t.ok(text:find("held by task " .. holder.id .. " since", 1, true), text)
    waiter:await()
end)

t.test("a task of one of leat's functions is named after it, and raises with the script's line", function()
    local task = spawn(sleep, 50)
    sleep(0)
    t.eq(task.name, "sleep")
    local text = tostring(leat.tasks())
    t.ok(text:find("task " .. task.id .. " (sleep): waiting in sleep (50.00 s left)", 1, true), text)
    t.eq(leat.tasks()[#leat.tasks()].at, nil)
    task:cancel()
    local ok, raised = pcall(gather, { spawn })
    t.eq(ok, false)
    t.ok(raised:find "^[^\n]*test_virtual_task.lua:%d+: spawn: the first argument", raised)
end)

t.test("reading a field of a task's result without await gives an error that says so", function()
    local task = spawn(function() return { body = "x" } end)
    t.raises("task: no field 'body' (name, id, await, cancel, status; task:await() returns", function()
        return task.body
    end)
    t.eq({ task:await().body, task.name ~= nil, task.id > 0 }, { "x", true, true })
end)

t.done()
