-- How a connection is made: proxies, Unix sockets, addresses of one's own, client certificates; and cookies.
local leat = require "leat"
local t = require "harness"

local url = t.url
local port = url:match ":(%d+)$"

local function echo(options, path)
    options.url = options.url or url .. (path or "/echo")
    return assert(assert(request(options)):json())
end

-- ---- proxies

t.test("an HTTP proxy carries plain requests", function()
    t.stats_reset()
    local got = echo { proxy = t.proxy_url }
    t.eq(got.headers.via, "1.1 faultd")
    t.eq(t.stats().proxy.requests, 1)
    t.eq(echo({ proxy = "" }).headers.via, nil)
end)

t.test("an HTTP proxy is tunnelled through for TLS", function()
    t.stats_reset()
    local got = echo { url = t.tls_url .. "/echo", ca_file = t.ca_file, proxy = t.proxy_url }
    t.eq({ got.tls, got.headers.via }, { true, nil })
    t.eq(t.stats().proxy.connects, 1)
    local res = assert(request { url = t.tls_url .. "/ok", ca_file = t.ca_file, proxy = t.proxy_url })
    t.eq(res.headers["content-length"], "3", "the proxy's own head is not the response's")
end)

t.test("a proxy that wants a password gets it from its URL, and nowhere else", function()
    local with = t.proxy_auth_url:gsub("//", "//u:p%%3Ass@")
    local got = echo { proxy = with }
    t.eq(got.headers["proxy-authorization"], nil)
    t.eq(got.headers.authorization, nil)
    t.eq(echo({ url = t.tls_url .. "/echo", ca_file = t.ca_file, proxy = with }).tls, true)
    t.eq(assert(request { url = url .. "/echo", proxy = t.proxy_auth_url }).status, 407)
    local err = t.fails("connect", request { url = t.tls_url .. "/echo", ca_file = t.ca_file,
        proxy = t.proxy_auth_url })
    t.eq(err.reason, "proxy")
    t.ok(tostring(err):find "407", tostring(err))
    t.ok(not tostring(err):find "p:ss")
end)

t.test("a SOCKS5 proxy connects by address and by name, with and without a password", function()
    t.stats_reset()
    t.eq(echo({ proxy = t.socks_url }).method, "GET")
    t.eq(echo({ url = "http://some.test:" .. port .. "/echo", proxy = t.socks_url }).headers.host,
        "some.test:" .. port)
    local stats = t.stats().socks
    t.eq(stats.connects, 2)
    t.eq(stats.names, { "some.test" })
    local with = t.socks_auth_url:gsub("//", "//u:p%%3Ass@")
    t.eq(echo({ proxy = with }).method, "GET")
    local err = t.fails("connect", request { url = url .. "/ok", proxy = t.socks_auth_url })
    t.eq(err.reason, "proxy")
end)

local function as(scheme, address)
    return (address:gsub("^%w+", scheme))
end

t.test("a proxy may be named, and one that wants addresses gets them", function()
    local function named(scheme, proxy) return as(scheme, (proxy:gsub("127%.0%.0%.1", "localhost"))) end
    t.eq(echo({ proxy = named("http", t.proxy_url) }).headers.via ~= nil, true)
    local secure = { url = t.tls_url .. "/echo", ca_file = t.ca_file, proxy = named("http", t.proxy_url) }
    t.eq(echo(secure).tls, true)
    t.stats_reset()
    t.eq(echo({ proxy = named("socks5h", t.socks_url) }).method, "GET")
    local by_name = { url = "http://lo.test:" .. port .. "/echo", proxy = named("socks5", t.socks_url) }
    t.eq(echo(by_name).method, "GET")
    local stats = t.stats().socks
    t.eq(stats.connects, 2)
    t.eq(stats.names, {})
end)

