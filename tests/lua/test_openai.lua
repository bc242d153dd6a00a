-- openai: against a server whose every answer the test writes, and against the mock.
local t = require "harness"
local leat = require "leat"
local mock = require "leat.mock"

local KEY = "sk-secret-1234567890"

-- A server that gives the outcomes in turn, the last for ever; its requests are in `seen`.
local function serve(...)
    local outcomes, seen = { ... }, {}
    local server = assert(leat.serve { handler = function(req)
        seen[#seen + 1] = { path = req.path, headers = req.headers,
            body = req.body ~= "" and leat.json.decode(req.body) or nil, text = req.body }
        local o = outcomes[math.min(#seen, #outcomes)]
        if type(o) == "function" then return o(req) end
        return o
    end })
    return server, seen
end

local function client(server, more)
    local opts = { base_url = server.url .. "/v1", api_key = KEY, model = "m",
        retry = { attempts = 3, base = 0.001 } }
    for k, v in pairs(more or {}) do opts[k] = v end
    return assert(leat.openai(opts))
end

local function reply(text)
    return { json = { choices = { { message = { role = "assistant", content = text } } },
        usage = { total_tokens = 7 } } }
end

local function failure(status, fields, headers)
    return { status = status, headers = headers, json = { error = fields } }
end

-- An answer of server-sent events.
local function events(...)
    return { headers = { ["Content-Type"] = "text/event-stream" },
        body = table.concat({ ... }, "\n\n") .. "\n\n" }
end

local function piece(text, finish)
    return "data: " .. leat.json.encode {
        choices = { { index = 0, delta = { content = text }, finish_reason = finish or leat.json.null } } }
end

local function text_of(stream)
    local text = ""
    for delta in stream do text = text .. delta end
    return text
end

t.test("chat sends the key, the model and whatever options, and gives the text and the reply", function()
    local server, seen = serve(reply "hi")
    local ai = client(server, { headers = { ["OpenAI-Project"] = "p" } })
    local text, whole = assert(ai:chat("hello", { temperature = 0.5, tools = { { type = "function" } },
        timeout = 5, headers = { ["X-One"] = "1" } }))
    t.eq(text, "hi")
    t.eq(whole.usage.total_tokens, 7)
    t.eq(seen[1].path, "/v1/chat/completions")
    t.eq(seen[1].headers.authorization, "Bearer " .. KEY)
    t.eq(seen[1].headers["openai-project"], "p")
    t.eq(seen[1].headers["x-one"], "1")
    t.eq(seen[1].body, { model = "m", temperature = 0.5, tools = { { type = "function" } },
        messages = { { role = "user", content = "hello" } } })
    assert(ai:chat { { role = "system", content = "s" } })
    assert(ai:chat { messages = { { role = "user", content = "x" } }, model = "other", seed = 1 })
    t.eq(seen[2].body.messages, { { role = "system", content = "s" } })
    t.eq(seen[3].body.model .. seen[3].body.seed, "other1")
    server:close()
end)

t.test("an answer that only calls tools has the text \"\"", function()
    local calls = { { id = "c", type = "function", ["function"] = { name = "f", arguments = "{}" } } }
    local server = serve { json = { choices = { { message = {
        content = leat.json.null, tool_calls = calls } } } } }
    local text, whole = assert(client(server):chat "x")
    t.eq(text, "")
    t.eq(whole.choices[1].message.tool_calls, calls)
    server:close()
end)

t.test("a status that is not 2xx is an error with the provider's words, without the key", function()
    local server, seen = serve(failure(401, { message = "Incorrect key: " .. KEY .. ".", type = "auth",
        code = "invalid_api_key", param = leat.json.null }, { ["x-request-id"] = "r1" }))
    local err = t.fails("http", client(server):chat "x")
    t.eq({ err.status, err.code, err.type, err.param, err.request_id, err.retryable },
        { 401, "invalid_api_key", "auth", nil, "r1", false })
    t.ok(tostring(err):find("Incorrect key: ***.", 1, true), tostring(err))
    t.eq(#seen, 1)
    for k, v in pairs(err) do
        t.ok(not tostring(v):find(KEY, 1, true), k)
    end
    server:close()
end)

t.test("a provider that repeats a secret of a header or of the address repeats it in vain", function()
    local server = serve(function(req)
        return failure(400, { message = "sent: " .. req.headers["api-key"] .. " " .. req.headers.authorization
            .. " " .. req.query.key .. " pass-word" })
    end)
    local base = server.url:gsub("//", "//user:pass-word@") .. "/v1?key=in-the-query"
    local ai = client(server, { base_url = base, headers = { ["api-key"] = "in-a-header" } })
    t.eq(t.fails("http", ai:chat "x").message, "sent: *** Bearer *** *** *** (status 400)")
    server:close()
end)

t.test("a secret in a header of one call is repeated in vain, whole or in a stream", function()
    local server = serve(function(req)
        return failure(400, { message = "sent: " .. req.headers["api-key"] })
    end)
    local ai = client(server)
    for _, call in ipairs { ai.chat, ai.stream } do
        local err = t.fails("http", call(ai, "x", { headers = { ["api-key"] = "of-this-call" } }))
        t.eq(err.message, "sent: *** (status 400)")
        t.ok(not err.body:find("of-this-call", 1, true), err.body)
    end
    server:close()
end)

t.test("a stream that is refused is read within bounds: the server goes on and on", function()
    local server = assert(leat.serve { handler = function(req)
        local out = assert(req:respond { status = 500, headers = { ["Content-Type"] = "text/plain" } })
        while out:write(("no "):rep(1000)) do sleep(0) end
    end })
    local err = t.fails("http", client(server, { retry = false }):stream "x")
    t.ok(err.message:find "^no no no", err.message)
    server:close()
end)

t.test("a short stand-in for a key is cut out of no other word", function()
    local server = serve(failure(404, { message = "unknown model k; key: k" }))
    t.eq(t.fails("http", client(server, { api_key = "k" }):chat "x").message,
        "unknown model ***; key: *** (status 404)")
    server:close()
end)

t.test("no secret of the address is in an error, nor in the client's name", function()
    local server, seen = serve(failure(404, { message = "no" }), events "data: {broken")
    local ai = client(server, { base_url = server.url:gsub("//", "//user:pass-word@") .. "/v1" })
    local a = t.fails("http", ai:chat("x", { headers = { ["idempotency-key"] = "mine" } }))
    local b = t.fails("protocol", ai:stream "x")
    local asked = client(server, { base_url = server.url .. "/v1?key=pass-word&api-version=1" })
    for _, text in ipairs { a.url, b.url, tostring(ai), tostring(asked) } do
        t.ok(text and not text:find("pass-word", 1, true), text)
    end
    t.eq(seen[1].headers["idempotency-key"], "mine")
    server:close()
end)

t.test("a status without JSON is an error as well, and a 200 without JSON", function()
    local server = serve({ status = 404, body = "<html>" }, { body = "<html>" }, { json = { odd = true } })
    local ai = client(server)
    t.eq(t.fails("http", ai:chat "x").status, 404)
    t.fails("protocol", ai:chat "x")
    t.fails("protocol", ai:chat "x")
    server:close()
end)

t.test("429 and 5xx are tried again, with one Idempotency-Key for all attempts and another for the next call",
    function()
        local server, seen = serve(failure(429, { message = "slow" }, { ["retry-after-ms"] = "1" }),
            failure(503, { message = "down" }), reply "at last")
        local ai = client(server)
        t.eq(assert(ai:chat "x"), "at last")
        assert(ai:chat "x")
        t.eq(#seen, 4)
        local function key(i) return seen[i].headers["idempotency-key"] end
        t.ok(key(1) and key(1) == key(2) and key(2) == key(3) and key(3) ~= key(4))
        server:close()
    end)

t.test("an error says when to come back, and a spent quota is not tried again", function()
    local server, seen = serve(failure(429, { message = "slow" }, { ["retry-after"] = "300" }),
        failure(429, { message = "no money", code = "insufficient_quota" }))
    local ai = client(server)
    local err = t.fails("http", ai:chat "x")
    t.eq({ err.retry_after, err.status, err.retryable, err.gave_up }, { 300, 429, true, "retry_after" })
    t.eq(t.fails("http", ai:chat "x").retryable, false)
    t.eq(#seen, 2)
    server:close()
end)

t.test("an error within a 200 is an error, and one that may pass is tried again", function()
    local server, seen = serve({ json = { error = { message = "upstream", code = 502 } } }, reply "ok",
        { json = { error = { message = "bad", type = "invalid_request_error" } } },
        { json = { error = "just text" } })
    local ai = client(server)
    t.eq(assert(ai:chat "x"), "ok")
    t.eq(#seen, 2)
    t.eq(t.fails("http", ai:chat "x").retryable, false)
    t.ok(tostring(t.fails("http", ai:chat "x")):find "just text")
    server:close()
end)

t.test("inside leat.retry that is the only retry, and the key is kept over its attempts", function()
    local server, seen = serve(failure(500, { message = "no" }))
    local ai = client(server)
    local retry = leat.retry { attempts = 2, base = 0.001 }
    t.fails("http", retry:call(function()
        -- From a task beneath, twice the same and once another.
        local r, err = gather { function() return ai:chat "x" end, function() return ai:chat "x" end,
            function() return ai:chat "y" end }
        return r, err
    end))
    -- The first failure of an attempt cancels the others, so count by key.
    local keys, n = {}, 0
    for _, s in ipairs(seen) do
        local k = s.headers["idempotency-key"]
        t.ok(keys[k] == nil or keys[k] == s.text, "one key, two bodies")
        if not keys[k] then n = n + 1 end
        keys[k] = s.text
    end
    t.ok(#seen <= 6 and n <= 3, #seen .. " requests, " .. n .. " keys")
    server:close()

    server, seen = serve(failure(500, { message = "no" }))
    ai = client(server)
    t.fails("http", retry:call(ai.chat, ai, "x"))
    t.eq(#seen, 2)
    t.eq(seen[1].headers["idempotency-key"], seen[2].headers["idempotency-key"])
    t.fails("http", ai:chat "x") -- and outside again its own
    t.eq(#seen, 5)
    t.fails("http", client(server, { retry = false }):chat "x")
    t.eq(#seen, 6)
    server:close()
end)

t.test("inside a pipeline its retry is the only one; keys are kept, tokens counted, limits learnt", function()
    local server, seen = serve(failure(500, { message = "no" }), failure(503, { message = "no" }),
        { json = reply("text").json, headers = { ["x-ratelimit-limit-requests"] = "6000" } })
    local ai, limiter = client(server), leat.limiter()
    local pipe = leat.pipeline { timeout = 30, rate = limiter, breaker = { threshold = 3 },
        retry = { attempts = 3, base = 0.001 } }
    local results, stats = pipe:run({ "x" }, function(prompt)
        local text, err = ai:chat(prompt)
        return text, text == nil and err or nil
    end)
    t.eq({ results[1], results.errors[1] }, { "text" })
    t.eq({ #seen, stats.calls, stats.retried, stats.tokens }, { 3, 3, 2, 7 })
    t.eq(limiter:stats().rpm, 6000)
    local function key(i) return seen[i].headers["idempotency-key"] end
    t.ok(key(1) == key(2) and key(2) == key(3))
    -- Many answers, each with a second value: none of them a failure to the breaker.
    results, stats = pipe:run({ 1, 2, 3, 4, 5 }, function(n) return ai:chat("p" .. n) end)
    t.eq({ results.n, stats.ok, stats.tokens }, { 5, 5, 35 })
    stats = select(2, pipe:run({ 1 }, function() return ai:chat(assert(ai:chat "one")) end))
    t.eq(stats.tokens, 14)
    server:close()
    server, seen = serve(failure(500, { message = "no" }))
    ai = client(server)
    results, stats = leat.pipeline({ retry = false }):run({ 1 }, function() return ai:chat "x" end)
    t.eq({ #seen, stats.failed, results.errors[1].status }, { 1, 1, 500 })
    server:close()
end)

t.test("within one attempt the same call twice has two keys", function()
    local server, seen = serve(reply "a")
    local ai = client(server)
    assert(leat.retry():call(function()
        assert(ai:chat "same")
        return ai:chat "same"
    end))
    t.ok(seen[1].headers["idempotency-key"] ~= seen[2].headers["idempotency-key"])
    server:close()
end)

t.test("a stream gives the deltas, then usage and the reply put together", function()
    local function call(fields)
        return { choices = { { index = 0, delta = { tool_calls = { fields } } } } }
    end
    local server, seen = serve(events(
        "data: " .. leat.json.encode { id = "c1", object = "chat.completion.chunk",
            choices = { { index = 0, delta = { role = "assistant", content = "" } } } },
        piece "Hel", ": a comment", piece "lo",
        "data: " .. leat.json.encode(call { index = 0, id = "t", type = "function",
            ["function"] = { name = "f", arguments = '{"a"' } }),
        "data: " .. leat.json.encode(call { index = 0, ["function"] = { arguments = ":1}" } }),
        piece(leat.json.null, "stop"),
        "data: " .. leat.json.encode { choices = leat.json.array(), usage = { total_tokens = 9 } },
        "data: [DONE]"))
    local stream = assert(client(server):stream("x", { seed = 1 }))
    t.eq(text_of(stream), "Hello")
    t.eq(stream(), nil)
    t.eq(stream.usage.total_tokens, 9)
    t.eq(stream.finish_reason, "stop")
    local message = stream.reply.choices[1].message
    t.eq({ stream.reply.id, stream.reply.object, message.role, message.content },
        { "c1", "chat.completion", "assistant", "Hello" })
    t.eq(message.tool_calls[1]["function"], { name = "f", arguments = '{"a":1}' })
    t.eq({ seen[1].body.stream, seen[1].body.stream_options, seen[1].body.seed },
        { true, { include_usage = true }, 1 })
    server:close()
end)

t.test("an error within a stream is raised, of kind http; it is not tried again after a delta", function()
    local server, seen = serve(events(piece "Hel",
        'data: {"error":{"message":"overloaded ' .. KEY .. '","type":"overloaded_error"}}'))
    local stream = assert(client(server):stream "x")
    t.eq(stream(), "Hel")
    local _, err = pcall(stream)
    t.fails("http", nil, err)
    t.ok(err.retryable and tostring(err):find("overloaded ***", 1, true), tostring(err))
    t.eq(select(2, pcall(stream)), err)
    t.eq(#seen, 1)
    server:close()
end)

t.test("a stream that breaks off within a pipeline's function is asked for as a whole again", function()
    local server, seen = serve(events(piece "Hel"),
        events(piece "Hello", piece("", "stop"), "data: [DONE]"))
    local ai = client(server)
    local pipe = leat.pipeline { retry = { attempts = 2, base = 0.001 } }
    local results, stats = pipe:run({ "x" }, function(prompt)
        return text_of(assert(ai:stream(prompt)))
    end)
    t.eq({ results[1], stats.retried, #seen }, { "Hello", 1, 2 })
    t.eq(seen[1].headers["idempotency-key"], seen[2].headers["idempotency-key"])
    server:close()
end)

t.test("an error event is an error, and before the first delta the stream is opened again", function()
    local server, seen = serve(events "event: error\ndata: {\"message\":\"no\",\"type\":\"server_error\"}",
        failure(500, { message = "no" }), events(piece "yes", "data: [DONE]"))
    t.eq(text_of(assert(client(server):stream "x")), "yes")
    t.eq(#seen, 3)
    t.eq(seen[1].headers["idempotency-key"], seen[3].headers["idempotency-key"])
    server:close()
end)

t.test("a stream that ends without [DONE] and without a finish_reason was cut off", function()
    local server = serve(events(piece "Hel"), events(piece("Hello", "stop")), events "data: {broken",
        failure(400, { message = "no such model" }))
    local ai = client(server)
    local stream = assert(ai:stream "x")
    t.eq(stream(), "Hel")
    local _, err = pcall(stream)
    t.eq(t.fails("closed", nil, err).reason, "truncated")
    t.eq(text_of(assert(ai:stream "x")), "Hello")
    t.fails("protocol", ai:stream "x")
    t.eq(t.fails("http", ai:stream "x").status, 400)
    server:close()
end)

t.test("a server that does not stream gives one piece", function()
    local server = serve(reply "all at once", { json = { error = { message = "no" } } }, { json = {} })
    local ai = client(server)
    local stream = assert(ai:stream "x")
    t.eq(text_of(stream), "all at once")
    t.eq({ stream.usage.total_tokens, stream.reply.choices[1].message.content }, { 7, "all at once" })
    t.fails("http", ai:stream "x")
    t.fails("protocol", ai:stream "x")
    server:close()
end)

t.test("streams are sources of a merge, one of them broken", function()
    local server = assert(mock.start { broken = 0.5, seed = 3, token_delay = 0.001 })
    local ai = client(server)
    local prompts, text = {}, {}
    for i = 1, 12 do prompts[i], text[i] = "prompt " .. i, "" end
    local m = leat.merge(prompts, function(p) return ai:stream(p) end, { limit = 4, on_error = "skip" })
    for delta, i in m do text[i] = text[i] .. delta end
    local whole = 0
    for i = 1, 12 do
        t.eq(text[i], ("Answer to: prompt " .. i):sub(1, #text[i]))
        if #text[i] == #("Answer to: prompt " .. i) then whole = whole + 1 end
    end
    t.ok(m.broken > 0 and m.broken + whole == 12, m.broken .. " broken, " .. whole .. " whole")
    t.eq(m.first_error.kind, "closed")
    server:close()
end)

t.test("five merged completions, one breaks and one stalls: three arrive whole, two errors say what happened",
    function()
        local gone = leat.event()
        local server = assert(leat.serve { handler = function(req)
            local prompt = req:json().messages[1].content
            local out = assert(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
            for i = 1, 20 do
                if i == 11 and prompt == "breaks" then
                    error "the handler breaks off" -- what was begun is cut
                elseif i == 11 and prompt == "stalls" then
                    gone:wait() -- until the client has given up
                end
                out:write(piece(prompt .. i .. " ") .. "\n\n")
                sleep(0)
            end
            out:write(piece("", "stop") .. "\n\ndata: [DONE]\n\n")
            return out:close()
        end })
        local ai = client(server, { timeout = { idle = 1 } })
        local prompts = { "one", "breaks", "two", "stalls", "three" }
        local texts, errs = { "", "", "", "", "" }, {}
        for delta, i in leat.merge(prompts, function(p) return ai:stream(p) end, {
            on_error = function(err, i) errs[i] = err end,
        }) do
            texts[i] = texts[i] .. delta
        end
        gone:set()
        local function whole(prompt, n)
            local text = ""
            for i = 1, n do text = text .. prompt .. i .. " " end
            return text
        end
        for i, prompt in ipairs(prompts) do
            t.eq(texts[i], whole(prompt, errs[i] and 10 or 20))
        end
        t.eq({ errs[1] == nil, errs[3] == nil, errs[5] == nil }, { true, true, true })
        t.eq(errs[2].kind, "closed")
        t.eq({ errs[4].kind, errs[4].phase }, { "timeout", "idle" })
        server:close()
    end)

t.test("close ends a stream, and so does the end of its task", function()
    local server = assert(mock.start { tokens = 1000, token_delay = 0.01 })
    local ai = client(server)
    local stream = assert(ai:stream "x")
    t.ok(stream())
    stream:close()
    t.eq(stream(), nil)
    assert(spawn(function() return assert(ai:stream "y")() end):await())
    server:close()
end)

t.test("embeddings come in the order of the texts, and the models by name", function()
    local server = serve { json = { data = {
        { index = 1, embedding = { 2 } }, { index = 0, embedding = { 1 } } } } }
    local ai = client(server)
    t.eq(assert(ai:embed { "a", "b" }), { { 1 }, { 2 } })
    t.eq(ai:embed {}, {})
    t.fails("protocol", ai:embed { "a", "b", "c" })
    server:close()
    server = assert(mock.start())
    ai = client(server)
    local v = assert(ai:embed "one")
    t.eq(#v, 8)
    t.eq(assert(ai:embed { "two", "one" })[2], v)
    t.eq(assert(ai:models())[3], "mock")
    t.eq(t.fails("http", ai:embed { 1 }).status, 400)
    server:close()
end)

t.test("tools and a schema go through as they are, empty parts and nulls too", function()
    local server, seen = serve(reply "ok")
    local json = leat.json
    local sent = { tools = { { type = "function", ["function"] = { name = "f", strict = json.null,
        parameters = { type = "object", properties = json.object {}, required = json.array() } } } },
        response_format = { type = "json_schema", json_schema = { schema = json.object {} } } }
    assert(client(server):chat("x", sent))
    for _, text in ipairs { '"properties":{}', '"required":[]', '"strict":null', '"schema":{}' } do
        t.ok(seen[1].text:find(text, 1, true), text .. " in " .. seen[1].text)
    end
    for name, value in pairs(sent) do t.eq(seen[1].body[name], value) end
    server:close()
end)

t.test("x-should-retry is obeyed, both ways", function()
    local server, seen = serve(failure(500, { message = "no" }, { ["x-should-retry"] = "false" }),
        failure(409, { message = "once more" }, { ["x-should-retry"] = "true" }), reply "ok")
    local ai = client(server)
    t.eq(t.fails("http", ai:chat "x").retryable, false)
    t.eq(#seen, 1)
    t.eq(assert(ai:chat "x"), "ok")
    t.eq(#seen, 3)
    server:close()
end)

t.test("what the client is given goes before the environment, which may name files", function()
    local ffi = require "ffi"
    ffi.cdef "int setenv(const char *, const char *, int); int unsetenv(const char *);"
    local server, seen = serve(reply "ok")
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(" ", server.url, "/from-file\n")
    file:close()
    local names = { "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL_FILE", "OPENAI_API_KEY_FILE" }
    local before = {}
    for _, name in ipairs(names) do
        before[name] = os.getenv(name)
        ffi.C.unsetenv(name)
    end
    local function sent(opts)
        opts.model = "m"
        assert(assert(leat.openai(opts)):chat "x")
        return { seen[#seen].path, seen[#seen].headers.authorization }
    end
    ffi.C.setenv("OPENAI_BASE_URL_FILE", path, 1)
    t.eq(sent {}, { "/from-file/chat/completions" })
    ffi.C.setenv("OPENAI_BASE_URL", server.url .. "/env", 1)
    ffi.C.setenv("OPENAI_API_KEY", "env", 1)
    t.eq(sent {}, { "/env/chat/completions", "Bearer env" })
    local mine = { base_url = server.url .. "/mine", auth = { bearer = "mine" } }
    t.eq(sent { client = mine }, { "/mine/chat/completions", "Bearer mine" })
    t.eq(sent { client = mine, api_key = "given", base_url = server.url .. "/given" },
        { "/given/chat/completions", "Bearer given" })
    os.remove(path)
    ffi.C.unsetenv "OPENAI_BASE_URL"
    t.fails("io", leat.openai {})
    for _, name in ipairs(names) do
        ffi.C.unsetenv(name)
        if before[name] then ffi.C.setenv(name, before[name], 1) end
    end
    server:close()
end)

t.test("wrong use raises at once", function()
    local ai = assert(leat.openai { base_url = "http://127.0.0.1:1/v1" })
    t.raises("unknown option 'modle'", leat.openai, { modle = "x" })
    t.raises("option 'retry' must be", leat.openai, { retry = 3 })
    t.raises("expected a prompt", ai.chat, ai, 5)
    t.raises("use ai:stream", ai.chat, ai, "x", { stream = true, model = "m" })
    t.raises("call it with a colon", ai.chat, "x")
    t.raises("option 'headers' of a call must be a table, got 3", ai.chat, ai, "x",
        { headers = 3, model = "m" })
    if not os.getenv "OPENAI_MODEL" then t.raises("no model", ai.chat, ai, "x") end
    t.fails("invalid", leat.openai { base_url = "nonsense" })
end)

t.test("a text that comes as a list of parts is the text, whole or as a stream", function()
    local parts = { { type = "thinking", thinking = {} }, { type = "text", text = "one " }, { text = "two" } }
    local server = serve({ json = { choices = { { message = { content = parts } } } } },
        events(piece(parts), piece " three", "data: [DONE]"))
    local text, whole = client(server):chat "x"
    t.eq({ text, whole.choices[1].message.content }, { "one two", parts })
    local stream = assert(client(server):stream "x")
    t.eq(text_of(stream), "one two three")
    t.eq(stream.reply.choices[1].message.content, "one two three")
    server:close()
end)

t.test("tool calls of a stream stand in order, wherever their index begins, whatever was there", function()
    local function delta(fields)
        return "data: " .. leat.json.encode { choices = { { index = 0, delta = fields } } }
    end
    local function named(index, name, more)
        return { index = index, id = name and "id-" .. name,
            ["function"] = { name = name, arguments = more or "" } }
    end
    local server = serve(events(delta { content = leat.json.null, tool_calls = leat.json.null },
        delta { tool_calls = { named(2, "second", "{") } }, delta { tool_calls = { named(1, "first") } },
        delta { tool_calls = { named(2, nil, "}") } }, piece(leat.json.null, "tool_calls"), "data: [DONE]"))
    local stream = assert(client(server):stream "x")
    t.eq(text_of(stream), "")
    local calls = stream.reply.choices[1].message.tool_calls
    t.eq({ #calls, calls[1].id, calls[2].id, calls[2]["function"].arguments },
        { 2, "id-first", "id-second", "{}" })
    server:close()
end)

-- Calls use(value) with every value that `value` becomes by replacing one part of it, at any depth.
local ODD = { json.null, 5, -1, 0.5, 1e9, "x", "", true, json.array {}, json.object {}, { { 1 } } }
local function each_mutation(value, use, replace)
    replace = replace or function(v) return v end
    for _, odd in ipairs(ODD) do
        use(replace(odd))
    end
    if type(value) ~= "table" then
        return
    end
    for key, part in pairs(value) do
        each_mutation(part, use, function(new)
            local copy = {}
            for k, v in pairs(value) do copy[k] = v end
            copy[key] = new
            return replace(copy)
        end)
    end
end

t.test("whatever an answer holds, it is understood or a failure, never a bug", function()
    local body, stream
    local server = serve(function()
        return { headers = { ["Content-Type"] = stream and "text/event-stream" or nil }, body = body }
    end)
    local odd = client(server, { retry = false })
    local calls, failures = 0, 0
    local function try(name, call)
        calls = calls + 1
        local ok, value, err = pcall(call)
        if not ok then value, err = nil, value end
        t.ok(value ~= nil or type(err) == "table" and err.kind, name .. " " .. body .. ": " .. tostring(err))
        failures = failures + (value == nil and 1 or 0)
    end
    local usage = { prompt_tokens = 1, completion_tokens = 2, total_tokens = 3 }
    each_mutation({ id = "1", usage = usage, error = { message = "m", code = "c", type = "t" },
        choices = { { index = 0, message = { role = "assistant", content = "text" }, finish_reason = "x" } },
    }, function(answer)
        body = assert(json.encode(answer))
        try("chat", function() return odd:chat "p" end)
    end)
    each_mutation({ data = { { index = 0, embedding = { 1, 2 } } }, usage = usage }, function(answer)
        body = assert(json.encode(answer))
        try("embed", function()
            local vector, err = odd:embed "p"
            t.ok(vector == nil or type(vector) == "table" or type(vector) == "string", body)
            return vector, err
        end)
    end)
    each_mutation({ data = { { id = "a" }, { id = "b" } } }, function(answer)
        body = assert(json.encode(answer))
        try("models", function()
            local ids, err = odd:models()
            for i, id in ipairs(ids or {}) do t.ok(type(id) == "string", body .. i) end
            return ids, err
        end)
    end)
    stream = true
    local call = { index = 0, id = "c", ["function"] = { name = "f", arguments = "{}" } }
    each_mutation({ id = "1", usage = usage, error = json.null, choices = { { index = 0, finish_reason = "x",
        delta = { role = "assistant", content = "text", tool_calls = { call } } } } }, function(answer)
        body = "data: " .. assert(json.encode(answer)) .. "\n\ndata: [DONE]\n\n"
        try("stream", function()
            local deltas, err = odd:stream "p"
            if not deltas then return nil, err end
            for delta in deltas do t.eq(type(delta), "string") end
            return deltas.reply
        end)
    end)
    t.ok(calls > 500 and failures > 100, calls .. " calls, " .. failures .. " failures")
    server:close()
end)

t.done()
