-- What a request does when the network or the server misbehaves: for each fault either the test that is
-- here, or where else it is tested.
--
-- refused                   test_http_faults; here that no limit is waited for
-- unknown or hanging name   test_http_faults
-- cancel in each phase      test_http_cancel
-- certificates              test_http_faults; here that trust is not inherited
-- silent TLS port           test_http_faults
-- reset before the head     test_http_faults; here that a POST is sent once
-- drop after a POST         test_http_faults
-- idle connection closed    test_http_faults; here the POST that is not idempotent
-- truncated                 test_http_faults; here more ends of chunks
-- chunks, lengths, bytes    test_http_faults; here each spelling
-- length against chunks     test_http_faults, unit/test_engine
-- what is not HTTP          test_http_faults; here other protocols
-- heads without end         test_http_faults; here what they cost
-- bytes that nobody asked   test_http_faults; unit/test_engine
-- trailers                  test_http, test_stream; here broken ones
-- compressed bodies         test_http_faults, test_http, unit/test_inflate
-- unknown coding            test_http; here by name, twice, and in a stream
-- drip, no answer           test_http_faults
-- Expect                    test_http
-- statuses, bursts          here as what is returned; virtual_retry, virtual_policies, policy_http
-- redirects                 test_http_faults, test_http, unit/test_redirect; here odd targets
-- what must not be sent     test_http_faults; here the parts not named there
-- addresses under a policy  cli/test_targets, unit/test_connect_rules
-- proxy of the environment  here for the command; a library's runtime ignores it unless told
-- HTTP/2                    test_h2
-- the limit on the wire     here
package.path = (arg[0]:match "^(.*/)" or "") .. "../lua/?.lua;" .. package.path
local leat = require "leat"
local t = require "harness"

local url = t.url

local function fails(kind, path, options)
    options = options or {}
    options.url = options.url or url .. path
    return t.fails(kind, request(options))
end

-- The answer that is these bytes; the connection ends behind them.
local function raw(bytes, options)
    options = options or {}
    options.url = url .. "/raw"
    options.method, options.body = "GET", bytes
    -- Lest the next one finds this connection closed.
    options.headers = { Connection = "close" }
    return request(options)
end

-- How many requests the server has counted there.
local function requests(path)
    local seen = t.stats().paths[path]
    return seen and seen.requests or 0
end

local OK = "HTTP/1.1 200 OK\r\n"
local CHUNKED = OK .. "Transfer-Encoding: chunked\r\n\r\n"
local END = "Content-Length: 3\r\n\r\nok\n"

local function all_fail(kind, answers)
    for _, bytes in ipairs(answers) do
        local res, err = raw(bytes)
        local name = ("%q"):format(bytes:sub(1, 120))
        t.ok(res == nil, name .. " is an answer")
        t.eq(err.kind, kind, name .. " " .. tostring(err))
        t.eq(err.retryable, kind == "closed", name)
    end
end

local function all_pass(answers)
    for _, bytes in ipairs(answers) do
        local res, err = raw(bytes)
        t.ok(res, ("%q: %s"):format(bytes:sub(1, 120), tostring(err)))
        t.eq(res.body, "ok\n", bytes)
    end
end

-- ---- size. First, while the peak of memory is still that of this test.

t.test("a head without end costs no more memory than a megabyte", function()
    local before = leat.stats().memory_bytes
    for _, path in ipairs { "/big-header?kb=200", "/many-headers?n=4000", "/many-1xx?n=5000" } do
        local err = fails("too_large", path)
        t.eq(err.partial, nil)
        t.eq(err.retryable, false)
    end
    t.eq(fails("too_large", "/big-header?kb=200", { stream = true }).retryable, false)
    local grown = leat.stats().memory_peak_bytes - before
    t.ok(grown < 2 ^ 20, "peak of " .. grown .. " bytes over the start")
end)

-- ---- connecting

