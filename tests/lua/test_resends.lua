-- Requests whose kept connection is lost are sent again: such an attempt is counted like any other, and the
-- server's own count is the one that everybody gives.
local t = require "harness"
local leat = require "leat"

local made = 0

-- The server answers the first request on a connection, and closes it when the second one has come. The name
-- of the host is a new one, so that no connection to it is there yet; `id` is what the server counts by.
local function place()
    made = made + 1
    local id = leat.uuid()
    local host = ("r%d-%s.lo.test"):format(made, id:sub(1, 8))
    return t.url:gsub("127%.0%.0%.1", host) .. "/drop-after-post", id
end

local function warm(url)
    t.eq(assert(request { url = url, method = "POST", body = "" }).status, 200)
end

local IDEMPOTENT = {
    { method = "GET" }, { method = "PUT", body = "x" }, { body = "x", idempotent = true },
    { body = "x", headers = { ["Idempotency-Key"] = "k" } }, { method = "GET", stream = true },
}

local function spec_of(options, url, id)
    local spec = { url = url, headers = { ["X-Id"] = id } }
    for name, value in pairs(options) do
        if name ~= "headers" then
            spec[name] = value
        end
    end
    for name, value in pairs(options.headers or {}) do
        spec.headers[name] = value
    end
    return spec
end

local function over(res)
    if res and res._stream then
        res:close()
    end
    return res
end

t.test("without a policy it is sent once more, and the response says so", function()
    for _, options in ipairs(IDEMPOTENT) do
        local url, id = place()
        warm(url)
        local res = over(assert(request(spec_of(options, url, id))))
        t.eq({ res.status, res.attempts, t.seen(id) }, { 200, 2, 2 })
    end
end)

t.test("within retry it is one of the attempts, and the server sees no more than these", function()
    for _, options in ipairs(IDEMPOTENT) do
        local url, id = place()
        warm(url)
        local res, err = leat.retry { attempts = 1 }:call(request, spec_of(options, url, id))
        t.fails("closed", res, err)
        t.eq({ err.attempts, err.reason, err.at_once, t.seen(id) }, { 1, "reset", true, 1 })
        url, id = place()
        warm(url)
        local retry = leat.retry { attempts = 2 }
        res = over(assert(retry:call(request, spec_of(options, url, id))))
        t.eq({ res.status, res.attempts, retry.retries, t.seen(id) }, { 200, 2, 1, 2 })
    end
end)

t.test("such an attempt follows at once and costs none of the retry budget", function()
    local url, id = place()
    warm(url)
    local retry = leat.retry { attempts = 3, base = 3600, max = 3600, jitter = "none",
        budget = { floor = 0, ratio = 0 } }
    local res = assert(leat.wait_for(30, retry.call, retry, request, spec_of({}, url, id)))
    t.eq({ res.status, t.seen(id) }, { 200, 2 })
end)

t.test("a POST without a key is not sent again within retry either", function()
    local url, id = place()
    warm(url)
    local res, err = leat.retry { base = 0.001 }:call(request, spec_of({ body = "x" }, url, id))
    t.fails("closed", res, err)
    t.eq({ err.attempts, err.idempotent, err.at_once, t.seen(id) }, { 1, false, nil, 1 })
end)

t.test("a breaker does not count kept connections that were lost", function()
    local url, id = place()
    local breaker = leat.breaker { failure_rate = 0.1, min_calls = 4, reset = 3600 }
    local retry = leat.retry { attempts = 4, base = 0.001 }
    for _ = 1, 20 do
        local res = assert(retry:call(breaker.call, breaker, request, spec_of({ method = "GET" }, url, id)))
        t.eq(res.status, 200)
    end
    t.ok(retry.retries > 5, "connections were lost: " .. retry.retries)
    t.eq({ breaker:state(), t.seen(id) }, { "closed", 20 + retry.retries })
end)

-- ---- pipelines

local function run(retry, n)
    local url, id = place()
    local items = {}
    for i = 1, n do
        items[i] = i
    end
    local attempts = 0
    local pipe = leat.pipeline { concurrency = 4, retry = retry }
    local results, stats = pipe:run(items, function()
        local res, err = request { url = url, body = "x",
            headers = { ["X-Id"] = id, ["Idempotency-Key"] = "k" } }
        attempts = attempts + (res or err).attempts
        return res, err
    end)
    return stats, t.seen(id), attempts, results
end

t.test("a pipeline counts as many calls as the server saw requests", function()
    local stats, seen, attempts = run({ attempts = 4, base = 0.001, budget = false }, 200)
    t.eq({ stats.ok, stats.failed }, { 200, 0 })
    t.ok(seen > 250, "connections were lost: " .. seen)
    t.eq({ stats.calls, stats.retried, attempts }, { seen, seen - 200, seen })
end)

t.test("a pipeline without retry counts what was sent again, too", function()
    local stats, seen, attempts = run(false, 200)
    t.eq({ stats.ok, stats.failed }, { 200, 0 })
    t.ok(seen > 250, "connections were lost: " .. seen)
    t.eq({ stats.calls, stats.retried, attempts }, { seen, seen - 200, seen })
end)

t.test("where attempts is 1 the server sees each request once", function()
    local stats, seen, _, results = run({ attempts = 1 }, 100)
    t.eq({ stats.calls, stats.retried, seen }, { 100, 0, 100 })
    t.ok(stats.failed > 0 and stats.ok + stats.failed == 100)
    for _, err in pairs(results.errors) do
        t.eq({ err.kind, err.attempts }, { "closed", 1 })
    end
end)

-- ---- what a run says of itself

local function slurp(path)
    local f = assert(io.open(path))
    local text = f:read "*a"
    f:close()
    os.remove(path)
    return text
end

for _, retry in ipairs { "false", "{ attempts = 4, base = 0.001, budget = false }" } do
    t.test("--stats, --trace and --report count what the server saw (retry = " .. retry .. ")", function()
        local url, id = place()
        local path = os.tmpname()
        local script = assert(io.open(path, "w"))
        script:write(([[
            local function send()
                return request { url = %q, body = "x",
                    headers = { ["X-Id"] = %q, ["Idempotency-Key"] = "k" } }
            end
            local items = {}
            for i = 1, 60 do items[i] = i end
            local pipe = leat.pipeline { concurrency = 4, retry = %s }
            local _, stats = pipe:run(items, send)
            print(stats.ok, stats.calls)
        ]]):format(url, id, retry))
        script:close()
        local pipe = io.popen(("%s --stats=%s.stats --trace %s.trace --report %s.html %s"):format(
            assert(os.getenv "LEAT", "LEAT must name the program"), path, path, path, path))
        local ok, calls = pipe:read("*n", "*n")
        pipe:close()
        os.remove(path)
        local seen = t.seen(id)
        t.eq({ ok, calls }, { 60, seen })
        t.ok(seen > 60, "connections were lost: " .. seen)
        local stats = assert(json.decode(slurp(path .. ".stats")))
        local sent, requests = 0, 0
        for _, e in ipairs(assert(json.decode(slurp(path .. ".trace"))).traceEvents) do
            if e.cat == "request" and e.ph == "b" and e.args then
                sent, requests = sent + e.args.attempts_on_wire, requests + 1
            end
        end
        t.eq({ stats.wire_attempts, sent, stats.requests }, { seen, seen, requests })
        local page = slurp(path .. ".html")
        local function tile(name)
            return tonumber(page:match("<b[^>]*>([^<]*)</b><span>" .. name .. "</span>"))
        end
        t.eq(tile "requests", requests)
        t.eq(tile "sent, with resends", seen > requests and seen or nil)
    end)
end

t.done()
