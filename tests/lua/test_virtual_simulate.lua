-- leat.simulate: an origin answered in this process. Everything that a socket would show must show here.
local t = require "harness"
local leat = require "leat"

local URL = "http://api.test"

local function simulated(handler, fn)
    local server = assert(leat.simulate(URL, handler))
    local ok, err = xpcall(fn, debug.traceback, server)
    local stats = server:stats()
    server:close()
    if not ok then
        error(err, 0)
    end
    t.eq(stats.active, 0, "requests still open at the end")
    return stats
end

-- The engine's gauges after everything has ended.
local function nothing_left()
    local engine = leat.stats().engine
    for _, name in ipairs { "queued", "active", "pending", "events_waiting" } do
        t.eq(engine[name], 0, name)
    end
end

t.test("the handler sees the request as it would come over a socket", function()
    simulated(function(req)
        return { json = {
            method = req.method, path = req.path, q = req.query.q, body = req.body, target = req.target,
            host = req.headers.host, agent = req.headers["User-Agent"],
            length = req.headers["content-length"],
            type = req.headers["content-type"], own = req.headers["x-own"], empty = req.headers["x-empty"],
            accept = req.headers.accept, version = req.version,
        } }
    end, function()
        local res = assert(request { url = URL .. "/a%20b?q=1&q=2#part", method = "POST", json = { 1 },
            headers = { ["X-Own"] = "yes", ["X-Empty"] = "" } })
        local got = res:json()
        t.eq(got.agent:match "^leat/" ~= nil, true)
        got.agent = nil
        t.eq(got, { method = "POST", path = "/a b", q = "1", body = "[1]", target = "/a%20b?q=1&q=2",
            host = "api.test", length = "3", type = "application/json", own = "yes", empty = "",
            accept = "*/*", version = "1.1" })
        t.eq(request(URL):json().path, "/")
        t.eq(request(URL .. "?q=5"):json().q, "5")
        t.eq(res.headers["content-type"], "application/json")
        t.eq(res.version, "1.1")
        t.eq(res.reason, "OK")
    end)
end)

t.test("the host of another port, and that of https, are other origins", function()
    local plain = assert(leat.simulate("http://api.test", function() return "80" end))
    local other = assert(leat.simulate("http://api.test:8080", function(req) return req.headers.host end))
    local secure = assert(leat.simulate("HTTPS://API.test/", function() return "443" end))
    t.eq(request("http://API.test:80/x").body, "80")
    t.eq(request("http://api.test:8080/x").body, "api.test:8080")
    t.eq(request("https://api.test/x").body, "443")
    local second, err = leat.simulate("http://api.test:80", function() end)
    t.eq(second, nil)
    t.eq({ err.kind, err.reason }, { "invalid", "in_use" })
    plain:close()
    local _, denied = request "http://api.test/x"
    t.eq(denied.kind, "denied")
    local again = assert(leat.simulate("http://api.test", function() return "again" end))
    t.eq(request("http://api.test/x").body, "again")
    again:close()
    other:close()
    secure:close()
end)

t.test("what is not simulated is denied under virtual time", function()
    local res, err = request "http://127.0.0.1:1/"
    t.eq(res, nil)
    t.eq(err.kind, "denied")
    t.ok(err.message:find("not simulated", 1, true), err.message)
end)

t.test("a server that listens under virtual time is found at its address", function()
    local a = assert(leat.serve { handler = function(req) return "a" .. req.path end })
    local b = assert(leat.serve { handler = function(req) return "b" .. req.path end })
    t.ok(a.port ~= b.port)
    t.eq(request(a.url .. "/1").body, "a/1")
    t.eq(request(b.url .. "/2").body, "b/2")
    local _, err = leat.serve { port = a.port, handler = print }
    t.eq({ err.kind, err.reason }, { "io", "in_use" })
    local _, wrong = leat.serve { host = "example.com", handler = print }
    t.eq(wrong.kind, "invalid")
    a:close()
    b:close()
end)

