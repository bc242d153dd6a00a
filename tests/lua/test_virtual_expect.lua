-- The option `expect`: which statuses a request, or a client, takes for a success.
local t = require "harness"
local leat = require "leat"
local json = leat.json

local URL = "https://api.test"

-- What the server answers, by path: {status, body, headers} or a function of the request.
local routes, served = {}, {}

leat.simulate(URL, function(req)
    served[req.path] = (served[req.path] or 0) + 1
    local route = routes[req.path]
    if type(route) == "function" then
        return route(req)
    end
    route = route or { 404, "no such page" }
    return { status = route[1], body = route[2], headers = route[3] }
end)

assert(request(URL)) -- the server's task is there from now on

local function get(path, opts)
    local all = { url = URL .. path, expect = "2xx" }
    for name, value in pairs(opts or {}) do
        all[name] = value
    end
    return request(all)
end

t.test("expect: a status that it allows is a response, any other a failure", function()
    routes["/ok"] = { 200, "fine" }
    routes["/made"] = { 201, "made" }
    routes["/gone"] = { 410, "gone for good" }
    for _, case in ipairs {
        { "2xx", "/ok", true }, { "2xx", "/made", true },
        { "2xx", "/gone", false },
        { 200, "/ok", true }, { 200, "/made", false }, { { 200, 410 }, "/gone", true },
        { { "4xx", 201 }, "/gone", true }, { { "4xx", 201 }, "/made", true },
        { { "4xx", 201 }, "/ok", false },
        { function(res) return res.body == "made" end, "/made", true },
        { function(res) return res.body == "made" end, "/ok", false },
        { function() end, "/ok", false },
    } do
        local res, err = get(case[2], { expect = case[1] })
        if case[3] then
            t.ok(res and res.status and err == nil, case[2])
        else
            t.fails("http", res, err)
            t.ok(err.status and err.response and err.response.status == err.status)
        end
    end
end)

t.test("a status is a response where nothing is expected, and where expect=false says so", function()
    t.eq(assert(request(URL .. "/nothing")).status, 404)
    local api = assert(leat.client { base_url = URL, expect = "2xx" })
    t.eq(assert(api:get("/nothing", { expect = false })).status, 404)
end)

t.test("every method of a client that expects something expects it; a request's own goes before", function()
    local api = assert(leat.client { base_url = URL, expect = { "2xx", 410 } })
    for _, name in ipairs { "get", "post", "put", "patch", "delete", "head" } do
        local res, err = api[name](api, "/nothing")
        t.fails("http", res, err)
        t.eq(err.status, 404)
        t.eq(assert(api[name](api, "/gone")).status, 410)
        t.fails("http", api[name](api, "/gone", { expect = 200 }))
    end
    t.fails("http", api:request "/nothing")
    t.fails("http", api:request { url = "/nothing" })
end)

t.test("what was not expected says its status, and what the server said about it", function()
    local words = {
        ["/plain"] = { "no seats left", "no seats left" },
        ["/message"] = { '{"message":"bad name","code":7}', "bad name" },
        ["/error"] = { '{"error":"wrong colour"}', "wrong colour" },
        ["/openai"] = { '{"error":{"message":"model not found","type":"invalid"}}', "model not found" },
        ["/detail"] = { '{"detail":"Not authenticated"}', "Not authenticated" },
        ["/details"] = { '{"detail":[{"loc":["body","n"],"msg":"Field required"}]}',
            "body.n: Field required" },
        ["/list"] = { '[{"error":{"message":"quota"}}]', "quota" },
        ["/html"] = { "<html><title>502 Bad Gateway</title><h1>x</h1></html>", "502 Bad Gateway" },
        ["/sse"] = { 'event: error\ndata: {"error":{"message":"overloaded"}}\n\n', "overloaded" },
        ["/two-lines"] = { "one\n\27[31mtwo", "one" },
    }
    for path, case in pairs(words) do
        routes[path] = { 400, case[1] }
        local _, err = get(path)
        t.fails("http", nil, err)
        t.ok(tostring(err):find(case[2], 1, true), path .. ": " .. tostring(err))
        t.ok(tostring(err):find("status 400", 1, true), tostring(err))
        t.ok(not tostring(err):find "[%c]", tostring(err))
        t.eq(err.url, URL .. path)
    end
    routes["/empty"] = { 500, "" }
    local _, err = get "/empty"
    t.eq(tostring(err), "http: the server answered with status 500 Internal Server Error")
    t.eq(err.body, nil)
    t.fails("http", get("/plain", { method = "HEAD" }))
end)

