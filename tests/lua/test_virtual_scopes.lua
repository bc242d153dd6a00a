-- Scopes at their edges, on virtual time: large ones that are cancelled, ones that are closed while others
-- read them, what is started in one that ends, and waits where nothing can wait.
local t = require "harness"
local leat = require "leat"

local function took(fn, ...)
    local before = leat.now()
    local function timed(...) return leat.now() - before, ... end
    return timed(pcall(fn, ...))
end

-- ---- large ones

t.test("a gather, map or group of 3,000 ends with its cancel, or its limit, like a small one", function()
    local jobs = {}
    for i = 1, 3000 do
        jobs[i] = function() sleep(100) end
    end
    local ways = {
        gather = function() return gather(jobs) end,
        map = function() return leat.map(jobs, function(job) return job() end, { limit = 1e6 }) end,
        each = function() return leat.each(jobs, function(job) return job() end, { limit = 1e6 }) end,
        race = function() return leat.race(jobs) end,
        group = function()
            return leat.group(function(g)
                for i = 1, #jobs do
                    g:spawn(jobs[i])
                end
            end)
        end,
        merge = function() return leat.merge(jobs)() end,
        as_completed = function()
            local it = leat.as_completed(jobs, function(job) return job() end, { limit = 1e6 })
            return leat.finally(it, function() it:close() end)
        end,
    }
    for way, fn in pairs(ways) do
        local v, err = wait_for(1, fn)
        t.eq(t.fails("timeout", v, err).limit, 1, way)
        local task = spawn(fn)
        sleep(1)
        task:cancel("enough")
        v, err = task:await()
        t.eq(t.fails("cancelled", v, err).message, "enough", way)
    end
end)

t.test("a gather nested 20,000 deep ends with its limit, and with the failure at its bottom", function()
    local function nest(depth, leaf)
        if depth == 0 then
            return leaf()
        end
        return gather { function() return nest(depth - 1, leaf) end }
    end
    t.fails("timeout", wait_for(1, nest, 20000, function() sleep(100) end))
    t.fails("io", nest(20000, function() return nil, leat.error { kind = "io" } end))
end)

t.test("a bug that 20,000 clean-ups share leaves none of them out, and the first one is raised", function()
    local cleaned = 0
    local ok, raised = pcall(function()
        spawn(function()
            for _ = 1, 20000 do
                spawn(leat.finally, function() sleep(100) end, function()
                    cleaned = cleaned + 1
                    error("the same bug", 0)
                end)
            end
            sleep(1)
            error("the first", 0)
        end):await()
    end)
    t.eq(ok, false)
    t.eq(raised, "the first")
    t.eq(cleaned, 20000)
end)

-- ---- closed, and read by several

t.test("close waits for every clean-up, whoever reads the as_completed meanwhile", function()
    for _, reader_first in ipairs { true, false } do
        local e, cleaned, found = leat.event(), false, nil
        local it = leat.as_completed({ "quick", "slow" }, function(which)
            if which == "quick" then
                e:wait()
                return which
            end
            leat.finally(function() sleep(100) end, function()
                sleep(2)
                cleaned = true
            end)
        end)
        local function close()
            return spawn(function()
                e:wait()
                it:close()
                found = cleaned
            end)
        end
        local closer = not reader_first and close()
        local reader = spawn(function() return it() end)
        sleep(1)
        closer = closer or close()
        sleep(0)
        e:set()
        closer:await()
        t.eq(found, true)
        reader:await()
        t.eq(it(), nil)
    end
end)

t.test("close waits as long where another task has closed it just before, or a bug has", function()
    for _, how in ipairs { "close", "bug" } do
        local cleaned = 0
        local function job(i)
            leat.finally(function() sleep(i == 1 and how == "bug" and 1 or 100) end, function()
                sleep(2)
                cleaned = cleaned + 1
            end)
            if i == 1 then
                error("the bug", 0)
            end
        end
        for _, it in ipairs {
            leat.as_completed({ 1, 2 }, job),
            leat.merge({ 1, 2 }, function(i) return function() job(i) end end),
        } do
            cleaned = 0
            local reader = spawn(function() return pcall(it) end)
            local first = spawn(function()
                sleep(how == "bug" and 1e6 or 3)
                it:close()
            end)
            sleep(4)
            it:close()
            t.eq(cleaned, 2)
            first:cancel()
            reader:await()
        end
    end
end)

