-- What a server said in a failed answer: every usual form of it is found, shown and obeyed.
-- luacheck: no max line length (each case stands on a line)
local t = require "harness"
local leat = require "leat"
local reply_error = require "leat.http.reply_error"
local json = leat.json

local function said(text, opts)
    return reply_error.read(text, opts)
end

-- {the body, the words; and other fields of what was read}
local FORMS = {
    ["error with a message"] = { '{"error":{"message":"no such model","type":"t","code":"c","param":"model"}}',
        "no such model", { type = "t", code = "c", param = "model" } },
    ["error as text"] = { '{"error":"model \\"x\\" not found"}', 'model "x" not found' },
    ["error as text, with its type beside it"] = { '{"error":"Input validation error","error_type":"validation"}',
        "Input validation error", { type = "validation" } },
    ["error and message beside each other"] = { '{"status":404,"error":"Not Found","message":"no handler"}',
        "no handler", { status = 404 } },
    ["message at the top"] = { '{"object":"error","message":"too long","type":"BadRequestError","param":null,'
        .. '"code":400}', "too long", { type = "BadRequestError", status = 400 } },
    ["message at the top, with a capital"] = { '{"Message":"not authorized"}', "not authorized" },
    ["detail as text"] = { '{"detail":"Unauthorized"}', "Unauthorized" },
    ["detail as a list"] = { '{"detail":[{"type":"missing","loc":["body","messages",0],"msg":"Field required"}]}',
        "body.messages.0: Field required", { param = "body.messages.0", type = "missing" } },
    ["detail as a table"] = { '{"detail":{"error":{"message":"deep","code":"x"}}}', "deep", { code = "x" } },
    ["message that holds a detail"] = { '{"object":"error","message":{"detail":[{"type":"missing","loc":["body",'
        .. '"model"],"msg":"Field required"}]},"type":"invalid_request_error"}', "body.model: Field required" },
    ["list with an error"] = { '[{"error":{"code":429,"message":"Resource exhausted","status":'
        .. '"RESOURCE_EXHAUSTED"}}]', "Resource exhausted", { status = 429, type = "RESOURCE_EXHAUSTED" } },
    ["errors as a list"] = { '{"success":false,"errors":[{"code":7003,"message":"no route"}]}', "no route" },
    ["errors as a list of texts"] = { '{"errors":["no route","no hope"]}', "no route" },
    ["problem details"] = { '{"type":"about:blank","title":"Bad","status":503,"detail":"in maintenance"}',
        "in maintenance", { status = 503 } },
    ["title of problem details"] = { '{"title":"Bad Gateway"}', "Bad Gateway" },
    ["an error that names its type"] = { '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        "Overloaded", { type = "overloaded_error", status = 529 } },
    ["an error inside the text of an error"] = {
        '{"error":{"message":"{\\"error\\":{\\"message\\":\\"inner words\\",\\"code\\":503}}","code":500}}',
        "inner words", { status = 503 } },
    ["what a provider behind the provider said"] = { '{"error":{"message":"Provider returned error","code":429,'
        .. '"metadata":{"raw":"busy upstream"}}}', "Provider returned error: busy upstream", { status = 429 } },
    ["msg and a code"] = { '{"code":500,"msg":"internal","success":false}', "internal", { status = 500 } },
    ["base_resp"] = { '{"base_resp":{"status_code":1004,"status_msg":"login fail"}}', "login fail" },
    ["an event"] = { 'data: {"error":{"message":"in an event","code":500}}\n\n', "in an event", { status = 500 } },
    ["a named event"] = { 'event: error\r\ndata: {"error":\r\ndata: "two lines"}\r\n\r\ndata: x\r\n\r\n', "two lines" },
    ["an event of plain text"] = { "event: error\ndata: out of memory\n\n", "out of memory" },
    ["an event whose field is error"] = { 'error: {"code":500,"message":"slot unavailable"}\n\n', "slot unavailable",
        { status = 500 } },
    ["lines of JSON"] = { '{"error":"first"}\n{"error":"second"}\n', "first" },
    ["a text of JSON"] = { '"just a text"', "just a text" },
    ["plain text"] = { "upstream connect error\r\n  or disconnect\n", "upstream connect error or disconnect" },
    ["a page's title"] = { "<!DOCTYPE html>\n<html><head><TITLE lang=en>502 Bad\n Gateway &amp; more</TITLE></head>"
        .. "<body><h1>x</h1></body></html>", "502 Bad Gateway & more", { html = true } },
    ["a page's heading"] = { "<html><body><h1>It <b>works</b></h1></body></html>", "It works" },
    ["XML"] = { "<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", "SlowDown", { html = nil } },
    ["XML with a message"] = { "<?xml version='1.0'?><Error><Code>C</Code><Message>slow down</Message></Error>",
        "slow down" },
    ["JSON that was cut"] = { '{"error":{"message":"the head of it","type":"x","par', "the head of it" },
    ["JSON that is none"] = { '{"error":{"message":"almost","value":NaN}}', "almost" },
    ["nothing"] = { "", nil },
    ["white space"] = { " \n ", nil },
    ["nulls"] = { '{"error":null,"message":null,"detail":null,"code":null}', nil },
    ["no words"] = { '{"error":{"message":"","type":"server_error"}}', nil, { type = "server_error", status = 500 } },
}

for name, form in pairs(FORMS) do
    t.test("words are found: " .. name, function()
        local s = said(form[1])
        t.eq(s.message, form[2])
        for field, value in pairs(form[3] or {}) do
            t.eq(s[field], value)
        end
    end)
end

-- {what is said, the seconds}
local WAITS = {
    { "Rate limit reached. Please try again in 20s. Visit the site.", 20 }, { "Please try again in 120ms.", 0.12 },
    { "Please try again in 6m0s.", 360 }, { "Please retry in 1m30s", 90 }, { "Please retry in 36.625s.", 36.625 },
    { "Please retry after 20 seconds.", 20 }, { "Retry after 2 minutes", 120 }, { "try again in 1h2m3.5s", 3723.5 },
    { "wait 1 minute and 30 seconds", 90 }, { "Please wait at least 5 sec", 5 }, { "TRY AGAIN\n IN 7S", 7 },
    { "please wait for it. then try again in 3s", 3 },
    { "Your limit resets in 59 seconds", 59 }, { "Retry your request after 4s", 4 }, { "We will be back in 5 min.", 300 },
    { "try again in a while", nil }, { "retry after 2 attempts", nil }, { "20s", nil }, { "the wait is over", nil },
    { "try again in 20", nil },
}

t.test("a wait that the server states only in words is read", function()
    for _, case in ipairs(WAITS) do
        t.eq({ case[1], said(json.encode { error = { message = case[1] } }).retry_after }, { case[1], case[2] })
        t.eq({ case[1], said(case[1]).retry_after }, { case[1], case[2] })
    end
end)

t.test("a wait in a field of the body is read", function()
    for text, seconds in pairs {
        ['{"error":{"code":429,"message":"m","details":[{"@type":"x/QuotaFailure"},{"@type":"x/RetryInfo",'
            .. '"retryDelay":"20s"}]}}'] = 20,
        ['[{"error":{"details":[{"retryDelay":"1.5s"}]}}]'] = 1.5,
        ['{"error":{"details":[{"retryDelay":{"seconds":"7","nanos":5}}]}}'] = 7,
        ['{"message":"You are being rate limited.","retry_after":0.25}'] = 0.25,
        ['{"error":{"message":"m","retry_after":"30"}}'] = 30,
        ['{"error":{"message":"m","metadata":{"retry_after_seconds":12}}}'] = 12,
        ['{"detail":{"retry_after_ms":1500}}'] = 1.5,
        ['{"error":"Model x is currently loading","estimated_time":20.5}'] = 20.5,
        ['{"errors":[{"message":"m","extensions":{"retryAfter":3}}]}'] = 3,
    } do
        t.eq({ text, said(text).retry_after }, { text, seconds })
    end
    for _, odd in ipairs { '"nan"', '"inf"', "-1", "null", "{}", "[]", "true", '"-5s"', '"soon"' } do
        t.eq({ odd, said('{"message":"m","retry_after":' .. odd .. "}").retry_after }, { odd })
    end
end)

t.test("a spent quota is known by its type or its code, wherever that is", function()
    for _, text in ipairs { '{"error":{"type":"insufficient_quota"}}', '{"error":{"code":"insufficient_quota"}}',
        '{"type":"insufficient_quota","message":"m"}', '[{"error":{"code":"insufficient_quota"}}]',
        '{"detail":{"code":"insufficient_quota"}}', '{"error":"insufficient_quota"}',
        'data: {"error":{"message":"m","code":"insufficient_quota"}}\n\n',
        '{"error":{"message":"{\\"error\\":{\\"code\\":\\"insufficient_quota\\"}}"}}',
        '{"error":{"code":"429","innererror":{"code":"insufficient_quota"}}}',
        '{"errors":[{"code":"insufficient_quota"}]}' } do
        t.eq({ text, said(text).final }, { text, true })
    end
    t.eq(said('{"error":{"message":"insufficient_quota is not what this is"}}').final, nil)
end)

t.test("the head of the body is kept: no longer than 2 KiB, valid UTF-8, nothing for a terminal", function()
    t.eq(said("").body, nil)
    t.eq(said('{"a":1}').body, '{"a":1}')
    local long = said(("ä"):rep(5000))
    t.ok(#long.body <= 2048 and #long.body > 2000, #long.body)
    t.ok(json.encode(long.body) and json.encode(long.message))
    t.ok(#long.message <= 620)
    local odd = said("a\27[2Jb\255c\237\160\128d\194\155e\0f")
    t.ok(json.encode { odd.body, odd.message })
    t.ok(not (odd.body .. odd.message):find "[%z\27]" and not odd.body:find "\194\155")
    t.eq(said("x\n\ty").body, "x\n\ty")
end)

t.test("secrets are taken out of the words and of the body, also where a cut goes through one", function()
    local secret = "sk-" .. ("s"):rep(40)
    local function redact(text) return (text:gsub(secret:gsub("%W", "%%%0"), "***")) end
    for at = 1960, 2060, 7 do
        local s = said(("x"):rep(at) .. " " .. secret .. " tail", { redact = redact })
        t.ok(not s.body:find("sss", 1, true), s.body:sub(-60))
    end
    for at = 500, 640, 7 do
        local s = said(json.encode { error = { message = ("x"):rep(at) .. " " .. secret } }, { redact = redact })
        t.ok(not s.message:find("sss", 1, true) and not s.body:find("sss", 1, true), s.message:sub(-60))
    end
    local function slashed(text) return (text:gsub("a/b/secret", "***")) end
    local s = said('{"error":{"message":"key a\\/b\\/secret","code":"a\\/b\\/secret"}}', { redact = slashed })
    t.eq({ s.message, s.code, s.body }, { "key ***", "***", '{"error":{"message":"key ***","code":"***"}}' })
end)

t.test("no more than the head of a body is read, however deep and odd it is", function()
    t.eq(said((" "):rep(70000) .. '{"error":"far"}').message, nil)
    local s = said('{"error":{"message":"near","pad":"' .. ("x"):rep(100000) .. '"}}')
    t.eq(s.message, "near")
    said(('{"error":'):rep(400) .. "1" .. ("}"):rep(400))
    said(("["):rep(400) .. ("]"):rep(400))
    local nested = '"x"'
    for _ = 1, 12 do nested = json.encode('{"message":' .. nested .. "}") end
    t.eq(type(said(nested).message), "string")
end)

t.test("whatever a body holds, reading it raises no bug", function()
    local odd = { json.null, 5, -1, 1e300, "x", "", true, json.array {}, json.object {}, { { 1 } }, { error = 1 } }
    local names = { "error", "errors", "message", "detail", "details", "metadata", "type", "code", "param", "status",
        "retry_after", "retryDelay", "loc", "msg", "raw", "innererror" }
    for _, outer in ipairs(names) do
        for _, inner in ipairs(names) do
            for _, v in ipairs(odd) do
                for _, value in ipairs { { [outer] = v }, { [outer] = { [inner] = v } },
                    { [outer] = { { [inner] = v } } } } do
                    local s = said(assert(json.encode(value)))
                    t.ok(s.message == nil or type(s.message) == "string")
                    t.ok(s.retry_after == nil or s.retry_after >= 0)
                end
            end
        end
    end
end)

-- ---- through the client

local function client(server, more)
    local opts = { base_url = server.url .. "/v1", api_key = "sk-secret-1234567890", model = "m",
        retry = { attempts = 2, base = 0.001 } }
    for k, v in pairs(more or {}) do opts[k] = v end
    return assert(leat.openai(opts))
end

t.test("chat and stream show what the server said, in each of the forms, and keep the head of the body", function()
    local body
    local server = assert(leat.serve { handler = function() return { status = 400, body = body } end })
    local ai = client(server)
    for name, form in pairs(FORMS) do
        body = form[1]
        for _, call in ipairs { ai.chat, ai.stream, ai.embed } do
            local err = t.fails("http", call(ai, "x"))
            t.ok(err.message:find(form[2] or "answered with status 400", 1, true), name .. ": " .. err.message)
            t.eq(err.status, 400)
            t.eq(err.body ~= nil, form[1]:find "%S" ~= nil)
        end
    end
    server:close()
end)

t.test("a wait that only the body states is waited for", function()
    local n = 0
    local server = assert(leat.serve { handler = function()
        n = n + 1
        return n % 2 == 1 and { status = 429, body = '{"error":{"message":"Please try again in 30ms."}}' }
            or { json = { choices = { { message = { content = "ok" } } } } }
    end })
    local waits = {}
    local ai = client(server, { retry = { attempts = 2, base = 60, jitter = "none",
        on_retry = function(_, err, delay) waits[#waits + 1] = { err.retry_after, delay < 59 } end } })
    t.eq(assert(ai:chat "x"), "ok")
    t.eq(waits, { { 0.03, true } })
    server:close()
end)

t.test("a wait in a header goes before one in the body", function()
    local server = assert(leat.serve { handler = function()
        return { status = 429, headers = { ["retry-after"] = "300" }, body = '{"detail":"try again in 1s"}' }
    end })
    t.eq(t.fails("http", client(server):chat "x").retry_after, 300)
    server:close()
end)

t.test("a spent quota is not tried again, whether its type or its code says so", function()
    local n, body = 0, nil
    local server = assert(leat.serve { handler = function()
        n = n + 1
        return { status = 429, headers = { ["x-should-retry"] = "true" }, body = body }
    end })
    local ai = client(server)
    for _, text in ipairs { '{"error":{"message":"m","type":"insufficient_quota"}}',
        '{"error":{"message":"m","code":"insufficient_quota"}}', '[{"error":{"code":"insufficient_quota"}}]' } do
        n, body = 0, text
        t.eq(t.fails("http", ai:chat "x").retryable, false)
        t.eq(n, 1)
    end
    server:close()
end)

t.done()
