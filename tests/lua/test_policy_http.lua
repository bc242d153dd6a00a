-- The policies around real requests, against the fault server.
local t = require "harness"
local leat = require "leat"

local made = 0
local function fresh()
    made = made + 1
    return "policy-" .. made .. "-" .. leat.uuid()
end

-- A request to a server that answers 500 always, and how often it went out.
local function sent(retry, spec)
    local id = fresh()
    spec.url = t.url .. "/status?code=" .. (spec.code or 500)
    spec.code = nil
    spec.headers = spec.headers or {}
    spec.headers["X-Id"] = id
    local res, err = retry:call(request, spec)
    return t.seen(id), res, err
end

t.test("a GET is tried again, and its last response returned", function()
    local n, res = sent(leat.retry { base = 0.001 }, {})
    t.eq({ n, res.status, res.attempts, res.gave_up }, { 3, 500, 3, "attempts" })
end)

t.test("a POST is tried again only with a key, or where the caller says so", function()
    local retry = leat.retry { base = 0.001 }
    local n, res = sent(retry, { body = "x" })
    t.eq({ n, res.status, res.idempotent }, { 1, 500, false })
    t.eq((sent(retry, { method = "PATCH" })), 1)
    t.eq((sent(retry, { json = { a = 1 } })), 1)
    t.eq((sent(retry, { body = "x", headers = { ["idempotency-KEY"] = "k" } })), 3)
    t.eq((sent(retry, { body = "x", idempotent = true })), 3)
    t.eq((sent(retry, { body = "x", method = "PUT" })), 3)
    t.eq((sent(leat.retry { base = 0.001, idempotent = true }, { body = "x" })), 3)
    t.eq((sent(leat.retry { base = 0.001, idempotent = false }, {})), 1)
end)

t.test("a POST that was turned away with 429 is tried again", function()
    t.eq((sent(leat.retry { base = 0.001 }, { body = "x", code = 429 })), 3)
end)

t.test("a client's key counts for its requests", function()
    local id = fresh()
    local api = leat.client { base_url = t.url, headers = { ["Idempotency-Key"] = "k", ["X-Id"] = id } }
    local res = leat.retry({ base = 0.001 }):call(api.post, api, "/status?code=500", { body = "x" })
    t.eq({ res.status, res.idempotent, t.seen(id) }, { 500, nil, 3 })
end)

t.test("a POST whose connection broke is tried again only if the caller says so", function()
    local function broken(retry)
        local id = fresh()
        local v, err = retry:call(request, {
            url = t.url .. "/reset-before-head", body = "x", headers = { ["X-Id"] = id },
        })
        t.fails("closed", v, err)
        return t.seen(id), err
    end
    local n, err = broken(leat.retry { base = 0.001 })
    t.eq({ n, err.attempts, err.idempotent }, { 1, 1, false })
    n, err = broken(leat.retry { base = 0.001, idempotent = true })
    t.eq({ n, err.attempts }, { 3, 3 })
end)

t.test("a POST that could not connect is tried again", function()
    local v, err = leat.retry({ base = 0.001 }):call(request, { url = t.refused_url, body = "x" })
    t.eq(t.fails("connect", v, err).attempts, 3)
end)

t.test("retry-after is obeyed", function()
    local took, res = t.took(function()
        return leat.retry({ base = 0.001 }):call(request,
            t.url .. "/retry-after?v=0.05&n=1&id=" .. fresh())
    end)
    t.eq({ res.status, res.attempts }, { 200, 2 })
    t.ok(took >= 0.05, took)
end)

t.test("a loop over adaptive slots at a high rate goes on, by the real clock too", function()
    local slots, n = leat.adaptive { start = 2, max = 4 }, 0
    for i = 1, 400 do -- in step with its own pace, so that each wait is about to end when it begins
        slots:call(function()
            n = n + 1
            if i > 10 and i % 4 ~= 0 then
                return nil, leat.error { kind = "http", status = 429, message = "refused", retryable = true,
                    retry_after = 1e-4 }
            end
            return true
        end)
    end
    t.eq(n, 400)
    local list = {}
    for i = 1, 300 do list[i] = function() slots:call(sleep, 0.002) return true end end
    assert(gather(list))
end)

t.done()
