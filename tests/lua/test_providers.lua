-- The answers of eight families of servers (tests/providers): each goes through chat and stream, and what it
-- says arrives. tests/cli/test_providers.sh takes them through `leat batch`.
-- luacheck: no max line length (each case stands on a line)
local t = require "harness"
local leat = require "leat"
local json = leat.json

local replay = dofile "tests/providers/replay.lua"

-- {the path below the family, the text, the tool calls, the error, the error in a stream, the refusal}; an error:
-- {words, status, retryable, code, type}, in a stream also what came before it.
local BOTH = { 'get_weather({"city":"Zürich"})', 'get_time({"zone":"CET"})' }
local FAMILIES = {
    openai = { path = "/v1", text = "Grüezi, the leat runs 🌊.", calls = BOTH,
        error = { "The model `gpt-9` does not exist", 404, false, "model_not_found", "invalid_request_error" },
        stream_error = { "The server had an error", 500, true, nil, "server_error", "Grüezi" },
        limit = { "Please try again in 15ms", 429, 0.015 } },
    azure = { path = "/openai/deployments/d?api-version=2024-10-21", text = "Water turns wheels.", calls = { BOTH[1] },
        error = { "content management policy", 400, false, "content_filter" },
        stream_error = { "had an error processing", 500, true, "InternalServerError", "server_error", "Water" },
        limit = { "exceeded token rate limit", 429, 0.015 } },
    mistral = { path = "/v1", text = "Le bief coule.", calls = BOTH,
        error = { "body.messages: Field required", 422, false, nil, "invalid_request_error" },
        stream_error = { "Service tier capacity exceeded", 200, false, "3505", "service_tier_capacity_exceeded", "Le" },
        limit = { "Requests rate limit exceeded", 429 } },
    gemini = { path = "/v1beta/openai", text = "Water flows downhill.", calls = BOTH,
        error = { "number of function response parts", 400, false, nil, "INVALID_ARGUMENT" },
        stream_error = { "The model is overloaded", 503, true, nil, "UNAVAILABLE", "Water" },
        limit = { "You exceeded your current quota", 429, 0.015 } },
    ollama = { path = "/v1", text = "Rivers reach the sea.", calls = BOTH,
        error = { 'model "llama9" not found', 404, false, nil, "api_error" },
        stream_error = { "unexpected EOF", 200, false, nil, nil, "Rivers" },
        limit = { "server busy, please try again. maximum pending", 503 } },
    vllm = { path = "/v1", text = "Gravity does it.", calls = BOTH,
        error = { "maximum context length is 4096 tokens", 400, false, nil, "BadRequestError" },
        stream_error = { "EngineCore encountered an issue", 500, true, nil, "InternalServerError", "Gravity" },
        limit = { "The request queue is full", 503, 0.015 } },
    llamacpp = { path = "/v1", text = "It turns slowly.", calls = BOTH,
        error = { "exceeds the available context size", 400, false, nil, "exceed_context_size_error" },
        stream_error = { "Context size has been exceeded", 500, true, nil, "server_error", "It" },
        limit = { "Loading model", 503 } },
}

local server, refusals