-- A failure of a proxy names it, and not its credentials.
local function by_proxy(what, proxy, kind, retryable, words, target)
    local err = t.fails(kind, request { url = target or t.tls_url .. "/ok", proxy = proxy,
        ca_file = t.ca_file, timeout = { connect = 5 } })
    t.eq({ err.reason, err.retryable }, { "proxy", retryable }, what .. ": " .. err.message)
    t.ok(err.message:find(words, 1, true), what .. ": " .. err.message)
    local address = proxy:match "//(.*)$":gsub("^.*@", "")
    t.ok(err.message:find("the proxy " .. proxy:match "^%w+://", 1, true), what .. ": " .. err.message)
    t.ok(err.message:find(address, 1, true), what .. ": " .. err.message)
    t.ok(not err.message:find("secret", 1, true), what .. ": " .. err.message)
end

t.test("a proxy that is not there is named, not the target, and may be tried again", function()
    for _, scheme in ipairs { "http", "https", "socks4", "socks5", "socks5h" } do
        by_proxy("over TLS", as(scheme, t.refused_url), "connect", true, "refused")
        by_proxy("plain", as(scheme, t.refused_url), "connect", true, "refused", url .. "/ok")
        by_proxy("no such name", scheme .. "://missing.test:1", "dns", false, "no address")
    end
end)

t.test("a proxy that wants other credentials is named, and is not asked again", function()
    local bare, socks = t.proxy_auth_url, t.socks_auth_url
    for _, user in ipairs { "", "u:secret@", "secret@" } do
        by_proxy("tunnel", bare:gsub("//", "//" .. user), "connect", false, "wants other credentials (407)")
        by_proxy("SOCKS", socks:gsub("//", "//" .. user), "connect", false, "wants other credentials")
        by_proxy("SOCKS, plain", socks:gsub("//", "//" .. user), "connect", false, "wants other credentials",
            url .. "/ok")
    end
    by_proxy("too long", socks:gsub("//", "//u:" .. ("secret"):rep(50) .. "@"), "connect", false, "255 bytes")
end)

t.test("a proxy that refuses or fails says so by its name", function()
    by_proxy("not allowed", t.socks_url, "connect", false, "does not allow it", "http://10.1.2.3/")
    by_proxy("target refuses", t.socks_url, "connect", true, "refused by the target", t.refused_url .. "/")
    by_proxy("target refuses", t.proxy_url, "connect", true, "answered 502",
        as("https", t.refused_url) .. "/")
    by_proxy("forbidden", t.proxy_url, "connect", false, "answered 403", "https://10.1.2.3/")
    for _, host in ipairs { "cut", "empty", "no-http" } do
        by_proxy(host, t.proxy_url, "connect", true, "closed the connection", "https://" .. host .. ".test/")
    end
    by_proxy("another protocol", as("socks4", t.socks_url), "connect", true, "closed the connection")
    by_proxy("another protocol", as("http", t.socks_url), "connect", true, "closed the connection")
end)

t.test("a proxy whose certificate is not trusted is named", function()
    for _, target in ipairs { url .. "/ok", t.tls_url .. "/ok" } do
        local err = t.fails("tls", request { url = target, proxy = t.tls_url, ca_file = t.ca_file })
        t.eq({ err.reason, err.retryable }, { "verify", false })
        t.ok(err.message:find("the proxy " .. t.tls_url, 1, true), err.message)
    end
    -- The proxy is in order here, and the target is not.
    local err = t.fails("tls", request { url = t.tls_url .. "/ok", proxy = t.proxy_url })
    t.ok(not err.message:find "proxy", err.message)
end)

t.test("a limit that passes on the way to a proxy names it", function()
    for _, proxy in ipairs { t.backlog_url, as("http", t.silent_url), as("socks5", t.silent_url) } do
        local err = t.fails("timeout", request { url = t.tls_url .. "/ok", proxy = proxy,
            timeout = { connect = 0.1 } })
        t.ok(err.message:find("through the proxy " .. proxy, 1, true), err.message)
    end
end)

