-- serve: requests that two readers could understand in two ways, and requests that are cut anywhere.
local t = require "harness"
local leat = require "leat"
local raw = require "raw"

local HEAD = "POST / HTTP/1.1\r\nHost: x\r\n"
local CHUNKED = HEAD .. "Transfer-Encoding: chunked\r\n\r\n"
local SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

-- What is wrong, the bytes, and the status if it is not 400.
local refused = {
    { "an obsolete fold hides a Transfer-Encoding",
        HEAD .. "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
    { "a fold behind Transfer-Encoding", HEAD .. "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" },
    { "a fold behind Content-Length", HEAD .. "Content-Length:\r\n\t50\r\n\r\n" },
    { "a fold behind the request line", "GET / HTTP/1.1\r\n Host: x\r\n\r\n" },
    { "a bare CR hides a Transfer-Encoding", HEAD .. "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
    { "a bare CR at the end of a value", HEAD .. "X: y\r\r\n\r\n" },
    { "a bare CR in the request line", "GET /\rX HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a bare CR before the request", "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a bare LF behind a header", HEAD .. "X: y\n\r\n" },
    { "a bare LF behind the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n" },
    { "a bare LF as the empty line", HEAD .. "X: y\r\n\n" },
    { "a NUL in a value", HEAD .. "X: a\0b\r\n\r\n" },
    { "a NUL in a name", HEAD .. "X\0: y\r\n\r\n" },
    { "a NUL in the path", "GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a NUL at the end of the path", "GET /a\0 HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a version behind a NUL", "GET /\0 HTTP/1.1\r\nX: y HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a NUL in the query", "GET /?a=\0b HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a control byte in a value", HEAD .. "X: \27[2J\r\n\r\n" },
    { "Content-Length is no number", HEAD .. "Content-Length: five\r\n\r\nhello" },
    { "Content-Length has a plus", HEAD .. "Content-Length: +5\r\n\r\nhello" },
    { "Content-Length has a minus", HEAD .. "Content-Length: -5\r\n\r\nhello" },
    { "Content-Length is hexadecimal", HEAD .. "Content-Length: 0x5\r\n\r\nhello" },
    { "Content-Length has a blank inside", HEAD .. "Content-Length: 1 0\r\n\r\nhello" },
    { "Content-Length is a list", HEAD .. "Content-Length: 5, 5\r\n\r\nhello" },
    { "Content-Length is empty", HEAD .. "Content-Length:\r\n\r\nhello" },
    { "Content-Length is 2^64 and 5", HEAD .. "Content-Length: 18446744073709551621\r\n\r\nhello" },
    { "two different Content-Lengths", HEAD .. "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello" },
    { "two equal Content-Lengths", HEAD .. "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello" },
    { "Content-Length and Transfer-Encoding",
        HEAD .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
    { "Transfer-Encoding and Content-Length",
        HEAD .. "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" },
    { "chunked, identity", HEAD .. "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" },
    { "identity", HEAD .. "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" },
    { "xchunked", HEAD .. "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" },
    { "chunked twice", HEAD .. "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" },
    { "a coding that is not supported", HEAD .. "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" },
    { "chunked with a comma", HEAD .. "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n" },
    { "chunked in quotes", HEAD .. 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' },
    { "chunked behind a vertical tab", HEAD .. "Transfer-Encoding: \11chunked\r\n\r\n0\r\n\r\n" },
    { "chunked in two headers",
        HEAD .. "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" },
    { "chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
    { "a blank before the colon", HEAD .. "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" },
    { "a tab before the colon", HEAD .. "Content-Length\t: 5\r\n\r\nhello" },
    { "a header without a colon", HEAD .. "Transfer-Encoding\r\n\r\n" },
    { "a header without a name", HEAD .. ": y\r\n\r\n" },
    { "a name that is no token", HEAD .. "X(y): z\r\n\r\n" },
    { "no Host", "GET / HTTP/1.1\r\n\r\n" },
    { "two Hosts", HEAD .. "Host: y\r\n\r\n" },
    { "no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "no version", "GET /\r\nHost: x\r\n\r\n" },
    { "two blanks", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a tab as a blank", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a blank in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a blank before the method", " GET / HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a method that is no token", "G@T / HTTP/1.1\r\nHost: x\r\n\r\n" },
    { "a version in small letters", "GET / http/1.1\r\nHost: x\r\n\r\n" },
    { "another protocol", "GET / ICAP/1.0\r\nHost: x\r\n\r\n" },
    { "HTTP/1.10", "GET / HTTP/1.10\r\nHost: x\r\n\r\n", 505 },
    { "HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
    { "a chunk of 0x5", CHUNKED .. "0x5\r\nhello\r\n0\r\n\r\n" },
    { "a chunk of +5", CHUNKED .. "+5\r\nhello\r\n0\r\n\r\n" },
    { "a chunk of -5", CHUNKED .. "-5\r\nhello\r\n0\r\n\r\n" },
    { "a chunk of 2^64 and 5", CHUNKED .. "10000000000000005\r\nhello\r\n0\r\n\r\n" },
    { "a chunk of many zeros", CHUNKED .. "00000000000000005\r\nhello\r\n0\r\n\r\n" },
    { "a chunk without a size", CHUNKED .. ";a=b\r\nhello\r\n0\r\n\r\n" },
    { "a blank before a chunk's size", CHUNKED .. " 5\r\nhello\r\n0\r\n\r\n" },
    { "a blank behind a chunk's size", CHUNKED .. "5 \r\nhello\r\n0\r\n\r\n" },
    { "a bare LF behind a chunk's size", CHUNKED .. "5\nhello\r\n0\r\n\r\n" },
    { "a bare LF in a chunk's extension", CHUNKED .. "5;a\nhello\r\n0\r\n\r\n" },
    { "a bare CR in a chunk's extension", CHUNKED .. "5;a\rb\r\nhello\r\n0\r\n\r\n" },
    { "a NUL in a chunk's extension", CHUNKED .. "5;\0\r\nhello\r\n0\r\n\r\n" },
    { "a chunk's extension over 1 KB", CHUNKED .. "5;" .. ("a"):rep(1024) .. "\r\nhello\r\n0\r\n\r\n" },
    { "a bare LF behind a chunk's data", CHUNKED .. "5\r\nhello\n0\r\n\r\n" },
    { "more data than the chunk's size", CHUNKED .. "5\r\nhello!\r\n0\r\n\r\n" },
    { "a bare LF behind the last chunk", CHUNKED .. "0\n\r\n" },
    { "a bare LF at the end of the trailers", CHUNKED .. "0\r\nX: y\r\n\n" },
    { "a fold in the trailers", CHUNKED .. "0\r\nX: y\r\n z\r\n\r\n" },
}

local function serving(handler, opts)
    opts = opts or {}
    opts.handler = handler
    return assert(leat.serve(opts))
end

-- Exactly one refusal came, and then the end.
local function check_refused(client, row, how)
    client:wait_end()
    local what = ("%s, %s: %s"):format(row[1], how, client.got)
    t.eq(client.ended, "closed", what)
    local answer = "^HTTP/1.1 %d .*Connection: close\r\n.*{\"error\":{\"message\":"
    t.ok(client.got:find(answer:format(row[3] or 400)), what)
    t.ok(not client.got:find("HTTP/1.1 ", 2, true), what)
    client:close()
end

-- Runs `fn` with a server whose handler must not be reached.
local function unreached(fn)
    local asked = 0
    local server = serving(function()
        asked = asked + 1
        return "reached"
    end)
    fn(server)
    t.eq(asked, 0)
    t.wait_until(function() return server:stats().connections == 0 end)
    server:close()
end

t.test("each malformed request is refused once, and what comes behind it is not obeyed", function()
    unreached(function(server)
        for _, row in ipairs(refused) do
            check_refused(raw(server):send(row[2] .. SMUGGLED), row, "whole")
        end
    end)
end)

t.test("each malformed request is refused when it comes a byte at a time", function()
    unreached(function(server)
        local clients, left = {}, #refused
        for i in ipairs(refused) do clients[i] = raw(server) end
        for at = 1, math.huge do
            for i, row in ipairs(refused) do
                if at <= #row[2] then clients[i]:send(row[2]:sub(at, at)) end
                if at == #row[2] then left = left - 1 end
            end
            if left == 0 then break end
            leat.sleep(0)
        end
        for i, row in ipairs(refused) do check_refused(clients[i], row, "a byte at a time") end
    end)
end)

t.test("each malformed request is refused, wherever it is cut", function()
    unreached(function(server)
        for _, row in ipairs(refused) do
            local clients, text = {}, row[2] .. SMUGGLED
            for cut = 1, math.min(#row[2], 200) do clients[cut] = raw(server):send(text:sub(1, cut)) end
            t.wait_until(function() return server:stats().connections == #clients end)
            for cut, client in ipairs(clients) do client:send(text:sub(cut + 1)) end
            for cut, client in ipairs(clients) do check_refused(client, row, "cut at " .. cut) end
            t.wait_until(function() return server:stats().connections == 0 end)
        end
    end)
end)

t.test("a good request before a malformed one is answered first", function()
    local server = serving(function(req)
        leat.sleep(0.01)
        return "answer " .. req.path .. "."
    end)
    for _, row in ipairs(refused) do
        local client = raw(server):send("GET /good HTTP/1.1\r\nHost: x\r\n\r\n" .. row[2] .. SMUGGLED)
        client:wait_end()
        t.eq(client.ended, "closed", row[1])
        local _, count = client.got:gsub("HTTP/1.1 ", "")
        t.eq(count, 2, row[1] .. ": " .. client.got)
        t.ok(client.got:find("^HTTP/1.1 200 .*answer /good%.HTTP/1.1 " .. (row[3] or 400)), row[1])
        client:close()
    end
    server:close()
end)

t.test("a head that is too large is refused with 431", function()
    unreached(function(server)
        for _, head in ipairs {
            "GET /" .. ("y"):rep(40000) .. " HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nX: " .. ("y"):rep(40000) .. "\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n" .. ("X: y\r\n"):rep(256) .. "\r\n",
            CHUNKED .. "0\r\n" .. ("X: " .. ("y"):rep(200) .. "\r\n"):rep(200) .. "\r\n",
        } do
            check_refused(raw(server):send(head .. SMUGGLED), { "too large", head, 431 }, "whole")
        end
    end)
end)

t.test("good requests arrive, wherever they are cut", function()
    local server = serving(function(req) return { json = { req.method, req.path, req.body } } end)
    local text = "\r\nPOST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        .. "PUT /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        .. "2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nX: y\r\n\r\n"
        .. "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
    local clients = {}
    for cut = 1, #text do clients[cut] = raw(server):send(text:sub(1, cut)) end
    t.wait_until(function() return server:stats().connections == #text end)
    for cut, client in ipairs(clients) do client:send(text:sub(cut + 1)) end
    for cut, client in ipairs(clients) do
        client:expect '"/3",""%]$'
        local got = {}
        for answer in client.got:gmatch "%[[^%]]*%]" do got[#got + 1] = answer end
        t.eq(table.concat(got), '["POST","/1","hello"]["PUT","/2","hello"]["GET","/3",""]', cut)
        client:close()
    end
    server:close()
end)

t.test("a client that sends far ahead has every answer, in order", function()
    local server = serving(function(req) return req.path end)
    local parts, expected = {}, {}
    for i = 1, 3000 do
        parts[i] = ("GET /%d HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n"):format(i, ("y"):rep(50))
        expected[i] = "/" .. i
    end
    local client = raw(server)
    local sender = leat.spawn(function()
        local text, at = table.concat(parts), 1
        while at <= #text do
            at = at + client:send_some(text:sub(at, at + 20000))
            leat.sleep(0)
        end
    end)
    client:expect "/3000$"
    sender:await()
    local got = {}
    for path in client.got:gmatch "\r\n\r\n(/%d+)" do got[#got + 1] = path end
    t.eq(got, expected)
    client:close()
    server:close()
end)

t.test("a body that is waited for by Expect is asked for, or refused before it comes", function()
    local server = serving(function(req) return req.body end, { max_body = 10 })
    local expect = HEAD .. "Expect: 100-continue\r\nContent-Length: "
    local client = raw(server):send(expect .. "5\r\n\r\n")
    client:expect "^HTTP/1.1 100 Continue\r\n\r\n$"
    client:send "hello"
    client:expect "^HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\nhello$"
    client:close()
    client = raw(server):send(expect .. "50\r\n\r\n")
    client:wait_end()
    t.ok(client.got:find "^HTTP/1.1 413 ", client.got)
    client:close()
    client = raw(server):send(expect .. "5\r\n\r\nhello") -- it does not wait
    client:expect "^HTTP/1.1 200 .*hello$"
    client:close()
    client = raw(server):send((expect:gsub("1%.1", "1.0")) .. "5\r\n\r\n") -- HTTP/1.0 does not know it
    client:send "hello"
    client:wait_end()
    t.ok(client.got:find "^HTTP/1.1 200 .*hello$", client.got)
    client:close()
    server:close()
end)

t.test("a client that goes on sending after a refusal can read it", function()
    local server = serving(function() return "x" end, { max_body = 10 })
    for _, head in ipairs { HEAD .. "Content-Length: 3000000\r\n\r\n", CHUNKED .. "2dc6c0\r\n" } do
        local client = raw(server):send(head)
        local left = 3000000
        while left > 0 do
            left = left - client:send_some(("y"):rep(math.min(left, 100000)))
            leat.sleep(0)
        end
        client:wait_end()
        t.eq(client.ended, "closed")
        t.ok(client.got:find "^HTTP/1.1 413 ", client.got)
        client:close()
    end
    server:close()
end)

t.test("a client that does not close after a refusal is closed soon", function()
    local server = serving(function() return "x" end, { timeout = 0.2 })
    local client = raw(server):send "GET /\r\n\r\n"
    client:wait_end()
    t.wait_until(function() return server:stats().connections == 0 end)
    client:close()
    server:close()
end)

t.test("a client that does not read its response is disconnected", function()
    local server = serving(function() return ("x"):rep(20000000) end, { timeout = 0.2 })
    local client = raw(server, true):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    t.wait_until(function() return server:stats().requests == 1 and server:stats().connections == 0 end)
    client:close()
    server:close()
end)

t.test("a client that ends its side while a complete response is on its way gets it whole", function()
    local server = serving(function() return ("x"):rep(5000000) end)
    local client = raw(server, true):send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "x"
    client:half_close():wait_end()
    t.eq(client.ended, "closed")
    t.eq(#client.got:match "\r\n\r\n(x*)$", 5000000)
    client:close()
    server:close()
end)

t.test("a client of HTTP/1.0 keeps its connection where it asks for that", function()
    local server = serving(function(req)
        if req.path == "/stream" then
            local out = assert(req:respond {})
            out:write "all"
            return out:close()
        end
        return "x"
    end)
    local client = raw(server):send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    client:expect "Connection: keep%-alive\r\n\r\nx$"
    client:send "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    t.eq(client:wait_end(), "closed") -- the end of the connection is the end of the body
    t.ok(client.got:find "Connection: close\r\n\r\nall$", client.got)
    t.ok(not client.got:find "chunked")
    client:close()
    client = raw(server):send "GET / HTTP/1.0\r\n\r\n"
    t.eq(client:wait_end(), "closed")
    client:close()
    server:close()
end)

t.test("a response to HEAD has the head of GET, and no body", function()
    local server = serving(function(req)
        if req.path ~= "/stream" then return "four" end
        local out = assert(req:respond {})
        out:write "four"
    end)
    local client = raw(server)
    client:send "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nHEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "Transfer%-Encoding: chunked\r\n\r\n$"
    t.ok(client.got:find "^HTTP/1.1 200 OK\r\n.*Content%-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\n", client.got)
    client:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client:expect "four$"
    client:close()
    server:close()
end)

t.test("a handler's own Date and Connection: close are sent, once", function()
    local server = serving(function()
        return { body = "x", headers = { Date = "Thu, 01 Jan 1970 00:00:00 GMT", Connection = "close" } }
    end)
    local client = raw(server):send("GET / HTTP/1.1\r\nHost: x\r\n\r\n" .. SMUGGLED)
    t.eq(client:wait_end(), "closed")
    for _, name in ipairs { "Date: ", "Connection: ", "HTTP/1.1 " } do
        local _, count = client.got:gsub(name, "")
        t.eq(count, 1, client.got)
    end
    t.ok(client.got:find "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n")
    client:close()
    server:close()
end)

t.test("each response says when it was made", function()
    local server = serving(function() return "x" end)
    local res = assert(leat.request(server.url))
    t.ok(res.headers.date:find "^%a%a%a, %d%d %a%a%a 20%d%d %d%d:%d%d:%d%d GMT$", res.headers.date)
    server:close()
end)

t.done()
