-- What becomes of the items of a pipeline, by what they returned. On virtual time.
local t = require "harness"

local base = "http://service.test"

local function answer(req)
    local status = tonumber(req.path:match "^/(%d%d%d)")
    if status == 100 then
        sleep(100)
    elseif req.path == "/moved" then
        return { status = 302, headers = { location = "/404" } }
    end
    return { status = status or 200, body = req.path == "/silent" and "" or "the words of the server",
        headers = req.path:find "/hint" and { ["retry-after"] = "1000" } or nil }
end

local server = leat.simulate(base, answer)

local function get(path)
    return request(base .. path)
end

local function paths(...)
    local list = {}
    for i = 1, select("#", ...), 2 do
        local path, n = select(i, ...)
        for _ = 1, n do
            list[#list + 1] = path
        end
    end
    return list
end

assert(get "/200") -- from now on it has its tasks

t.test("fifty 404s are fifty failed items", function()
    local pipe = leat.pipeline()
    local results, stats = pipe:run(paths("/404", 50), get)
    t.eq({ stats.items, stats.ok, stats.failed, stats.calls }, { 50, 0, 50, 50 })
    t.eq(stats.why_failed, { { reason = "status 404", count = 50 } })
    t.eq({ results.n, results[1], results[50] }, { 50 })
    t.ok(tostring(stats):find("50 items: 0 ok, 50 failed", 1, true), tostring(stats))
    t.ok(tostring(stats):find("\n50 failed: 50 × status 404\n", 1, true), tostring(stats))
    local err = results.errors[50]
    t.eq({ err.kind, err.status, err.body, err.attempts }, { "http", 404, "the words of the server", 1 })
    t.eq({ err.response.status, err.response.ok }, { 404, false })
    t.eq(tostring(err), "http: the server answered with status 404 Not Found: the words of the server")
    local _, moved = pipe:call(get, "/moved")
    t.eq({ moved.status, moved.attempts, moved.response.attempts }, { 404, 1, 2 })
    local met, missed = stats:check { items = 1 }
    t.eq({ met, #missed }, { true, 0 })
end)

t.test("each, call and on_result judge alike, whatever makes the response", function()
    local ended = {}
    local pipe = leat.pipeline { retry = false, on_result = function(i, value, err)
        ended[i] = value and value.status or err.status
    end }
    local stats = pipe:each(paths("/200", 1, "/404", 1, "/304", 1, "/204", 1), get)
    t.eq({ stats.ok, stats.failed }, { 2, 2 })
    t.eq(ended, { 200, 404, 304, 204 })
    local value, err = pipe:call(get, "/500")
    t.eq({ value == nil, err.kind, err.status, pipe:stats().failed }, { true, "http", 500, 3 })
    -- A table with status and headers is a response to all policies.
    value, err = pipe:call(function() return { status = 418, headers = {} } end)
    t.eq({ value == nil, err.kind, err.status, err.message },
        { true, "http", 418, "the server answered with status 418" })
    t.eq(pipe:call(function() return { status = 418 } end), { status = 418 })
    value, err = pipe:call(function() error(leat.error { kind = "invalid", message = "bad row" }) end)
    t.eq({ value == nil, tostring(err) }, { true, "invalid: bad row" })
    local failed = pipe:stats().failed
    value, err = pipe:call(function() return nil, false end)
    t.eq({ value == nil, err, pipe:stats().failed }, { true, false, failed + 1 })
    value, err = pipe:call(function() return leat.retry { attempts = 2, base = 0.1 }:call(get, "/503") end)
    t.eq({ value == nil, err.status, err.gave_up, err.attempts }, { true, 503, "attempts", 2 })
    value, err = pipe:call(function() return request { url = base .. "/404", stream = true } end)
    t.eq({ value == nil, err.status, err.body }, { true, 404, "the words of the server" })
end)

t.test("batch judges its items, too: a 404 is not ok, unless it is accepted", function()
    local function slot(path, opts)
        return leat.batch({ path }, opts or {}, get)[1]
    end
    t.eq(slot("/204").ok, true)
    local missing = slot "/404"
    t.eq({ missing.ok, missing.value == nil, missing.err.kind, missing.err.status, missing.err.body },
        { false, true, "http", 404, "the words of the server" })
    t.eq({ slot("/500").ok, slot("/moved").err.status, slot("/304").ok }, { false, 404, false })
    t.eq(slot("/404", { accept = "4xx" }).value.status, 404)
    t.eq(slot("/500", { accept = "4xx" }).ok, false)
    t.eq({ slot("/404", { accept = 404 }).ok, slot("/409", { accept = { 404, "5xx" } }).ok }, { true, false })
    t.eq(slot("/409", { accept = function(res) return res.status == 409 end }).ok, true)
    local err = t.fails("http", leat.batch(paths("/200", 1, "/503", 1), { settle = false }, get))
    t.eq({ err.status, err.partial[1].status }, { 503, 200 })
    local streamed = leat.batch({ "/404" }, {}, function(path)
        return request { url = base .. path, stream = true }
    end)[1]
    t.eq({ streamed.ok, streamed.err.status, streamed.err.body }, { false, 404, "the words of the server" })
    t.raises("batch: option 'accept' must be \"2xx\"", leat.batch, {}, { accept = "ok" }, get)
end)

t.test("a journalled batch calls an item again whose response was not ok", function()
    local path, calls = os.tmpname(), 0
    local function fn(item)
        calls = calls + 1
        local res = get(item)
        return res.ok and res.body or res
    end
    for _ = 1, 2 do
        local r = leat.batch(paths("/200", 1, "/404", 1), { journal = path }, fn)
        t.eq({ r[1].value, r[2].ok, r[2].err.status }, { "the words of the server", false, 404 })
    end
    t.eq(calls, 3)
    os.remove(path)
end)

t.test("a server that repeats the caller's secrets gets none of them into the failure of an item", function()
    local echo = leat.simulate("http://echo.test", function(req)
        return { status = 401, body = "bad key " .. tostring(req.headers.authorization) .. " "
            .. tostring(req.query.api_key) }
    end)
    local api = leat.client { base_url = "http://echo.test", auth = { bearer = "sk-canary-42" } }
    local pipe = leat.pipeline { retry = false }
    for _, fn in ipairs {
        function() return api:get "x?api_key=canary-key" end,
        function() return api:get("x?api_key=canary-key", { stream = true }) end,
        function()
            return request { url = "http://echo.test/x?api_key=canary-key",
                auth = { bearer = "sk-canary-42" } }
        end,
    } do
        local _, err = pipe:call(fn)
        t.eq(err.status, 401)
        t.ok(err.message:find("bad key", 1, true), err.message)
        t.ok(not (err.message .. err.body .. err.url):find "canary", err.message)
        local counts = leat.each({ 1 }, fn)
        t.ok(not tostring(counts.first_error):find "canary", tostring(counts.first_error))
    end
    echo:close()
end)

t.test("accept allows statuses, classes, lists and what a function says", function()
    local list = paths("/200", 1, "/404", 1, "/410", 1, "/500", 1)
    local function ok(accept)
        return leat.pipeline({ retry = false, accept = accept }):each(list, get).ok
    end
    t.eq({ ok(nil), ok(404), ok "4xx", ok { 404, "5xx" }, ok { "2xx" } }, { 1, 2, 3, 3, 1 })
    t.eq(ok(function(res) return res.status == 410 and res.body ~= "" end), 2)
    local results = leat.pipeline({ accept = 404 }):run(paths("/404", 1), get)
    t.eq({ results[1].status, results[1].ok }, { 404, false })
    -- What is accepted is tried again first, as any other.
    local stats = leat.pipeline({ accept = 503, retry = { attempts = 3, base = 0.1 } }):each({ "/503" }, get)
    t.eq({ stats.ok, stats.calls }, { 1, 3 })
end)

t.test("a wrong accept= raises an error that says what is accepted", function()
    for _, wrong in ipairs { "404", "2x", 99, 404.5, true, {}, { "2xx", false }, { a = 404 } } do
        t.raises("pipeline: option 'accept' must ", leat.pipeline, { accept = wrong })
        t.raises("each: option 'accept' must ", leat.each, {}, print, { accept = wrong })
    end
end)

t.test("leat.each counts a response that is not ok as failed", function()
    local list = paths("/200", 2, "/404", 3, "/500", 1)
    local counts = leat.each(list, get)
    t.eq({ counts.ok, counts.failed, counts.first_error.status }, { 2, 4, 404 })
    t.eq(counts.why_failed, { { reason = "status 404", count = 3 }, { reason = "status 500", count = 1 } })
    counts = leat.each(list, get, { accept = 404 })
    t.eq({ counts.ok, counts.failed }, { 5, 1 })
end)

t.test("a response that is not ok is not done in a journal", function()
    local path = os.tmpname()
    local function get_body(item)
        local res = get(item)
        return res.ok and res.body or res
    end
    for round = 1, 2 do
        local pipe = leat.pipeline { journal = path, retry = false }
        local stats = pipe:each(paths("/404", 2, "/200", 1), get_body)
        t.eq({ stats.ok, stats.failed, stats.resumed }, round == 1 and { 1, 2, 0 } or { 0, 2, 1 })
    end
    assert(os.remove(path))
    for round = 1, 2 do
        local counts = leat.each(paths("/404", 2, "/200", 1), get_body, { journal = path })
        t.eq({ counts.ok, counts.failed, counts.resumed }, round == 1 and { 1, 2, 0 } or { 0, 2, 1 })
    end
    assert(os.remove(path))
end)

t.test("the summary groups the failures by their reasons, the most frequent first", function()
    local pipe = leat.pipeline { timeout = 3, retry = false, concurrency = 20 }
    local stats = pipe:each(paths("/503", 4, "/404", 2, "/100", 3, "/refused", 1, "/200", 5), function(path)
        if path == "/refused" then
            return request "http://elsewhere.test/"
        end
        return request { url = base .. path, timeout = path == "/100" and { first_byte = 1 } or nil }
    end)
    t.eq(stats.why_failed, { { reason = "status 503", count = 4 },
        { reason = "timeout (first_byte)", count = 3 },
        { reason = "status 404", count = 2 }, { reason = "denied", count = 1 } })
    t.ok(tostring(stats):find(
        "10 failed: 4 × status 503, 3 × timeout (first_byte), 2 × status 404, 1 × denied\n", 1, true),
        tostring(stats))
end)

t.test("what was not retried says so: in the message, in a field, in the summary", function()
    local pipe = leat.pipeline { retry = { attempts = 4, base = 0.1, max_retry_after = 5 }, concurrency = 1 }
    local results, stats = pipe:run({ "POST /500", "PUT /500", "PATCH /503", "POST /503/hint", "POST /404" },
        function(item)
            local method, path = item:match "(%S+) (%S+)"
            return request { url = base .. path, method = method }
        end)
    local e = results.errors
    t.eq({ e[1].not_retried, e[1].gave_up, e[1].attempts },
        { "POST without idempotency key", "not_idempotent", 1 })
    t.ok(tostring(e[1]):find("(not retried: POST without idempotency key)", 1, true), tostring(e[1]))
    t.eq({ e[2].not_retried, e[2].gave_up, e[2].attempts }, { nil, "attempts", 4 })
    t.eq(e[3].not_retried, "PATCH without idempotency key")
    t.eq({ e[4].kind, e[4].gave_up }, { "rate_limited", "retry_after" })
    t.eq({ e[5].not_retried, e[5].gave_up }, {}) -- it would not have been anyway
    local all = tostring(stats)
    for _, part in ipairs { "1 × status 500 (not retried: POST without idempotency key)",
        "1 × status 503 (not retried: PATCH without idempotency key)", "1 × status 500",
        "1 × status 503 (not retried: the server asked for too long a wait)" } do
        t.ok(all:find(part, 1, true), all)
    end
    -- The same for a failure that is no response, and for what retry's own option forbids.
    local _, err = leat.retry():call(request, { url = base .. "/100", method = "POST", timeout = 1 })
    t.ok(err.message:find("(not retried: POST without idempotency key)", 1, true), err.message)
    local res = leat.retry({ idempotent = false }):call(get, "/500")
    t.eq(res.not_retried, "retry's option idempotent is false")
    -- With one attempt, or where `when` decides, that was the caller's choice.
    local once = leat.retry { attempts = 1 }
    t.eq(once:call(request, { url = base .. "/500", method = "POST" }).not_retried, nil)
    local never = leat.retry { when = function() return false end }
    t.eq(never:call(request, { url = base .. "/500", method = "POST" }).not_retried, nil)
end)

t.test("a script's own failures are grouped by their words, and endless kinds are one", function()
    local stats = leat.pipeline():each({ 1, 2, 3 }, function(n)
        return nil, n < 3 and "no such row" or ("x"):rep(100) .. "\nmore"
    end)
    t.eq(stats.why_failed[1], { reason = "script (no such row)", count = 2 })
    t.eq(stats.why_failed[2].reason, "script (" .. ("x"):rep(60) .. "...)")
    local numbers = {}
    for i = 1, 1000 do numbers[i] = i end
    stats = leat.pipeline():each(numbers, function(n) return nil, "row " .. n .. " is bad" end)
    t.eq(#stats.why_failed, 51)
    local sum = 0
    for _, entry in ipairs(stats.why_failed) do sum = sum + entry.count end
    t.eq({ sum, stats.why_failed[1].reason, stats.why_failed[1].count }, { 1000, "other reasons", 950 })
    t.ok(tostring(stats):find(" × other reasons", 1, true))
end)

t.test("skipped items say why, too", function()
    local pipe = leat.pipeline { concurrency = 1, retry = false, breaker = { threshold = 2, reset = 60 } }
    local stats = pipe:each(paths("/500", 10), get)
    t.eq({ stats.failed, stats.skipped }, { 2, 8 })
    t.eq(stats.why_skipped, { { reason = "circuit_open", count = 8 } })
    t.ok(tostring(stats):find("2 failed: 2 × status 500\n8 skipped: 8 × circuit_open\n", 1, true))
end)

t.test("the last line of the progress says why", function()
    local lines = {}
    leat.pipeline({ retry = false, progress = function(line) lines[#lines + 1] = line end }):each(
        paths("/404", 3, "/200", 1), get)
    t.ok(lines[#lines]:find("3 failed: 3 × status 404", 1, true), lines[#lines])
    lines = {}
    leat.pipeline({ retry = false, progress = { terminal = true, color = false, sink = function(line)
        lines[#lines + 1] = line
    end } }):each(paths("/404", 3, "/200", 1), get)
    t.eq(lines[#lines], "3 failed: 3 × status 404\n")
end)

t.test("a response of an item is the same whether it was looked at or not", function()
    local pipe = leat.pipeline { retry = false }
    local results = pipe:run({ "/404" }, function(path)
        local res = get(path)
        t.eq({ res.body, res.headers["content-length"], #res.url }, { "the words of the server", "23", 23 })
        t.eq(tostring(res):match "^response 404 Not Found, 23 bytes", "response 404 Not Found, 23 bytes")
        t.eq({ res.ok, res.status, res.ok }, { false, 404, false })
        local again = get(path)
        t.eq({ again.ok == false, leat.inspect and leat.inspect(again):match "^response 404" },
            { true, leat.inspect and "response 404" or nil })
        return { get(path), get "/500" }
    end)
    t.eq({ results[1][1].status, results[1][1].ok, results[1][2].ok }, { 404, false, false })
    local res = get "/404" -- outside of an item
    t.eq({ rawget(res, "status"), rawget(res, "ok") }, { 404, false })
end)

server:close()
t.done()