t.test("what is no proxy is refused before anything is sent", function()
    for _, bad in ipairs { "127.0.0.1:1", "ftp://x", "http://a b", "http://a\r\nb" } do
        t.fails("invalid", request { url = url .. "/ok", proxy = bad })
    end
    t.fails("invalid", leat.client { proxy = "nonsense" })
end)

-- ---- sockets, addresses, certificates

t.test("a Unix socket stands in for the connection, the URL stays what it is", function()
    local got = echo { url = "http://api.example/echo", unix_socket = t.unix_socket }
    t.eq(got.headers.host, "api.example")
    local api = assert(leat.client { base_url = "http://api.example", unix_socket = t.unix_socket })
    t.eq(assert(api:get "/ok").body, "ok\n")
    t.fails("connect", request { url = "http://api.example/", unix_socket = "/no/such/socket" })
end)

t.test("resolve gives a name an address of one's own, and touches no other request", function()
    local host = "http://name.example:" .. port
    t.eq(echo({ url = host .. "/echo", resolve = { ["name.example:" .. port] = "127.0.0.1" } }).headers.host,
        "name.example:" .. port)
    t.eq(echo({ url = host .. "/echo", resolve = { ["name.example"] = "127.0.0.1" } }).method, "GET")
    t.fails("dns", request { url = host .. "/ok" })
    t.fails("dns", request { url = host .. "/ok", resolve = { ["name.example:1"] = "127.0.0.1" } })
    t.fails("dns", request { url = host .. "/ok", resolve = { ["other.example"] = "127.0.0.1" } })
    if t.v6_url ~= "" then
        local v6_port = t.v6_url:match ":(%d+)$"
        t.eq(echo({ url = "http://name.example:" .. v6_port .. "/echo",
            resolve = { ["name.example"] = "::1" } }).method, "GET")
    end
    for _, bad in ipairs { { ["a"] = "b" }, { ["a:b"] = "127.0.0.1" }, { [""] = "127.0.0.1" } } do
        t.fails("invalid", request { url = host .. "/ok", resolve = bad })
    end
    t.raises("resolve must be a table such as", request, { url = host, resolve = { "x" } })
end)

t.test("an IPv6 address in brackets", function()
    if t.v6_url ~= "" then
        t.eq(assert(request(t.v6_url .. "/ok")).body, "ok\n")
    end
end)

t.test("a client certificate is shown to a server that asks for one", function()
    local got = echo { url = t.mtls_url .. "/echo", ca_file = t.ca_file, cert = t.client_cert,
        key = t.client_key }
    t.eq(got.client_cn, "leat test client")
    local _, err = request { url = t.mtls_url .. "/echo", ca_file = t.ca_file }
    t.ok(err.kind == "tls" or err.kind == "closed", tostring(err))
    err = t.fails("tls", request { url = t.mtls_url .. "/echo", ca_file = t.ca_file, cert = "/no/such",
        key = t.client_key })
    t.ok(not err.retryable)
end)

-- ---- cookies

t.test("a client keeps cookies only where it was asked to", function()
    local with, without = assert(leat.client { base_url = url, cookies = true }),
        assert(leat.client { base_url = url })
    for _, api in ipairs { with, without } do
        assert(api:get "/cookie-set?name=a&value=1")
        assert(api:get "/cookie-set?name=b&value=2&path=/echo")
        assert(api:get "/cookie-set?name=c&value=3&path=/other")
        assert(api:get "/cookie-set?name=d&value=4&secure=1")
        assert(api:get "/cookie-set?name=e&value=5&max_age=0")
    end
    local sent = assert(with:get "/echo"):json().headers.cookie
    t.ok(sent:find "a=1" and sent:find "b=2", sent)
    t.ok(not sent:find "c=3" and not sent:find "e=5", sent)
    t.eq(assert(without:get "/echo"):json().headers.cookie, nil)
    t.eq(echo({}).headers.cookie, nil)
end)

