-- Replies that are not HTTP, behind good and bad ones: each is a failure of kind protocol and harms nothing
-- else, whatever was received before it. (libcurl 7.88 uses freed memory where a head begins with a folded
-- line: under AddressSanitizer this file shows it.)
local leat = require "leat"
local t = require "harness"
local generator = require "random"

local OK = "HTTP/1.1 200 OK\r\n"
local KEPT = "Content-Length: 2\r\n\r\nok"
local END = "Connection: close\r\n" .. KEPT -- or the next request may find a connection that is closing
local CHUNKED = OK .. "Transfer-Encoding: chunked\r\n\r\n"

-- The reply that is these bytes. The connection ends behind them unless `keep` is said.
local function raw(bytes, more)
    local o = { url = t.url .. "/raw", method = "POST", body = bytes, timeout = 20 }
    for k, v in pairs(more or {}) do o[k] = v end
    if o.keep then
        o.url, o.keep = o.url .. "?end=keep", nil
    end
    return request(o)
end

-- What may come before: the state that it leaves must not show.
local before = {
    { "a reply that closes", OK .. END },
    { "a reply that keeps the connection", OK .. KEPT, { keep = true } },
    { "a reply with one long header", OK .. "X: " .. ("y"):rep(5000) .. "\r\n" .. END },
    { "a reply without a header", OK .. "\r\nok" },
    { "a chunked reply with a trailer", CHUNKED .. "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", { keep = true } },
    { "a hint and a reply", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" .. OK .. END },
    { "a reply with a folded line", OK .. "X: a\r\n b\r\n" .. END },
    { "a reply that is cut off", OK .. "X: a\r\nContent-Length: 9\r\n\r\nok" },
    { "no reply", "" },
    { "a reply that is not HTTP", "220 mail.example ESMTP\r\n" },
}

local folded = {
    ["a folded line behind the status line"] = OK .. " X: y\r\n" .. END,
    ["a line folded by a tab"] = OK .. "\tX: y\r\n" .. END,
    ["a folded line without a colon"] = OK .. " folded\r\n" .. END,
    ["a folded line that is blank"] = OK .. " \r\n" .. END,
    ["a folded line alone"] = OK .. " X: y\r\n\r\n",
    ["a folded line that ends in LF"] = OK .. " X: y\n" .. END,
    ["a long folded line"] = OK .. " " .. ("y"):rep(9000) .. "\r\n" .. END,
    ["two folded lines"] = OK .. " X: y\r\n z\r\n" .. END,
    ["a folded line in a 1xx head"] = "HTTP/1.1 100 Continue\r\n X: y\r\n\r\n" .. OK .. END,
    ["a folded line behind a 1xx head"] =
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" .. OK .. " X: y\r\n" .. END,
    ["a folded length"] = OK .. "Content-Length:\r\n 2\r\n\r\nok",
    ["a folded line in a redirect"] = "HTTP/1.1 302 Found\r\n X: y\r\nLocation: /ok\r\n" .. END,
    ["a folded line in an answer without body"] = "HTTP/1.1 204 No Content\r\n X: y\r\n\r\n",
}

local malformed = {
    ["a status line that begins with a space"] = " " .. OK .. END,
    ["a status line in two"] = "HTTP/1.1\r\n 200 OK\r\n" .. END,
    ["a blank line before the status line"] = "\r\n" .. OK .. END,
    ["a NUL in a value"] = OK .. "X: a\0b\r\n" .. END,
    ["a NUL in a name"] = OK .. "X\0: a\r\n" .. END,
    ["a NUL in the status line"] = "HTTP/1.1 200 O\0K\r\n" .. END,
    ["a bare CR in a value"] = OK .. "X: a\rY: b\r\n" .. END,
    ["a bare CR in the status line"] = "HTTP/1.1 200 O\rK\r\n" .. END,
    ["a bare CR where a header begins"] = OK .. "\rX: a\r\n" .. END,
    ["a line without a colon"] = OK .. "no colon\r\n" .. END,
    ["a line that is a colon"] = OK .. ":\r\n" .. END,
    ["a space before the colon"] = OK .. "X : a\r\n" .. END,
    ["a second status line"] = OK .. "HTTP/1.1 404 Not Found\r\n" .. END,
    ["a chunk size that is none"] = CHUNKED .. "zz\r\nok\r\n0\r\n\r\n",
    ["a chunk size without end"] = CHUNKED .. ("f"):rep(40) .. "\r\nok\r\n0\r\n\r\n",
    ["a trailer with a control byte"] = CHUNKED .. "2\r\nok\r\n0\r\nX: \1\r\n\r\n",
    ["a trailer that is no header"] = CHUNKED .. "2\r\nok\r\n0\r\nno colon\r\n\r\n",
    ["lengths that differ"] = OK .. "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    ["a negative length"] = OK .. "Content-Length: -2\r\n\r\nok",
    ["a length with a sign"] = OK .. "Content-Length: +2\r\n\r\nok",
    ["a length in hex"] = OK .. "Content-Length: 0x2\r\n\r\nok",
    ["HTTP/2 without being asked"] = "\0\0\18\4\0\0\0\0\0\0\3\0\0\0\100\0\4\0\1\0\0\0\5\0\0\64\0",
    ["a TLS alert"] = "\21\3\1\0\2\2\40",
    ["a page without a head"] = "<html>400</html>\r\n\r\n",
    ["a status of two digits"] = "HTTP/1.1 20 OK\r\n" .. END,
    ["a status that is no number"] = "HTTP/1.1 abc OK\r\n" .. END,
}

local ways = {
    buffered = {}, ["as a stream"] = { stream = true }, ["with redirects"] = { follow = true },
    ["asking to be sent twice"] = { idempotent = true },
    ["over TLS"] = { url = t.tls_url .. "/raw", ca_file = t.ca_file },
    ["over TLS, HTTP/1.1"] = { url = t.tls_url .. "/raw", ca_file = t.ca_file, http_version = "1.1" },
    ["by a proxy"] = { proxy = t.proxy_url },
    ["through a tunnel"] = { url = t.tls_url .. "/raw", ca_file = t.ca_file, proxy = t.proxy_url },
    ["by SOCKS"] = { proxy = t.socks_url },
    ["by a Unix socket"] = { unix_socket = t.unix_socket },
    ["in the jar's company"] = { client = leat.client { cookies = true } },
}

local function sorted_keys(map)
    local keys = {}
    for key in pairs(map) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
end

-- The failure, however late a stream finds it.
local function outcome(stream, res, err)
    if res == nil or not stream then return res, err end
    local piece
    repeat
        piece, err = res:read(10000)
        if err then return nil, err end
    until not piece
    return res
end

local function is_protocol(what, bytes, more)
    local way = {}
    for k, v in pairs(more or {}) do way[k] = v end
    local client = way.client
    way.client = nil
    way.url, way.method, way.body, way.timeout = way.url or t.url .. "/raw", "POST", bytes, 20
    local res, err
    if client then
        res, err = client:request(way)
    else
        res, err = outcome(way.stream, request(way))
    end
    t.ok(res == nil and err.kind == "protocol",
        ("%s: %s"):format(what, tostring(err or (res and "status " .. res.status))))
    t.eq(err.retryable, false, what)
    return err
end

for _, first in ipairs(before) do
    t.test("a folded line that begins a head is refused behind " .. first[1], function()
        for _, what in ipairs(sorted_keys(folded)) do
            raw(first[2], first[3])
            is_protocol(what, folded[what])
        end
        t.eq(assert(raw(OK .. END)).body, "ok")
    end)
end

for _, name in ipairs(sorted_keys(ways)) do
    t.test("a malformed reply is a protocol failure " .. name, function()
        for _, list in ipairs { folded, malformed } do
            for _, what in ipairs(sorted_keys(list)) do
                raw(OK .. "X: a\r\n" .. END)
                is_protocol(what, list[what], ways[name])
            end
        end
        t.eq(assert(raw(OK .. END)).body, "ok")
    end)
end

t.test("a folded line is refused wherever a chain of redirects meets it", function()
    local server = assert(leat.serve { handler = function(req)
        return { status = 307, headers = { Location = t.url .. "/raw?n=" .. #req.body } }
    end })
    for _, what in ipairs(sorted_keys(folded)) do
        is_protocol(what, folded[what], { url = server.url, follow = true })
    end
    server:close()
end)

t.test("a folded line is refused behind an answer of HTTP/2 or of a tunnel", function()
    local h2 = os.getenv "H2_TLS_URL"
    for _, what in ipairs(sorted_keys(folded)) do
        if h2 then assert(request { url = h2 .. "/ok", ca_file = os.getenv "H2_CA" }) end
        assert(request { url = t.tls_url .. "/ok", ca_file = t.ca_file, proxy = t.proxy_url })
        is_protocol(what, folded[what], ways["over TLS"])
        is_protocol(what, folded[what], ways["through a tunnel"])
    end
end)

t.test("a proxy whose answer to CONNECT is malformed is a failure that names it", function()
    for _, host in ipairs { "fold-first", "fold", "fold-length", "no-http", "cut", "empty", "bad-chunk" } do
        for _ = 1, 3 do
            raw(OK .. "X: a\r\n" .. END)
            local res, err = request { url = "https://" .. host .. ".test/", proxy = t.proxy_url }
            t.ok(res == nil and err.kind == (host == "fold-first" and "tls" or "connect"),
                host .. ": " .. tostring(err))
            t.eq(err.reason, host ~= "fold-first" and "proxy" or nil)
        end
    end
    t.eq(assert(raw(OK .. END)).body, "ok")
end)

-- libcurl 7.88 drops what it has read from there on.
t.test("a line that begins with NUL is never a header, nor is what follows it", function()
    for _, bytes in ipairs { OK .. "\0: a\r\n" .. END, OK .. "X: a\r\n\0Y: b\r\n" .. END } do
        local _, err = raw(bytes)
        t.ok(err.kind == "closed" or err.kind == "protocol", tostring(err))
    end
end)

t.test("a hundred at once, good and malformed in turn, have each its own end", function()
    local names = sorted_keys(folded)
    local list = {}
    for i = 1, 200 do list[i] = i end
    local results = assert(leat.map(list, function(i)
        if i % 2 == 0 then return assert(raw(OK .. "X: a\r\n" .. END)).body end
        local what = names[i % #names + 1]
        return is_protocol(what, folded[what]).kind
    end, { limit = 100 }))
    for i = 1, 200 do
        t.eq(results[i], i % 2 == 0 and "ok" or "protocol")
    end
end)

t.test("bytes changed at random end as a reply or as a failure that says what it is", function()
    local random = generator(tonumber(os.getenv "LEAT_SEED") or 16)
    local pieces = { "\r\n", "\n", "\r", " ", "\t", "\0", ":", " x\r\n", "HTTP/1.1 ", "100 ", "204 ", "304 ",
        "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "0\r\n\r\n",
        "Location: /ok\r\n", "Content-Encoding: gzip\r\n", "\255", "\r\n\r\n", "ffffffffffffffff\r\n" }
    local good = { OK .. END, CHUNKED .. "2\r\nok\r\n0\r\nX: a\r\n\r\n",
        folded["a folded line behind a 1xx head"],
        "HTTP/1.1 100 Continue\r\n\r\n" .. OK .. "X: a\r\n b\r\n" .. END, before[6][2] }
    local allowed = { protocol = true, closed = true, too_large = true, timeout = true }
    for _ = 1, tonumber(os.getenv "LEAT_MUTATIONS") or 600 do
        local bytes = good[random(#good)]
        for _ = 1, random(4) do
            local at, gap = random(#bytes + 1), random(3) == 1 and random(6) or 0
            bytes = bytes:sub(1, at - 1) .. pieces[random(#pieces)] .. bytes:sub(at + gap)
        end
        local stream, follow = random(2) == 1, random(2) == 1
        local res, err = outcome(stream, raw(bytes, { stream = stream, follow = follow }))
        t.ok(res or allowed[err.kind], ("%q: %s"):format(bytes, tostring(err)))
    end
    t.eq(assert(raw(OK .. END, { idempotent = true })).body, "ok")
end)

t.done()