t.test("wrong arguments raise errors that say so", function()
    local wrong = { "api.test", "ftp://api.test", "http://api.test/v1", "http://a@api.test", "http://" }
    for _, url in ipairs(wrong) do
        t.raises("simulate: ", leat.simulate, url, print)
    end
    t.raises("the handler", leat.simulate, URL)
    t.raises("unknown option 'handlers'", leat.simulate, URL, { handler = print, handlers = 1 })
    t.raises("first argument", leat.simulate, 5, print)
end)

t.test("each limit of time is kept, to the second", function()
    local function slow(req)
        if req.path == "/head" then
            sleep(10)
        end
        local out = req:respond { status = 200 }
        out:write "some"
        sleep(10)
        out:write "more"
        out:close()
    end
    simulated(slow, function()
        for _, case in ipairs {
            { "/head", { first_byte = 2 }, "first_byte", 2 }, { "/body", { idle = 3 }, "idle", 3 },
            { "/body", { total = 4 }, "total", 4 }, { "/head", 5, "total", 5 },
        } do
            local began = leat.now()
            local res, err = request { url = URL .. case[1], timeout = case[2] }
            t.eq(res, nil)
            t.eq({ err.kind, err.phase, leat.now() - began }, { "timeout", case[3], case[4] })
        end
        t.eq(request(URL .. "/body").body, "somemore")
        nothing_left()
    end)
end)