t.test("two clients do not share cookies, and a redirect's cookies are kept", function()
    local one, two = assert(leat.client { base_url = url, cookies = true }),
        assert(leat.client { base_url = url, cookies = true })
    assert(one:get "/cookie-set?name=a&value=1")
    t.eq(assert(two:get "/echo"):json().headers.cookie, nil)
    assert(one:get("/redirect?to=/cookie-set%3Fname%3Dr%26value%3D9"))
    local sent = assert(one:get "/echo"):json().headers.cookie
    t.ok(sent:find "a=1" and sent:find "r=9", sent)
    local res = assert(one:get("/echo", { stream = true }))
    t.eq(json.decode(res:read(100000)).headers.cookie, sent)
    local n = 0
    t.eq(assert(one:post("/echo", { body = function() n = n + 1 return n == 1 and "x" or nil end }))
        :json().headers.cookie, sent)
end)

t.test("cookies of many hosts come at once, and each keeps its own", function()
    local resolve, hosts = {}, 8 -- which the network threads have among them, where there are any
    for i = 0, hosts - 1 do resolve["h" .. i .. ".example"] = "127.0.0.1" end
    local api = assert(leat.client { cookies = true, resolve = resolve })
    local function at(i, path)
        return assert(api:get(("http://h%d.example:%s%s"):format(i, port, path)))
    end
    local n = 0
    local counts = leat.each(function()
        n = n + 1
        return n <= 8000 and n or nil
    end, function(i)
        at(i % hosts, ("/cookie-set?name=n%d&value=%d&max_age=%d"):format(i % 30, i, i % 3 == 0 and 0 or 100))
        return true
    end, { limit = 64 })
    t.eq(counts.ok, 8000, tostring(counts.first_error))
    for i = 0, hosts - 1 do
        at(i, "/cookie-set?name=mine&value=" .. i)
        t.ok(at(i, "/echo"):json().headers.cookie:find("mine=" .. i, 1, true))
    end
end)

t.test("cookies are for their host: another one does not see them", function()
    local api = assert(leat.client { cookies = true, resolve = { ["a.example"] = "127.0.0.1",
        ["b.example"] = "127.0.0.1" } })
    assert(api:get("http://a.example:" .. port .. "/cookie-set?name=a&value=1"))
    t.eq(assert(api:get("http://a.example:" .. port .. "/echo")):json().headers.cookie, "a=1")
    t.eq(assert(api:get("http://b.example:" .. port .. "/echo")):json().headers.cookie, nil)
    assert(api:get("http://a.example:" .. port .. "/cookie-set?name=x&value=1&domain=b.example"))
    t.eq(assert(api:get("http://b.example:" .. port .. "/echo")):json().headers.cookie, nil)
end)

t.test("a cookie of an early hint is not kept, that of a redirect is", function()
    local api = assert(leat.client { base_url = url, cookies = true })
    assert(api:get "/cookie-early")
    t.eq(assert(api:get "/echo"):json().headers.cookie, "late=1")
    t.eq(assert(api:get "/cookie-redirect"):json().headers.cookie, "late=1; hop=1")
end)

