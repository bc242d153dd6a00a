-- Broken, hostile and slow servers, played by the fault server: each ends as the error that says so.
local leat = require "leat"
local t = require "harness"

local url = t.url

-- request(path with options) must fail with this kind. Returns the err.
local function fails(kind, path, options)
    options = options or {}
    options.url = options.url or url .. path
    local err = t.fails(kind, request(options))
    t.ok(err.message ~= "" and err.url, "has a message and the URL")
    t.eq(type(err.retryable), "boolean")
    return err
end

-- ---- size. First, while the peak of memory is still that of this test.

t.test("a gzip bomb ends at max_body, and costs no more memory than that", function()
    local before = leat.stats().memory_bytes
    local err = fails("too_large", "/gzip-bomb?mb=100", { max_body = 2 ^ 20 })
    t.eq(err.partial, nil)
    local grown = leat.stats().memory_peak_bytes - before
    t.ok(grown < 3 * 2 ^ 20, "peak of " .. grown .. " bytes over the start")
end)

t.test("a body over max_body fails, one of exactly that size does not", function()
    fails("too_large", "/large?mb=1", { max_body = 2 ^ 20 - 1 })
    t.eq(#assert(request { url = url .. "/large?mb=1", max_body = 2 ^ 20 }).body, 2 ^ 20)
    fails("too_large", "/gzip", { max_body = 19999 })
    t.eq(#assert(request { url = url .. "/gzip", max_body = 20000 }).body, 20000)
    fails("too_large", "/ok", { max_body = 0 })
    t.eq(assert(request { url = url .. "/status?code=204", max_body = 100 }).status, 204)
end)

t.test("headers without end are too large", function()
    fails("too_large", "/big-header?kb=200")
    fails("too_large", "/many-headers?n=4000")
    fails("too_large", "/many-1xx?n=5000")
    t.eq(assert(request(url .. "/big-header?kb=10")).status, 200)
    t.eq(assert(request(url .. "/many-headers?n=100")).status, 200)
    t.eq(assert(request(url .. "/many-1xx?n=5")).status, 200)
end)

-- ---- connecting

t.test("a refused connection is a connect error at once", function()
    local err = fails("connect", nil, { url = t.refused_url .. "/" })
    t.eq(err.retryable, true)
    t.ok(err.code, "has the library's own code")
    t.eq(err.status, nil)
end)

t.test("a name that does not exist is a dns error", function()
    fails("dns", nil, { url = "http://nx.test/" })
    t.eq(fails("dns", nil, { url = "http://again.test/" }).retryable, true)
end)

t.test("a hanging look-up ends at its limit, and holds up nobody", function()
    local turns, done = 0, false
    local ticker = spawn(function()
        while not done do
            sleep(0.001)
            turns = turns + 1
        end
    end)
    local slow = url:gsub("127%.0%.0%.1", "slow.test")
    local err = fails("timeout", nil, { url = slow .. "/ok", timeout = { connect = 0.3 } })
    done = true
    ticker:await()
    t.eq(err.phase, "dns")
    t.eq(err.limit, 0.3)
    t.ok(err.elapsed >= 0.3, "not early")
    t.ok(turns >= 10, "others ran meanwhile, seen " .. turns .. " turns")
    -- The look-up itself cannot be called off; it ends by itself.
    t.wait_until(function() return leat.stats().engine.resolving == 0 end)
end)

t.test("a connect that hangs ends at the connect limit", function()
    local err = fails("timeout", nil, { url = t.backlog_url .. "/", timeout = { connect = 0.1 } })
    t.eq(err.phase, "connect")
    t.eq(err.limit, 0.1)
end)

t.test("a TLS handshake with a silent port ends at the connect limit", function()
    local err
    for _, limit in ipairs { 0.3, 3, 30 } do -- what the first handshake reads takes a busy machine its time
        err = fails("timeout", nil, { url = t.silent_url .. "/", timeout = { connect = limit } })
        if err.phase == "tls" then break end
    end
    t.eq(err.phase, "tls")
end)

t.test("a certificate that is unknown, expired or another host's is refused", function()
    for _, where in ipairs {
        { t.tls_url }, { t.tls_expired_url, t.ca_file }, { t.tls_wrong_host_url, t.ca_file },
    } do
        local err = fails("tls", nil, { url = where[1] .. "/ok", ca_file = where[2] })
        t.eq(err.retryable, false)
    end
end)

-- ---- limits

t.test("a server that never answers ends at the first_byte limit", function()
    local err = fails("timeout", "/never", { timeout = { first_byte = 0.1 } })
    t.eq(err.phase, "first_byte")
    t.eq(err.limit, 0.1)
    t.ok(err.elapsed >= 0.1)
end)

t.test("a drip slower than the idle limit ends there, and what came is in err.partial", function()
    local err = fails("timeout", "/drip?bps=2", { timeout = { idle = 0.2 } })
    t.eq(err.phase, "idle")
    t.eq(err.status, 200)
    err = fails("timeout", "/stall-body", { timeout = { idle = 0.1 } })
    t.eq(err.phase, "idle")
    t.eq(err.partial, "x")
end)

t.test("a total limit ends everything, redirects included", function()
    t.eq(fails("timeout", "/never", { timeout = 0.1 }).phase, "total")
    t.eq(fails("timeout", "/stall-body", { timeout = 0.1 }).phase, "total")
    local err = fails("timeout", "/redirect?to=/never", { timeout = { total = 0.2 } })
    t.eq(err.phase, "total")
end)

t.test("a request that waits for its turn ends at the queue limit", function()
    local api = assert(leat.client { base_url = url, max_per_host = 1 })
    local first = spawn(function() return api:get "/never" end)
    t.wait_until(function() return leat.stats().engine.on_network == 1 end)
    local err = t.fails("timeout", api:get("/ok", { timeout = { queue = 0.05 } }))
    t.eq(err.phase, "queue")
    first:cancel()
end)

t.test("limits that are not reached do nothing", function()
    local res = assert(request {
        url = url .. "/slow-body?chunks=5&ms=10",
        timeout = { queue = 60, connect = 60, first_byte = 60, idle = 60, total = 60 },
    })
    t.eq(#res.body, 30)
    t.eq(assert(request { url = url .. "/ok", timeout = math.huge }).status, 200)
    t.eq(assert(request { url = url .. "/ok", timeout = { connect = math.huge } }).status, 200)
end)

-- ---- endings

t.test("a connection that breaks before the head is closed, reason reset", function()
    for _, path in ipairs { "/reset-before-head", "/empty-reply" } do
        local err = fails("closed", path)
        t.eq(err.reason, "reset", path)
        t.eq(err.retryable, true)
        t.eq(err.partial, nil)
    end
    t.eq(fails("closed", "/reset-in-body").partial, "half of ")
end)

t.test("a body that ends too early is closed, reason truncated, with got and expected", function()
    local err = fails("closed", "/short-length")
    t.eq(err.reason, "truncated")
    t.eq(err.got, 10)
    t.eq(err.expected, 100)
    t.eq(err.partial, "only this\n")
    t.eq(err.status, 200)
    for path, got in pairs { ["/trunc-chunk"] = 10, ["/no-last-chunk"] = 3 } do
        err = fails("closed", path)
        t.eq(err.reason, "truncated", path)
        t.eq(err.got, got)
        t.eq(err.expected, nil)
    end
end)

t.test("a body that only the end of the connection ends is complete='unknown'", function()
    local res = assert(request(url .. "/no-length"))
    t.eq(res.body, "until the end\n")
    t.eq(res.complete, "unknown")
end)

t.test("what is not HTTP is a protocol error", function()
    for _, path in ipairs {
        "/bad-chunk", "/neg-length", "/nul-header", "/two-lengths", "/http09", "/garbage",
    } do
        t.eq(fails("protocol", path).retryable, false, path)
    end
end)

t.test("compressed bodies that are cut or damaged are never ok", function()
    for _, path in ipairs { "/gzip-cut", "/gzip-no-trailer", "/gzip-badcrc", "/gzip-junk" } do
        t.eq(fails("protocol", path).reason, "decode", path)
    end
end)

local function connection()
    return assert(request(url .. "/echo")):json().connection
end

t.test("a connection on which the lengths cannot be trusted is not used again", function()
    for path, body in pairs {
        ["/cl-and-te"] = "ok\n", ["/204-body"] = "", ["/extra-bytes"] = "ok\n",
    } do
        local before = connection()
        t.eq(assert(request(url .. path)).body, body, path)
        t.ok(connection() ~= before, path .. ": another connection after it")
    end
end)

-- ---- redirects

t.test("redirects in a circle, too many, or to something else end", function()
    t.eq(fails("protocol", "/redirect-loop").reason, "redirect")
    t.eq(fails("protocol", "/redirect?n=6").reason, "redirect")
    t.eq(assert(request(url .. "/redirect?n=5")).status, 200)
    t.eq(fails("protocol", "/redirect?n=2", { max_redirects = 1 }).reason, "redirect")
    fails("denied", "/redirect-to-file")
end)

t.test("a redirect from https to http is refused", function()
    local target = t.tls_url .. "/redirect?to=" .. url .. "/ok"
    fails("denied", nil, { url = target, ca_file = t.ca_file })
end)

-- ---- sending twice

-- The second request on a connection is read by the server, which then closes without an answer. The
-- host's name is a new one each time, and so the connection.
local function drop_second(options)
    local id = leat.uuid()
    options.url = url:gsub("127%.0%.0%.1", id .. ".lo.test") .. "/drop-after-post"
    t.eq(assert(request { url = options.url, body = "" }).status, 200)
    options.headers = options.headers or {}
    options.headers["X-Id"] = id
    local res, err = request(options)
    return id, res, err
end

t.test("a POST that may have arrived is not sent a second time behind the script's back", function()
    for _, body in ipairs { "x", "" } do
        local id, res, err = drop_second { method = "POST", body = body }
        t.fails("closed", res, err)
        t.eq(err.retryable, true)
        t.eq(t.seen(id), 1)
    end
end)

t.test("what is idempotent is sent again on a new connection", function()
    for _, options in ipairs {
        { method = "GET" }, { method = "PUT", body = "x" },
        { method = "POST", body = "x", idempotent = true },
        { method = "POST", body = "x", headers = { ["Idempotency-Key"] = "1" } },
    } do
        local id, res, err = drop_second(options)
        t.ok(res, err)
        t.eq(res.status, 200)
        t.eq(res.attempts, 2)
        t.eq(t.seen(id), 2)
    end
end)

t.test("an idle connection that the server closed is noticed, not reported", function()
    for _ = 1, 20 do
        t.eq(assert(request(url .. "/close-idle")).status, 200)
        t.eq(assert(request { url = url .. "/close-idle", idempotent = true, body = "x" }).status, 200)
    end
end)

-- ---- what must not be sent

t.test("control bytes never reach the wire", function()
    t.stats_reset()
    for _, bad in ipairs { "\r\nX-Evil: 1", "\n", "\r", "\0", "\127" } do
        t.fails("invalid", request(url .. "/ok" .. bad))
        t.fails("invalid", request { url = url .. "/ok", method = "GET" .. bad })
        t.fails("invalid", request { url = url .. "/ok", headers = { ["X-A" .. bad] = "1" } })
        t.fails("invalid", request { url = url .. "/ok", headers = { ["X-A"] = "1" .. bad } })
        t.fails("invalid", request { url = url .. "/ok", headers = { ["User-Agent"] = "1" .. bad } })
        t.fails("invalid", request { url = url .. "/ok", auth = { bearer = "1" .. bad } })
        t.fails("invalid", leat.client { base_url = url .. bad })
        t.fails("invalid", leat.client { headers = { A = bad } })
    end
    t.fails("invalid", request { url = url .. "/ok", headers = { [""] = "1" } })
    t.fails("invalid", request { url = url .. "/ok", headers = { ["Content-Length"] = 3 } })
    t.fails("invalid", request { url = url .. "/ok", headers = { ["Transfer-Encoding"] = "chunked" } })
    t.fails("invalid", request { url = url .. "/ok", method = "" })
    t.fails("invalid", request { url = url .. "/ok", json = { print } })
    t.fails("invalid", request { url = url .. "/ok", json = { 0 / 0 } })
    t.fails("invalid", request { url = url .. "/ok", auth = { basic = { "us:er", "p" } } })
    t.eq(t.stats().requests or 0, 0)
end)

t.test("URLs that mean two things to two readers are refused", function()
    for _, bad in ipairs {
        "", "/ok", "127.0.0.1/ok", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http:///ok",
        "http:ok",
        "http://127.0.0.1\\@example.com/", "http://a b/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/",
        "http://[::1/", "javascript:alert(1)",
    } do
        local err = t.fails("invalid", request(bad))
        t.ok(err.message:find "^url: ", err.message)
    end
end)

t.test("secrets do not show in errors", function()
    local userinfo = t.refused_url:gsub("//", "//user:hunter2@") .. "/?api_key=hunter2"
    local _, err = request { url = userinfo, auth = { bearer = "hunter2" } }
    t.fails("connect", nil, err)
    for name, value in pairs(err) do
        t.ok(not tostring(value):find "hunter2", name .. " holds a secret")
    end
    t.ok(not tostring(err):find "hunter2")
    _, err = request { url = url .. "/ok", auth = { bearer = "hunter2\n" } }
    t.ok(not tostring(err):find "hunter2", tostring(err))
end)

t.test("what comes on an idle connection is no answer to the next request", function()
    for _, base in ipairs { url, t.tls_url } do
        local function ask(path) return assert(request { url = base .. path, ca_file = t.ca_file }) end
        local function sent() -- by another way than the connection in question
            local res = assert(request { url = "http://fault/stats", unix_socket = t.unix_socket })
            local path = res:json().paths["/talk-idle"]
            return path and path.bytes_sent or 0
        end
        for _, ms in ipairs { 0, 5 } do
            local before, connects = sent(), leat.stats().engine.connects
            t.eq(ask("/talk-idle?ms=" .. ms).body, "ok\n")
            t.wait_until(function() return sent() - before >= 100 end)
            for _ = 1, 3 do
                local res = ask "/echo"
                t.eq({ res.status, res:json().path }, { 200, "/echo" })
            end
            t.ok(leat.stats().engine.connects > connects, "the connection was not used again")
        end
    end
end)

t.done()