t.test("a request that is cancelled cancels its handler, whatever the handler does", function()
    local ended = {}
    local function handler(req)
        return leat.finally(function()
            local out = req.path == "/stream" and req:respond {}
            for _ = 1, out and 1000 or 0 do
                assert(out:write(("x"):rep(64 * 1024)))
            end
            sleep(100)
        end, function()
            ended[#ended + 1] = req.path
        end)
    end
    simulated(handler, function(server)
        for _, case in ipairs { { "/wait" }, { "/stream" }, { "/stream", true } } do
            local task = spawn(function()
                if case[2] then
                    local res = assert(request { url = URL .. case[1], stream = true })
                    sleep(100)
                    return res
                end
                return request(URL .. case[1])
            end)
            sleep(1)
            task:cancel()
            pcall(task.await, task)
            sleep(0)
        end
        sleep(1)
        t.eq(ended, { "/wait", "/stream", "/stream" })
        t.eq(server:stats().gone, 3)
        nothing_left()
    end)
end)

t.test("a request that waits for a place never reaches the handler if it is cancelled", function()
    local seen = 0
    simulated(function()
        seen = seen + 1
        sleep(10)
        return "ok"
    end, function()
        local client = leat.client { base_url = URL, max_per_host = 1 }
        local first = spawn(client.get, client, "/")
        local second = spawn(client.get, client, "/")
        sleep(1)
        second:cancel()
        t.eq(first:await().body, "ok")
        t.eq(seen, 1)
        nothing_left()
    end)
end)

t.test("a stream that is not read holds its writer up", function()
    local written = 0
    simulated(function(req)
        local out = req:respond {}
        for _ = 1, 100 do
            assert(out:write(("x"):rep(32 * 1024)))
            written = written + 32 * 1024
        end
        return out:close()
    end, function()
        local res = assert(request { url = URL, stream = true })
        sleep(10)
        t.ok(written < 512 * 1024, written .. " bytes were written ahead")
        local got = 0
        for chunk in res:chunks() do
            got = got + #chunk
        end
        t.eq(got, 3200 * 1024)
        t.eq(written, got)
    end)
end)

t.test("events and lines of a stream arrive when they are written", function()
    simulated(function(req)
        local out = req:respond { headers = { ["Content-Type"] = "text/event-stream" } }
        for i = 1, 3 do
            out:write(("data: %d\n\n"):format(i))
            sleep(1)
        end
        return out:close()
    end, function()
        local began, seen = leat.now(), {}
        for event in assert(request { url = URL, stream = true }):events() do
            seen[#seen + 1] = event.data .. "@" .. leat.now() - began
        end
        t.eq(seen, { "1@0", "2@1", "3@2" })
    end)
end)

t.test("a broken connection differs from an answer that ends", function()
    simulated(function(req)
        if req.path == "/none" then
            return req:abort()
        elseif req.path == "/bug" then
            error "a bug of the handler"
        elseif req.path == "/early" then
            local out = req:respond {}
            out:write "abc"
            return out:abort()
        end
        return nil, leat.error { kind = "io", message = "no disk" }
    end, function()
        local _, none = request(URL .. "/none")
        t.eq({ none.kind, none.reason, none.retryable }, { "closed", "reset", true })
        local _, early = request(URL .. "/early")
        t.eq({ early.kind, early.reason }, { "closed", "truncated" })
        local res = assert(request(URL .. "/failed"))
        t.eq({ res.status, res:json().error.message }, { 500, "no disk" })
        t.eq(request(URL .. "/bug").status, 500)
        nothing_left()
    end)
end)

t.test("redirects, compression, HEAD and bodies of every kind", function()
    simulated({ max_body = 100, handler = function(req)
        if req.path == "/moved" then
            return { status = 302, headers = { Location = "/there" }, body = ("x"):rep(100) }
        elseif req.path == "/gzip" then
            return { headers = { ["Content-Encoding"] = "gzip" },
                body = leat.base64.decode "H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==" }
        elseif req.path == "/empty" then
            return { status = 204 }
        end
        return req.method .. " " .. req.path .. " " .. req.body
    end }, function()
        t.eq(request { url = URL .. "/moved" }.body, "GET /there ")
        t.eq(request { url = URL .. "/moved" }.url, URL .. "/there")
        t.eq(request { url = URL .. "/moved", follow = false }.status, 302)
        t.eq(request { url = URL .. "/empty" }.status, 204)
        t.eq(request { url = URL .. "/gzip", compressed = true }.body, "hello")
        local res = request { url = URL .. "/gzip", compressed = true, stream = true }
        t.eq(res:read(), "hello")
        res:close()
        local head = request { url = URL .. "/x", method = "HEAD" }
        t.eq({ head.status, head.body, head.headers["content-length"] }, { 200, "", "8" })
        t.eq(request { url = URL .. "/x", method = "PUT", body = "whole" }.body, "PUT /x whole")
        local pieces = { "one ", "two" }
        t.eq(request { url = URL .. "/x", method = "PUT", body = function()
            sleep(1)
            return table.remove(pieces, 1)
        end }.body, "PUT /x one two")
        t.eq(request { url = URL, method = "POST", body = ("x"):rep(101) }.status, 413)
        local given = 0
        t.eq(request { url = URL, method = "POST", body = function()
            given = given + 1
            return given <= 10 and ("x"):rep(50) or nil
        end }.status, 413)
        nothing_left()
    end)
end)

t.test("closing breaks off what is under way, and a grace lets it end", function()
    local server = assert(leat.simulate(URL, function(req)
        sleep(5)
        return req.path
    end))
    local a = spawn(request, URL .. "/a")
    sleep(1)
    server:close()
    t.eq(a:await().status, 503)
    server = assert(leat.simulate(URL, function(req)
        sleep(5)
        return req.path
    end))
    a = spawn(request, URL .. "/a")
    sleep(1)
    server:close(10)
    t.eq(a:await().body, "/a")
    nothing_left()
end)

t.test("leat mock answers without a socket", function()
    local mock = assert(require("leat.mock").start { latency = 1.5, rpm = 60, burst = 2,
        simulate = "https://api.openai.com" })
    local ai = leat.openai { api_key = "sk-x", model = "mock", retry = false }
    local began = leat.now()
    local all = gather({ spawn(ai.chat, ai, "one"), spawn(ai.chat, ai, "two") }, { settle = true })
    t.eq(leat.now() - began, 1.5)
    t.eq(#all, 2)
    mock:close()
end)

t.done()
