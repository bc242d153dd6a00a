-- What print shows of the values that the functions return: something to read, never an address.
local t = require "harness"
local leat = require "leat"
local json = leat.json

leat.simulate("https://a.test", function(req)
    if req.path == "/v1/chat/completions" then
        return { json = { choices = { { message = { content = req.body }, finish_reason = "stop" } } } }
    end
    return { status = req.path == "/gone" and 404 or 200, body = "fine",
        headers = { ["X-Id"] = "7", ["Set-Cookie"] = "sid=secret-value" } }
end)
local res = assert(request "https://a.test/")

local function even(x)
    if x % 2 == 1 then
        return nil, "odd"
    end
    return x
end

t.test("print of headers, timing, errors and responses shows what is in them", function()
    local text = tostring(res.headers)
    t.ok(text:find("x-id: 7", 1, true) and text:find("content-length: 4", 1, true), text)
    t.ok(not text:find("secret-value", 1, true), "a cookie is a secret: " .. text)
    t.ok(tostring(res.timing):find "total %d", tostring(res.timing))
    t.ok(tostring(res):find "^response 200", tostring(res))
    local _, err = request { url = "https://a.test/gone", expect = 200 }
    t.ok(tostring(err):find("status 404", 1, true), tostring(err))
    t.eq(res.headers["X-ID"], "7")
end)

t.test("print of results says how many there are, and what has failed", function()
    t.eq(tostring(leat.map({ 2, 4 }, even)), "results of 2 items")
    t.eq(tostring(leat.gather { function() return 1 end }), "results of 1 item")
    t.eq(tostring(leat.map({ 1, 2, 3 }, even, { settle = true })),
        "results of 3 items, 2 failed: [1] script: odd; [3] script: odd")
    local results = leat.pipeline { retry = false }:run({ 1, 2, 3, 5, 7, 9 }, even)
    t.eq(tostring(results.errors), "5 failed: [1] script: odd; [3] script: odd; [4] script: odd; and 2 more")
    t.ok(tostring(results):find("results of 6 items, 5 failed", 1, true), tostring(results))
    t.eq(tostring(leat.each({ 1, 2, 3 }, even)), "1 ok, 2 failed; the first: script: odd")
    t.eq(select("#", leat.map({ 2 }, even)), 1)
    t.eq(select("#", request "https://a.test/"), 1)
end)

t.test("print of a check's misses lists them", function()
    local _, stats = leat.pipeline { retry = false }:run({ 2, 4 }, even)
    t.eq(tostring(select(2, stats:check { failed = 0 })), "none")
    t.ok(not tostring(stats):find("table: ", 1, true), tostring(stats))
end)

t.test("leat.inspect shows results, headers and counts whole, as the REPL does", function()
    t.eq(leat.inspect(leat.map({ 2, 4 }, even)), "{ 2, 4, n = 2 }")
    t.eq(leat.inspect(leat.each({ 2 }, even)):match "ok = 1", "ok = 1")
    t.ok(leat.inspect(res.headers):find("7", 1, true))
end)

-- ---- whole numbers as keys, wherever JSON goes

t.test("json.object{[50256]=-100} reaches a server by request, chat and a journal", function()
    local bias = json.object { [50256] = -100 }
    local seen
    leat.simulate("https://b.test", function(req)
        seen = req.body
        return "ok"
    end)
    assert(request { url = "https://b.test/", json = { logit_bias = bias } })
    t.eq(json.decode(seen).logit_bias["50256"], -100)
    local api = assert(leat.client { base_url = "https://b.test" })
    assert(api:post("/x", { json = { logit_bias = bias } }))
    t.eq(json.decode(seen).logit_bias["50256"], -100)
    local ai = assert(leat.openai { base_url = "https://a.test/v1", api_key = "k", model = "m" })
    local sent = assert(ai:chat("hi", { logit_bias = bias }))
    t.eq(json.decode(sent).logit_bias["50256"], -100)
    local path, calls = os.tmpname(), 0
    for _ = 1, 2 do -- the second time the result comes from the journal
        local kept = assert(leat.map({ { bias = bias } }, function(item)
            calls = calls + 1
            return item
        end, { journal = path }))
        t.eq(kept[1].bias["50256"] or kept[1].bias[50256], -100)
    end
    t.eq(calls, 1)
    t.ok(os.remove(path))
end)

t.test("what map returned is a result that a journal keeps", function()
    local path = os.tmpname()
    for _ = 1, 2 do
        local kept = assert(leat.map({ 1 }, function()
            return leat.map({ 2, 3, 4 }, function(x) return x ~= 3 and x or nil end)
        end, { journal = path }))
        t.eq({ kept[1][1], kept[1][3] }, { 2, 4 })
    end
    t.ok(os.remove(path))
end)

t.done()
