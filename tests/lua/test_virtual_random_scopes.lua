-- Random programs that keep books of their own, on virtual time. test_virtual_random.lua looks at what is
-- left in the end; this one looks at each step: lines are served in order, no limit is overrun, a cancel
-- comes at every wait, results stand at their index, and a failed clean-up replaces nothing.
--
--     LEAT_SEEDS=1000-9999 build/leat --virtual-time tests/lua/test_virtual_random_scopes.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"
local current = require("leat.native.task").current

local function near(a, b)
    return a == b or a and b and math.abs(a - b) < 1e-6
end

local function least(a, b)
    return a and b and math.min(a, b) or a or b
end

-- One random program: what was found wrong in it, and how often it came by the things that matter.
local function plan(seed)
    local random = generator(seed)

    local problems, count, steps, ids = {}, {}, 0, 0
    local function wrong(...)
        problems[#problems + 1] = table.concat({ ("%.3f:"):format(leat.now()), ... }, " ")
    end
    local function came(what)
        count[what] = (count[what] or 0) + 1
    end
    local function id()
        ids = ids + 1
        return ids
    end

    -- Where code runs: `deadline`, `shield` (when the innermost shield ends) and `life`, which knows whether
    -- a cancel has come up in this task or under this shield.
    local function within(ctx, deadline, shield)
        return { deadline = deadline, shield = shield or ctx.shield, life = {} }
    end

    local function met(ctx, err)
        if type(err) == "table" and err.kind == "cancelled" then
            ctx.life.cancelled = true
        end
        error(err, 0)
    end

    -- A wait that goes through the ready queue in any case.
    local function rest(ctx, s)
        local deadline = leat.deadline()
        if not near(deadline, ctx.deadline) then
            wrong("the deadline is", tostring(deadline), "and should be", tostring(ctx.deadline))
        end
        local before = leat.now()
        local ok, err = pcall(sleep, s)
        if not ok then
            met(ctx, err)
        elseif not near(leat.now(), before + s) then
            wrong("slept", leat.now() - before, "for", s)
        elseif ctx.life.cancelled then
            wrong "a wait after the cancel went well"
        elseif ctx.deadline and leat.now() > ctx.deadline + 1e-6 then
            wrong("went on", leat.now() - ctx.deadline, "after its limit")
        end
    end

    -- A line: whoever is served has nobody before him who still waits. `done` is called at once after it.
    local function line()
        local waiting, last = {}, 0
        return function(ctx, done, fn, ...)
            last = last + 1
            local ticket = last
            waiting[ticket] = current()
            local function served(ok, got, ...)
                waiting[ticket] = nil
                if not ok then
                    met(ctx, got)
                elseif got ~= nil then
                    for other, task in pairs(waiting) do
                        if other < ticket and task:status() == "waiting" then
                            wrong("number", ticket, "was served before", other)
                        end
                    end
                    done(got)
                end
                return got, ...
            end
            return served(pcall(fn, ...))
        end
    end

    local sems, held, limits, lines = {}, { 0, 0 }, { 1, 2 }, {}
    for i = 1, 2 do
        sems[i], lines[i] = semaphore(i), line()
    end
    local q, putters, getters, model = leat.queue(2), line(), line(), {}
    local tasks = {}
    local failures = {} -- of any function: one that did well may fail by a child that nobody awaited
    local act

    -- A function that brings something of its own, or fails: what it was is noted in `brought`.
    local function job(ctx, depth, brought, i)
        return function()
            local own = within(ctx, ctx.deadline)
            local entry = { began = leat.now() }
            brought[i] = entry
            local ok, value, err = pcall(act, depth + 1, own)
            entry.over = true
            if not ok then
                failures[value] = true
                error(value, 0)
            elseif value == nil and err ~= nil then
                failures[err] = true
                return nil, err
            end
            entry.value = id()
            return entry.value
        end
    end

    local function all_over(what, brought)
        for _, entry in pairs(brought) do
            if not entry.over then
                wrong(what, "ended before all that it had started")
            end
        end
    end

    local function check_results(what, brought, n, r, err)
        all_over(what, brought)
        if r == nil then
            came(what .. " failed")
            for i = 1, n do
                local entry = brought[i]
                if err.partial[i] ~= nil and err.partial[i] ~= (entry or {}).value then
                    wrong(what, "has in err.partial what", i, "did not bring")
                end
            end
            -- One of them may have been cancelled; a failure with an err.partial of its own is the cause.
            if err.kind ~= "cancelled" and not failures[err] and not failures[err.cause] then
                wrong(what, "failed with what none of its functions brought:", tostring(err))
            end
            return
        end
        came(what .. " done")
        for i = 1, n do
            if r[i] ~= brought[i].value then
                wrong(what, "has at", i, tostring(r[i]), "instead of", tostring(brought[i].value))
            end
        end
    end

    -- Calls fn(...); the bug or the cancel that it raises is raised after check().
    local function checked(ctx, check, fn, ...)
        local function after(ok, ...)
            check()
            if not ok then
                met(ctx, (...))
            end
            return ...
        end
        return after(pcall(fn, ...))
    end

    local function counter(n, pause)
        local i = 0
        return function()
            if i < n then
                i = i + 1
                sleep(pause)
                return i
            end
        end
    end

    local acts = {
        function(_, ctx) rest(ctx, random(4) - 1) end,
        function(_, ctx) rest(ctx, random(6) / 3) end,
        function(_, ctx)
            local n = random(10)
            rest(ctx, 0)
            if n == 1 then
                return nil, leat.error { message = "failure " .. id() }
            elseif n == 2 then
                error(leat.error { message = "raised " .. id() })
            elseif n == 3 then
                error("bug " .. id(), 0)
            end
        end,
        function(depth, ctx) -- gather of functions and tasks
            local brought, list, n = {}, {}, random(4)
            for i = 1, n do
                list[i] = job(ctx, depth, brought, i)
                if random(3) == 1 then
                    list[i] = spawn(list[i])
                end
            end
            local r, err = checked(ctx, function() all_over("gather", brought) end, gather, list,
                random(3) == 1 and { limit = random(2) } or nil)
            check_results("gather", brought, n, r, err)
        end,
        function(depth, ctx) -- map, by a list or an iterator that waits
            local brought, n = {}, random(4)
            local items = {}
            for i = 1, n do
                items[i] = i
            end
            local r, err = checked(ctx, function() all_over("map", brought) end, leat.map,
                random(2) == 1 and items or counter(n, random(3) - 1),
                function(i) return job(ctx, depth, brought, i)() end, { limit = random(3) })
            check_results("map", brought, n, r, err)
        end,
        function(depth, ctx)
            local brought, list, n = {}, {}, random(3)
            for i = 1, n do
                list[i] = job(ctx, depth, brought, i)
            end
            local v, err = checked(ctx, function() all_over("race", brought) end, leat.race, list)
            local won = false
            for i = 1, n do
                won = won or brought[i].value == v
                if v == nil and err.causes[i] == nil then
                    wrong("race has no cause for", i)
                end
            end
            if v ~= nil and not won then
                wrong "race was won by nobody"
            end
        end,
        function(depth, ctx)
            local brought, n = {}, random(4)
            local c = checked(ctx, function() all_over("each", brought) end, leat.each,
                counter(n, random(2) - 1), function(i) return job(ctx, depth, brought, i)() end,
                { limit = random(3) })
            if c.ok + c.failed ~= n then
                wrong("each counted", c.ok, "and", c.failed, "of", n)
            end
        end,
        function(depth, ctx) -- a group whose members start more, whatever has happened
            local brought = {}
            checked(ctx, function() all_over("group", brought) end, leat.group, function(g)
                for i = 1, random(3) do
                    g:spawn(function()
                        return leat.finally(job(ctx, depth, brought, i), function()
                            if random(2) == 1 then
                                g:spawn(job(ctx, depth, brought, i + 3))
                            end
                        end)
                    end)
                end
                rest(within(ctx, ctx.deadline), random(3))
            end)
        end,
        function(depth, ctx) -- an as_completed that two tasks read, and a third may close
            local brought, seen, n = {}, {}, random(5)
            local it = leat.as_completed(counter(n, random(2) - 1), function(i)
                return job(ctx, depth, brought, i)()
            end, { limit = random(3) })
            local function read()
                for i, value, err in it do
                    if seen[i] or value ~= brought[i].value and (err or {}).kind ~= "cancelled"
                        and not failures[err] then
                        wrong("as_completed gave", i, "wrong or twice")
                    end
                    seen[i] = true
                end
            end
            local list = { read, read }
            if random(3) == 1 then
                list[3] = function()
                    rest(within(ctx, ctx.deadline), random(3) - 1)
                    it:close()
                    came "closed"
                    for _, entry in pairs(brought) do
                        if not entry.over then
                            wrong "close came before all was over"
                        end
                    end
                end
            end
            checked(ctx, function() all_over("as_completed", brought) end, leat.finally,
                function() return gather(list) end, function() it:close() end, 1e6)
        end,
        function(_, ctx) -- merged sources come whole and in order, to one reader or two
            local sources, at = {}, {}
            local most = random(12)
            for i = 1, random(4) do
                sources[i], at[i] = counter(random(5), (random(3) - 1) / 2), 0
            end
            local m = leat.merge(sources)
            local function read()
                for item, key in m do
                    if item ~= at[key] + 1 then
                        wrong("merge gave", item, "after", at[key])
                    end
                    at[key] = item
                    most = most - 1
                    if most == 0 then
                        return m:close()
                    end
                end
            end
            checked(ctx, function() end, leat.finally, function() return gather { read, read } end,
                function() m:close() end)
        end,
        function(depth, ctx) -- a limit, on a function or a task
            local s = random(8) / 2
            local brought = {}
            local v, err
            if random(3) == 1 then
                local task = spawn(job(ctx, depth, brought, 1))
                v, err = checked(ctx, function() all_over("wait_for", brought) end, wait_for, s, task)
            else
                local own = within(ctx, least(ctx.deadline, leat.now() + s))
                v, err = checked(ctx, function() all_over("wait_for", brought) end, wait_for, s,
                    job(own, depth, brought, 1))
            end
            if v == nil and err ~= nil and err.kind == "timeout" and err.limit == s then
                came "timeout"
            elseif v ~= (brought[1] or {}).value and (err or {}).kind ~= "cancelled"
                and not failures[err] then
                wrong("wait_for gave", tostring(v), tostring(err))
            end
        end,
        function(depth, ctx) -- a shield
            local s = random(4)
            local ends = least(ctx.shield, leat.now() + s)
            local brought = {}
            checked(ctx, function() all_over("shield", brought) end, leat.shield, s,
                job(within(ctx, ends, ends), depth, brought, 1))
            if leat.now() > ends + 1e-6 and not brought[1].over then
                wrong("shield lasted", leat.now() - ends, "too long")
            end
        end,
        function(depth, ctx) -- a clean-up that may fail
            local way, grace, runs = random(3), random(5), 0
            local failure = leat.error { message = "clean-up " .. id() }
            local own
            local ok, v, err = pcall(leat.finally, function()
                local value, e = act(depth + 1, ctx)
                own = e or true
                return value or e == nil and true or nil, e
            end, function()
                runs = runs + 1
                local ends = least(ctx.shield, leat.now() + grace)
                rest(within(ctx, ends, ends), random(3) - 1)
                if way == 1 then
                    return nil, failure
                elseif way == 2 then
                    error(failure)
                end
            end, grace)
            if runs ~= 1 then
                wrong("a clean-up ran", runs, "times")
            elseif ok and type(own) == "table" and not rawequal(err, own) then
                wrong "a failed clean-up replaced the failure"
            elseif ok and own == true and way < 3 and not (v == nil and err) then
                wrong "a failed clean-up was not told"
            end
            local first = ok and own or v
            if way < 3 and type(first) == "table" then
                came "failed clean-up"
                if first.cleanup == nil then
                    wrong("the failed clean-up is not in the error:", tostring(first))
                end
            end
            if not ok then
                met(ctx, v)
            end
            return v, err
        end,
        function(depth, ctx)
            local i = random(2)
            local s = sems[i]
            if not lines[i](ctx, function() held[i] = held[i] + 1 end, s.acquire, s, random(4)) then
                return
            end
            if held[i] > math.max(limits[i], 2) then
                wrong("semaphore", i, "has", held[i], "holders")
            end
            local ok, v, err = pcall(act, depth + 1, ctx)
            held[i] = held[i] - 1
            s:release()
            if not ok then
                error(v, 0)
            end
            return v, err
        end,
        function()
            local i = random(2)
            limits[i] = random(3) - 1
            sems[i]:resize(limits[i])
        end,
        function(_, ctx)
            local item = id()
            putters(ctx, function() model[#model + 1] = item end, q.put, q, item, random(5) - 1)
        end,
        function(_, ctx)
            getters(ctx, function(item)
                if item ~= table.remove(model, 1) then
                    wrong("the queue gave", item, "out of order")
                end
                came "item"
            end, q.get, q, random(5) - 1)
        end,
        function(depth, ctx)
            local task = spawn(job(ctx, depth, {}, 1))
            tasks[#tasks + 1] = task
            if random(2) == 1 then
                local a, b = checked(ctx, function() end, task.await, task)
                local c, d = checked(ctx, function() end, task.await, task)
                if a ~= c or not rawequal(b, d) and (b or {}).kind ~= "cancelled" then
                    wrong "an await said something else the second time"
                end
                return a, b
            end
        end,
        function(_, ctx) -- awaits another's task, within a limit: they may wait in a circle
            local task = tasks[#tasks > 0 and random(#tasks) or 1]
            if task then
                local ok, v, err = pcall(wait_for, 5, function() return task:await() end)
                if not ok and not tostring(v):find("would wait for itself", 1, true) then
                    met(ctx, v)
                end
                return ok and v or nil, ok and err or nil
            end
        end,
        function()
            local victim = tasks[#tasks > 0 and random(#tasks) or 1]
            if victim then
                victim:cancel("at random")
            end
        end,
        function(depth, ctx)
            pcall(act, depth + 1, ctx)
        end,
        function(depth, ctx) -- generators, one of which is left unfinished
            local function maker()
                return coroutine.wrap(function()
                    act(depth + 1, ctx)
                    coroutine.yield(1)
                    act(depth + 1, ctx)
                    return 2
                end)
            end
            local a, b = maker(), maker()
            a()
            b()
            a()
        end,
        function(_, ctx) -- waits where there can be none
            local refused
            pcall(table.sort, { 2, 1 }, function()
                coroutine.wrap(function()
                    local ok, err = pcall(random(2) == 1 and gather or leat.race, {
                        function() rest(within(ctx, ctx.deadline), 1) end,
                    })
                    refused = not ok and tostring(err):find("cannot wait inside sort", 1, true)
                end)()
                return false
            end)
            if not refused then
                wrong "a wait in a sort was not refused"
            end
            rest(ctx, 2)
        end,
    }

    function act(depth, ctx)
        steps = steps + 1
        local last, err
        for _ = 1, random(3) do
            local choice = depth > 6 and random(2) or random(#acts)
            if steps > 500 then
                choice = 1
            end
            last, err = acts[choice](depth, ctx)
            if last == nil and err ~= nil then
                return nil, err
            end
        end
        return last, err
    end

    local before = leat.stats()
    local main = spawn(function()
        local list = {}
        for i = 1, 4 do
            list[i] = job({ life = {} }, 1, {}, 1)
        end
        gather(list, { settle = true })
    end)
    tasks[1] = main
    local ok, value = pcall(main.await, main)
    local bug = type(value) == "string" and (value:find "^bug" or value:find "would wait for itself")
    if not ok and not bug then
        wrong("raised:", tostring(value))
    end
    for i = 1, 2 do
        sems[i]:resize(i)
        if sems[i].available ~= i or sems[i].waiting ~= 0 then
            wrong("semaphore", i, "has", sems[i].available, "permits,", sems[i].waiting, "waiting")
        end
    end
    for _, item in ipairs(model) do
        if q:try_get() ~= item then
            wrong("item", item, "is lost")
        end
    end
    local after = leat.stats()
    if q.size ~= 0 or after.tasks ~= before.tasks or after.timers ~= before.timers then
        wrong(q.size, "items", after.tasks - before.tasks, "tasks", after.timers - before.timers, "timers")
    end
    return problems, count
end

local first, last = (os.getenv "LEAT_SEEDS" or "1-300"):match "^(%d+)%-(%d+)$"
local step, total = 50, {}

for from = tonumber(first), tonumber(last), step do
    local to = math.min(from + step - 1, tonumber(last))
    t.test(("random programs %d to %d keep their books"):format(from, to), function()
        for seed = from, to do
            local problems, count = plan(seed)
            t.eq(problems, {}, "seed " .. seed)
            for what, n in pairs(count) do
                total[what] = (total[what] or 0) + n
            end
        end
    end)
end

t.test("the random programs reach everything that they check", function()
    for _, what in ipairs { "gather done", "gather failed", "map failed", "timeout", "failed clean-up",
        "item", "closed" } do
        t.ok((total[what] or 0) >= 20, what .. ": " .. (total[what] or 0))
    end
end)

t.done()