t.test("a refused connection is a connect failure at once, and may be tried again", function()
    for _, path in ipairs { "/", "/?stream" } do
        local err = fails("connect", nil, { url = t.refused_url .. path, stream = path ~= "/",
            timeout = { connect = 3600, total = 3600 } })
        t.eq({ err.reason, err.retryable, err.phase }, { "refused", true, "connect" })
        t.ok(err.elapsed < 60, "no limit was waited for: " .. err.elapsed)
    end
end)

t.test("an unknown certificate is refused before the request is sent", function()
    t.stats_reset()
    for _, where in ipairs {
        { t.tls_url }, { t.tls_expired_url, t.ca_file }, { t.tls_wrong_host_url, t.ca_file },
    } do
        local err = fails("tls", nil, { url = where[1] .. "/echo", ca_file = where[2], body = "secret" })
        t.eq({ err.reason, err.retryable, err.phase }, { "verify", false, "tls" })
        err = fails("tls", nil, { url = where[1] .. "/echo", ca_file = where[2], stream = true })
        t.eq(err.reason, "verify")
    end
    t.eq(requests "/echo", 0)
end)

t.test("what one request trusts is not trusted by the next", function()
    local where = t.tls_wrong_host_url .. "/ok"
    for _ = 1, 3 do
        t.eq(assert(request { url = where, insecure = true }).status, 200)
        fails("tls", nil, { url = where })
        fails("tls", nil, { url = where, ca_file = t.ca_file })
        t.eq(assert(request { url = t.tls_url .. "/ok", ca_file = t.ca_file }).status, 200)
        fails("tls", nil, { url = t.tls_url .. "/ok" })
    end
end)

t.test("a redirect to a host with a bad certificate is a tls failure, not a response", function()
    fails("tls", nil, { url = t.tls_url .. "/redirect?to=" .. t.tls_wrong_host_url .. "/ok",
        ca_file = t.ca_file })
end)

-- ---- connections that go away

t.test("a POST whose connection is reset was sent once", function()
    for _, path in ipairs { "/reset-before-head", "/empty-reply", "/reset-in-body" } do
        local id = leat.uuid()
        local err = fails("closed", path, { method = "POST", body = "x", headers = { ["X-Id"] = id } })
        t.eq(err.retryable, true)
        t.eq(t.seen(id), 1)
    end
end)

t.test("a POST after the server closed the idle connection goes out on a new one, once", function()
    for _ = 1, 5 do
        local base = url:gsub("127%.0%.0%.1", leat.uuid() .. ".lo.test")
        local open = t.stats().connections_open
        t.eq(assert(request(base .. "/close-idle")).status, 200)
        t.wait_until(function() return t.stats().connections_open <= open end)
        local id = leat.uuid()
        local res = assert(request { url = base .. "/echo", body = "x", headers = { ["X-Id"] = id } })
        t.eq({ res.status, res.attempts, t.seen(id) }, { 200, 1, 1 })
    end
end)

-- ---- answers that are broken

