-- Random trees of tasks, on virtual time: every primitive inside every other, with failures, bugs and cancels
-- at random moments. Whatever happens, a scope ends after all that was started in it, every clean-up runs
-- once, every permit and item is where it belongs, no bug is lost, and the same seed does the same again.
--
--     LEAT_SEEDS=1000-9999 build/leat --virtual-time tests/lua/test_virtual_random.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"

-- One random program: `plan(seed)` runs it and returns a log of what it did.
local function plan(seed)
    local random = generator(seed)

    local log, problems = {}, {}
    local function note(...)
        log[#log + 1] = table.concat({ ("%.3f"):format(leat.now()), ... }, " ")
    end
    local function wrong(...)
        problems[#problems + 1] = table.concat({ ... }, " ")
    end

    local sems, holders = {}, {}
    for i = 1, 3 do
        sems[i], holders[i] = semaphore(i), 0
    end
    local q, put, got = leat.queue(2), {}, {}
    local e = leat.event()
    local tasks, ids = {}, 0
    local entered, cleaned = 0, 0
    local bugs = { escaped = 0, seen = 0, dropped = 0 }
    local steps = 0

    -- Scopes: how many bodies live below each.
    local function body(scope, depth, run)
        return function(...)
            for s in function(_, s) if s then return s.parent end return scope end do
                s.live = s.live + 1
            end
            local function leave(ok, ...)
                for s in function(_, s) if s then return s.parent end return scope end do
                    s.live = s.live - 1
                end
                if ok then
                    return ...
                end
                local raised = ...
                if type(raised) == "string" and raised:find "^bug" then
                    bugs.escaped = bugs.escaped + 1
                end
                error(raised, 0)
            end
            return leave(pcall(run, depth, scope, ...))
        end
    end
    local function scoped(scope, what, fn)
        local inner = { live = 0, parent = scope }
        local function done(ok, ...)
            if inner.live ~= 0 then
                wrong(what, "ended with", inner.live, "still running in it")
            end
            if ok then
                return ...
            end
            error((...), 0)
        end
        return done(pcall(fn, inner))
    end

    local act

    -- A gather with settle; counts itself if a cancel takes its results away.
    local function settled(list, o)
        o.settle = true
        local ok, r = pcall(gather, list, o)
        if not ok then
            bugs.dropped = bugs.dropped + 1
            error(r, 0)
        end
        return r
    end

    local function jobs(scope, depth)
        local list = {}
        for i = 1, random(4) do
            list[i] = body(scope, depth + 1, act)
        end
        return list
    end

    local function opts()
        local o = {}
        if random(3) == 1 then
            o.limit = random(3)
        end
        return o
    end

    -- Three items, as a list or by an iterator, which may wait for one.
    local function three()
        if random(2) == 1 then
            return { 1, 2, 3 }
        end
        local n, waits_at = 0, random(6)
        return function()
            n = n + 1
            if n == waits_at then
                sleep(1)
            end
            return n <= 3 and n or nil
        end
    end

    local acts = {
        function() sleep(random(6) - 1) end,
        function() sleep(random(10) / 3) end,
        function()
            local n = random(12)
            if n == 1 then
                return nil, "failed"
            elseif n == 2 then
                error(leat.error { kind = "io", message = "raised failure" })
            elseif n == 3 then
                error("bug " .. steps, 0)
            end
        end,
        function(depth, scope)
            return scoped(scope, "gather", function(inner)
                local o = opts()
                o.settle = random(3) == 1 or nil
                local r = o.settle and settled(jobs(inner, depth), o) or gather(jobs(inner, depth), o)
                if o.settle then
                    for i = 1, r and r.n or 0 do
                        local slot = r[i]
                        if not slot.ok and slot.err.kind == "raised" then
                            bugs.seen = bugs.seen + 1
                        end
                    end
                end
            end)
        end,
        function(depth, scope)
            return scoped(scope, "map", function(inner)
                leat.map(three(), body(inner, depth + 1, act), opts())
            end)
        end,
        function(depth, scope)
            return scoped(scope, "each", function(inner)
                leat.each(three(), body(inner, depth + 1, act), opts())
            end)
        end,
        function(depth, scope)
            return scoped(scope, "race", function(inner) return leat.race(jobs(inner, depth)) end)
        end,
        function(depth, scope)
            return scoped(scope, "group", function(inner)
                return leat.group(function(g)
                    for _ = 1, random(3) do
                        g:spawn(body(inner, depth + 1, act))
                    end
                    if random(3) == 1 then
                        sleep(random(3))
                        g:cancel()
                    end
                    return act(depth + 1, inner)
                end)
            end)
        end,
        function(depth, scope)
            local it = leat.as_completed(three(), body(scope, depth + 1, act), opts())
            local n = random(4)
            for _ in it do
                n = n - 1
                if n == 0 then
                    break
                end
            end
            if random(2) == 1 then
                it:close()
            end
        end,
        function(depth, scope)
            return scoped(scope, "wait_for", function(inner)
                return wait_for(random(8) / 2, body(inner, depth + 1, act))
            end)
        end,
        function(depth, scope)
            return scoped(scope, "shield", function(inner)
                return leat.shield(random(4), body(inner, depth + 1, act))
            end)
        end,
        function(depth, scope)
            entered = entered + 1
            local once = false
            return leat.finally(function() return act(depth + 1, scope) end, function()
                if once then
                    wrong("a clean-up ran twice")
                end
                once = true
                cleaned = cleaned + 1
                sleep(random(3) - 1)
            end)
        end,
        function(depth, scope)
            local i = random(3)
            -- With a limit: a child may want the permit that its parent holds.
            return wait_for(20, sems[i].with, sems[i], function()
                holders[i] = holders[i] + 1
                if holders[i] > i then
                    wrong("semaphore", i, "has", holders[i], "holders")
                end
                local function back(ok, ...)
                    holders[i] = holders[i] - 1
                    if ok then
                        return ...
                    end
                    error((...), 0)
                end
                return back(pcall(act, depth + 1, scope))
            end)
        end,
        function()
            local i = random(3)
            if sems[i]:acquire(random(3)) then
                pcall(sleep, random(2))
                sems[i]:release()
            end
        end,
        function()
            ids = ids + 1
            local id = ids
            if q:put(id, random(4)) then
                put[id] = true
            end
        end,
        function()
            local v = q:get(random(4))
            if v then
                if got[v] then
                    wrong("item", v, "came twice")
                end
                got[v] = true
            end
        end,
        function() e:wait(random(4)) end,
        function() e:set() sleep(0) e:clear() end,
        function(depth, scope)
            local task = spawn(body(scope, depth + 1, act))
            tasks[#tasks + 1] = task
            if random(2) == 1 then
                return task:await()
            end
        end,
        function()
            local victim = tasks[#tasks > 0 and random(#tasks) or 1]
            if victim then
                victim:cancel("at random")
            end
        end,
        function(depth, scope)
            local ok, raised = pcall(act, depth + 1, scope)
            if not ok and type(raised) == "string" and raised:find "^bug" then
                bugs.seen = bugs.seen + 1
            end
        end,
        function(depth, scope)
            local co = coroutine.wrap(function()
                local v, err = act(depth + 1, scope)
                coroutine.yield(1)
                sleep(random(2))
                return v, err
            end)
            co()
            return co()
        end,
    }

    function act(depth, scope)
        steps = steps + 1
        local last, err
        for _ = 1, random(3) do
            local choice = depth > 6 and random(2) or random(#acts)
            if steps > 600 then
                choice = 1
            end
            note(depth, choice)
            last, err = acts[choice](depth, scope)
            if last == nil and err ~= nil then
                return nil, err
            end
        end
        return last, err
    end

    local before = leat.stats()
    local root = { live = 0 }
    local main = spawn(body(root, 1, function()
        local list = {}
        for i = 1, 4 do
            list[i] = body(root, 1, act)
        end
        local ends = settled(list, {})
        for i = 1, ends.n do
            if not ends[i].ok and ends[i].err.kind == "raised" then
                bugs.seen = bugs.seen + 1
            end
        end
    end))
    tasks[1] = main
    local ok, value = pcall(main.await, main)
    note(tostring(ok), main:status())

    if not ok and not (type(value) == "string" and value:find "^bug") then
        wrong("raised:", tostring(value))
    end
    -- What settle has made a value of goes with the results that a cancel throws away.
    if bugs.escaped > 0 and bugs.seen == 0 and bugs.dropped == 0 and ok then
        wrong(bugs.escaped, "bugs escaped their tasks and nobody saw one")
    end
    if root.live ~= 0 then
        wrong(root.live, "bodies still run after the root has ended")
    end
    if cleaned ~= entered then
        wrong(entered, "clean-ups were due,", cleaned, "ran")
    end
    for i = 1, 3 do
        if sems[i].available ~= i or sems[i].waiting ~= 0 or holders[i] ~= 0 then
            wrong("semaphore", i, "has", sems[i].available, "permits,", sems[i].waiting, "waiting")
        end
    end
    while q.size > 0 do
        local v = q:get()
        if got[v] then
            wrong("item", v, "came twice")
        end
        got[v] = true
    end
    for id in pairs(put) do
        if not got[id] then
            wrong("item", id, "is lost")
        end
    end
    for id in pairs(got) do
        if not put[id] then
            wrong("item", id, "was never put")
        end
    end
    local after = leat.stats()
    if after.tasks ~= before.tasks or after.timers ~= before.timers then
        wrong(after.tasks - before.tasks, "tasks and", after.timers - before.timers, "timers left")
    end
    return log, problems
end

local first, last = (os.getenv "LEAT_SEEDS" or "1-300"):match "^(%d+)%-(%d+)$"
local step = 50

for from = tonumber(first), tonumber(last), step do
    local to = math.min(from + step - 1, tonumber(last))
    t.test(("random programs %d to %d keep the promises"):format(from, to), function()
        for seed = from, to do
            local _, problems = plan(seed)
            t.eq(problems, {}, "seed " .. seed)
        end
    end)
end

t.test("the same seed does the same again", function()
    for seed = tonumber(first), tonumber(first) + 20 do
        local began = leat.now()
        local function relative(log)
            local out = {}
            for i, line in ipairs(log) do
                local at, rest = line:match "^(%S+) (.*)"
                out[i] = ("%d %s"):format(math.floor((at - began) * 100 + 0.5), rest)
            end
            return out
        end
        collectgarbage "stop" -- nothing may depend on when it comes by
        local one = relative((plan(seed)))
        collectgarbage "restart"
        collectgarbage()
        began = leat.now()
        t.eq(relative((plan(seed))), one, "seed " .. seed)
    end
end)

t.done()