local function client(family)
    refusals = {}
    return assert(leat.openai { base_url = server.url .. "/" .. family .. FAMILIES[family].path, api_key = "k",
        retry = { attempts = 3, base = 0.001, on_retry = function(_, err) refusals[#refusals + 1] = err end } })
end

local function test(name, fn)
    t.test(name, function()
        server = assert(replay.start())
        fn()
        server.close()
    end)
end

-- The calls of a message, without the index: only pieces need one.
local function take_calls(message)
    local texts = {}
    for i, call in ipairs(type(message.tool_calls) == "table" and message.tool_calls or {}) do
        call.index = nil
        texts[i] = call["function"].name .. "(" .. call["function"].arguments .. ")"
    end
    return texts
end

local function drain(stream)
    local text = ""
    for delta in stream do text = text .. delta end
    return text
end

-- Compares the fields that `whole` has: some servers say less of themselves in a stream, none says more.
local function same_reply(streamed, whole)
    for name, value in pairs(whole) do
        t.eq({ name, streamed[name] }, { name, value })
    end
end

local function check_error(err, expected)
    t.fails("http", nil, err)
    t.ok(err.message:find(expected[1], 1, true), err.message)
    t.eq({ err.status, err.retryable, err.code, err.type }, { expected[2], expected[3], expected[4], expected[5] })
    t.ok(err.body and err.body ~= "", "the head of the body")
end

for family, expected in pairs(FAMILIES) do
    test(family .. ": a plain answer, and the same as a stream", function()
        local ai = client(family)
        local text, whole = assert(ai:chat("x", { model = "plain" }))
        t.eq(text, expected.text)
        local stream = assert(ai:stream("x", { model = "plain" }))
        t.eq(drain(stream), expected.text)
        t.eq({ stream.finish_reason, stream.usage }, { "stop", whole.usage })
        same_reply(stream.reply, whole)
    end)

    test(family .. ": tool calls, and the same as a stream", function()
        local ai = client(family)
        local text, whole = assert(ai:chat("x", { model = "tools" }))
        t.eq(text, "")
        local stream = assert(ai:stream("x", { model = "tools" }))
        t.eq(drain(stream), "")
        t.eq(take_calls(whole.choices[1].message), expected.calls)
        t.eq(take_calls(stream.reply.choices[1].message), expected.calls)
        t.eq({ stream.finish_reason, stream.usage }, { "tool_calls", whole.usage })
        same_reply(stream.reply, whole)
    end)

    test(family .. ": an error before the answer is shown in the server's words", function()
        local ai = client(family)
        check_error(select(2, ai:chat("x", { model = "error" })), expected.error)
        check_error(select(2, ai:stream("x", { model = "error" })), expected.error)
        t.eq(server.seen[family .. "/error"], 2)
    end)

    test(family .. ": an error inside a stream is raised in the server's words", function()
        local stream = assert(client(family):stream("x", { model = "stream_error" }))
        t.eq(stream(), expected.stream_error[6])
        local ok, err = pcall(drain, stream)
        t.ok(not ok)
        check_error(err, expected.stream_error)
    end)

    test(family .. ": a refusal is waited for as it says, and the answer arrives", function()
        for _, name in ipairs { "chat", "stream" } do
            local ai = client(family)
            local value = assert(ai[name](ai, "x", { model = "limit" }))
            t.eq(name == "chat" and value or drain(value), expected.text)
            local err = refusals[1]
            t.ok(err.message:find(expected.limit[1], 1, true), err.message)
            t.eq({ #refusals, err.status, err.retryable, err.retry_after }, { 1, expected.limit[2], true, expected.limit[3] })
        end
    end)
end

test("openai: a spent quota is not asked for again", function()
    local err = t.fails("http", client "openai":chat("x", { model = "quota" }))
    t.eq({ err.status, err.retryable, err.code, server.seen["openai/quota"] }, { 429, false, "insufficient_quota", 1 })
end)

-- ---- Anthropic, by requests and plain events

local function anthropic(model, more)
    local spec = { url = server.url .. "/anthropic/v1/messages", json = { model = model, stream = more and more.stream },
        expect = "2xx", idempotent = true }
    for name, value in pairs(more or {}) do spec[name] = value end
    return request(spec)
end

-- The text and the tool input of a stream of events; raises the error that one of them is.
local function read_events(res)
    local text, input = "", ""
    res:each_event(function(event)
        local data = json.decode(event.data)
        if event.event == "error" then
            error(leat.error { kind = "http", message = data.error.message, type = data.error.type })
        elseif event.event == "content_block_delta" then
            text, input = text .. (data.delta.text or ""), input .. (data.delta.partial_json or "")
        end
    end)
    return text, input
end

test("anthropic: a plain answer and tool calls, and the same by events", function()
    t.eq(assert(anthropic "plain"):json().content[1].text, "The mill grinds.")
    t.eq(read_events(assert(anthropic("plain", { stream = true }))), "The mill grinds.")
    local input = assert(anthropic "tools"):json().content[1].input
    t.eq(input, { city = "Zürich" })
    t.eq(json.decode(select(2, read_events(assert(anthropic("tools", { stream = true }))))), input)
end)

test("anthropic: errors before and inside a stream are read", function()
    for _, streamed in ipairs { false, true } do
        local err = t.fails("http", anthropic("error", streamed and { stream = true } or nil))
        t.eq({ err.status, err.retryable }, { 400, false })
        t.ok(tostring(err):find("max_tokens: Field required", 1, true), tostring(err))
    end
    local ok, err = pcall(read_events, assert(anthropic("stream_error", { stream = true })))
    t.eq({ ok, err.message, err.type }, { false, "Overloaded", "overloaded_error" })
end)

test("anthropic: a refusal is waited for as it says, and the answer arrives", function()
    local retry = leat.retry { attempts = 2, base = 0.001 }
    local res = assert(retry:call(anthropic, "limit"))
    t.eq({ res:json().content[1].text, retry.retries }, { "The mill grinds.", 1 })
end)

t.done()