t.test("a chunked body without its end is truncated, with what came", function()
    for bytes, partial in pairs {
        [""] = "", ["3"] = "", ["3\r\n"] = "", ["3\r\nok"] = "ok", ["3\r\nok\n"] = "ok\n",
        ["3\r\nok\n\r\n"] = "ok\n", ["3\r\nok\n\r\n0"] = "ok\n", ["3\r\nok\n\r\n0\r\n"] = "ok\n",
        ["3\r\nok\n\r\n0\r\nX-Sum: 4"] = "ok\n", ["3\r\nok\n\r\n0\r\nX-Sum: 42\r\n"] = "ok\n",
        ["7FFFFFFFFFFFFFFF\r\nok\n"] = "ok\n",
    } do
        local err = t.fails("closed", raw(CHUNKED .. bytes))
        t.eq({ err.reason, err.got, err.expected }, { "truncated", #partial }, bytes)
        t.eq(err.partial or "", partial, bytes)
        t.eq(err.status, 200)
    end
end)

t.test("a chunk whose size is no number is a protocol failure", function()
    local bodies = {}
    for _, size in ipairs {
        "", "zz", "-3", "+3", " 3", "0x3", "\0", ("0"):rep(40) .. "3", ("F"):rep(16), ("F"):rep(18),
    } do
        bodies[#bodies + 1] = CHUNKED .. size .. "\r\nok\n\r\n0\r\n\r\n"
    end
    bodies[#bodies + 1] = CHUNKED .. "3\r\nok\nX0\r\n\r\n"
    bodies[#bodies + 1] = CHUNKED .. "2\r\nok\n\r\n0\r\n\r\n"
    all_fail("protocol", bodies)
    all_pass { CHUNKED .. '3;a="b"\r\nok\n\r\n0\r\n\r\n', CHUNKED .. "0003\r\nok\n\r\n00\r\n\r\n",
        CHUNKED .. "1\r\no\r\n2\r\nk\n\r\n0\r\n\r\n" }
end)

t.test("a broken trailer is a protocol failure, too many are too large", function()
    local body = CHUNKED .. "3\r\nok\n\r\n0\r\n"
    all_fail("protocol", {
        body .. "no colon\r\n\r\n", body .. "X: a\0b\r\n\r\n", body .. "X: a\1b\r\n\r\n",
        body .. "X Y: a\r\n\r\n", body .. ": a\r\n\r\n",
    })
    local err = t.fails("too_large", raw(body .. ("X: y\r\n"):rep(1000) .. "\r\n"))
    t.eq(err.retryable, false)
    local res = assert(raw(body .. "Content-Length: 99\r\nX-Sum: 42\r\n\r\n"))
    t.eq({ res.body, res.trailers["x-sum"], res.headers["content-length"] }, { "ok\n", "42" })
end)

t.test("a Content-Length that is no number, or two that differ, is a protocol failure", function()
    local answers = {}
    for _, value in ipairs {
        "", "-5", "+3", "3 3", "3, 3", "3,5", "0x3", "3.0", "3e0", "three", "99999999999999999999", "3;x",
        "3\r\nContent-Length: 5", "5\r\ncontent-length: 3", "3\r\n 5", "\r\n 3", "3\r\n\t",
    } do
        answers[#answers + 1] = OK .. "Content-Length: " .. value .. "\r\n\r\nok\n"
    end
    all_fail("protocol", answers)
    all_pass { OK .. "Content-Length: 3\r\nContent-Length: 3\r\n\r\nok\n",
        OK .. "Content-Length: \t3 \r\n\r\nok\n", OK .. "Content-Length: 0003\r\n\r\nok\n" }
end)

t.test("a length beyond max_body is too large before the body comes", function()
    local err = t.fails("too_large", raw(OK .. "Content-Length: 999999999999999999\r\n\r\nok\n"))
    t.eq({ err.retryable, err.partial }, { false })
    err = t.fails("closed", raw(OK .. "Content-Length: 1000000\r\n\r\nok\n"))
    t.eq({ err.reason, err.got, err.expected }, { "truncated", 3, 1000000 })
end)

t.test("a Transfer-Encoding that is not understood is a protocol failure", function()
    local body = "\r\n\r\n3\r\nok\n\r\n0\r\n\r\n"
    all_fail("protocol", {
        OK .. "Transfer-Encoding: xchunked" .. body, OK .. "Transfer-Encoding: gzip, chunked" .. body,
        OK .. "Transfer-Encoding: chunked\r\n x" .. body, OK .. "Transfer-Encoding: br" .. body,
    })
end)

t.test("bytes that no head may have are a protocol failure", function()
    all_fail("protocol", {
        OK .. "X: a\0b\r\n" .. END, OK .. "X\0Y: a\r\n" .. END, OK .. "X: a\1b\r\n" .. END,
        OK .. "X: a\rb\r\n" .. END, OK .. "X: \127\r\n" .. END, OK .. "X\27: a\r\n" .. END,
        OK .. "no colon\r\n" .. END, OK .. "X : a\r\n" .. END, OK .. ": a\r\n" .. END,
        OK .. " folded\r\n" .. END, OK .. "HTTP/1.1 404 Not Found\r\n" .. END,
        "HTTP/1.1 200 O\0K\r\n" .. END, "HTTP/1.1 200 \27[31mOK\r\n" .. END,
        "HTTP/1.1 200 O\rK\r\n" .. END, OK .. "X: a\r\n\tb\r\n" .. END, -- folded: RFC 9112 5.2
    })
    all_pass { OK .. "X:\r\n" .. END, OK .. "X: \200\255\r\n" .. END, "HTTP/1.1 200\r\n" .. END,
        "HTTP/1.1 200 OK\nContent-Length: 3\n\nok\n" }
    t.eq(#assert(raw("HTTP/1.1 200 " .. ("x"):rep(5000) .. "\r\n" .. END)).reason, 63)
end)

t.test("another protocol or version is a protocol failure, an unfinished head a reset", function()
    local answers = {
        "SSH-2.0-OpenSSH_9.2\r\n", "220 mail.example ESMTP\r\n", "<html>400</html>", "\21\3\1\0\2\2\40",
        "\0\0\18\4\0\0\0\0\0\0\3\0\0\0\100\0\4\0\1\0\0\0\5\0\0\64\0", "\r\n\r\n" .. OK .. END,
    }
    for _, first in ipairs {
        "HTTP/0.9 200 OK", "HTTP/1.2 200 OK", "HTTP/3 200 OK", "HTTP/1.1 abc OK", "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 000 OK", "http/1.1 200 OK", "ICY 200 OK",
        "RTSP/1.0 200 OK",
    } do
        answers[#answers + 1] = first .. "\r\n" .. END
    end
    all_fail("protocol", answers)
    answers = { "H", "HTTP/1.", "HTTP/1.1 200 OK", OK, OK .. "X: y", OK .. "Content-Length: 0\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n" }
    all_fail("closed", answers)
    for _, bytes in ipairs(answers) do
        t.eq(t.fails("closed", raw(bytes, { stream = true })).reason, "reset", bytes)
    end
end)

t.test("what comes before the answer does not become a part of it", function()
    local res = assert(raw("HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n"
        .. "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" .. OK .. END))
    t.eq({ res.status, res.body, res.headers.link, res.encoded }, { 200, "ok\n" })
    t.eq(res.headers["content-length"], "3")
end)

t.test("a coding that is not understood leaves the body as it came, and says so", function()
    for _, coding in ipairs { "br", "zstd", "gzip, gzip", "compress" } do
        local bytes = ("%sContent-Encoding: %s\r\n%s"):format(OK, coding, END)
        local res = assert(raw(bytes))
        t.eq({ res.body, res.encoded }, { "ok\n", coding })
        t.eq(t.fails("protocol", res:json()).reason, "decode")
        res = assert(raw(bytes, { stream = true }))
        t.eq({ res.encoded, res:read(10) }, { coding, "ok\n" })
        res:close()
    end
    local res = assert(raw(OK .. "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n" .. END))
    t.eq({ res.body, res.encoded }, { "ok\n", "gzip, gzip" })
    res = assert(raw(OK .. "Content-Encoding: gzip\r\n" .. END, { compressed = false }))
    t.eq({ res.body, res.encoded }, { "ok\n", "gzip" })
    local err = t.fails("protocol", raw(OK .. "Content-Encoding: gzip\r\n" .. END))
    t.eq({ err.reason, err.retryable }, { "decode", false })
end)

-- ---- statuses

t.test("a status that a client must mend comes back at once, sent once", function()
    for _, status in ipairs { 400, 401, 403, 404, 409, 422 } do
        local id = leat.uuid()
        local res = assert(request(("%s/fail-first?n=1&id=%s&status=%d"):format(url, id, status)))
        t.eq({ res.status, res.ok, res.attempts, res.body }, { status, false, 1, "not yet\n" })
        t.eq(t.seen(id), 1)
    end
end)

t.test("a Retry-After of any spelling is a header like any other", function()
    for _, value in ipairs {
        "2", "-5", "1.5", "1e14", "abc", "", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT",
        "Sun, 06 Nov 2094 08:49:37 GMT", "2, 3",
    } do
        local res = assert(request { url = url .. "/retry-after", query = { v = value }, timeout = 60 })
        t.eq({ res.status, res.headers["retry-after"], res.attempts }, { 429, value, 1 }, value)
    end
end)

t.test("1,000 requests that are all asked to slow down end, each sent once", function()
    t.stats_reset()
    local n = 0
    local sum = leat.each(function()
        n = n + 1
        return n <= 1000 and n or nil
    end, function()
        local res = assert(request(url .. "/retry-after?v=3600"))
        assert(res.status == 429)
        return res.status
    end, { limit = 100 })
    t.eq({ sum.ok, sum.failed }, { 1000, 0 })
    t.eq(requests "/retry-after", 1000)
end)

t.test("of connections that break in a burst only the requests on them fail", function()
    local broken = 10
    assert(request(url .. "/flaky-set?n=" .. broken))
    local failed, good = 0, 0
    for _ = 1, broken + 20 do
        local res, err = request { url = t.flaky_url .. "/", body = "x" }
        if res then
            good = good + 1
        else
            t.eq({ err.kind, err.retryable }, { "closed", true })
            failed = failed + 1
        end
    end
    t.eq({ failed, good }, { broken, 20 })
end)

-- ---- redirects

t.test("a redirect to another scheme is denied, to no URL at all a protocol failure", function()
    for _, target in ipairs {
        "file:///etc/passwd", "file:/etc/passwd", "FILE:///etc/passwd", "gopher://127.0.0.1/",
        "ftp://127.0.0.1/", "ws://127.0.0.1/", "mailto:x@y", "javascript:alert(1)", "data:text/plain,x",
    } do
        local err = fails("denied", "/redirect", { query = { to = target } })
        t.eq({ err.reason, err.retryable }, { "redirect", false }, target)
    end
    for _, target in ipairs {
        "http://", "http://a b/", "http://127.0.0.1:99999/", "http://[::1/", "a\1b",
        "http://\195\169.example/",
    } do
        t.eq(fails("protocol", "/redirect", { query = { to = target } }).retryable, false, target)
    end
end)

t.test("a redirect's target may be relative, need encoding, or name the host alone", function()
    local host = url:match "//.*"
    for target, want in pairs {
        ["echo?a=b"] = "a=b", ["./x/../echo?a=b#f"] = "a=b", ["//" .. host:sub(3) .. "/echo?x"] = "x",
        ["/echo?a b"] = "a+b", [url .. "/echo?y"] = "y",
    } do
        local res = assert(request { url = url .. "/redirect", query = { to = target } })
        t.eq(res:json().query, want, target)
    end
end)

t.test("credentials that a redirect hands out are not used", function()
    local target = url:gsub("//", "//user:hunter2@") .. "/echo"
    local res = assert(request { url = url .. "/redirect", query = { to = target } })
    t.eq(res:json().headers.authorization, nil)
    t.eq(res.url, url .. "/echo")
end)

-- ---- what must not be sent

t.test("no option lets a control byte onto the wire", function()
    t.stats_reset()
    for _, bad in ipairs { "\r\nX-Evil: 1", "\r\n\r\nGET /evil HTTP/1.1", "\n", "\r", "\0" } do
        local where = url .. "/ok"
        fails("invalid", nil, { url = where, unix_socket = "/x\0" .. bad })
        fails("invalid", nil, { url = where, proxy = t.proxy_url .. bad })
        fails("invalid", nil, { url = where, stream = true, headers = { ["X-A"] = { "1", "2" .. bad } } })
        local escaped = bad:gsub("%W", function(c) return ("%%%02x"):format(c:byte()) end)
        fails("invalid", nil, { url = where:gsub("//", function() return "//user" .. escaped .. "@" end) })
    end
    t.eq(requests "/ok", 0)
    local query = { a = "1\r\nX-Evil: 1", ["b\n"] = "\0" }
    local got = assert(request { url = url .. "/echo", query = query }):json()
    t.eq(got.query, "a=1%0D%0AX-Evil%3A%201&b%0A=%00")
    t.eq(got.headers["x-evil"], nil)
end)

t.test("a header whose value is blank is sent blank", function()
    local got = assert(request { url = url .. "/echo",
        headers = { ["X-Empty"] = "", ["X-Blank"] = "  ", ["X-Tab"] = "\t" } }):json()
    t.eq({ got.headers["x-empty"], got.headers["x-blank"], got.headers["x-tab"] }, { "", "", "" })
end)

t.test("a name and password in the URL become a header, and show nowhere", function()
    local function at(userinfo)
        return (url:gsub("//", function() return "//" .. userinfo .. "@" end))
    end
    for userinfo, want in pairs {
        ["user"] = "dXNlcjo=", ["user:"] = "dXNlcjo=", ["u%40v:p%2Fq"] = "dUB2OnAvcQ==",
    } do
        local res = assert(request(at(userinfo) .. "/echo"))
        t.eq(res:json().headers.authorization, "Basic " .. want)
        t.eq(res.url, url .. "/echo")
    end
    local err = fails("timeout", nil, { url = at "user:hunter2" .. "/never", timeout = 0.05 })
    t.ok(not (tostring(err) .. err.url):find "hunter2", tostring(err))
    fails("invalid", nil, { url = at "user@host" .. "/ok" })
end)

t.test("a host name that is not ASCII is refused with the form to write", function()
    for _, host in ipairs { "\195\169.example", "%c3%a9.example", "\255" } do
        local err = fails("invalid", nil, { url = "http://" .. host .. "/" })
        t.ok(err.message:find("xn--", 1, true), err.message)
    end
end)

-- ---- proxies

-- What the command prints that runs this line of Lua, with http_proxy set.
local function with_proxy(code)
    local program = os.getenv "LEAT" or "/proc/$PPID/exe"
    local f = assert(io.popen(("env -u no_proxy -u NO_PROXY http_proxy=%s %s -e '%s' %s 2>&1"):format(
        t.proxy_url, program, code, url)))
    local out = f:read "*a"
    f:close()
    return out
end

t.test("the command goes through the proxy of its environment unless the script says otherwise", function()
    t.stats_reset()
    t.eq(with_proxy "print(assert(request(arg[1] .. [[/ok]])).status)", "200\n")
    t.eq(t.stats().proxy.requests, 1)
    t.eq(with_proxy "print(assert(request { url = arg[1] .. [[/ok]], proxy = [[]] }).status)", "200\n")
    t.eq(t.stats().proxy.requests, 1)
end)

-- ---- many

t.test("10,000 requests under a limit of 100: never more on the wire", function()
    t.stats_reset()
    local n = 0
    local sum = leat.each(function()
        n = n + 1
        return n <= 10000 and n or nil
    end, function() return request(url .. "/ok") end, { limit = 100 })
    t.eq({ sum.ok, sum.failed }, { 10000, 0 })
    local seen = t.stats().paths["/ok"]
    t.eq(seen.requests, 10000)
    t.ok(seen.peak_in_flight <= 100, "at most 100 at once, seen " .. seen.peak_in_flight)
    t.ok(t.stats().connections_peak <= 110, "connections: " .. t.stats().connections_peak)
end)

t.done()
