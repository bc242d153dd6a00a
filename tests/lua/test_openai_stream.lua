-- openai: a stream becomes the answer that chat would have given, whatever is between its pieces; one that
-- ends too early or brings a failure says so.
-- luacheck: no max line length (each case stands on a line)
local t = require "harness"
local leat = require "leat"
local merge = require "leat.openai.merge"
local json = leat.json
local null = json.null

local KEY = "sk-secret-1234567890"
local REPLACEMENT = "\239\191\189"

-- ---- what is sent

local body, kind, n
local server
local function test(name, fn)
    t.test(name, function()
        server = assert(leat.serve { handler = function()
            n = n + 1
            return { headers = { ["Content-Type"] = kind }, body = type(body) == "table" and body[n] or body }
        end })
        fn()
        server:close()
    end)
end

local function client()
    return assert(leat.openai { base_url = server.url .. "/v1", api_key = KEY, model = "m",
        retry = { attempts = 2, base = 0.001 } })
end

local function encode(v)
    return type(v) == "string" and v or assert(json.encode(v))
end

-- A stream of these lines of data; ends with [DONE] unless `open` is true.
local function sse(list, open)
    local lines = {}
    for _, v in ipairs(list) do lines[#lines + 1] = "data: " .. encode(v) .. "\n\n" end
    lines[#lines + 1] = not open and "data: [DONE]\n\n" or nil
    return table.concat(lines)
end

local function delta(fields, finish)
    return { id = "c1", object = "chat.completion.chunk", created = 5, model = "m1",
        choices = { { index = 0, delta = fields, finish_reason = finish or null } } }
end

local function piece(text, finish)
    return delta({ content = text }, finish)
end

local STOP = delta({}, "stop")

-- Reads it all: the text and the stream; or nil, err and the text so far.
local function read(text, content_type)
    body, kind, n = text, content_type or "text/event-stream", 0
    local stream, err = client():stream "x"
    if not stream then return nil, err, "" end
    local parts = {}
    local ok, why = pcall(function()
        for part in stream do parts[#parts + 1] = part end
    end)
    if not ok then return nil, why, table.concat(parts) end
    return table.concat(parts), stream
end

local function message_of(list)
    local text, stream = read(sse(list))
    t.ok(text, tostring(stream))
    return stream.reply.choices[1].message, stream
end

-- ---- the end of a stream

test("a stream without [DONE] and without a finish_reason that says something was cut off", function()
    for name, case in pairs {
        ["text alone"] = { piece "Hel" },
        ["an empty finish_reason"] = { piece("Hel", "") },
        ["usage"] = { piece "Hel", { choices = json.array(), usage = { prompt_tokens = 1, completion_tokens = 1, total_tokens = 2 } } },
        ["one choice of two ended"] = { piece("Hel", "stop"), { choices = { { index = 1, delta = { content = "x" } } } } },
        ["a tool call"] = { delta { content = "Hel", tool_calls = { { index = 0, id = "a", ["function"] = { name = "f", arguments = "{}" } } } } },
        ["noise behind it"] = { piece "Hel", "", "ping" },
        ["an unfinished event"] = { piece "Hel", piece "lo" },
    } do
        local text = sse(case, true)
        if name == "an unfinished event" then text = text:sub(1, -20) end
        local got, err, so_far = read(text)
        t.eq({ name, got, so_far }, { name, nil, "Hel" })
        t.fails("closed", nil, err)
        t.eq({ err.reason, err.retryable }, { "truncated", true })
    end
end)

test("[DONE] or a finish_reason is an end", function()
    t.eq(read(sse({ piece "Hello" })), "Hello")
    t.eq(read(sse({ piece("Hello", "stop") }, true)), "Hello")
    t.eq(read(sse({ piece "Hello", STOP }, true)), "Hello")
    t.eq(read(sse({ piece("Hello", "") })), "Hello")
    local text, stream = read(sse { piece("Hello", "length"), delta({}, "") })
    t.eq({ text, stream.finish_reason }, { "Hello", "length" })
end)

test("a stream that had no choices is a failure, with the words of the server", function()
    for _, list in ipairs { {}, { { choices = json.array() } }, { { choices = null } }, { { usage = { prompt_tokens = 1 } } } } do
        local _, err = read(sse(list))
        t.fails("protocol", nil, err)
        t.ok(err.message:find("no choices", 1, true), err.message)
    end
    local _, err = read(sse { { message = "no capacity for you" } })
    t.ok(err.message:find("no capacity for you", 1, true), err.message)
    _, err = read(sse({ { message = "no capacity for you" } }, true))
    t.ok(err.message:find("no capacity for you", 1, true), err.message)
    _, err = read ""
    t.eq(t.fails("closed", nil, err).reason, "truncated")
end)

-- ---- failures in a stream

-- {the event, words, status, retryable}
local FAILURES = {
    { { error = { message = "server error", code = 500 } }, "server error", 500, true },
    { { error = { message = "overloaded", type = "overloaded_error" } }, "overloaded", 529, true },
    { { error = "just text" }, "just text", 200, false },
    { { detail = "gone" }, "gone", 200, false },
    { { detail = { { loc = { "body" }, msg = "bad" } } }, "body: bad", 200, false },
    { { code = 503, message = "loading" }, "loading", 503, true },
    { { object = "error", message = "too long", code = 400 }, "too long", 400, false },
    { { { error = { code = 429, message = "exhausted", status = "RESOURCE_EXHAUSTED" } } }, "exhausted", 429, true },
    { delta({ content = "" }, "error"), "finish_reason", 200, false },
    { { choices = { { index = 0, delta = {}, finish_reason = "error", error = { code = 502, message = "upstream" } } } }, "upstream", 502, true },
    { { choices = { { index = 0, delta = { content = "" }, error = { message = "filtered" } } } }, "filtered", 200, false },
    { { error = { message = "m", type = "insufficient_quota", code = 429 } }, "m", 429, false },
    { { error = { message = "slow down, try again in 20s", code = 429 } }, "slow down", 429, true, 20 },
}

test("a failure in a stream is raised with the server's words, before the first piece and after it", function()
    for _, case in ipairs(FAILURES) do
        local text = encode(case[1])
        local got, err, so_far = read(sse { piece "Hel", case[1] })
        t.eq({ text, got, so_far }, { text, nil, "Hel" })
        t.fails("http", nil, err)
        t.ok(err.message:find(case[2], 1, true), err.message)
        t.eq({ text, err.status, err.retryable, err.retry_after, n }, { text, case[3], case[4], case[5], 1 })
        t.ok(err.body and err.body ~= "", text)
        if case[5] == nil then
            got, err = read { sse { case[1] }, sse { piece("yes", "stop") } }
            t.eq({ text, got, n }, { text, case[4] and "yes" or nil, case[4] and 2 or 1 })
            t.eq(got == nil and err.kind or "http", "http")
        end
    end
end)

test("an event named error is a failure, whatever it holds", function()
    for data, words in pairs { ['{"message":"in an object"}'] = "in an object", ["out of memory"] = "out of memory",
        ['{"error":"nested"}'] = "nested", ['"quoted"'] = "quoted", ["{broken"] = "broken",
        [""] = "an event of the stream is an error" } do
        local got, err = read("event: error\ndata: " .. data .. "\n\n" .. sse { piece "x" })
        t.eq({ data, got }, { data })
        t.ok(err.message:find(words, 1, true), data .. ": " .. err.message)
    end
end)

test("an error that stands between two events is shown, and one that no blank line ends", function()
    for text, words in pairs {
        ['error: {"code":500,"message":"slot unavailable","type":"server_error"}\n\n'] = "slot unavailable",
        ['{"error":{"message":"bare","code":500}}\n'] = "bare",
        ['{\n  "error": {\n    "message": "on lines",\n    "code": 500\n  }\n}'] = "on lines",
        ['data: {"error":{"message":"unended","code":500}}\n'] = "unended",
        ['data: {"error":{"message":"unended","code":500}}'] = "unended",
        ['event: error\ndata: {"message":"named","code":500}'] = "named",
    } do
        for _, before in ipairs { "", sse({ piece "Hel" }, true) } do
            local got, err, so_far = read(before .. text)
            t.eq({ text, got, so_far }, { text, nil, before ~= "" and "Hel" or "" })
            t.fails("http", nil, err)
            t.ok(err.message:find(words, 1, true), err.message)
            t.eq({ err.status, err.retryable }, { 500, true })
        end
        t.eq(read(sse({ piece("Hello", "stop") }, true) .. text), "Hello")
    end
    local _, err = read "<html><head><title>Sign in</title></head></html>"
    t.ok(err.kind == "protocol" and err.message:find("HTML page: Sign in", 1, true), err.message)
    _, err = read(sse({ piece "Hel" }, true) .. "foo: bar\nbaz\n" .. ("x"):rep(9000))
    t.eq(t.fails("closed", nil, err).reason, "truncated")
end)

test("an end that no blank line ends is an end", function()
    for _, last in ipairs { "data: [DONE]\n", "data: [DONE]", "data: " .. encode(STOP), "data: " .. encode(STOP) .. "\n" } do
        t.eq(read(sse({ piece "Hello" }, true) .. last), "Hello")
    end
end)

-- ---- noise

test("noise is skipped, however much of it there is", function()
    local noise = { "data:", "data: ", 'data: ""', "data: :", "data: ping", "data: PING", ": comment", "data: {}",
        "data: null", "data: 5", "data: true", "data: []", "data: keep-alive", "data: OPENROUTER PROCESSING",
        "event: ping\ndata: {\"type\":\"ping\"}", "event: ping\ndata: {broken", "event: heartbeat\ndata: x", "retry: 5",
        'data: {"type":"ping"}', 'data: {"status":"processing"}', "data: \ndata: ", "data: -", "data: ok", "foo: bar" }
    local parts, expected = {}, {}
    for i, line in ipairs(noise) do
        parts[#parts + 1] = line .. "\n\n" .. "data: " .. encode(piece(i .. ";")) .. "\n\n" .. line .. "\n\n"
        expected[i] = i .. ";"
    end
    local text, stream = read((table.concat(noise, "\n\n") .. "\n\n"):rep(20) .. table.concat(parts) .. sse { STOP })
    t.eq(text, table.concat(expected), tostring(stream))
    t.eq({ stream.reply.id, stream.reply.type, stream.reply.status }, { "c1" })
end)

test("[DONE] is known with white space and in quotes", function()
    for _, done in ipairs { "[DONE]", " [DONE]", "[DONE] ", "\t[DONE]  ", '"[DONE]"', ' "[DONE]" ' } do
        local text, stream = read("data: " .. encode(piece "a") .. "\n\ndata: " .. done .. "\n\ndata: {broken\n\n")
        t.eq({ done, text }, { done, "a" }, tostring(stream))
    end
end)

test("whatever comes after the finish is skipped; a further piece and the usage count", function()
    local usage = { prompt_tokens = 3, completion_tokens = 4, total_tokens = 7 }
    local text, stream = read(sse { piece("a", "stop"), "{broken", "[broken", { error = { message = "late", code = 500 } },
        "event", piece("b", "stop"), { choices = json.array(), usage = usage } })
    t.eq({ text, stream.usage }, { "ab", usage })
    text = read("data: " .. encode(piece("a", "stop")) .. "\n\nevent: error\ndata: late\n\n")
    t.eq(text, "a")
end)

test("data that begins as JSON and is none is a failure at once; its text is kept", function()
    for _, data in ipairs { "{broken", '{"choices":[{"index":0,"delta":{"content":"b"},"logprobs":-Infinity}]}', "[1,", " {",
        '{"a":1} {"b":2}', "{'a': 1}" } do
        local got, err, so_far = read(sse { piece "a", data, piece("c", "stop") })
        t.eq({ data, got, so_far }, { data, nil, "a" })
        t.fails("protocol", nil, err)
        t.eq({ err.retryable, err.partial:gsub("^ ", "") }, { false, data:gsub("^ ", "") })
    end
end)

-- ---- texts that were cut within a surrogate pair

test("halves that meet in the next piece are joined; one that stays alone becomes U+FFFD", function()
    local function half(s, finish)
        return ('{"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}'):format(s, finish or "null")
    end
    for _, case in ipairs {
        { { half "a\\ud83d", half "\\ude00b" }, "a\240\159\152\128b" },
        { { half "\\ud83d", half "", half "\\ude00" }, "\240\159\152\128" },
        { { half "\\ud83d", half "x" }, REPLACEMENT .. "x" },
        { { half "\\ude00", half "x" }, REPLACEMENT .. "x" },
        { { half "a\\ud83d" }, "a" .. REPLACEMENT },
        { { half "a\\ud83d", "ping", half("", '"stop"') }, "a" .. REPLACEMENT },
        { { half "\\ud83d\\ud83d", half "\\ude00" }, REPLACEMENT .. "\240\159\152\128" },
    } do
        local text, stream = read(sse(case[1]))
        t.eq({ case[1][1], text }, { case[1][1], case[2] })
        t.eq(stream.reply.choices[1].message.content, case[2])
        t.ok(json.encode(stream.reply), "the reply is UTF-8")
        t.eq(stream(), nil)
    end
end)

test("halves meet in the arguments of a tool call, in reasoning and in a second choice too", function()
    local function event(fields, index)
        return ('{"choices":[{"index":%d,"delta":%s}]}'):format(index or 0, fields)
    end
    local message, stream = message_of {
        event '{"reasoning_content":"\\ud83d","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"\\ud83d"}}]}',
        event '{"reasoning_content":"\\ude00","tool_calls":[{"index":0,"function":{"arguments":"\\ude00 \\ud83d"}}]}',
        event('{"content":"\\ud83d"}', 1), event('{"content":"\\ude00"}', 1) }
    t.eq({ message.reasoning_content, message.tool_calls[1]["function"].arguments, stream.reply.choices[2].message.content },
        { "\240\159\152\128", "\240\159\152\128 " .. REPLACEMENT, "\240\159\152\128" })
end)

-- ---- the rules of merging: {field, its pieces, what there is then}

local function entry(k) return { k = k } end

local RULES = {
    message = {
        { "content", { "a", null, "", "b" }, "ab" }, { "content", { null, null }, null }, { "content", { null, "" }, null },
        { "content", { "", "" }, "" }, { "refusal", { "I ", null, "cannot" }, "I cannot" },
        { "reasoning", { "h", "m" }, "hm" }, { "reasoning_content", { null, "h", "m" }, "hm" },
        { "role", { "assistant", "", null, "tool" }, "assistant" }, { "role", { "", "assistant" }, "assistant" },
        { "name", { "n", "n", "other" }, "n" }, { "id", { "", "i", "i" }, "i" },
        { "annotations", { { entry(1), entry(2) }, null, json.array {}, { entry(1) } }, { entry(1), entry(2), entry(1) } },
        { "reasoning_details", { { { type = "t", text = "a" } }, { { type = "t", text = "b" } } }, { { type = "t", text = "a" }, { type = "t", text = "b" } } },
        { "images", { { entry(1) }, { entry(2) } }, { entry(1), entry(2) } },
        { "function_call", { { name = "f", arguments = "" }, { arguments = "{" }, { name = "f", arguments = "}" } }, { name = "f", arguments = "{}" } },
        { "audio", { { id = "a", data = "AA", transcript = "x" }, { id = "a", data = "BB", transcript = "y" } }, { id = "a", data = "AABB", transcript = "xy" } },
        { "vendor_text", { "a", null, "b" }, "ab" }, { "vendor_list", { { entry(1) }, { entry(2) } }, { entry(1), entry(2) } },
        { "vendor_number", { 1, null, 2 }, 2 }, { "vendor_flag", { true, null, false }, false },
    },
    choice = {
        { "finish_reason", { null, "stop", "", null }, "stop" }, { "finish_reason", { "tool_calls", "stop" }, "stop" },
        { "logprobs", { null, { content = { entry(1) }, refusal = null }, { content = { entry(2), entry(3) }, refusal = null }, null },
            { content = { entry(1), entry(2), entry(3) }, refusal = null } },
        { "logprobs", { null, null }, null },
        { "stop_reason", { null, "</s>", null }, "</s>" }, { "native_finish_reason", { null, "STOP" }, "STOP" },
    },
    reply = {
        { "id", { "", "a", "b" }, "a" }, { "model", { "", null, "m1", "m2" }, "m1" }, { "created", { 0, null, 7, 9 }, 7 },
        { "system_fingerprint", { null, "fp", "" }, "fp" }, { "citations", { { "u" }, { "u", "v" } }, { "u", "v" } },
        { "usage", { null, { prompt_tokens = 1, completion_tokens = 1 }, { prompt_tokens = 1, completion_tokens = 2 }, null }, { prompt_tokens = 1, completion_tokens = 2 } },
        { "usage", { { prompt_tokens = 1, completion_tokens = 2 }, { prompt_tokens = 1 }, {} }, { prompt_tokens = 1, completion_tokens = 2 } },
        { "usage", { { total_tokens = 3 }, { total_tokens = 4 } }, { total_tokens = 4 } },
        { "prompt_filter_results", { { entry(1) } }, { entry(1) } },
    },
}

for where, rules in pairs(RULES) do
    for i, rule in ipairs(rules) do
        test(("pieces of %s.%s are merged (%d)"):format(where, rule[1], i), function()
            local list = {}
            for k, v in ipairs(rule[2]) do
                local event = { choices = { { index = 0, delta = { content = k == 1 and "" or nil } } } }
                local at = where == "reply" and event or where == "choice" and event.choices[1] or event.choices[1].delta
                at[rule[1]] = v
                list[k] = event
            end
            local message, stream = message_of(list)
            local at = where == "reply" and stream.reply or where == "choice" and stream.reply.choices[1] or message
            t.eq(at[rule[1]], rule[3])
        end)
    end
end

test("every field that has a rule of its own has a test here", function()
    for where, rules in pairs(RULES) do
        local tested = { other = true, index = true, object = true, message = true, delta = true, tool_calls = true }
        for _, rule in ipairs(rules) do tested[rule[1]] = true end
        for name in pairs(merge.RULES[where]) do
            t.ok(tested[name], where .. "." .. name)
        end
    end
end)

-- ---- tool calls

local function call(fields)
    local f = { index = fields.index, id = fields.id, type = fields.type }
    if fields.name or fields.args then f["function"] = { name = fields.name, arguments = fields.args } end
    return f
end

-- The calls that come of these events: "id:name(arguments)" each.
local function calls_of(...)
    local list = {}
    for i, calls in ipairs { ... } do
        local pieces = {}
        for k, c in ipairs(calls) do pieces[k] = call(c) end
        list[i] = delta { tool_calls = pieces }
    end
    list[#list + 1] = delta({}, "tool_calls")
    local texts = {}
    for i, c in ipairs(message_of(list).tool_calls) do
        t.eq(c.index, nil)
        texts[i] = ("%s:%s(%s)"):format(c.id ~= null and c.id or "-", c["function"].name, c["function"].arguments)
    end
    return table.concat(texts, " ")
end

test("tool calls come in pieces by index", function()
    t.eq(calls_of({ { index = 0, id = "a", type = "function", name = "f", args = "" } }, { { index = 0, args = '{"x"' } },
        { { index = 0, args = ":1}" } }), 'a:f({"x":1})')
    t.eq(calls_of({ { index = 0, id = "a", name = "f", args = "" }, { index = 1, id = "b", name = "g", args = "" } },
        { { index = 1, args = "{}" } }, { { index = 0, args = "{}" } }), "a:f({}) b:g({})")
    t.eq(calls_of({ { index = 0, id = "a", name = "f", args = "{" } }, { { index = 0, id = "", name = "", args = "}" } }), "a:f({})")
    t.eq(calls_of({ { index = 0, id = "a", name = "f", args = "{" } }, { { index = 0, id = "a", name = "f", args = "}" } }), "a:f({})")
    t.eq(calls_of({ { index = 0, id = "a", name = "f", args = "{" } }, { { index = 0, id = null, args = "}" } }), "a:f({})")
end)

test("a new id opens a new call, at a used index and without an index", function()
    local weather, clock = { id = "a", name = "get_weather", args = "{1}" }, { id = "b", name = "get_time", args = "{2}" }
    local together = "a:get_weather({1}) b:get_time({2})"
    t.eq(calls_of({ weather }, { clock }), together)
    t.eq(calls_of { weather, clock }, together)
    weather.index, clock.index = 0, 0
    t.eq(calls_of({ weather }, { clock }), together)
    t.eq(calls_of { weather, clock }, together)
    t.eq(calls_of({ { index = 0, id = "a", name = "f", args = "{" } }, { { index = 0, args = "}" } },
        { { index = 0, id = "b", name = "f", args = "{" } }, { { index = 0, args = "}" } }), "a:f({}) b:f({})")
    t.eq(calls_of({ { id = "a", name = "f", args = "{" } }, { { args = "}" } }, { { id = "b", name = "f", args = "{" } },
        { { args = "}" } }), "a:f({}) b:f({})")
    t.eq(calls_of({ { id = "a", name = "f", args = "{" } }, { { id = "b", name = "g", args = "{" } },
        { { id = "a", args = "}" } }, { { id = "b", args = "}" } }), "a:f({}) b:g({})")
end)

test("whole calls without ids are told apart by their names, or where one was whole before the next", function()
    t.eq(calls_of({ { id = "", name = "f", args = "{}" } }, { { id = "", name = "g", args = "{}" } }), ":f({}) :g({})")
    t.eq(calls_of { { name = "f", args = '{"x":1}' }, { name = "f", args = '{"x":2}' } }, '-:f({"x":1}) -:f({"x":2})')
    t.eq(calls_of({ { index = 0, id = "", name = "f", args = '{"x":1}' } }, { { index = 0, id = "", name = "f", args = '{"x":2}' } }),
        ':f({"x":1}) :f({"x":2})')
    t.eq(calls_of { { id = "null", name = "f", args = "{}" }, { id = "null", name = "g", args = "{}" } }, "null:f({}) null:g({})")
end)

test("arguments that are an object stay one", function()
    local message = message_of { delta { tool_calls = { { ["function"] = { name = "f", arguments = { x = 1 } } },
        { ["function"] = { name = "f", arguments = { x = 2 } } } } } }
    t.eq({ message.tool_calls[1]["function"].arguments, message.tool_calls[2]["function"].arguments }, { { x = 1 }, { x = 2 } })
end)

test("what a provider adds to a call is kept", function()
    local message = message_of { delta { tool_calls = { { index = 0, id = "a", ["function"] = { name = "f", arguments = "{}" },
        extra_content = { google = { thought_signature = "s" } } } } }, delta { tool_calls = { { index = 0, extra_content = null } } } }
    t.eq(message.tool_calls[1].extra_content, { google = { thought_signature = "s" } })
end)

-- ---- the reply as a whole

-- Cuts a whole answer into pieces as providers do, and puts it together again.
test("the reply is what chat would have returned", function()
    local whole = { id = "c1", object = "chat.completion", created = 5, model = "m1", system_fingerprint = "fp",
        choices = {
            { index = 0, message = { role = "assistant", content = "Hello, world", refusal = null }, logprobs = null, finish_reason = "stop" },
            { index = 1, message = { role = "assistant", content = null, refusal = null, tool_calls = {
                { id = "a", type = "function", ["function"] = { name = "f", arguments = '{"x":1}' } },
                { id = "b", type = "function", ["function"] = { name = "g", arguments = "{}" } } } },
                logprobs = { content = { entry(1), entry(2) }, refusal = null }, finish_reason = "tool_calls" },
        }, usage = { prompt_tokens = 1, completion_tokens = 2, total_tokens = 3 } }
    local function event(choice, more)
        local e = { id = "c1", object = "chat.completion.chunk", created = 5, model = "m1", system_fingerprint = "fp",
            choices = choice and { choice } or json.array(), usage = null }
        for k, v in pairs(more or {}) do e[k] = v end
        return e
    end
    local function at(index, d, finish, logprobs)
        return event { index = index, delta = d, finish_reason = finish or null, logprobs = logprobs or null }
    end
    local tools = { { index = 0, id = "a", type = "function", ["function"] = { name = "f", arguments = "" } } }
    local text, stream = read(sse { at(0, { role = "assistant", content = "", refusal = null }),
        at(1, { role = "assistant", content = null, refusal = null, tool_calls = tools }), at(0, { content = "Hello" }),
        at(1, { tool_calls = { { index = 0, ["function"] = { arguments = '{"x":1}' } } } }, nil, { content = { entry(1) }, refusal = null }),
        at(0, { content = ", world" }),
        at(1, { tool_calls = { { index = 1, id = "b", type = "function", ["function"] = { name = "g", arguments = "{}" } } } }, nil,
            { content = { entry(2) }, refusal = null }),
        at(0, {}, "stop"), at(1, {}, "tool_calls"), event(nil, { usage = whole.usage }) })
    t.eq({ text, stream.finish_reason }, { "Hello, world", "stop" })
    t.eq(stream.reply, whole)
    -- And from a server that does not stream.
    text, stream = read(encode(whole), "application/json")
    t.eq({ text, stream.finish_reason, stream.usage }, { "Hello, world", "stop", whole.usage })
    t.eq(stream.reply, whole)
end)

test("reasoning in parts stays in parts, and the text is the text", function()
    local function thinking(s) return { type = "thinking", thinking = { { type = "text", text = s } } } end
    local text, stream = read(sse { piece { thinking "Let " }, piece { thinking "me" }, piece { { type = "text", text = "Ye" } }, piece("s", "stop") })
    t.eq(text, "Yes")
    t.eq(stream.reply.choices[1].message.content, { thinking "Let me", { type = "text", text = "Yes" } })
end)

test("usage is found where some providers put it", function()
    local usage = { prompt_tokens = 1, completion_tokens = 2, total_tokens = 3 }
    for _, event in ipairs { { choices = { { index = 0, delta = {}, finish_reason = "stop", usage = usage } } },
        { choices = { { index = 0, delta = {}, finish_reason = "stop" } }, x_groq = { usage = usage } }, { usage = usage } } do
        local _, stream = read(sse { piece "a", event })
        t.eq(stream.usage, usage)
        t.eq(stream.reply.usage, usage)
    end
end)

-- ---- other types

test("events are read whatever the content-type says, and a whole answer too", function()
    local events = ": hi\r\n\r\n" .. sse { piece "Hel", "", piece("lo", "stop") }:gsub("\n", "\r\n")
    for _, type_of in ipairs { "text/event-stream; charset=utf-8", "text/plain", "application/json", "application/octet-stream" } do
        local text, stream = read(events, type_of)
        t.eq({ type_of, text }, { type_of, "Hello" }, tostring(stream))
        t.eq(stream.reply.choices[1].message.content, "Hello")
    end
    local whole = '{"choices":[{"message":{"content":"all"},\n"finish_reason":"stop"}]}'
    for _, type_of in ipairs { "text/plain", "application/json", "application/octet-stream" } do
        t.eq(read(whole, type_of), "all")
        local _, err = read("no capacity\n", type_of)
        t.ok(err.message:find("no capacity", 1, true), err.message)
        _, err = read('data: {"error":{"message":"framed","code":400}}\n\n', type_of)
        t.ok(err.message:find("framed", 1, true) and err.status == 400, err.message)
    end
    local _, err = read(("data: " .. encode(piece "a") .. "\n\n"), "text/plain")
    t.eq(t.fails("closed", nil, err).reason, "truncated")
    local stream = (function() body, kind, n = events, "text/plain", 0 return client():stream "x" end)()
    t.eq(stream(), "Hel")
    stream:close()
    stream:close()
    t.eq(stream(), nil)
end)

t.done()
