-- serve: what its handlers see, what its clients get, and what happens when either goes wrong.
local t = require "harness"
local leat = require "leat"
local ffi = require "ffi"
local raw = require "raw"

ffi.cdef [[
    struct leat_test_limit { unsigned long now, most; };
    int getrlimit(int, struct leat_test_limit *);
]]

local function serving(handler, opts)
    opts = opts or {}
    opts.handler = handler
    return assert(leat.serve(opts))
end

-- nil where threads have the network: nothing can be simulated there.
local function simulating(url, handler)
    local server, err = leat.simulate(url, handler)
    t.ok(server or err.message:find "network threads", err)
    return server
end

-- The server's own messages about what these tests provoke.
local function quietly(fn)
    local log = require "leat.log"
    local said, write = {}, log.error
    log.error = function(message) said[#said + 1] = tostring(message) end
    local ok, err = pcall(fn, said)
    log.error = write
    if not ok then error(err, 0) end
    return table.concat(said, "\n")
end

t.test("a handler sees method, path, query, headers, body and who asks", function()
    local seen
    local server = serving(function(req)
        seen = {
            method = req.method, path = req.path, query = req.query, raw = req.query_string,
            any_case = req.headers["x-ONE"], body = req.body, version = req.version,
            values = req:header_values "x-one", target = req.target, missing = req.headers.nothing,
            json = req:json(),
        }
        t.ok(req.remote:find "^127%.0%.0%.1:%d+$")
        req.note = "mine"
        t.eq(req.note, "mine")
        return "ok"
    end)
    local body = '{"a":[1,2]}'
    local res = assert(leat.request {
        url = server.url .. "/a%20b/c?x=1&y=a+%26b&x=2&flag", method = "PUT", body = body,
        headers = { ["X-One"] = "1" },
    })
    t.eq(res.body, "ok")
    t.eq(seen, {
        method = "PUT", path = "/a b/c", query = { x = "1", y = "a &b", flag = "" },
        raw = "x=1&y=a+%26b&x=2&flag", any_case = "1", body = body, version = "1.1", values = { "1" },
        target = "/a%20b/c?x=1&y=a+%26b&x=2&flag", json = { a = { 1, 2 } },
    })
    server:close()
end)

t.test("a handler answers with a string, a table, JSON, or by respond", function()
    local server = serving(function(req)
        if req.path == "/string" then return "text" end
        if req.path == "/table" then
            return { status = 201, headers = { ["X-A"] = "b", ["Set-Cookie"] = { "a=1", "b=2" }, N = 5 } }
        end
        if req.path == "/json" then return { json = { n = 1 } } end
        if req.path == "/typed" then
            return { body = "<p>", headers = { ["content-TYPE"] = "text/html", ["Content-Length"] = "99" } }
        end
        if req.path == "/204" then return { status = 204, body = "dropped" } end
        req:respond { status = 202, body = "early" }
        return "ignored"
    end)
    local function get(path) return assert(leat.request(server.url .. path)) end
    local res = get "/string"
    t.eq({ res.status, res.body, res.headers["content-type"] }, { 200, "text", "text/plain; charset=utf-8" })
    res = get "/table"
    t.eq({ res.status, res.body, res.headers["x-a"], res.headers.n }, { 201, "", "b", "5" })
    t.eq(res:header_values "set-cookie", { "a=1", "b=2" })
    res = get "/json"
    t.eq({ res:json().n, res.headers["content-type"] }, { 1, "application/json" })
    res = get "/typed"
    t.eq({ res.body, res.headers["content-type"] }, { "<p>", "text/html" })
    res = get "/204"
    t.eq({ res.status, res.body }, { 204, "" })
    res = get "/early"
    t.eq({ res.status, res.body }, { 202, "early" })
    res = assert(leat.request { url = server.url .. "/string", method = "HEAD" })
    t.eq({ res.status, res.body, res.headers["content-length"] }, { 200, "", "4" })
    server:close()
end)

t.test("handlers wait side by side", function()
    local all_here, here = leat.event(), 0
    local server = serving(function()
        here = here + 1
        if here == 50 then all_here:set() end
        all_here:wait() -- none is answered before all have come
        return tostring(here)
    end)
    local items = {}
    for i = 1, 50 do items[i] = i end
    local got = assert(leat.map(items, function() return leat.request(server.url) end, { limit = 50 }))
    t.eq(got.n, 50)
    t.eq(got[50].body, "50")
    server:close()
end)

t.test("connections are kept alive", function()
    local server = serving(function() return "x" end)
    for _ = 1, 100 do assert(leat.request(server.url)) end
    t.eq(server:stats().requests, 100)
    t.eq(server:stats().accepted, 1)
    server:close()
end)

t.test("a failing handler is answered with 500 and the reason", function()
    local server = serving(function() return nil, leat.error { kind = "denied", message = "not today" } end)
    local said = quietly(function()
        local res = assert(leat.request(server.url))
        t.eq(res.status, 500)
        t.eq(res:json(), { error = { kind = "denied", message = "not today" } })
    end)
    t.ok(said:find("GET /: denied: not today", 1, true), said)
    server:close()
end)

t.test("a bug in a handler is answered with 500, logged with its line, and ends nothing else", function()
    local server = serving(function(req)
        if req.path == "/ok" then return "fine" end
        return req.nothing.field
    end)
    local said = quietly(function()
        local res = assert(leat.request(server.url))
        t.eq(res.status, 500)
        t.eq(res:json().error.kind, "raised")
        t.ok(not res.body:find "nothing", "no details for the client")
        t.eq(assert(leat.request(server.url .. "/ok")).body, "fine")
        leat.sleep(0)
    end)
    t.ok(said:find "test_serve.lua:%d+: attempt to index", said)
    t.ok(said:find "in function 'handler'", said)
    server:close()
end)

t.test("an error value whose __tostring fails is logged all the same, and ends nothing else", function()
    local server = serving(function(req)
        local value = setmetatable({}, { __tostring = function() error "not me" end })
        if req.path == "/ok" then return "fine" end
        if req.path == "/failure" then return nil, value end
        if req.path == "/message" then return nil, leat.error { message = value } end
        if req.path == "/child" then
            leat.spawn(error, value)
            leat.sleep(60)
        end
        error(value)
    end)
    local said = quietly(function()
        for _, path in ipairs { "/raised", "/failure", "/message", "/child" } do
            t.eq(assert(leat.request(server.url .. path)).status, 500)
            leat.sleep(0)
        end
        t.eq(assert(leat.request(server.url .. "/ok")).body, "fine")
    end)
    t.ok(said:find("a handler raised: a table whose __tostring fails", 1, true), said)
    t.ok(said:find("GET /failure: script: a table whose __tostring fails", 1, true), said)
    server:close()
end)

t.test("a bug in a handler's unawaited child does not end the server", function()
    local server = serving(function(req)
        if req.path == "/bug" then leat.spawn(function() leat.sleep(0.001) error "later" end) end
        return "fine"
    end)
    local said = quietly(function()
        assert(leat.request(server.url .. "/bug"))
        t.wait_until(function() return server:stats().active == 0 end)
        leat.sleep(0.01)
        t.eq(assert(leat.request(server.url)).body, "fine")
    end)
    t.ok(said:find "later", said)
    server:close()
end)

t.test("a handler that returns nothing, an unknown option or a broken header gets an error", function()
    local answers = {
        ["/option"] = { statuss = 1 },
        ["/header"] = { headers = { A = "b\r\nInjected: yes" } },
        ["/name"] = { headers = { ["A b"] = "c" } },
    }
    local server = serving(function(req) return answers[req.path] end)
    local said = quietly(function()
        for _, path in ipairs { "/nothing", "/option", "/header", "/name" } do
            local res = assert(leat.request(server.url .. path))
            t.eq(res.status, 500)
            t.eq(res.headers.injected, nil)
        end
        leat.sleep(0)
    end)
    t.ok(said:find("did you mean 'status'", 1, true), said)
    t.ok(said:find("handler must return", 1, true), said)
    t.ok(said:find("header 'A' holds a line end", 1, true), said)
    t.ok(said:find("'A b' is not a header name", 1, true), said)
    server:close()
end)

t.test("headers that are too large for a response are answered with 500, never by silence", function()
    local function handler(req)
        local headers = { ["X-Long"] = ("x"):rep(tonumber(req.query.n)) }
        if req.path == "/whole" then return { headers = headers, body = "all" } end
        local out, err = req:respond { headers = headers }
        if not out then return nil, err end
        out:write "all"
    end
    local servers = { serving(handler), simulating("http://simulated.test", handler) }
    local said = quietly(function()
        for _, server in ipairs(servers) do
            for _, path in ipairs { "/whole?n=", "/stream?n=" } do
                for _, n in ipairs { 31000, 33000, 100000 } do
                    local res = assert(leat.request(server.url .. path .. n))
                    t.eq(res.status == 200 and res.body or res:json().error.kind,
                        n == 31000 and "all" or "too_large")
                end
            end
        end
    end)
    t.ok(said:find("respond: the headers are too large: 100010 bytes up to 'X-Long'", 1, true), said)
    for _, server in ipairs(servers) do server:close() end
end)

t.test("a value that cannot be a response is named in the log and to the handler", function()
    local answers = {
        { 5, "the handler must return a response such as .*; got 5" },
        { { body = "a", json = 1 }, "respond: give either body or json, not both" },
        { { body = 5 }, "respond: option 'body' must be a string, got 5" },
        { { json = { print } }, "invalid: json: a function, which JSON cannot hold" },
        { { status = 100 }, "respond: the status must be a whole number from 200 to 999, got 100" },
        { { headers = { "x" } }, "respond: the name of a header must be a string, got 1" },
        { { headers = { A = true } }, "header 'A' must be a string, a number or a list of them, got true" },
        { { headers = { A = { "1", [3] = "3" } } }, "respond: header 'A' must be a list without holes" },
    }
    local server = serving(function(req) return answers[tonumber(req.query.n)][1] end)
    for i, row in ipairs(answers) do
        local said = quietly(function()
            t.eq(assert(leat.request(server.url .. "/?n=" .. i)).status, 500)
            leat.sleep(0)
        end)
        t.ok(said:find(row[2]), said)
    end
    server:close()
    local told = {}
    server = serving(function(req)
        local out = assert(req:respond {})
        told[1] = select(2, pcall(out.write, out, 5))
        out:close()
        told[2] = select(2, pcall(out.write, out, "late"))
    end)
    t.eq(assert(leat.request(server.url)).body, "")
    t.ok(told[1]:find("write: the chunk must be a string, got 5", 1, true), told[1])
    t.ok(told[2]:find("write: this response is not a stream, or is closed", 1, true), told[2])
    t.raises("close: the grace must be 0 or more seconds, got 'x'", server.close, server, "x")
    t.ok(tostring(server):find "^server http://127.0.0.1:%d+ %(listening%)$")
    server:close()
    t.ok(tostring(server):find "%(closed%)$")
end)

t.test("header fields of one name are joined, however long it is and however it is written", function()
    local long = "X-" .. ("Long"):rep(20)
    local server = serving(function(req)
        return { json = { a = req.headers.A, long = req.headers[long:upper()], all = req:header_values "a" } }
    end)
    local client = raw(server)
    client:send("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\n" .. long .. ": y\r\nA: \r\n\r\n")
    client:expect "{.*}$"
    t.eq(leat.json.decode(client.got:match "{.*}$"), { a = "1, 2, ", long = "y", all = { "1", "2", "" } })
    client:close()
    server:close()
end)

t.test("a server listens on localhost, or at an IPv6 address, and knows its clients there", function()
    for host, shown in pairs { localhost = "^127%.0%.0%.1:%d+$", ["::1"] = "^%[::1%]:%d+$" } do
        if host ~= "::1" or t.v6_url ~= "" then
            local server = serving(function(req) return req.remote end, { host = host })
            t.ok(server.url:find(host, 1, true), server.url)
            local remote = assert(leat.request(server.url)).body
            t.ok(remote:find(shown), remote)
            server:close()
        end
    end
end)

t.test("answering a client that has gone returns an error", function()
    for _, use in ipairs { "answer", "open", "write", "return" } do
        local started, ended, said = leat.event(), leat.event(), {}
        local server = serving(function(req)
            local out = use == "write" and assert(req:respond {})
            started:set()
            pcall(leat.sleep, 60) -- the cancel
            leat.shield(5, function()
                if use == "write" then said.value, said.err = out:write "x" end
                if use == "answer" then said.value, said.err = req:respond { body = "x" } end
                if use == "open" then said.value, said.err = req:respond {} end
            end)
            ended:set()
            return "for nobody"
        end)
        local client = raw(server):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        started:wait()
        client:close()
        local log = quietly(function()
            assert(ended:wait(5))
            t.wait_until(function() return server:stats().connections == 0 end)
        end)
        t.eq(log, "")
        if use ~= "return" then t.fails("closed", said.value, said.err) end
        server:close()
    end
end)

t.test("answering twice raises", function()
    local first, again
    local server = serving(function(req)
        req:respond { body = "one" }
        first, again = pcall(req.respond, req, { body = "two" })
    end)
    t.eq(assert(leat.request(server.url)).body, "one")
    t.eq(first, false)
    t.ok(tostring(again):find("has its response already", 1, true), again)
    server:close()
end)

t.test("a stream's pieces arrive as they are written", function()
    local go = leat.event()
    local server = serving(function(req)
        local out = assert(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
        out:write "first;"
        go:wait()
        out:write "second;"
        out:close()
    end)
    local client = raw(server):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "first;"
    t.ok(not client.got:find "second;")
    t.ok(client.got:find "Transfer%-Encoding: chunked")
    go:set()
    client:expect "second;\r\n0\r\n\r\n$"
    client:close()
    t.eq(assert(leat.request(server.url)).body, "first;second;")
    server:close()
end)

t.test("a stream that was left open is closed when its handler returns", function()
    local server = serving(function(req) assert(req:respond {}):write "all" end)
    t.eq(assert(leat.request(server.url)).body, "all")
    server:close()
end)

t.test("a stream whose handler fails is cut, never ended properly", function()
    local server = serving(function(req)
        assert(req:respond {}):write "part"
        if req.path == "/bug" then error "no" end
        return nil, "no"
    end)
    quietly(function()
        for _, path in ipairs { "/bug", "/failure" } do
            local err = t.fails("closed", leat.request(server.url .. path))
            t.eq(err.reason, "truncated")
        end
        leat.sleep(0)
        -- HTTP/1.0 has no chunks: there the cut is a reset.
        local client = raw(server):send "GET / HTTP/1.0\r\n\r\n"
        t.eq(client:wait_end(), "reset")
        client:close()
    end)
    server:close()
end)

t.test("writing to a slow reader waits, and loses nothing", function()
    local written, total = 0, 200
    local chunk = ("x"):rep(64 * 1024)
    local server = serving(function(req)
        local out = assert(req:respond {})
        for _ = 1, total do
            assert(out:write(chunk))
            written = written + 1
        end
        out:close()
    end)
    local client = raw(server, true):send "GET / HTTP/1.0\r\n\r\n"
    t.wait_until(function() return written >= 4 end)
    local before
    repeat -- until the buffers of the two kernels' sockets are full, which no event tells
        before = written
        leat.sleep(0.1)
    until written == before
    t.ok(written < total, "the writer must wait")
    client:wait_end()
    t.eq(written, total)
    local body = client.got:match "\r\n\r\n(.*)$"
    t.eq(#body, total * #chunk)
    client:close()
    server:close()
end)

t.test("a client that goes away cancels its handler", function()
    local started, ended = leat.event(), leat.event()
    local why
    local server = serving(function()
        started:set()
        local ok, err = pcall(leat.sleep, 60)
        why = not ok and err
        ended:set()
        error(err, 0)
    end)
    local task = leat.spawn(leat.request, server.url)
    started:wait()
    task:cancel()
    assert(ended:wait(5))
    t.eq(why.kind, "cancelled")
    t.wait_until(function() return server:stats().connections == 0 end)
    t.eq(server:stats().gone, 1)
    server:close()
end)

t.test("a client that goes away cancels a handler that waits to write", function()
    local ended = leat.event()
    local server = serving(function(req)
        local out = assert(req:respond {})
        leat.finally(function()
            while out:write(("x"):rep(100000)) do leat.sleep(0) end
        end, function() ended:set() end)
    end)
    local client = raw(server, true):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "xxx"
    client:close()
    assert(ended:wait(5))
    t.wait_until(function() return server:stats().connections == 0 end)
    server:close()
end)

t.test("a client that goes away before its request is taken up leaves nothing behind", function()
    local handled = 0
    local server = serving(function() handled = handled + 1 return "x" end)
    for _ = 1, 20 do
        raw(server):send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"):close()
    end
    t.wait_until(function() return server:stats().accepted == 20 and server:stats().connections == 0 end)
    t.eq(server:stats().active, 0)
    t.eq(assert(leat.request(server.url)).body, "x")
    server:close()
end)

t.test("a body over max_body is answered with 413, whether its length is announced or not", function()
    local server = serving(function(req) return tostring(#req.body) end, { max_body = 1000 })
    t.eq(assert(leat.request { url = server.url, method = "POST", body = ("x"):rep(1000) }).body, "1000")
    t.eq(assert(leat.request { url = server.url, method = "POST", body = ("x"):rep(1001) }).status, 413)
    local client = raw(server):send "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ = 1, 5 do client:send("100\r\n" .. ("x"):rep(256) .. "\r\n") end
    client:send "0\r\n\r\n"
    client:expect "^HTTP/1.1 413"
    client:close()
    t.eq(assert(leat.request(server.url)).body, "0")
    server:close()
end)

t.test("a large body arrives whole", function()
    local body = {}
    for i = 1, 200000 do body[i] = ("%07d "):format(i) end
    body = table.concat(body)
    local server = serving(function(req) return { body = req.body } end)
    local res = assert(leat.request { url = server.url, method = "POST", body = body })
    t.ok(res.body == body)
    server:close()
end)

t.test("pipelined requests are answered in order", function()
    local server = serving(function(req)
        if req.path == "/1" then leat.sleep(0.01) end
        return "answer " .. req.path .. "."
    end)
    local client = raw(server)
    client:send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" .. "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    client:expect "answer /1%..*answer /2%."
    client:close()
    server:close()
end)

t.test("what is not HTTP is refused and leaves nothing behind", function()
    local server = serving(function() return "x" end)
    for _, text in ipairs {
        "GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " .. ("9"):rep(30) .. "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: " .. ("y"):rep(100000) .. "\r\n\r\n",
        "GET /" .. ("y"):rep(100000) .. " HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n" .. ("X: y\r\n"):rep(300) .. "\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("f"):rep(20) .. "\r\n",
        "\0\1\2\3\r\n\r\n", "\22\3\1\2\0\1\0\1\252\3\3", -- the latter begins TLS
    } do
        local client = raw(server)
        client.may_reset = true -- what is too large is not read to its end
        client:send(text):wait_end()
        t.ok(not client.got:find "^HTTP/1.1 [123]", text:sub(1, 40) .. " was answered " .. client.got)
        client:close()
    end
    for _, text in ipairs {
        "GET / HTTP/1.1\r\nHost: x",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
    } do
        local client = raw(server):send(text)
        client:half_close():wait_end()
        t.eq(client.got, "")
        client:close()
    end
    t.wait_until(function() return server:stats().connections == 0 end)
    t.eq(assert(leat.request(server.url)).body, "x")
    server:close()
end)

t.test("what two servers could take for different requests is refused, nothing in it obeyed", function()
    local asked = 0
    local server = serving(function() asked = asked + 1 return "x" end)
    for _, head in ipairs {
        "HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 5",
        "HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 50",
        "HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nHost: x\r\nContent-Length : 50\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked", -- folded
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\t chunked",
        "HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 50",
        "HTTP/1.1\r\nHost: x\r\nX: y\r\n Transfer-Encoding: chunked",
        "HTTP/1.1\r\nHost: x\r\nX: y\r\n\tContent-Length: 50",
        "HTTP/1.1\r\nHost: x\r\nX: y\rTransfer-Encoding: chunked", -- a bare CR
        "HTTP/1.1\r\nHost: x\r\nX: y\r",
        "HTTP/1.1\r\nHost: x\r\nX: \27[2J",
    } do
        local client = raw(server):send("POST / " .. head
            .. "\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        client:wait_end()
        t.ok(client.got:find "^HTTP/1.1 400 .*: close.*{\"error\":{\"message\":", head .. client.got)
        t.ok(not client.got:find("HTTP/1.1", 2, true), client.got)
        client:close()
    end
    for _, target in ipairs { "/a\0b", "/a\0", "/\0 HTTP/1.1\r\nX: y", "/a?x=\0y", "/a\0?x=y" } do
        local client = raw(server):send("GET " .. target .. " HTTP/1.1\r\nHost: x\r\n\r\n")
        client:expect "HTTP/1.1 400 "
        t.ok(not client.got:find("HTTP/1.1 200", 1, true), client.got)
        client:close()
    end
    t.eq(asked, 0)
    server:close()
end)

t.test("a target that is a whole URL has the path that it would have without its host", function()
    local server = serving(function(req)
        return { json = { path = req.path, target = req.target, n = req.query.n } }
    end)
    for target, path in pairs {
        ["http://some.host:80/a%20b?n=1"] = "/a b", ["HTTPS://h?n=1"] = "/", ["http://h"] = "/",
        ["?n=1"] = "/", ["*"] = "*", ["/http://h/?n=1"] = "/http://h/",
    } do
        local client = raw(server):send("GET " .. target .. " HTTP/1.1\r\nHost: x\r\n\r\n")
        client:expect "\r\n\r\n{.*}"
        local said = leat.json.decode(client.got:match "{.*}")
        t.eq(said, { path = path, target = target, n = target:find "n=" and "1" or nil })
        client:close()
    end
    server:close()
end)

t.test("a client that sends its body byte by byte is given up, a slow one is waited for", function()
    local server = serving(function(req) return tostring(#req.body) end, { timeout = 0.2 })
    for _, framing in ipairs { "Content-Length: 100000", "Transfer-Encoding: chunked" } do
        local client = raw(server)
        client.may_reset = true
        client:send("POST / HTTP/1.1\r\nHost: x\r\n" .. framing .. "\r\n\r\n")
        t.wait_until(function()
            client:send(framing:find "chunked" and "1\r\ny\r\n" or "y"):poll()
            return client.ended
        end)
        client:close()
    end
    local client = raw(server):send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
    for _ = 1, 40 do
        client:send(("y"):rep(1000))
        leat.sleep(0.02) -- four times the timeout in all
    end
    client:expect "\r\n\r\n40000"
    client:close()
    t.wait_until(function() return server:stats().connections == 0 end)
    server:close()
end)

t.test("a client that sends its head a byte at a time is given up in the end", function()
    local server = serving(function() return "x" end, { timeout = 0.2 })
    for _, start in ipairs { "", "GET / HTTP/1.1\r\nHost: x\r\nX: " } do
        local client = raw(server)
        client.may_reset = true
        client:send(start)
        t.wait_until(function()
            client:send("y"):poll()
            return client.ended
        end)
        t.eq(client.parts, {})
        client:close()
    end
    t.eq(server:stats().requests, 0)
    server:close()
end)

t.test("a kept connection is closed when it was idle for long; a handler may take longer", function()
    local server = serving(function() leat.sleep(1.2) return "late" end, { timeout = 1 })
    local client = raw(server):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "late$"
    t.eq(client:wait_end(), "closed")
    client:close()
    server:close()
end)

t.test("10,000 clients that never finish their heads keep nobody waiting", function()
    local server = serving(function() return "x" end)
    local limit = ffi.new "struct leat_test_limit"
    ffi.C.getrlimit(7, limit) -- RLIMIT_NOFILE; each has a descriptor at either end
    local many = math.min(10000, math.floor((tonumber(limit.now) - 200) / 2))
    local clients = {}
    for i = 1, many do
        clients[i] = raw(server):send "GET / HTTP/1.1\r\nHo"
        if i % 500 == 0 then
            t.wait_until(function() return server:stats().connections == i end)
        end
    end
    for _ = 1, 10 do t.eq(assert(leat.request(server.url)).body, "x") end
    clients[many]:send "st: x\r\n\r\n"
    clients[many]:expect "x$"
    for i = 1, many do clients[i]:close() end
    t.wait_until(function() return server:stats().connections <= 1 end)
    server:close()
end)

t.test("an address that is taken or invalid is a failure", function()
    local server = serving(function() return "x" end)
    local err = t.fails("io", leat.serve { port = server.port, handler = print })
    t.eq(err.reason, "in_use")
    t.ok(err.message:find(tostring(server.port), 1, true))
    t.fails("invalid", leat.serve { host = "no.such.host", handler = print })
    server:close()
end)

t.test("wrong use raises and names what is wrong", function()
    t.raises("did you mean 'handler'", leat.serve, { handlr = print })
    t.raises("option 'handler' must be a function", leat.serve, { port = 0 })
    t.raises("the port must be a whole number", leat.serve, { port = 70000, handler = print })
    t.raises("option 'timeout' must be more than 0", leat.serve, { timeout = 0, handler = print })
    t.raises("serve: expected a table", leat.serve, 8080)
end)

t.test("close cancels running handlers, answers them with 503, and waits for their clean-up", function()
    local started, cleaned = leat.event(), false
    local server = serving(function()
        leat.finally(function()
            started:set()
            leat.sleep(60)
        end, function()
            leat.sleep(0.02)
            cleaned = true
        end)
    end)
    local asked = leat.spawn(leat.request, server.url)
    started:wait()
    server:close()
    t.ok(cleaned)
    t.eq(assert(asked:await()).status, 503)
    t.fails("connect", leat.request(server.url))
    server:close() -- again: harmless
end)

t.test("close with a grace lets running handlers end", function()
    local started = leat.event()
    local server = serving(function()
        started:set()
        leat.sleep(0.05)
        return "done"
    end)
    local asked = leat.spawn(leat.request, server.url)
    started:wait()
    server:close(10)
    t.eq(assert(asked:await()).body, "done")
end)

t.test("a server that is closing answers no more requests, on a kept connection neither", function()
    for _, simulated in ipairs { false, true } do
        local started, go = leat.event(), leat.event()
        local function handler(req)
            if req.path == "/slow" then
                started:set()
                go:wait()
            end
            return "done"
        end
        local server = not simulated and serving(handler)
        server = server or simulating("http://closing.test", handler)
        if not server then break end
        local kept = not simulated and raw(server):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        if kept then kept:expect "done$" end
        local asked = leat.spawn(leat.request, server.url .. "/slow")
        started:wait()
        local closing = leat.spawn(server.close, server, 60)
        leat.sleep(0)
        if kept then
            kept:send "GET /again HTTP/1.1\r\nHost: x\r\n\r\n"
            kept:expect "HTTP/1.1 503 .*the server is closing"
            t.eq(kept:wait_end(), "closed")
            kept:close()
        else
            t.eq(assert(leat.request(server.url .. "/again")).status, 503)
        end
        closing:cancel() -- who waits for the end may be cancelled; the server goes on closing
        t.fails("cancelled", closing:await())
        go:set()
        t.eq(assert(asked:await()).body, "done")
        server:close()
    end
end)

t.test("a handler may close its own server", function()
    local server
    server = serving(function(req)
        req:respond { body = "bye" }
        server:close()
    end)
    t.eq(assert(leat.request(server.url)).body, "bye")
    server.task:await()
    t.fails("connect", leat.request(server.url))
end)

t.test("a stream whose client went away gives its connection back, though an older client stays", function()
    local server = serving(function(req)
        if req.path == "/" then return "fine" end
        local out = assert(req:respond {})
        out:write "begun"
        leat.sleep(1000)
    end)
    local older = raw(server):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    older:expect "fine"
    for _ = 1, 10 do
        local younger = raw(server):send "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
        younger:expect "begun"
        younger:close()
    end
    t.wait_until(function() return server:stats().connections == 1 end)
    older:close()
    server:close()
end)

t.test("a handler that goes on without its client leaves the processor to others", function()
    local began, over = leat.event(), leat.event()
    local server = serving(function()
        leat.finally(function()
            began:set()
            leat.sleep(1000)
        end, function()
            over:wait()
        end)
    end)
    leat.wait_for(0.1, leat.request, server.url)
    began:wait()
    t.wait_until(function() return server:stats().gone == 1 end)
    local before = os.clock()
    leat.sleep(0.5)
    local used = os.clock() - before
    over:set()
    assert(used < 0.05, ("%.2f s of the processor in half a second"):format(used))
    server:close()
end)

t.test("a server whose task was cancelled before it began listens no longer", function()
    local url
    pcall(function()
        leat.spawn(function()
            url = serving(print).url
            error "no wait came before this"
        end):await()
    end)
    t.fails("connect", leat.request(url))
end)

t.test("a server ends with the task that started it", function()
    local url
    local owner = leat.spawn(function() url = serving(function() return "x" end).url end)
    t.wait_until(function() return url end)
    t.eq(assert(leat.request(url)).body, "x")
    owner:cancel()
    owner:await()
    t.fails("connect", leat.request(url))
end)

t.test("200 clients with 5,000 requests: every answer is the asker's", function()
    local server = serving(function(req)
        if tonumber(req.query.n) % 7 == 0 then leat.sleep(0.001) end
        return { json = { n = tonumber(req.query.n) } }
    end)
    local n = 0
    local counts = leat.each(function()
        n = n + 1
        return n <= 5000 and n or nil
    end, function(i)
        local res = assert(leat.request(server.url .. "/?n=" .. i))
        t.eq(res:json().n, i)
        return true
    end, { limit = 200 })
    t.eq(counts.ok, 5000, tostring(counts.first_error))
    server:close()
end)

t.done()