t.test("two tasks share an as_completed, and each result goes to one of them", function()
    local it = leat.as_completed({ 1, 2, 3, 4, 5, 6 }, function(s) sleep(math.ceil(s / 2)) return s end)
    local seen, ends = {}, 0
    local function read()
        for _, value in it do
            seen[value] = (seen[value] or 0) + 1
        end
        ends = ends + 1
    end
    gather { read, read, read }
    t.eq(seen, { 1, 1, 1, 1, 1, 1 })
    t.eq(ends, 3)
end)

t.test("a reader of an as_completed that is cancelled with a result at hand passes it on", function()
    local e, got = leat.event(), {}
    local it = leat.as_completed({ 1 }, function(v) e:wait() return v end)
    local function read(name)
        return spawn(function()
            local _, value = it()
            got[name] = value
        end)
    end
    local first = read "first"
    sleep(0)
    local second = read "second"
    sleep(1)
    e:set()
    sleep(0)
    first:cancel()
    second:await()
    t.eq(got, { second = 1 })
end)

t.test("two tasks share a merge, and a merge that is closed ends the loops of both", function()
    local function count(n, pause)
        local i = 0
        return function()
            if i < n then
                sleep(pause)
                i = i + 1
                return i
            end
        end
    end
    local m = leat.merge { a = count(5, 1), b = count(5, 1), c = count(5, 1.5) }
    local items, ends = 0, 0
    local function read()
        for _ in m do
            items = items + 1
        end
        ends = ends + 1
    end
    gather { read, read }
    t.eq({ items, ends }, { 15, 2 })

    m = leat.merge { a = count(1000, 1), b = function() sleep(1e6) end }
    items, ends = 0, 0
    local readers = { spawn(read), spawn(read) }
    sleep(3.5)
    m:close()
    t.eq(t.took(gather, readers), 0)
    t.eq({ items, ends }, { 3, 2 })
end)

t.test("sources may have keys of any type", function()
    local function one() local given return function() if not given then given = true return 1 end end end
    local sources = { [true] = one(), [false] = one(), name = one(), [{}] = one(), [{}] = one(), one() }
    local keys = {}
    for _, key in leat.merge(sources) do
        keys[key] = true
    end
    for key in pairs(sources) do
        t.ok(keys[key], key)
    end
end)

-- ---- started where all is ending

t.test("a task that a member starts in a group that has failed never begins", function()
    local began
    local s, _, _, err = took(leat.group, function(g)
        g:spawn(function() sleep(1) return nil, "failed" end)
        g:spawn(leat.finally, function() sleep(100) end, function()
            t.fails("cancelled", g:spawn(function() began = true sleep(1000) end):await())
        end)
        sleep(50)
    end)
    t.eq(t.fails("script", nil, err).message, "failed")
    t.eq(s, 1)
    t.eq(began, nil)
end)