t.test("a caller's own cookies and those of the client make one line", function()
    local api = assert(leat.client { base_url = url, cookies = true, headers = { Cookie = "own=1" } })
    assert(api:get "/cookie-set?name=a&value=1")
    local lines = {}
    for _, line in ipairs(assert(api:get "/echo"):json().header_list) do
        lines[#lines + 1] = line[1]:lower() == "cookie" and line[2] or nil
    end
    t.eq(lines, { "own=1; a=1" })
    local away = "http://localhost:" .. port .. "/echo"
    assert(api:get("http://localhost:" .. port .. "/cookie-set?name=there&value=2"))
    t.eq(assert(api:get("/redirect?to=" .. away:gsub("[:/]", function(c)
        return ("%%%02X"):format(c:byte())
    end))):json().headers.cookie, "there=2")
end)

t.test("a secure cookie goes out over TLS, and over http within this machine only", function()
    local api = assert(leat.client { cookies = true, ca_file = t.ca_file,
        resolve = { ["a.example"] = "127.0.0.1" } })
    assert(api:get(t.tls_url .. "/cookie-set?name=s&value=1&secure=1"))
    t.eq(assert(api:get(t.tls_url .. "/echo")):json().headers.cookie, "s=1")
    t.eq(assert(api:get(url .. "/echo")):json().headers.cookie, "s=1")
    local there = "http://a.example:" .. port
    assert(api:get(there .. "/cookie-set?name=s&value=1&secure=1"))
    assert(api:get(there .. "/cookie-set?name=p&value=2&domain=example"))
    t.eq(assert(api:get(there .. "/echo")):json().headers.cookie, nil)
end)

-- ---- ranges, HEAD, methods

t.test("a range is asked for by its header, and comes unpacked", function()
    local whole = assert(request(url .. "/range")).body
    local res = assert(request { url = url .. "/range", headers = { Range = "bytes=100-199" } })
    t.eq({ res.status, res.body }, { 206, whole:sub(101, 200) })
    t.eq(echo({ headers = { Range = "bytes=0-1" } }).headers["accept-encoding"], nil)
    t.eq(assert(request { url = url .. "/range", headers = { Range = "bytes=999999-" } }).status, 416)
end)

t.test("any method that is a token may be used", function()
    for _, method in ipairs { "PROPFIND", "purge", "M-SEARCH", "OPTIONS", "DELETE", "PATCH" } do
        t.eq(echo({ method = method }).method, method)
    end
    local res = assert(request { url = url .. "/echo", method = "HEAD" })
    t.eq(res.body, "")
    t.eq(echo({ method = "DELETE", body = "x" }).body, "x")
end)

t.test("Expect is sent only where asked for, and then the 100 is waited for", function()
    local res = assert(request { url = url .. "/continue", body = "x",
        headers = { Expect = "100-continue" } })
    t.eq(res.status, 200)
end)

-- ---- places held by streams

t.test("a request whose own side holds all places in unread streams fails instead of hanging", function()
    local function open()
        return assert(request { url = url .. "/endless", stream = true, max_per_host = 2 })
    end
    local one, two = open(), open()
    local err = t.fails("rate_limited", request { url = url .. "/ok", max_per_host = 2 })
    t.eq(err.reason, "streams_hold_all_slots")
    err = t.fails("rate_limited", spawn(request, { url = url .. "/ok", max_per_host = 2 }):await())
    t.eq(err.reason, "streams_hold_all_slots")
    one:close()
    t.eq(assert(request { url = url .. "/ok", max_per_host = 2 }).status, 200)
    two:close()
end)

t.test("a forgotten stream is collected rather than a request failed", function()
    for _ = 1, 2 do
        assert(request { url = url .. "/endless", stream = true, max_per_host = 2 })
    end
    t.eq(assert(request { url = url .. "/ok", max_per_host = 2 }).status, 200)
    collectgarbage()
end)

t.test("a stream that another task goes on to read is waited for", function()
    local reader = spawn(function()
        local res = assert(request { url = url .. "/tokens?n=5&ms=1", stream = true, max_per_host = 1 })
        sleep(0.05)
        for _ in res:chunks() do end -- luacheck: ignore 542
        return true
    end)
    sleep(0.02)
    t.eq(assert(request { url = url .. "/ok", max_per_host = 1 }).status, 200)
    t.eq(reader:await(), true)
end)

t.test("tasks that each hold a stream and want one more: one fails, the others go on", function()
    local results = leat.map({ 1, 2, 3 }, function()
        local res = assert(request { url = url .. "/endless", stream = true, max_per_host = 3 })
        res:read()
        local other, err = request { url = url .. "/ok", max_per_host = 3 }
        res:close()
        return other and other.status or err.reason
    end)
    local failed = 0
    for i = 1, 3 do
        failed = failed + (results[i] == "streams_hold_all_slots" and 1 or 0)
        t.ok(results[i] == 200 or results[i] == "streams_hold_all_slots")
    end
    t.eq(failed, 1)
end)

t.done()
