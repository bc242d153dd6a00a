-- HTTP/2: many requests on one connection, over TLS and by prior knowledge; resets and GOAWAY touch only
-- their own; what was not acted on is sent again, and nothing else is.
local leat = require "leat"
local t = require "harness"

local env = os.getenv
local ca = env "H2_CA"
local servers = { tls = env "H2_TLS_URL", plain = env "H2_PLAIN_URL", one = env "H2_ONE_URL" }

local function options(base, path, more)
    local o = { url = base .. path, ca_file = ca }
    if base:find "^http:" then
        o.http_version = "2-prior"
    end
    for k, v in pairs(more or {}) do
        o[k] = v
    end
    return o
end

local function ask(base, path, more)
    return request(options(base, path, more))
end

local function stats(base)
    return assert(ask(base, "/stats")):json()
end

local function reset(base)
    assert(ask(base, "/stats/reset"))
end

-- Asks on a connection of its own.
local function control(base, path)
    local o = options(base, path, { insecure = true })
    o.url = base:find "^http:" and o.url:gsub("127%.0%.0%.1", "localhost") or o.url
    return assert(request(o))
end

local numbers = t.numbers

local function both(name, fn)
    t.test(name .. ", over TLS", function() fn(servers.tls) end)
    t.test(name .. ", by prior knowledge", function() fn(servers.plain) end)
end

-- ---- the plain way

both("a request and its answer", function(base)
    local res = assert(ask(base, "/echo", { method = "PUT", body = "hello", headers = { ["X-A"] = "b" } }))
    t.eq({ res.status, res.version, res.complete }, { 200, "2", true })
    local echo = res:json()
    t.eq({ echo.method, echo.body, echo.headers["x-a"] }, { "PUT", "hello", "b" })
    t.eq(assert(ask(base, "/trailers")).trailers["x-sum"], "42")
    t.eq(assert(ask(base, "/ok", { method = "HEAD" })).body, "")
end)

both("an answer of any size comes to its end, with nothing else on its connection", function(base)
    for kb = 1, 66 do
        for _, stream in ipairs { false, true } do
            local body = ("x"):rep(kb * 1000)
            local res = assert(ask(base, "/echo",
                { method = "PUT", body = body, stream = stream, timeout = { total = 5 } }))
            local size = #(res.body or "")
            for bytes in (stream and res:chunks() or function() end) do
                size = size + #bytes
            end
            t.ok(size > kb * 1000)
        end
    end
end)

both("a body that is whole by its length does not wait for a stream's end that was lost", function(base)
    for _, stream in ipairs { false, true } do
        local res = assert(ask(base, "/whole", { stream = stream, timeout = { total = 10 } }))
        t.eq(stream and res:read(100) or res.body, "whole\n")
        t.eq(stream and res:read(100) or nil, nil)
        t.eq(res.complete, true)
    end
    t.eq(assert(ask(base, "/ok")).status, 200)
end)