t.test("what an iterator gives out after the failure of its map never begins", function()
    local began = {}
    local s, _, r, err = took(leat.map, function()
        pcall(sleep, 2) -- swallows the cancel
        return #began < 5 and "item" or nil
    end, function(_, i)
        began[#began + 1] = i
        sleep(1)
        return nil, "failed"
    end)
    t.fails("script", r, err)
    t.eq(began, { 1 })
    t.eq(s, 3)
end)

t.test("a task whose children were cancelled says so, whatever nils its body returned", function()
    for _, results in ipairs { { n = 0 }, { n = 1 }, { n = 2 }, { n = 3 } } do
        local task = spawn(function()
            spawn(sleep, 100)
            return unpack(results, 1, results.n)
        end)
        sleep(1)
        task:cancel("its child, too")
        local v, err = task:await()
        t.eq(t.fails("cancelled", v, err).message, "its child, too")
    end
end)

-- ---- clean-ups that fail

t.test("a limit that has passed says that the clean-up failed, too", function()
    local v, err = wait_for(1, leat.finally, function() sleep(9) end, function() return nil, "stuck file" end)
    t.eq(t.fails("timeout", v, err).cleanup.message, "stuck file")
    t.ok(tostring(err):find("its clean-up failed too: script: stuck file", 1, true))
end)

t.test("the first failure of a gather says that the clean-up of another one failed", function()
    local r, err = gather {
        function() sleep(1) return nil, "first" end,
        function() leat.finally(function() sleep(10) end, function() return nil, "unclean" end) end,
    }
    t.eq(t.fails("script", r, err).message, "first")
    t.eq(err.cleanup.message, "unclean")
end)

-- ---- where nothing can wait

-- Runs fn in a table.sort comparator, within a coroutine or not; what came out of the sort.
local function in_sort(within, fn)
    return pcall(table.sort, { 2, 1 }, function()
        if within then
            coroutine.wrap(fn)()
        else
            fn()
        end
        return false
    end)
end

t.test("a wait that cannot be is refused, and nothing of it is left to end another wait", function()
    for _, within in ipairs { true, false } do
        for _, fn in ipairs {
            function() gather { function() sleep(1) end } end,
            function() wait_for(1, sleep, 2) end,
            function() leat.as_completed({ 1 }, sleep)() end,
            function() spawn(sleep, 1):await() end,
            function() leat.queue():get(1) end,
        } do
            local ok, err = in_sort(within, fn)
            t.eq(ok, false)
            t.ok(tostring(err):find("cannot wait inside sort", 1, true), tostring(err))
            local before = leat.now()
            sleep(100)
            t.eq(leat.now() - before, 100)
        end
    end
end)

t.test("a shield that cannot be waited for leaves nothing behind that no cancel reaches", function()
    t.eq(t.took(function()
        spawn(in_sort, true, function() leat.shield(1, sleep, 1000) end):await()
    end), 0)
end)

t.test("a clean-up runs where nothing can wait", function()
    for _, within in ipairs { true, false } do
        local cleaned, sem = 0, semaphore(1)
        in_sort(within, function()
            leat.finally(function() sem:with(sleep, 1) end, function() cleaned = cleaned + 1 end)
        end)
        t.eq(cleaned, 1)
        t.eq(sem.available, 1)
        local ok, err = in_sort(within, function()
            leat.finally(function() end, function() sleep(1) end)
        end)
        t.eq(ok, false)
        t.ok(tostring(err):find("sleep: cannot wait inside sort", 1, true), tostring(err))
    end
end)

t.test("the refusal of a wait names what it stands in, not the pcall between", function()
    local err
    in_sort(false, function() err = select(2, pcall(sleep, 1)) end)
    t.ok(tostring(err):find("sleep: cannot wait inside sort", 1, true), tostring(err))
    err = nil
    in_sort(true, function() err = select(2, pcall(sleep, 1)) end)
    t.ok(tostring(err):find("sleep: cannot wait inside sort", 1, true), tostring(err))
end)

t.test("a wait in a message handler says that it stands in one", function()
    local said = {}
    local function handle(err)
        said[#said + 1] = select(2, pcall(sleep, 1))
        return err
    end
    xpcall(function() error "raised" end, handle)
    xpcall(function() assert(false) end, handle)
    xpcall(function() return nil .. "" end, handle)
    local task = spawn(xpcall, function() sleep(100) end, handle)
    sleep(1)
    task:cancel()
    task:await()
    t.eq(#said, 4)
    for _, err in ipairs(said) do
        t.ok(tostring(err):find("sleep: cannot wait inside a message handler of xpcall", 1, true), err)
    end
end)

t.test("permits taken in generators that end in another order are not mixed up", function()
    local a, b = semaphore(1), semaphore(1)
    local task = spawn(function()
        local hold = coroutine.wrap(function() a:with(function() coroutine.yield() end) end)
        hold()
        b:with(function()
            hold() -- a is free again
            while true do
                pcall(sleep, 1)
            end
        end)
    end)
    sleep(1)
    t.eq(a:try_acquire(), true)
    task:cancel()
    t.fails("internal", task:await())
    t.eq({ a.available, b.available }, { 0, 1 })
    a:release()
end)

t.done()
