-- The client for OpenAI-compatible services, against servers of the test's own.
local leat = require "leat"
local mock = require "leat.mock"
local t = require "harness"

-- A service whose answers are these, one after the other; it keeps what it was asked.
local function service(answers)
    local asked = {}
    local server = assert(leat.serve { handler = function(req)
        asked[#asked + 1] = { path = req.path, headers = req.headers,
            body = req.body and json.decode(req.body) }
        local answer = answers[math.min(#asked, #answers)]
        return type(answer) == "function" and answer(req) or answer
    end })
    return server, asked
end

local function client(server, more)
    local options = { base_url = server.url .. "/v1", api_key = "sk-canary", model = "m" }
    for k, v in pairs(more or {}) do
        options[k] = v
    end
    return assert(leat.openai(options))
end

local function reply(text)
    return { json = { choices = { { message = { role = "assistant", content = text } } },
        usage = { total_tokens = 7 } } }
end

local function events(...)
    local text = {}
    for i, data in ipairs { ... } do
        text[i] = "data: " .. (type(data) == "table" and json.encode(data) or data) .. "\n\n"
    end
    return { headers = { ["Content-Type"] = "text/event-stream" }, body = table.concat(text) }
end

local function delta(text, finish)
    return { choices = { { delta = { content = text }, finish_reason = finish or json.null } } }
end

local function collect(deltas)
    local got = {}
    local ok, err = pcall(function()
        for text in deltas do
            got[#got + 1] = text
        end
    end)
    return table.concat(got, "|"), not ok and err or nil
end

t.test("a chat is the answer's text and the whole reply", function()
    local server, asked = service { reply "hello" }
    local ai = client(server)
    local text, whole = ai:chat "Hi"
    t.eq({ text, whole.usage.total_tokens }, { "hello", 7 })
    t.eq(asked[1].path, "/v1/chat/completions")
    t.eq(asked[1].body, { model = "m", messages = { { role = "user", content = "Hi" } } })
    t.eq(asked[1].headers.authorization, "Bearer sk-canary")
    ai:chat({ messages = { { role = "system", content = "x" } }, tools = { { type = "function" } } },
        { model = "other", temperature = 0 })
    t.eq(asked[2].body, { model = "other", temperature = 0, tools = { { type = "function" } },
        messages = { { role = "system", content = "x" } } })
    server:close()
end)

t.test("one logical call has one idempotency key over its retries, and each call its own", function()
    local busy = { status = 503, body = "" }
    local server, asked = service { busy, busy, reply "at last" }
    local ai = client(server, { retry = { attempts = 3, base = 0.001 } })
    t.eq((ai:chat "Hi"), "at last")
    t.eq(#asked, 3)
    local key = asked[1].headers["idempotency-key"]
    t.ok(key and #key > 10)
    t.eq({ asked[2].headers["idempotency-key"], asked[3].headers["idempotency-key"] }, { key, key })
    ai:chat "Hi"
    t.ok(asked[4].headers["idempotency-key"] ~= key)
    server:close()
end)

t.test("a status that is no success is an error with the service's own words, and no key in it", function()
    local told = { message = "bad key", code = "invalid_api_key" }
    local server, asked = service { { status = 401, json = { error = told } } }
    local err = t.fails("http", client(server):chat "Hi")
    t.eq({ err.status, err.message, err.reason, err.retryable }, { 401, "bad key", "invalid_api_key", false })
    t.ok(not tostring(err):find "canary")
    t.eq(#asked, 1)
    server:close()
    server = service { { status = 429, headers = { ["Retry-After"] = "7" }, body = "slow down" } }
    err = t.fails("http", client(server, { retry = false }):chat "Hi")
    t.eq({ err.status, err.retryable, err.retry_after }, { 429, true, 7 })
    server:close()
end)

t.test("an error inside a 200, and an answer that is none, are errors", function()
    local server = service { { json = { error = { message = "overloaded", type = "server_error" } } },
        { json = { choices = {} } }, { body = "not json" } }
    local ai = client(server, { retry = false })
    local err = t.fails("http", ai:chat "Hi")
    t.eq({ err.message, err.reason }, { "overloaded", "server_error" })
    t.fails("protocol", ai:chat "Hi")
    t.fails("invalid", ai:chat "Hi")
    server:close()
end)

t.test("a stream is its pieces of text, with the usage at the end", function()
    local server, asked = service { events(delta "one", delta "", delta "two", delta(json.null, "stop"),
        { choices = json.array {}, usage = { total_tokens = 3 } }, "[DONE]") }
    local deltas = assert(client(server):stream "Hi")
    local text, err = collect(deltas)
    t.eq({ text, err }, { "one|two" })
    t.eq({ deltas.usage.total_tokens, deltas.finish_reason }, { 3, "stop" })
    t.eq(asked[1].body.stream, true)
    server:close()
end)

t.test("a stream that tells an error, or ends too early, raises after what came", function()
    local server = service { events(delta "one", { error = { message = "overloaded" } }), events(delta "one"),
        { headers = { ["Content-Type"] = "text/event-stream" },
            body = 'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
                .. 'event: error\ndata: {"error":{"message":"gone"}}\n\n' } }
    local ai = client(server)
    local text, err = collect(assert(ai:stream "Hi"))
    t.eq({ text, err.kind, err.message }, { "one", "http", "overloaded" })
    text, err = collect(assert(ai:stream "Hi"))
    t.eq({ text, err.kind, err.reason }, { "one", "closed", "truncated" })
    text, err = collect(assert(ai:stream "Hi"))
    t.eq({ text, err.message }, { "x", "gone" })
    t.eq(leat.stats().engine.active, 0)
    server:close()
end)

t.test("until it begins a stream is retried, as a chat is", function()
    local server, asked = service { { status = 500, json = { error = { message = "no" } } },
        events(delta("hi", "stop"), "[DONE]") }
    t.eq((collect(assert(client(server, { retry = { attempts = 2, base = 0.001 } }):stream "Hi"))), "hi")
    t.eq(#asked, 2)
    server:close()
end)

t.test("five merged completions of which one breaks: the others arrive whole", function()
    local server = service { function(req)
        local n = tonumber(json.decode(req.body).messages[1].content)
        return n == 3 and events(delta "a", { error = { message = "broke" } })
            or events(delta "a", delta("b", "stop"), "[DONE]")
    end }
    local ai = client(server)
    local got, broke = {}, {}
    for text, i in leat.merge({ "1", "2", "3", "4", "5" }, function(prompt) return ai:stream(prompt) end,
        { on_error = function(err, i) broke[i] = err.message end }) do
        got[i] = (got[i] or "") .. text
    end
    t.eq(got, { "ab", "ab", "a", "ab", "ab" })
    t.eq(broke, { [3] = "broke" })
    server:close()
end)

t.test("embeddings come in the order of their texts, models as names", function()
    local rows = { { index = 1, embedding = { 2 } }, { index = 0, embedding = { 1 } } }
    local server = service { { json = { data = rows } },
        { json = { data = { { id = "a" }, { id = "b" } } } } }
    local ai = client(server)
    t.eq((ai:embed { "x", "y" }), { { 1 }, { 2 } })
    t.eq(ai:models(), { "a", "b" })
    server:close()
end)

t.test("the mock is such a service", function()
    local server = assert(mock.start())
    local ai = client(server)
    t.eq((ai:chat "hello"), "Answer to: hello")
    t.ok(#collect(assert(ai:stream "hello")) > 0)
    server:close()
end)

t.test("wrong use says what is accepted", function()
    t.raises("openai: unknown option 'modle' (did you mean 'model'?)", leat.openai, { modle = "x" })
    local ai = assert(leat.openai { base_url = "http://127.0.0.1:1/v1", api_key = "k" })
    t.raises("openai:chat: no model", ai.chat, ai, "Hi")
    t.raises("openai:chat: expected a prompt or a table with messages, got nil", ai.chat, ai)
    t.raises("openai: call it with a colon", ai.chat, "Hi")
    t.fails("invalid", leat.openai { base_url = "nonsense" })
end)

t.done()