t.test("an answer comes to its end behind a redirect from HTTP/1.1", function()
    local front = assert(leat.serve { handler = function()
        return { status = 302, headers = { Location = servers.tls .. "/large?mb=1" } }
    end })
    for _ = 1, 3 do
        local res = assert(request { url = front.url, ca_file = ca, timeout = { total = 5 } })
        t.eq({ res.status, #res.body }, { 200, 1024 * 1024 })
        t.eq(assert(ask(servers.tls, "/ok")).version, "2")
    end
    front:close()
end)

both("200 requests at once share one connection", function(base)
    assert(ask(base, "/ok"))
    local before = stats(base).connections
    local results = assert(leat.map(numbers(200), function(i)
        return ask(base, "/delay?ms=5", { body = ("x"):rep(i) })
    end, { limit = 90 }))
    for i = 1, 200 do
        t.eq(results[i].status, 200)
    end
    local after = stats(base)
    t.eq(after.connections, before)
    t.ok(after.peak_streams > 20 and after.peak_streams <= 100, after.peak_streams)
end)

t.test("a burst before any connection is there makes no more than a few", function()
    local before = leat.stats().engine.connects
    local base = env "H2_NGINX_URL" or servers.tls
    leat.map(numbers(64), function() return ask(base, "/ok") end)
    t.ok(leat.stats().engine.connects - before <= 3, leat.stats().engine.connects - before)
end)

t.test("a server that allows one stream at a time serves all", function()
    local results = assert(leat.map(numbers(200), function() return ask(servers.one, "/ok") end))
    t.eq(results.n, 200)
end)

t.test("HTTP/1.1 is used where it is asked for", function()
    local base = env "H2_NGINX_URL"
    if base then
        t.eq(assert(ask(base, "/ok", { http_version = "1.1" })).version, "1.1")
        t.eq(assert(ask(base, "/ok")).version, "2")
        t.eq(assert(ask(env "H2_NGINX_H1_URL", "/ok")).version, "1.1")
    end
end)

-- ---- streams and uploads

both("a stream is read as it comes", function(base)
    local res = assert(ask(base, "/stream?n=20&ms=2", { stream = true }))
    local events = {}
    for event in res:events() do
        events[#events + 1] = event.data
    end
    t.eq(#events, 22)
    t.eq(events[22], "[DONE]")
    t.eq(res.complete, true)
end)

both("an unread stream holds up itself and no other", function(base)
    local res = assert(ask(base, "/large?mb=8", { stream = true }))
    local before = leat.stats().memory_bytes
    for _ = 1, 20 do
        t.eq(assert(ask(base, "/ok")).status, 200)
    end
    t.ok(leat.stats().memory_bytes - before < 2e6)
    local size = 0
    for bytes in res:chunks() do
        size = size + #bytes
        if size % 7 == 0 then
            sleep(0)
        end
    end
    t.eq(size, 8 * 1024 * 1024)
end)

both("a stream that is read slowly comes whole, in the memory of its window, others going by", function(base)
    local function resident_kb()
        local f = assert(io.open "/proc/self/status")
        local kb = f:read("*a"):match "VmRSS:%s+(%d+)"
        f:close()
        return tonumber(kb)
    end
    local res = assert(ask(base, "/large?mb=70", { stream = true }))
    local before, size, reads, most = resident_kb(), 0, 0, 0
    for bytes in res:chunks() do
        size, reads = size + #bytes, reads + 1
        if reads % 4 == 0 then
            t.eq(assert(ask(base, "/ok")).status, 200)
            most = math.max(most, resident_kb())
        end
    end
    t.eq(size, 70 * 1024 * 1024)
    t.ok(most - before < 16000 or env "ASAN_OPTIONS", most - before) -- which keeps what is freed
end)

both("one stream after another goes over the same connection", function(base)
    local function read_one()
        local res = assert(ask(base, "/stream?n=3&ms=1", { stream = true }))
        t.eq(res.version, "2")
        for _ in res:chunks() do end
        t.eq(res.complete, true)
    end
    read_one()
    local before = stats(base).connections
    for _ = 1, 20 do
        read_one()
        assert(ask(base, "/ok"))
    end
    t.eq(stats(base).connections, before)
end)

both("30 streams merged behind requests that shared a connection: each comes to its end", function(base)
    assert(leat.map(numbers(60), function() return ask(base, "/delay?ms=5") end, { limit = 60 }))
    for _ = 1, 10 do
        local sizes = {}
        for bytes, i in leat.merge(numbers(30), function(n)
            return ask(base, "/large?mb=1&length=" .. n % 2, { stream = true })
        end, { limit = 30 }) do
            sizes[i] = (sizes[i] or 0) + #bytes
        end
        for i = 1, 30 do
            t.eq(sizes[i], 1024 * 1024)
        end
    end
end)

both("a large body goes up whole", function(base)
    local text = ("0123456789abcdef"):rep(200000)
    t.eq(assert(ask(base, "/upload", { body = text })):json().bytes, #text)
    local n = 0
    t.eq(assert(ask(base, "/upload", { body = function()
        n = n + 1
        return n <= 30 and text:sub(1, 100000) or nil
    end })):json().bytes, 3000000)
end)

-- ---- what goes wrong touches only itself

both("a cancel resets its stream and leaves the connection to the others", function(base)
    assert(ask(base, "/ok"))
    local before = stats(base).connections
    local results = assert(gather({
        function() return leat.map(numbers(20), function() return ask(base, "/delay?ms=60") end) end,
        function()
            for _ = 1, 20 do
                local _, err = wait_for(0.002, ask, base, "/never")
                t.eq(err.kind, "timeout")
            end
            return true
        end,
    }))
    for i = 1, 20 do
        t.eq(results[1][i].status, 200)
    end
    t.eq(stats(base).connections, before)
    t.wait_until(function() return stats(base).streams_open == 1 end)
end)

both("a stream that the server resets fails alone, with the server's reason", function(base)
    local results = leat.map(numbers(50), function(i)
        return ask(base, i == 25 and "/reset?code=2" or "/delay?ms=10", { body = "x" })
    end, { settle = true })
    for i = 1, 50 do
        if i == 25 then
            t.eq({ results[i].err.kind, results[i].err.reason }, { "closed", "reset" })
            t.ok(tostring(results[i].err):find "INTERNAL_ERROR", tostring(results[i].err))
        else
            t.eq(results[i].value.status, 200)
        end
    end
end)

both("a request that the server refused unread goes again, a POST too, and has one effect", function(base)
    reset(base)
    for _, method in ipairs { "GET", "POST" } do
        local id = leat.uuid()
        local res = assert(ask(base, "/refuse-first?n=1&id=" .. id, { method = method,
            headers = { ["X-Id"] = id }, body = method == "POST" and "x" or nil }))
        t.eq(res.status, 200)
        t.ok(res.attempts >= 2)
    end
    t.eq(stats(base).duplicates, 0)
end)

both("what the server refused unread is an attempt of the retry around it", function(base)
    reset(base)
    local function send(method, attempts)
        local id = leat.uuid()
        local retry = { attempts = attempts, base = 3600, budget = { floor = 0, ratio = 0 } }
        local results, s = leat.pipeline { concurrency = 5, retry = retry }:run(numbers(20), function(i)
            return ask(base, "/refuse-first?n=1&id=" .. id .. i, { method = method,
                headers = { ["X-Id"] = id .. i }, body = method == "POST" and "x" or nil })
        end)
        return s, results
    end
    for _, method in ipairs { "GET", "POST" } do
        local s = send(method, 2)
        t.eq({ s.ok, s.calls, s.retried }, { 20, 40, 20 })
        local results
        s, results = send(method, 1)
        t.eq({ s.failed, s.calls, s.retried }, { 20, 20, 0 })
        for i = 1, 20 do
            local err = results.errors[i]
            t.eq({ err.kind, err.attempts, err.retryable, err.idempotent }, { "closed", 1, true, nil })
        end
    end
    t.eq(stats(base).duplicates, 0)
end)

both("one that is refused for good is a failure in the end", function(base)
    reset(base)
    local err = t.fails("closed", ask(base, "/reset?code=7", { body = "x",
        headers = { ["X-Id"] = "never" } }))
    t.eq(err.retryable, true)
    t.eq(stats(base).effects, 0)
end)

both("a GOAWAY lets those end that the server took, and the others go elsewhere", function(base)
    reset(base)
    local results = leat.map(numbers(100), function(i)
        local path = i % 10 == 5 and "/goaway?last=processed" or "/delay?ms=3"
        return ask(base, path, { body = "x", headers = { ["X-Id"] = "g" .. i } })
    end, { limit = 20, settle = true })
    for i = 1, 100 do
        t.ok(results[i].ok, tostring(results[i].err))
    end
    local after = stats(base)
    t.eq({ after.effects, after.duplicates }, { 100, 0 })
end)

both("a connection that dies takes its POSTs along, and never sends one twice", function(base)
    reset(base)
    local results = leat.map(numbers(30), function(i)
        return ask(base, i == 15 and "/die" or "/delay?ms=20", { body = "x",
            headers = { ["X-Id"] = "d" .. i } })
    end, { limit = 30, settle = true })
    local failed = 0
    for i = 1, 30 do
        if not results[i].ok then
            failed = failed + 1
            t.eq(results[i].err.kind, "closed")
            t.eq(results[i].err.retryable, true)
        end
    end
    t.ok(failed >= 1)
    t.eq(stats(base).duplicates, 0)
    t.eq(assert(ask(base, "/ok")).status, 200)
end)

-- Five POSTs lie on one connection. Another one, idle, is told to go; then one of the POSTs is refused, goes
-- again, and has both connections looked at; then the connection of the other four dies.
both("a GOAWAY on an idle connection says nothing of the requests on another", function(base)
    for round = 1, 3 do
        control(base, "/stats/reset")
        local function post(path, id)
            local headers = { ["X-Id"] = id .. round }
            return spawn(ask, base, path, { method = "POST", body = "x", headers = headers })
        end
        assert(ask(base, "/ok"))
        local held = {}
        for i = 1, 4 do
            held[i] = post("/never", "held" .. i)
        end
        local refused = post("/refuse-later", "refused")
        t.wait_until(function() return control(base, "/stats"):json().streams_open == 6 end)
        -- More than the connection takes.
        assert(leat.map(numbers(130), function() return ask(base, "/delay?ms=20") end, { limit = 130 }))
        t.ok(control(base, "/stats"):json().connections_open >= 3)
        control(base, "/goaway-idle")
        t.eq(assert(refused:await()).attempts, 2)
        control(base, "/die-others")
        for i = 1, 4 do
            local err = t.fails("closed", held[i]:await())
            t.eq({ err.retryable, err.attempts, err.reason }, { true, 1, "reset" })
        end
        local after = control(base, "/stats"):json()
        t.eq({ after.duplicates, after.effects }, { 0, 5 })
    end
end)

both("a request that was refused says nothing of the one that comes next", function(base)
    control(base, "/stats/reset")
    for i = 1, 6 do
        assert(ask(base, "/ok"))
        t.eq(assert(ask(base, "/refuse-first?n=1&id=" .. leat.uuid())).attempts, 2)
        local headers = { ["X-Id"] = "p" .. i }
        local post = spawn(ask, base, "/never", { method = "POST", body = "x", headers = headers })
        t.wait_until(function() return control(base, "/stats"):json().effects == i end)
        control(base, "/die-others" .. (i % 2 == 0 and "" or "?how=reset"))
        local err = t.fails("closed", post:await())
        t.eq({ err.retryable, err.attempts }, { true, 1 })
    end
    t.eq(control(base, "/stats"):json().duplicates, 0)
end)

both("an answer before the body was sent is an answer", function(base)
    for _ = 1, 50 do
        t.eq(assert(ask(base, "/early", { body = ("x"):rep(240) })).body, "ok\n")
    end
end)

t.test("an answer before the body was sent is an answer on the oldest of thirty connections, too", function()
    leat.each(numbers(30), function()
        return assert(ask(servers.one, "/delay?ms=100", { method = "GET" }))
    end, { limit = 30 })
    for _ = 1, 50 do
        t.eq(assert(ask(servers.one, "/early", { body = ("x"):rep(240) })).body, "ok\n")
    end
end)

both("a POST is never sent twice, however its stream ends", function(base)
    reset(base)
    local paths = { "/early", "/reset?code=0", "/reset?code=2", "/reset?code=8&when=body&ms=0",
        "/reset?code=0&when=body&ms=0", "/die", "/goaway-now", "/delay?ms=1" }
    leat.each(numbers(400), function(i)
        ask(base, paths[i % #paths + 1], { body = ("x"):rep(240), headers = { ["X-Id"] = "once" .. i } })
        return true
    end, { limit = 32 })
    t.eq(stats(base).duplicates, 0)
end)

t.test("limits hold on a stream as on a connection", function()
    for _, base in pairs { servers.tls, servers.plain } do
        local err = t.fails("timeout", ask(base, "/never", { timeout = { first_byte = 0.1 } }))
        t.eq(err.phase, "first_byte")
        err = t.fails("timeout", ask(base, "/stall", { timeout = { idle = 0.1 } }))
        t.eq(err.phase, "idle")
        t.fails("too_large", ask(base, "/large?mb=2", { max_body = 1000 }))
        local _, large = ask(base, "/big-header?kb=200")
        t.ok(large.kind == "too_large" or large.kind == "closed", tostring(large))
        t.eq(assert(ask(base, "/ok")).status, 200)
    end
end)

if env "H2_NGHTTPD_URL" then
    t.test("four streams at a time are enough for nghttpd", function()
        leat.each(numbers(400), function(i)
            return assert(ask(env "H2_NGHTTPD_FEW_URL", "/echo", { body = "x" .. i })).body == "x" .. i
        end, { limit = 64 })
    end)
end

t.done()