t.test("err.body is the head of the body, and what is no text is not shown", function()
    routes["/long"] = { 400, ("é"):rep(50000) }
    local _, err = get "/long"
    t.ok(#err.body <= 2048 and err.body:find "^é" and #tostring(err) < 1000)
    t.eq(#err.response.body, 100000)
    t.ok(json.encode(err), "an error is data")
    routes["/image"] = { 404, "\137PNG\0\0\1", { ["Content-Type"] = "image/png" } }
    _, err = get "/image"
    t.ok(tostring(err):find("7 bytes that are not text", 1, true), tostring(err))
    t.eq(err.body, nil)
end)

t.test("secrets of the request that the server repeats are not in the error", function()
    routes["/repeats"] = function(req)
        return { status = 401, body = ("wrong key %s / %s / %s"):format(req.headers.authorization or "-",
            req.headers["x-api-key"] or "-", req.query or "-") }
    end
    local function clean(_, err)
        t.fails("http", nil, err)
        t.ok(err.body:find("wrong key", 1, true))
        for _, text in ipairs { tostring(err), err.body, err.url } do
            t.ok(not text:find "canary", text)
        end
    end
    clean(get("/repeats", { auth = { bearer = "canary-1234567" } }))
    clean(get("/repeats", { headers = { ["X-Api-Key"] = "canary-22222222",
        Authorization = "Token canary-3" } }))
    clean(get "/repeats?api_key=canary-4444")
    local api = assert(leat.client { base_url = URL, expect = "2xx", auth = { bearer = "canary-5555555" },
        headers = { ["x-api-key"] = "canary-666666" } })
    clean(api:get "/repeats")
    clean(api:get("/repeats", { stream = true }))
end)

t.test("the final response is judged, not the redirects before it", function()
    routes["/away"] = { 302, "", { Location = "/ok" } }
    routes["/astray"] = { 302, "", { Location = "/nothing" } }
    t.eq(assert(get("/away", { expect = 200 })).body, "fine")
    local _, err = get("/astray", { expect = "2xx" })
    t.eq({ err.status, err.url }, { 404, URL .. "/nothing" })
    t.eq(assert(get("/away", { expect = 302, follow = false })).status, 302)
    t.fails("http", get("/away", { expect = 200, follow = false }))
end)

-- ---- streams and sinks

t.test("of a stream that is not expected the beginning is read, and it is closed", function()
    local open, closed = 0, 0
    routes["/endless"] = function(req)
        local out = req:respond { status = 500, headers = { ["Content-Type"] = "text/plain" } }
        open = open + 1
        return leat.finally(function()
            while out:write(("no room "):rep(1000)) do
                sleep(0.001)
            end
        end, function()
            closed = closed + 1
        end)
    end
    local _, err = get("/endless", { stream = true })
    t.fails("http", nil, err)
    t.ok(err.body:find "^no room" and #err.body <= 2048)
    t.ok(#err.response.body < 200000)
    t.eq({ err.status, err.response.status, err.response.complete }, { 500, 500, false })
    sleep(1)
    t.eq({ open, closed }, { 1, 1 })
    routes["/small"] = { 503, '{"error":"busy"}' }
    _, err = get("/small", { stream = true })
    t.eq(err.response:json().error, "busy")
    t.eq(err.response.complete, true)
end)

t.test("a stream that says no more than its status is given up after a few seconds", function()
    routes["/silent"] = function(req)
        local out = req:respond { status = 502 }
        out:write "starting"
        sleep(1000)
    end
    local began = leat.now()
    local _, err = get("/silent", { stream = true })
    t.fails("http", nil, err)
    t.ok(err.body == "starting" and leat.now() - began < 10)
    _, err = leat.wait_for(1, get, "/silent", { stream = true })
    t.fails("timeout", nil, err) -- the caller's own limit goes before
    routes["/broken"] = function(req)
        local out = req:respond { status = 500 }
        out:write "half of"
        sleep(0.1)
        out:abort()
    end
    _, err = get("/broken", { stream = true })
    t.eq({ err.kind, err.status, err.body }, { "http", 500, "half of" })
end)

t.test("a stream that is expected is read as ever", function()
    local res = assert(get("/ok", { stream = true }))
    t.eq({ res:read(), res:read() }, { "fine" })
end)

t.test("a sink is not written where the status is not expected", function()
    local path = os.tmpname()
    local function content()
        local f = assert(io.open(path))
        local text = f:read "*a"
        f:close()
        return text
    end
    local f = assert(io.open(path, "w"))
    f:write "old"
    f:close()
    local _, err = get("/nothing", { sink = path })
    t.eq({ err.kind, err.status, content() }, { "http", 404, "old" })
    t.fails("http", get("/ok", { sink = path, expect = 201 }))
    t.eq(content(), "old")
    t.ok(get("/ok", { sink = path, expect = 200 }))
    t.eq(content(), "fine")
    t.ok(os.remove(path))
end)

t.test("an upload whose answer is not expected fails, and is over", function()
    local left = 3
    local _, err = get("/nothing", { method = "PUT", body = function()
        left = left - 1
        return left >= 0 and "piece" or nil
    end })
    t.eq({ err.kind, err.status, left }, { "http", 404, -1 })
    t.fails("http", get("/nothing", { multipart = { a = "1" } }))
end)

-- ---- policies

-- The statuses are given in turn; the last one stays.
local function in_turn(path, answers)
    local n = 0
    served[path] = 0
    routes[path] = function()
        n = math.min(n + 1, #answers)
        local a = answers[n]
        return { status = a[1], body = a[2], headers = a[3] }
    end
end

local function attempts(path, answers, opts, retry)
    in_turn(path, answers)
    local policy = leat.retry(retry or { attempts = 4, base = 0.1, budget = false })
    local res, err = policy:call(get, path, opts)
    return served[path], res, err
end

t.test("retry judges an unexpected status as it would the response", function()
    t.eq((attempts("/503", { { 503 }, { 200 } })), 2)
    t.eq((attempts("/404", { { 404 }, { 200 } })), 1)
    t.eq((attempts("/501", { { 501 }, { 200 } })), 1)
    t.eq((attempts("/429", { { 429 }, { 429 }, { 200 } })), 3)
    t.eq((attempts("/asked", { { 409, "", { ["x-should-retry"] = "true" } }, { 200 } })), 2)
    t.eq((attempts("/told", { { 503, "", { ["x-should-retry"] = "false" } }, { 200 } })), 1)
    local n, res, err = attempts("/down", { { 500, "down" } })
    t.eq({ n, res, err.kind, err.status, err.attempts, err.gave_up }, { 4, nil, "http", 500, 4, "attempts" })
    n, res, err = attempts("/quota", { { 429, '{"error":{"message":"spent","code":"insufficient_quota"}}' } })
    t.eq({ n, res, err.retryable }, { 1, nil, false })
end)

t.test("a POST is not sent again after an unexpected status, unless that is harmless", function()
    local post = { method = "POST", body = "x" }
    t.eq((attempts("/p503", { { 503 }, { 200 } }, post)), 1)
    t.eq((attempts("/p429", { { 429 }, { 200 } }, post)), 2)
    t.eq((attempts("/pkey", { { 503 }, { 200 } },
        { method = "POST", body = "x", headers = { ["Idempotency-Key"] = "k" } })), 2)
    t.eq((attempts("/pasked", { { 503, "", { ["x-should-retry"] = "true" } }, { 200 } }, post)), 2)
    local _, _, err = attempts("/pe", { { 500 } }, post)
    t.eq({ err.idempotent, err.retryable, err.status }, { false, true, 500 })
end)

t.test("the wait that the server asks for is in the error, and is kept", function()
    local _, err = (function()
        routes["/wait"] = { 429, "", { ["retry-after"] = "7" } }
        return get "/wait"
    end)()
    t.eq({ err.retry_after, err.retryable }, { 7, true })
    routes["/ms"] = { 503, "", { ["retry-after-ms"] = "1500" } }
    t.eq(select(2, get "/ms").retry_after, 1.5)
    routes["/body"] = { 429, '{"error":{"message":"Please try again in 20s."}}' }
    t.eq(select(2, get "/body").retry_after, 20)
    local began = leat.now()
    t.eq((attempts("/later", { { 429, "", { ["retry-after"] = "7" } }, { 200 } })), 2)
    t.ok(leat.now() - began >= 7)
end)

t.test("a breaker counts 5xx and not 4xx", function()
    local breaker = leat.breaker { threshold = 2, reset = 60 }
    routes["/b404"], routes["/b500"] = { 404 }, { 500 }
    for _ = 1, 5 do
        t.fails("http", breaker:call(get, "/b404"))
    end
    for _ = 1, 2 do
        t.fails("http", breaker:call(get, "/b500"))
    end
    t.fails("circuit_open", breaker:call(get, "/b404"))
end)

-- ---- wrong use

t.test("a wrong expect is refused before anything is sent", function()
    for _, value in ipairs { "200", "2x", "abc", 99, 1000, 200.5, true, {}, { "2xx", "no" } } do
        served["/ok"] = 0
        t.raises("option 'expect' must", request, { url = URL .. "/ok", expect = value })
        t.raises("option 'expect' must", leat.client, { base_url = URL, expect = value })
        t.eq(served["/ok"], 0)
    end
    t.raises("write it without the quotes", request, { url = URL .. "/ok", expect = "404" })
end)

t.done()
