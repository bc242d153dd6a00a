-- What a script gets when all goes well: what is sent, what comes back, clients and their defaults.
local leat = require "leat"
local t = require "harness"

local url = t.url

local function echo(spec)
    spec.url = spec.url or url .. "/echo"
    return assert(assert(request(spec)):json())
end

-- ---- what comes back

t.test("a response has status, body, headers and timing", function()
    local res = assert(request(url .. "/ok"))
    t.eq(res.status, 200)
    t.eq(res.ok, true)
    t.eq(res.reason, "OK")
    t.eq(res.body, "ok\n")
    t.eq(res.version, "1.1")
    t.eq(res.url, url .. "/ok")
    t.eq(res.attempts, 1)
    t.eq(res.complete, true)
    t.eq(res.encoded, nil)
    t.ok(res.timing.queued >= 0 and res.timing.first_byte > 0)
    t.ok(res.timing.total >= res.timing.first_byte)
    t.eq(res.timing.tls, nil, "no TLS, no time for it")
    t.ok(tostring(res):find "^response 200 OK, 3 bytes, %d+%.%d%d%d s$", tostring(res))
end)

t.test("a status is a response, not an error", function()
    for _, code in ipairs { 401, 403, 404, 422, 429, 500, 503 } do
        local res = assert(request(url .. "/status?code=" .. code))
        t.eq(res.status, code)
        t.eq(res.ok, false)
    end
    t.eq(assert(request(url .. "/status?code=204")).ok, true)
end)

