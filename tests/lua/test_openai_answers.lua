-- openai: an answer with status 200 that is a failure is one, in chat, stream, embed and `leat batch`; and
-- what only looks odd is an answer.
-- luacheck: no max line length (each case stands on a line)
local t = require "harness"
local leat = require "leat"
local openai = require "leat.openai"
local json = leat.json

local KEY = "sk-secret-1234567890"

-- A server whose answer is set_body(text, type); with a stream asked for, the same.
local function serve()
    local self = { n = 0 }
    self.server = assert(leat.serve { handler = function(req)
        self.n = self.n + 1
        self.seen = req.body
        local answer = type(self.body) == "table" and self.body[math.min(self.n, #self.body)] or self.body
        return { headers = { ["Content-Type"] = self.type or "application/json" }, body = answer }
    end })
    self.ai = assert(leat.openai { base_url = self.server.url .. "/v1", api_key = KEY, model = "m",
        retry = { attempts = 3, base = 0.001 } })
    function self.set(body, kind)
        self.n, self.body, self.type = 0, body, kind
    end
    return self
end

local OK = '{"choices":[{"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}'

local function choice(fields)
    return '{"id":"x","choices":[' .. fields .. "]}"
end

-- {the body, kind, words that the message holds, the status, requests that were sent, the reason}
local FAILURES = {
    ["finish_reason error"] = { choice '{"message":{"content":"half a"},"finish_reason":"error"}', "http",
        'finish_reason "error": half a', 200, 1 },
    ["an error inside a choice"] = { choice('{"error":{"code":502,"message":"upstream broke"},'
        .. '"finish_reason":"error","message":{"content":""}}'), "http", "upstream broke (status 502)", 502, 3 },
    ["an error inside a choice that stopped"] = { choice('{"error":{"message":"filtered","code":403},'
        .. '"finish_reason":"stop","message":{"content":""}}'), "http", "filtered (status 403)", 403, 1 },
    ["an error inside the second choice"] = { choice '{"message":{"content":"a"}},{"error":"no more"}', "http",
        "no more", 200, 1 },
    ["choices that are null"] = { '{"id":"x","choices":null}', "protocol", "it has no choices", 200, 1 },
    ["choices that are null, and why"] = { '{"choices":null,"message":"model is loading","code":503}', "http",
        "model is loading (status 503)", 503, 3 },
    ["no choices"] = { '{"id":"x","choices":[]}', "protocol", "it has no choices", 200, 1 },
    ["choices that are an object"] = { '{"choices":{}}', "protocol", "it has no choices", 200, 1 },
    ["a choice without a message"] = { choice '{"finish_reason":"stop"}', "protocol", "no message", 200, 1 },
    ["a page"] = { "<!doctype html><html><head><title>Please log in</title></head></html>", "protocol",
        "the answer is an HTML page: Please log in", 200, 1, "html_page" },
    ["the page of a gateway"] = { "<html><head><title>502 Bad Gateway</title></head></html>", "http",
        "502 Bad Gateway (status 502)", 502, 3 },
    ["plain text"] = { "upstream request timeout", "protocol", "upstream request timeout", 200, 1, "not_json" },
    ["nothing"] = { "", "protocol", "not JSON", 200, 1, "not_json" },
    ["white space"] = { " \n", "protocol", "not JSON", 200, 1, "not_json" },
    ["a number"] = { "5", "protocol", "not a JSON object", 200, 1, "not_json" },
    ["null"] = { "null", "protocol", "not a JSON object", 200, 1, "not_json" },
    ["another object"] = { '{"hello":"world"}', "protocol", "not a chat completion", 200, 1 },
    ["detail"] = { '{"detail":"Not authenticated"}', "http", "Not authenticated", 200, 1 },
    ["a list of details"] = { '{"detail":[{"loc":["body","x"],"msg":"bad"}]}', "http", "body.x: bad", 200, 1 },
    ["a code and a message"] = { '{"code":500,"message":"internal"}', "http", "internal (status 500)", 500, 3 },
    ["a code as text"] = { '{"code":"429","msg":"too fast"}', "http", "too fast (status 429)", 429, 3 },
    ["vLLM's error"] = { '{"object":"error","message":"too long","type":"BadRequestError","code":400}', "http",
        "too long (status 400)", 400, 1 },
    ["vLLM's error without a code"] = { '{"object":"error","message":"odd"}', "http", "odd", 200, 1 },
    ["Anthropic's error"] = { '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "http",
        "Overloaded (status 529)", 529, 3 },
    ["a list with an error"] = { '[{"error":{"code":503,"message":"unavailable"}}]', "http",
        "unavailable (status 503)", 503, 3 },
    ["an error beside choices"] = { choice '{"message":{"content":"a"}}':gsub("}$",
        ',"error":{"message":"m","code":"insufficient_quota"}}'), "http", "m (status 429)", 429, 1 },
    ["an error framed as an event"] = { 'data: {"error":{"message":"framed","code":500}}\n\n', "http",
        "framed (status 500)", 500, 3 },
    ["success false"] = { '{"success":false,"errors":[{"code":1,"message":"no"}]}', "http", "no", 200, 1 },
}

for name, case in pairs(FAILURES) do
    t.test("a 200 that is a failure: " .. name, function()
        local s = serve()
        for _, call in ipairs { "chat", "stream", "post" } do
            s.set(case[1], case[1]:find "^<" and "text/html" or nil)
            local _, err
            if call == "post" then
                _, err = s.ai.retry:call(openai.post, s.ai, "chat/completions", { model = "m", messages = {} }, {})
            else
                _, err = s.ai[call](s.ai, "x")
            end
            t.fails(case[2], nil, err)
            t.ok(err.message:find(case[3], 1, true), call .. ": " .. err.message)
            t.eq({ call, err.status, s.n }, { call, case[4], case[5] })
            t.eq(err.retryable, case[5] == 3)
            t.eq(err.reason, case[6] or case[2] == "http" and "error_in_answer" or "bad_answer")
        end
        s.set(case[1])
        local _, err = s.ai:embed "x"
        t.ok(err and (err.kind == "http" or err.kind == "protocol"), name)
        s.server:close()
    end)
end

t.test("a failure within a 200 that passes is tried again, and the answer arrives", function()
    local s = serve()
    s.set { '{"choices":[{"error":{"code":502,"message":"m"},"finish_reason":"error"}]}',
        '{"code":503,"message":"loading"}', OK }
    t.eq(assert(s.ai:chat "x"), "ok")
    t.eq(s.n, 3)
    s.server:close()
end)

-- What is an answer, though it looks odd.
local ANSWERS = {
    ["tool calls alone"] = choice('{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":'
        .. '"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}'),
    ["a refusal"] = choice '{"message":{"content":null,"refusal":"I cannot"},"finish_reason":"stop"}',
    ["reasoning alone"] = choice '{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"length"}',
    ["filtered content"] = choice '{"message":{"role":"assistant"},"finish_reason":"content_filter"}',
    ["no finish_reason"] = choice '{"message":{"content":""}}',
    ["an error that is null"] = choice '{"message":{"content":""},"error":null}':gsub("}$", ',"error":null}'),
    ["an error that is empty"] = choice '{"message":{"content":""},"error":{}}':gsub("}$", ',"error":{}}'),
    ["an error that is false"] = choice '{"message":{"content":""},"error":false}':gsub("}$", ',"error":""}'),
    ["a code of 0"] = choice '{"message":{"content":""}}':gsub("}$", ',"code":0,"success":true,"message":"ok"}'),
}

t.test("what only looks odd is an answer", function()
    local s = serve()
    for name, body in pairs(ANSWERS) do
        s.set(body)
        local text, err = s.ai:chat "x"
        t.eq({ name, text, text == nil and err }, { name, "", false })
        local stream, why = s.ai:stream "x"
        t.ok(stream, name .. ": " .. tostring(why))
        t.eq(stream(), nil)
        t.eq(stream.reply, json.decode(body))
        t.ok(openai.post(s.ai, "chat/completions", "{}", {}), name)
    end
    s.server:close()
end)

t.test("the whole text of an answer that is no JSON is kept: it was paid for", function()
    local s = serve()
    local paid = '{"choices":[{"message":{"content":"the answer"},"logprobs":-Infinity}]' .. (" "):rep(5000) .. "}"
    s.set(paid)
    for _, err in ipairs { select(2, s.ai:chat "x"), select(2, s.ai:stream "x"),
        select(2, openai.post(s.ai, "chat/completions", "{}", {})) } do
        t.eq({ err.kind, err.retryable, #err.body, s.n }, { "protocol", false, 2048, s.n })
        t.eq(err.partial, paid)
        t.ok(err.message:find("not JSON", 1, true), err.message)
    end
    s.set("<html> " .. KEY)
    local err = select(2, s.ai:chat "x")
    t.ok(not (err.message .. err.partial .. err.body):find(KEY, 1, true), err.partial)
    s.server:close()
end)

t.test("half of a surrogate pair does not cost the answer: it becomes U+FFFD", function()
    local s = serve()
    s.set(choice '{"message":{"content":"a\\ud83d b\\ude00 \\ud83d\\ude00"}}')
    t.eq(assert(s.ai:chat "x"), "a\239\191\189 b\239\191\189 \240\159\152\128")
    t.eq(assert(s.ai:stream "x")(), "a\239\191\189 b\239\191\189 \240\159\152\128")
    s.server:close()
end)

-- ---- embeddings

local function rows(...)
    local list = {}
    for i, index in ipairs { ... } do
        list[i] = { object = "embedding", index = index, embedding = { index } }
    end
    return json.encode { object = "list", data = json.array(list) }
end

t.test("as many vectors as texts, each index once, or a failure", function()
    local s = serve()
    s.set(rows(2, 0, 1))
    t.eq(assert(s.ai:embed { "a", "b", "c" }), { { 0 }, { 1 }, { 2 } })
    for _, body in ipairs { rows(0, 1), rows(0, 1, 2, 3), rows(0, 1, 1), rows(0, 0, 1), rows(1, 2, 3), rows(0, 1, 0.5),
        rows(-1, 0, 1), rows(), '{"data":null}', '{"data":{}}', '{"data":[null,null,null]}', '{"data":[1,2,3]}',
        '{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":null},{"index":2,"embedding":[1]}]}',
        '{"data":[{"index":"0","embedding":[1]},{"index":"1","embedding":[1]},{"index":"2","embedding":[1]}]}' } do
        s.set(body)
        local _, err = s.ai:embed { "a", "b", "c" }
        t.fails("protocol", nil, err)
        t.eq({ err.retryable, s.n }, { false, 1 })
        t.fails("protocol", openai.post(s.ai, "embeddings", { input = { "a", "b", "c" } }, {}))
        t.fails("protocol", openai.post(s.ai, "/v1/embeddings?x=1", '{"input":["a","b","c"]}', {}))
    end
    s.server:close()
end)

t.test("vectors without an index stand in their order; tokens are one text; base64 stays text", function()
    local s = serve()
    s.set '{"data":[{"embedding":[1]},{"embedding":"AAAA"}]}'
    t.eq(assert(s.ai:embed { "a", "b" }), { { 1 }, "AAAA" })
    s.set '{"data":[{"index":0,"embedding":[1]}]}'
    t.eq(assert(s.ai:embed { 17, 4, 99 }), { 1 })
    t.ok(openai.post(s.ai, "embeddings", { input = { 17, 4, 99 } }, {}))
    t.ok(openai.post(s.ai, "embeddings", { input = { { 17, 4, 99 } } }, {}))
    s.server:close()
end)

-- ---- rows of a batch, by endpoint

t.test("an answer of another endpoint is not judged as a chat", function()
    local s = serve()
    for path, body in pairs {
        ["responses"] = '{"id":"resp_1","object":"response","status":"completed","error":null,"output":[]}',
        ["v2/responses"] = '{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}',
        ["completions"] = '{"choices":[{"text":"hi","finish_reason":"stop"}]}',
        ["moderations"] = '{"id":"m","model":"x","results":[{"flagged":false}]}',
        ["rerank"] = '{"results":[{"index":0,"relevance_score":0.5}],"status":"ok"}',
        ["classify"] = '{"object":"list","data":[],"code":null,"detail":null}',
        ["images/generations"] = '{"created":1,"data":[{"url":"u"}]}',
    } do
        s.set(body)
        local res, err = openai.post(s.ai, path, "{}", {})
        t.ok(res and res.status == 200, path .. ": " .. tostring(err))
    end
    for path, body in pairs {
        ["responses"] = '{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"no"}}',
        ["completions"] = '{"choices":[]}',
        ["moderations"] = '{"error":{"message":"no"}}',
        ["rerank"] = '{"object":"error","message":"no","code":400}',
        ["classify"] = '{"detail":"no"}',
        ["images/generations"] = '{"code":500,"message":"no"}',
        ["anything"] = "<html><title>no</title></html>",
    } do
        s.set(body)
        local _, err = s.ai.retry:call(openai.post, s.ai, path, "{}", {})
        t.ok(err and (err.kind == "http" or err.kind == "protocol"), path .. " failed")
    end
    s.server:close()
end)

t.test("a body that is a text of JSON is sent as it is", function()
    local s = serve()
    s.set(OK)
    local sent = '{ "seed": 1618065507111835497, "messages": [] }'
    t.ok(openai.post(s.ai, "chat/completions", sent, {}))
    t.eq(s.seen, sent)
    s.server:close()
end)

t.done()
