-- Files of JSON lines, and journals: what is done is done once, whatever happens.
local leat = require "leat"
local t = require "harness"

local path = os.tmpname()

local function content()
    local f = assert(io.open(path, "rb"))
    local text = f:read "*a"
    f:close()
    return text
end

local function contains(text, part)
    t.ok(text:find(part, 1, true), ("'%s' is not in '%s'"):format(part, text))
end

local function fill(text)
    local f = assert(io.open(path, "wb"))
    f:write(text)
    f:close()
end

local function test(name, fn)
    t.test(name, function()
        os.remove(path)
        fn()
        os.remove(path)
    end)
end

local function squares()
    local called = {}
    return function(x)
        called[#called + 1] = x
        return x * x
    end, called
end

-- ---- JSON lines

test("jsonl: blank lines, CRLF, a byte order mark, no last line end", function()
    fill "\239\187\191{\"a\":1}\r\n\n  \r\n[2]\nnull\n\"last\""
    local got, lines = {}, {}
    for value, line in assert(leat.jsonl.read(path)) do
        got[#got + 1], lines[#lines + 1] = value, line
    end
    t.eq(got, { { a = 1 }, { 2 }, leat.json.null, "last" })
    t.eq(lines, { 1, 4, 5, 6 })
end)

test("jsonl: a bad line says the file, the line and what is wrong; the rest can go on", function()
    fill '{"a":1}\n{"a":}\n\255\n{"a":3}\n'
    local seen, sum = {}, 0
    for row in assert(leat.jsonl.read(path, { on_error = function(err, text)
        seen[#seen + 1] = { err.kind, err.line, text }
    end })) do
        sum = sum + row.a
    end
    t.eq(sum, 4)
    t.eq(seen, { { "invalid", 2, '{"a":}' }, { "invalid", 3, "\255" } })
    local ok, err = pcall(function()
        for _ in leat.jsonl.read(path) do end
    end)
    t.eq(ok, false)
    contains(err.message, path .. ":2: ")
end)

test("jsonl: a line over the limit is told and not held; what follows is read", function()
    fill('"' .. ("x"):rep(300000) .. '"\n"short"\n"' .. ("y"):rep(70000) .. '"')
    local errs, got = {}, {}
    for value in leat.jsonl.read(path, { max_line = 65536, on_error = function(err)
        errs[#errs + 1] = err.line
    end }) do
        got[#got + 1] = value
    end
    t.eq(got, { "short" })
    t.eq(errs, { 1, 3 })
end)

test("jsonl: lines that meet the edges of what is read at once are whole", function()
    local parts = {}
    for i = 1, 300 do
        parts[i] = '"' .. ("z"):rep(i * 7 % 1000) .. i .. '"\n'
    end
    fill(table.concat(parts))
    local i = 0
    for value, line in leat.jsonl.read(path) do
        i = i + 1
        t.eq(line, i)
        t.eq('"' .. value .. '"\n', parts[i])
    end
    t.eq(i, 300)
end)

test("jsonl: many tasks write whole lines; one that is cancelled tears none", function()
    local out = assert(leat.jsonl.writer(path, { sync = true }))
    leat.group(function(g)
        for i = 1, 50 do
            g:spawn(function()
                out:write { i = i, text = ("t"):rep(5000) }
            end)
        end
        sleep(0)
        g:cancel()
    end)
    assert(out:write { i = 51 })
    assert(out:close())
    local last
    for row in leat.jsonl.read(path) do
        last = row.i
    end
    t.eq(last, 51)
end)

test("jsonl: a full disk is an error of the write, and of all that follow", function()
    local out = assert(leat.jsonl.writer("/dev/full", { sync = true }))
    for _ = 1, 2 do
        local ok, err = out:write { 1 }
        t.eq(ok, nil)
        t.eq(err.reason, "disk_full")
    end
    t.eq(out:close(), nil)
end)

test("jsonl: what cannot be opened, and wrong use", function()
    local none, err = leat.jsonl.read "/nowhere/at/all"
    t.eq(none, nil)
    t.eq(err.kind, "io")
    t.raises("expected a path", function() leat.jsonl.read(1) end)
    t.raises("did you mean 'sync'", function() leat.jsonl.writer(path, { sinc = true }) end)
end)

-- ---- journals

test("journal: a second run calls nothing that has succeeded, and gives the same results", function()
    local fn, called = squares()
    local first = assert(leat.map({ 1, 2, 3, 2 }, fn, { journal = path }))
    t.eq(#called, 4)
    local second = assert(leat.map({ 1, 2, 3, 2 }, fn, { journal = path }))
    t.eq(#called, 4)
    t.eq(second, first)
end)

test("journal: only what failed is done again", function()
    local fails = true
    local called = {}
    local function fn(x)
        called[#called + 1] = x
        if x == 2 and fails then
            return nil, "not yet"
        end
        return x
    end
    local counts = assert(leat.each({ 1, 2, 3 }, fn, { journal = path }))
    t.eq({ counts.ok, counts.failed, counts.resumed }, { 2, 1, 0 })
    fails = false
    counts = assert(leat.each({ 1, 2, 3 }, fn, { journal = path }))
    t.eq({ counts.ok, counts.failed, counts.resumed }, { 1, 0, 2 })
    t.eq(called, { 1, 2, 3, 2 })
end)

test("journal: an item is told by its content, wherever it stands, or by its key", function()
    local fn, called = squares()
    assert(leat.map({ 1, 2, 3 }, fn, { journal = path }))
    local got = assert(leat.map({ 9, 3, 1 }, fn, { journal = path }))
    t.eq({ got[1], got[2], got[3] }, { 81, 9, 1 })
    t.eq(called, { 1, 2, 3, 9 })
    os.remove(path)
    local by_id = { path = path, key = function(item) return item.id end }
    local calls = 0
    local function count(item) calls = calls + 1 return item.id end
    assert(leat.map({ { id = "a", n = 1 }, { id = "b" } }, count, { journal = by_id }))
    assert(leat.map({ { id = "a", n = 2 }, { id = "c" } }, count, { journal = by_id }))
    t.eq(calls, 3)
    t.raises("must return a text", function() leat.map({ {} }, count, { journal = by_id }) end)
end)

test("journal: a torn last line is done again, a whole one without its end is kept", function()
    local fn, called = squares()
    assert(leat.map({ 1, 2 }, fn, { journal = path }))
    local whole = content()
    fill(whole .. '{"key":"4e07408562bedb8b60ce05c1decfe3ad","ok":tr')
    assert(leat.map({ 1, 2, 3 }, fn, { journal = path }))
    t.eq(called, { 1, 2, 3 })
    t.eq(content():sub(1, #whole), whole)
    fill((content():gsub("\n$", "")))
    assert(leat.map({ 1, 2, 3, 4 }, fn, { journal = path }))
    t.eq(called, { 1, 2, 3, 4 })
    assert(leat.map({ 1, 2, 3, 4 }, fn, { journal = path }))
    t.eq(#called, 4)
end)

test("journal: at every length that a kill may have left, none is lost and none done twice", function()
    local fn = squares()
    assert(leat.map({ 1, 2, 3 }, fn, { journal = path, limit = 1 }))
    local whole = content()
    for length = 0, #whole do
        fill(whole:sub(1, length))
        local again, called = squares()
        local got = assert(leat.map({ 1, 2, 3 }, again, { journal = path, limit = 1 }))
        t.eq({ got[1], got[2], got[3] }, { 1, 4, 9 })
        local _, kept = whole:sub(1, length):gsub("}\n?", "")
        t.eq(#called, math.min(3, 4 - kept))
        t.eq(content(), whole)
    end
end)

test("journal: another configuration is refused, and a file that is none is left as it is", function()
    local fn, called = squares()
    assert(leat.map({ 1 }, fn, { journal = { path = path, config = { model = "a" } } }))
    local none, err = leat.map({ 1 }, fn, { journal = { path = path, config = { model = "b" } } })
    t.eq(none, nil)
    t.eq(err.kind, "invalid")
    contains(err.message, '{"model":"a"}, now {"model":"b"}')
    t.eq(#called, 1)
    fill "dear diary\n"
    none, err = leat.each({ 1 }, fn, { journal = path })
    t.eq(none, nil)
    contains(err.message, "is not a journal")
    t.eq(content(), "dear diary\n")
end)

test("journal: foreign lines in it are kept and skipped", function()
    local fn, called = squares()
    assert(leat.map({ 1 }, fn, { journal = path }))
    fill(content() .. "what is this\n\n{}\n")
    assert(leat.map({ 1, 2 }, fn, { journal = path }))
    t.eq(called, { 1, 2 })
    contains(content(), "what is this\n\n{}\n")
end)

test("journal: a second user of the file is refused", function()
    local none, err
    leat.each({ 1 }, function()
        none, err = leat.each({ 1 }, print, { journal = path })
        return true
    end, { journal = path })
    t.eq(none, nil)
    t.eq({ err.kind, err.reason }, { "io", "locked" })
end)

test("journal: a result that JSON cannot hold is a bug that says what to do", function()
    local res = setmetatable({ status = 200, headers = {}, body = print }, { __name = "response" })
    for _, case in ipairs {
        { print, "a function, which a journal cannot store: leave it out, or call it" },
        { res, "a response, which a journal cannot store: return res.body or res:json()" },
        { { a = { res } }, "a table with a response at .a[1], which a journal cannot store: return "
            .. "res.body or res:json()" },
        { leat.semaphore(1), "a semaphore, which a journal cannot store: leave it out, or take its parts" },
        { { coroutine.create(print) }, "a table with a coroutine at [1], which a journal cannot store: leave "
            .. "it out" },
        { { x = 0 / 0 }, "NaN at .x, which a journal cannot store" },
        { "\255", "a string that is not UTF-8, which a journal cannot store: return leat.base64.encode" },
    } do
        t.raises("journal: the function returned " .. case[2], leat.map, { 1 }, function() return case[1] end,
            { journal = path })
        os.remove(path)
    end
    local waited = spawn(function() end)
    t.raises("the function returned a task, which a journal cannot store: wait for it: task:await()",
        leat.each, { 1 }, function() return waited end, { journal = path })
end)

test("jsonl: a value that JSON cannot hold is told with what to write instead", function()
    local server = assert(leat.serve { handler = function() return "hello" end })
    local res = assert(request(server.url))
    server:close(0)
    local out = assert(leat.jsonl.writer(path))
    for _, case in ipairs {
        { res, "jsonl: got a response, which a writer cannot store: write res.body or res:json()" },
        { { page = res }, "jsonl: got a table with a response at .page, which a writer cannot store: write "
            .. "res.body or res:json()" },
        { print, "jsonl: got a function, which a writer cannot store: leave it out, or call it" },
        { "\255", "jsonl: got a string that is not UTF-8, which a writer cannot store: write leat.base64" },
    } do
        local ok, err = out:write(case[1])
        t.fails("invalid", ok, err)
        t.ok(err.message:find(case[2], 1, true), err.message)
    end
    assert(out:close())
    t.eq(io.open(path):read "*a", "")
end)

test("journal: a cancelled item leaves nothing behind", function()
    local fn, called = squares()
    local none = wait_for(0.05, leat.map, { 1, 2, 3 }, function(x)
        if x == 2 then
            sleep(60)
        end
        return fn(x)
    end, { journal = path })
    t.eq(none, nil)
    assert(leat.map({ 1, 2, 3 }, fn, { journal = path }))
    table.sort(called)
    t.eq(called, { 1, 2, 3 })
end)

test("journal: batch keeps its order and takes up where it was", function()
    local fn, called = squares()
    local stop = true
    local function some(x)
        if x == 4 and stop then
            return nil, "no"
        end
        return fn(x)
    end
    local opts = { size = 2, interval = 0, journal = path }
    local r = assert(leat.batch({ 1, 2, 3, 4, 5 }, opts, some))
    t.eq({ r.n, r[4].ok, r[5].value }, { 5, false, 25 })
    stop = false
    r = assert(leat.batch({ 1, 2, 3, 4, 5 }, opts, some))
    t.eq({ r.n, r[1].value, r[4].value, r[5].value }, { 5, 1, 16, 25 })
    t.eq(#called, 5)
end)

test("journal: pipelines, run and each, count what was done before", function()
    local fn, called = squares()
    local pipe = leat.pipeline { concurrency = 2, journal = path }
    local results, stats = pipe:run({ 1, 2, 3 }, fn)
    t.eq({ results[3], stats.ok, stats.resumed }, { 9, 3, 0 })
    results, stats = pipe:run({ 1, 2, 3, 4 }, fn)
    t.eq({ results.n, results[3], results[4], stats.ok, stats.resumed, stats.items }, { 4, 9, 16, 1, 3, 4 })
    contains(tostring(stats), "3 done before")
    local seen = 0
    pipe = leat.pipeline { journal = path, on_result = function() seen = seen + 1 end }
    stats = pipe:each({ 1, 2, 5 }, fn)
    t.eq({ stats.ok, stats.resumed, seen }, { 1, 2, 3 })
    t.eq(#called, 5)
end)

test("a pipeline knows what it cost", function()
    local pipe = leat.pipeline { price = { prompt = 1, completion = 2 } }
    local _, stats = pipe:run({ 1, 2 }, function()
        return { usage = { prompt_tokens = 1e6, completion_tokens = 5e5, total_tokens = 15e5 } }
    end)
    t.eq(stats.cost, 4)
    contains(tostring(stats), "cost 4")
    t.raises("did you mean 'prompt'", function() leat.pipeline { price = { promt = 1 } } end)
end)

t.done()