t.test("headers are found in any spelling, and repeats are kept in order", function()
    local res = assert(request(url .. "/repeated-headers"))
    t.eq(res.headers["X-MANY"], "one, two")
    t.eq(res.headers["x-many"], "one, two")
    t.eq(res.headers["set-cookie"], "a=1")
    t.eq(res.headers.nothing, nil)
    local one = require("leat.http.headers").one -- without the table of all, and with it
    t.eq({ one(assert(request(url .. "/repeated-headers")), "x-many"), one(res, "x-many") },
        { "one, two", "one, two" })
    t.eq({ one(assert(request(url .. "/ok")), "x-many") }, {})
    t.eq(res:header_values "X-Many", { "one", "two" })
    t.eq(res:header_values "SET-cookie", { "a=1", "b=2" })
    t.eq(res:header_values "nothing", {})
    t.raises("header_values: the name must be a string, got nil", res.header_values, res)
    local names = {}
    for name in pairs(res.headers) do
        names[#names + 1] = name
    end
    table.sort(names)
    t.eq(names, { "content-length", "set-cookie", "x-many" })
end)

t.test("trailers are beside the headers, not among them", function()
    local res = assert(request(url .. "/trailers"))
    t.eq(res.trailers["X-Sum"], "42")
    t.eq(res.headers["x-sum"], nil)
    t.eq(res.headers["x-head"], "1")
    t.eq(assert(request(url .. "/ok")).trailers["x-sum"], nil)
end)

t.test("json() decodes the body, and says what the body was if it cannot", function()
    t.eq(echo {}.method, "GET")
    local err = t.fails("invalid", assert(request(url .. "/ok")):json())
    t.ok(err.message:find("the body (status 200, 3 bytes) is not JSON", 1, true), err.message)
    t.eq(err.status, 200)
    local unknown = assert(request(url .. "/encoding-unknown"))
    t.eq(unknown.encoded, "x-leat")
    t.eq(unknown.body, "ok\n")
    err = t.fails("protocol", unknown:json())
    t.eq(err.reason, "decode")
end)

t.test("a compressed body arrives decoded, whatever the coding", function()
    local plain = assert(request(url .. "/text")).body
    t.eq(#plain, 20000)
    for _, path in ipairs { "/gzip", "/gzip-two", "/deflate", "/deflate-raw" } do
        t.ok(assert(request(url .. path)).body == plain, path)
    end
    t.ok(echo {}.headers["accept-encoding"]:find "gzip")
    t.eq(echo { compressed = false }.headers["accept-encoding"], nil)
end)

-- ---- what is sent

t.test("a body makes it a POST; a method in small letters is understood", function()
    t.eq(echo { body = "x" }.method, "POST")
    t.eq(echo { json = {} }.method, "POST")
    t.eq(echo { form = { a = 1 } }.method, "POST")
    t.eq(echo { body = "x", method = "put" }.method, "PUT")
    t.eq(echo { method = "patch" }.method, "PATCH")
    t.eq(echo { method = "delete" }.method, "DELETE")
    t.eq(echo { method = "PURGE" }.method, "PURGE")
    local head = assert(request { url = url .. "/ok", method = "HEAD" })
    t.eq(head.body, "")
    t.eq(head.headers["content-length"], "3")
end)

t.test("bodies arrive byte for byte", function()
    local binary = "a\0b\r\n\127"
    local got = echo { body = binary }
    t.eq(got.body, binary)
    t.eq(got.body_length, #binary)
    t.eq(echo { body = "" }.body_length, 0)
    got = echo { json = { text = "ä", list = json.array() } }
    t.eq(json.decode(got.body), { text = "ä", list = {} })
    t.eq(got.headers["content-type"], "application/json")
    t.eq(echo { json = false }.body, "false")
    got = echo { form = { b = "x y&z", a = { 1, true } } }
    t.eq(got.body, "a=1&a=true&b=x+y%26z")
    t.eq(got.headers["content-type"], "application/x-www-form-urlencoded")
    t.eq(echo { form = { { "z", 1 }, { "a", 2 }, { "z", 3 } } }.body, "z=1&a=2&z=3")
end)

t.test("a content-type that is given wins, in any spelling", function()
    local got = echo { json = {}, headers = { ["CONTENT-TYPE"] = "application/problem+json" } }
    t.eq(got.headers["content-type"], "application/problem+json")
end)

t.test("a large POST is not held up by Expect: 100-continue", function()
    local got = echo { body = ("x"):rep(3 * 1024 * 1024) }
    t.eq(got.body_length, 3 * 1024 * 1024)
    t.eq(got.headers.expect, nil)
end)

t.test("headers go out as given: numbers, lists, order within a list", function()
    local got = echo { headers = { ["X-Int"] = 12345678901, ["X-Num"] = 0.5, ["X-List"] = { "b", "a", 3 } } }
    t.eq(got.headers["x-int"], "12345678901")
    t.eq(got.headers["x-num"], "0.5")
    local list = {}
    for _, row in ipairs(got.header_list) do
        if row[1] == "X-List" then
            list[#list + 1] = row[2]
        end
    end
    t.eq(list, { "b", "a", "3" })
end)

t.test("a query is added, encoded, in an order that can be relied on", function()
    t.eq(echo { query = { b = "ä &", a = { 2, 1 }, c = true } }.query, "a=2&a=1&b=%C3%A4%20%26&c=true")
    t.eq(echo { url = url .. "/echo?x=1#frag", query = { y = 2 } }.query, "x=1&y=2")
    t.eq(echo { query = { { "b", 1 }, { "a", 2 } } }.query, "b=1&a=2")
    t.eq(echo { query = {} }.query, "")
end)

t.test("auth makes the Authorization header", function()
    t.eq(echo { auth = { bearer = "abc" } }.headers.authorization, "Bearer abc")
    t.eq(echo { auth = { basic = { "user", "pass:word" } } }.headers.authorization,
        "Basic dXNlcjpwYXNzOndvcmQ=")
    t.eq(echo { auth = { basic = "user:pass:word" } }.headers.authorization, "Basic dXNlcjpwYXNzOndvcmQ=")
    local with_userinfo = url:gsub("^http://", "http://user:pass%%3Aword@")
    t.eq(echo { url = with_userinfo .. "/echo" }.headers.authorization, "Basic dXNlcjpwYXNzOndvcmQ=")
    local got = echo { auth = { bearer = "abc" }, headers = { authorization = "mine" } }
    t.eq(got.headers.authorization, "mine")
end)

t.test("redirects are followed for GET, not for POST unless asked", function()
    local res = assert(request(url .. "/redirect?n=3"))
    t.eq(res.status, 200)
    t.eq(res.url, url .. "/ok")
    t.eq(assert(request { url = url .. "/redirect", follow = false }).status, 302)
    t.eq(assert(request { url = url .. "/redirect", body = "x" }).status, 302)
    for code, want in pairs { [307] = "POSTx", [308] = "POSTx", [303] = "GET", [302] = "GET" } do
        local got = echo { url = url .. "/redirect?to=/echo&code=" .. code, body = "x", follow = true }
        t.eq(got.method .. got.body, want, code)
    end
end)

t.test("secrets stay behind when a redirect leaves the origin", function()
    local elsewhere = url:gsub("127%.0%.0%.1", "lo.test") .. "/echo"
    local got = assert(request {
        url = url .. "/redirect", query = { to = elsewhere }, auth = { bearer = "secret" },
        headers = { ["X-Api-Key"] = "secret", Cookie = "secret", Accept = "text/x" },
    }):json()
    t.eq(got.headers.authorization, nil)
    t.eq(got.headers["x-api-key"], nil)
    t.eq(got.headers.cookie, nil)
    t.eq(got.headers.accept, "text/x")
end)

t.test("connections are kept and used again", function()
    local first = echo {}.connection
    t.eq(echo {}.connection, first)
end)

t.test("TLS works with the certificates that are named", function()
    local res = assert(request { url = t.tls_url .. "/echo", ca_file = t.ca_file })
    t.eq(res:json().tls, true)
    t.ok(res.timing.tls > 0)
    t.eq(assert(request { url = t.tls_wrong_host_url .. "/ok", insecure = true }).status, 200)
end)

-- ---- as a value among others

t.test("request can be handed to map, gather and wait_for as it is", function()
    local urls = {}
    for i = 1, 20 do
        urls[i] = url .. "/delay?ms=" .. i
    end
    local pages = assert(leat.map(urls, request))
    t.eq(#pages, 20)
    t.eq(pages[20].body, "ok\n")
    t.eq(assert(wait_for(10, request, url .. "/ok")).status, 200)
    t.eq(leat.request, request)
end)

t.test("requests run at once", function()
    t.stats_reset()
    local jobs = {}
    for i = 1, 50 do
        jobs[i] = spawn(request, url .. "/never")
    end
    t.wait_until(function()
        local seen = t.stats().paths["/never"]
        return seen and seen.in_flight == 50
    end)
    for i = 1, 50 do
        jobs[i]:cancel()
    end
end)

t.test("max_per_host bounds what the server sees at once", function()
    t.stats_reset()
    local api = assert(leat.client { base_url = url, max_per_host = 5 })
    local items = {}
    for i = 1, 60 do
        items[i] = i
    end
    assert(leat.map(items, function() return api:get "/delay?ms=5" end))
    local seen = t.stats().paths["/delay"]
    t.eq(seen.requests, 60)
    t.ok(seen.peak_in_flight <= 5, "at most 5 at once, seen " .. seen.peak_in_flight)
end)

t.test("2,000 requests under a limit of 100: never more on the wire", function()
    t.stats_reset()
    local n = 0
    local function source()
        n = n + 1
        return n <= 2000 and n or nil
    end
    local sum = leat.each(source, function() return request(url .. "/ok") end, { limit = 100 })
    t.eq(sum.ok, 2000)
    local seen = t.stats().paths["/ok"]
    t.eq(seen.requests, 2000)
    t.ok(seen.peak_in_flight <= 100, "at most 100 at once, seen " .. seen.peak_in_flight)
end)

-- ---- clients

t.test("a client joins relative URLs beneath its base", function()
    for _, row in ipairs {
        { "/echo", "", "/echo" }, { "", "echo", "/echo" }, { "/", "echo", "/echo" },
        { "/v1", "/echo", "/echo" },
        { "/v1", "../echo", "/echo" }, { "/v1/", "./../echo?x#y", "/echo" },
    } do
        local api = assert(leat.client { base_url = url .. row[1] })
        local res = assert(api:get(row[2]))
        t.eq(res:json().path, row[3], row[1] .. " + " .. row[2])
    end
    local v1 = assert(leat.client { base_url = url .. "/v1" })
    t.eq(assert(v1:get "chat/x").url, url .. "/v1/chat/x")
    t.eq(assert(v1:get(url .. "/ok")).status, 200)
end)

t.test("references are resolved as RFC 3986 section 5.4 lists them", function()
    local resolve = require("leat.internal.url").resolve
    local base = "http://a/b/c/d;p?q"
    for reference, want in ([[
        g:h g:h                   g http://a/b/c/g          ./g http://a/b/c/g       g/ http://a/b/c/g/
        /g http://a/g             //g http://g              ?y http://a/b/c/d;p?y    g?y http://a/b/c/g?y
        #s http://a/b/c/d;p?q#s   g#s http://a/b/c/g#s      g?y#s http://a/b/c/g?y#s ;x http://a/b/c/;x
        g;x http://a/b/c/g;x      g;x?y#s http://a/b/c/g;x?y#s . http://a/b/c/       ./ http://a/b/c/
        .. http://a/b/            ../ http://a/b/           ../g http://a/b/g        ../.. http://a/
        ../../ http://a/          ../../g http://a/g        ../../../g http://a/g    ../../../../g http://a/g
        /./g http://a/g           /../g http://a/g          g. http://a/b/c/g.       .g http://a/b/c/.g
        g.. http://a/b/c/g..      ..g http://a/b/c/..g      ./../g http://a/b/g      ./g/. http://a/b/c/g/
        g/./h http://a/b/c/g/h    g/../h http://a/b/c/h     g;x=1/./y http://a/b/c/g;x=1/y
        g;x=1/../y http://a/b/c/y g?y/./x http://a/b/c/g?y/./x g?y/../x http://a/b/c/g?y/../x
        g#s/./x http://a/b/c/g#s/./x g#s/../x http://a/b/c/g#s/../x http:g http:g]]):gmatch "(%S+)%s+(%S+)" do
        t.eq(resolve(base, reference), want, reference)
    end
    t.eq(resolve(base, ""), base)
    t.eq(resolve("http://a", "g"), "http://a/g")
end)

t.test("a client's defaults hold unless the request says otherwise", function()
    local api = assert(leat.client {
        base_url = url, auth = { bearer = "abc" }, query = { v = 1 },
        headers = { ["X-One"] = "1", ["X-Two"] = { "2", "two" }, ["Content-Type"] = "text/x" },
        timeout = { first_byte = 0.05 },
    })
    local got = assert(api:post("/echo", { json = {}, headers = { ["x-one"] = "mine" } })):json()
    t.eq(got.method, "POST")
    t.eq(got.query, "v=1")
    t.eq(got.headers["x-one"], "mine")
    t.eq(got.headers["x-two"], "two")
    t.eq(got.headers["content-type"], "text/x")
    t.eq(got.headers.authorization, "Bearer abc")
    got = assert(api:get("/echo", { auth = { basic = "u:p" }, query = { w = 2 } })):json()
    t.eq(got.headers.authorization, "Basic dTpw")
    t.eq(got.query, "v=1&w=2")
    t.eq(t.fails("timeout", api:get "/never").phase, "first_byte")
    local later = { first_byte = 90, total = 0.05 }
    t.eq(t.fails("timeout", api:get("/never", { timeout = later })).phase, "total")
    t.eq(t.fails("timeout", api:get("/never", { timeout = { total = 90 } })).phase, "first_byte")
end)

t.test("every verb of a client sends its method", function()
    local api = assert(leat.client { base_url = url })
    for _, verb in ipairs { "get", "post", "put", "patch", "delete" } do
        t.eq(assert(api[verb](api, "echo")):json().method, verb:upper())
    end
    t.eq(assert(api:head "echo").body, "")
    t.eq(assert(api:request "/echo"):json().method, "GET")
    t.eq(assert(api:request { url = "/echo", method = "OPTIONS" }):json().method, "OPTIONS")
    t.ok(tostring(api):find("client of http://127.0.0.1", 1, true))
end)

t.test("a client with a base sends its secrets nowhere else", function()
    local api = assert(leat.client {
        base_url = url, auth = { bearer = "secret" }, headers = { ["X-Api-Key"] = "secret" },
    })
    local elsewhere = url:gsub("127%.0%.0%.1", "lo.test")
    for _, target in ipairs { elsewhere .. "/echo", elsewhere:match "//.*" .. "/echo" } do
        local got = assert(api:get(target)):json()
        t.eq(got.headers.authorization, nil, target)
        t.eq(got.headers["x-api-key"], nil, target)
    end
    t.eq(assert(api:get(url .. "/echo")):json().headers.authorization, "Bearer secret")
    local free = assert(leat.client { auth = { bearer = "secret" } })
    t.eq(assert(free:get(elsewhere .. "/echo")):json().headers.authorization, "Bearer secret")
end)

t.test("changing the options after making a client changes nothing", function()
    local options = { base_url = url, headers = { ["X-A"] = { "1" } } }
    local api = assert(leat.client(options))
    options.headers["X-A"][1] = "2"
    options.headers["X-B"] = "2"
    local got = assert(api:get "/echo"):json()
    t.eq(got.headers["x-a"], "1")
    t.eq(got.headers["x-b"], nil)
end)

t.done()
