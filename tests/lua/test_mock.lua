-- leat mock: an OpenAI-compatible server whose faults are as good as real ones.
local t = require "harness"
local leat = require "leat"
local mock = require "leat.mock"
local cli = require "leat.mock.cli"
local draw = require "leat.mock.random"
local limits = require "leat.mock.rate_limits"

local function start(opts) return assert(mock.start(opts)) end

local function ask(server, body)
    return leat.request {
        url = server.url .. "/v1/chat/completions", method = "POST", json = body,
    }
end

local function chat(prompt, more)
    local body = { model = "mock", messages = { { role = "user", content = prompt } } }
    for k, v in pairs(more or {}) do body[k] = v end
    return body
end

local function stats(server) return assert(leat.request(server.url .. "/mock/stats")):json() end

-- The data of each event of a stream.
local function events(text)
    local list = {}
    for data in text:gmatch "data: ([^\n]*)\n\n" do
        list[#list + 1] = data == "[DONE]" and data or assert(leat.json.decode(data))
    end
    return list
end

t.test("a chat completion names its prompt and counts its tokens", function()
    local server = start()
    local res = assert(ask(server, chat "hello  there, you "))
    t.eq(res.status, 200)
    t.eq(res.headers["content-type"], "application/json")
    local answer = res:json()
    t.eq(answer.object, "chat.completion")
    t.eq(answer.model, "mock")
    t.eq(answer.choices, { {
        index = 0, finish_reason = "stop", logprobs = leat.json.null,
        message = { role = "assistant", content = "Answer to: hello  there, you ", refusal = leat.json.null },
    } })
    t.eq(answer.usage, { prompt_tokens = 5, completion_tokens = 5, total_tokens = 10 })
    t.ok(answer.id:find "^chatcmpl%-" and res.headers["x-request-id"])
    server:close()
end)

t.test("the last user message is answered, its text parts joined", function()
    local server = start()
    local res = assert(ask(server, { model = "m", messages = {
        { role = "system", content = "be brief" }, { role = "user", content = "first" },
        { role = "assistant", content = "ok" },
        { role = "user", content = { { type = "text", text = "second" }, { type = "text", text = "half" } } },
    } }))
    t.eq(res:json().choices[1].message.content, "Answer to: second half")
    server:close()
end)

t.test("a stream brings the same answer in pieces, then usage if asked for, then [DONE]", function()
    local server = start()
    for _, usage in ipairs { true, false } do
        local more = { stream = true, stream_options = usage and { include_usage = true } or nil }
        local res = assert(ask(server, chat("one two", more)))
        t.eq(res.headers["content-type"], "text/event-stream; charset=utf-8")
        local list, text = events(res.body), ""
        t.eq(table.remove(list), "[DONE]")
        if usage then
            local last = table.remove(list)
            t.eq(last.choices, {})
            t.eq(last.usage.completion_tokens, 4)
        end
        t.eq(list[1].choices[1].delta, { role = "assistant", content = "" })
        t.eq(list[#list].choices[1], { index = 0, delta = {}, finish_reason = "stop" })
        for _, event in ipairs(list) do
            t.eq(event.object, "chat.completion.chunk")
            t.eq(event.id, list[1].id)
            text = text .. (event.choices[1].delta.content or "")
        end
        t.eq(text, "Answer to: one two")
    end
    t.eq(stats(server).streams, 2)
    server:close()
end)

t.test("max_tokens cuts an answer, tokens sets its length", function()
    local server = start { tokens = 30 }
    local answer = assert(ask(server, chat "x")):json()
    t.eq(answer.usage.completion_tokens, 30)
    t.eq(answer.choices[1].finish_reason, "stop")
    answer = assert(ask(server, chat("x", { max_tokens = 3 }))):json()
    t.eq(answer.choices[1], {
        index = 0, finish_reason = "length", logprobs = leat.json.null,
        message = { role = "assistant", content = "Answer to: x", refusal = leat.json.null },
    })
    server:close()
end)

t.test("wrong requests are refused as the real service does", function()
    local server = start()
    local user = { { role = "user", content = "x" } }
    for _, case in ipairs {
        { {}, nil, "you must provide a model parameter" },
        { { model = "m" }, "messages", "Missing required parameter: 'messages'" },
        { { model = "m", messages = "x" }, "messages", "Invalid type for 'messages'" },
        { { model = "m", messages = leat.json.array {} }, "messages", "empty array" },
        { { model = "m", messages = { { content = "x" } } }, "messages[0].role",
            "Missing required parameter" },
        { { model = "m", messages = { { role = "boss", content = "x" } } }, "messages[0].role",
            "Invalid value: 'boss'" },
        { { model = "m", messages = { { role = "user" } } }, "messages[0].content", "Invalid type" },
        { { model = 5, messages = user }, "model", "Invalid type for 'model'" },
        { { model = "m", messages = user, stream = "yes" }, "stream", "expected a boolean" },
        { { model = "m", messages = user, stream_options = { include_usage = true } },
            "stream_options", "only allowed when" },
        { { model = "m", messages = user, max_tokens = 0 }, "max_tokens", "at least 1" },
        { { model = "m", messages = user, temperature = 3 }, "temperature", "from 0 to 2" },
    } do
        local body = next(case[1]) and case[1] or leat.json.object {}
        local res = assert(ask(server, body))
        local err = res:json().error
        t.eq(res.status, 400)
        t.eq(err.type, "invalid_request_error")
        t.eq(err.param, case[2] or leat.json.null)
        t.ok(err.message:find(case[3], 1, true), err.message)
    end
    for _, text in ipairs { "{", "", "[1]", "null", '"x"' } do
        local res = assert(leat.request {
            url = server.url .. "/v1/chat/completions", method = "POST", body = text,
        })
        t.eq(res.status, 400)
        t.ok(res:json().error.message:find "could not parse the JSON")
    end
    t.eq(stats(server).by_status, { ["400"] = 17 })
    server:close()
end)

t.test("unknown paths, wrong methods and wrong keys are refused", function()
    local server = start { key = "sk-test" }
    local function get(path, method, key)
        return assert(leat.request {
            url = server.url .. path, method = method,
            headers = { Authorization = "Bearer " .. (key or "sk-test") },
        })
    end
    t.eq(get("/v1/nothing").status, 404)
    t.eq(get("/v1/nothing"):json().error.code, "unknown_url")
    local res = get("/v1/models", "DELETE")
    t.eq({ res.status, res.headers.allow }, { 405, "GET" })
    t.eq(get("/v1/models", "GET", "other").status, 401)
    t.eq(assert(leat.request(server.url .. "/v1/models")):json().error.code, "invalid_api_key")
    local list = get("/v1/models"):json()
    t.eq(list.object, "list")
    t.ok(#list.data > 0 and list.data[1].id)
    t.eq(assert(leat.request(server.url .. "/mock/stats")).status, 200) -- the witness asks for no key
    server:close()
end)

t.test("above the rate limit it answers 429 and says when to come back", function()
    local server = start { rpm = 600, burst = 5 }
    local admitted, refused = 0, nil
    for _ = 1, 50 do -- far quicker than ten a second, or than a slow machine makes it
        local res = assert(ask(server, chat "x"))
        t.eq(res.headers["x-ratelimit-limit-requests"], "600")
        t.ok(tonumber(res.headers["x-ratelimit-remaining-requests"]) <= 4)
        t.ok(res.headers["x-ratelimit-reset-requests"]:find "^[%d.]+m?s$")
        if res.status == 200 then
            admitted = admitted + 1
        else
            refused = res
            break
        end
    end
    t.ok(admitted >= 5)
    t.eq(refused.status, 429)
    t.eq(refused:json().error.code, "rate_limit_exceeded")
    t.eq(refused.headers["retry-after"], "1")
    t.eq(refused.headers["x-ratelimit-remaining-requests"], "0")
    local wait = tonumber(refused.headers["retry-after-ms"]) / 1000
    t.ok(wait > 0 and wait <= 0.1)
    leat.sleep(wait)
    t.eq(assert(ask(server, chat "x")).status, 200)
    server:close()
end)

-- Calls fn with a function that sets the clock of the mock.
local function on_own_clock(fn)
    local tasks = require "leat.task"
    local real, now = tasks.now, 0
    tasks.now = function() return now end
    local ok, err = pcall(fn, function(seconds) now = now + seconds end)
    tasks.now = real
    assert(ok, err)
end

t.test("the limit lets through a burst and then an even rate", function()
    on_own_clock(function(pass)
        local self = limits.new { rpm = 600 }
        local function count(ticks)
            local n = 0
            for _ = 1, ticks do
                local _, refused = limits.admit(self, "m", 1)
                n = n + (refused and 0 or 1)
                pass(0.01)
            end
            return n
        end
        t.eq({ count(1000), count(1000) }, { 109, 100 })
    end)
end)

t.test("tokens too: a burst and an even rate, and what is refused is charged to no limit", function()
    on_own_clock(function(pass)
        local self = limits.new { rpm = 600, burst = 3, tpm = 6000, token_burst = 500 }
        local function ask_for(tokens)
            local headers, refused = limits.admit(self, "m", tokens)
            return not refused, headers["x-ratelimit-remaining-requests"],
                headers["x-ratelimit-remaining-tokens"], headers["x-ratelimit-reset-tokens"],
                headers["retry-after-ms"], refused and refused.json.error.type
        end
        t.eq({ ask_for(300) }, { true, 2, 200, "3s" })
        t.eq({ ask_for(300) }, { false, 2, 200, "3s", 1000, "tokens" })
        t.eq({ ask_for(200) }, { true, 1, 0, "5s" })
        pass(0.05)
        t.eq({ ask_for(1) }, { true, 0, 4, "4.96s" })
        t.eq({ ask_for(1) }, { false, 0, 4, "4.96s", 50, "requests" })
        pass(4.96)
        t.eq({ ask_for(700) }, { true, 2, 0, "7s" }) -- above the burst, and nothing was owed
        t.eq({ ask_for(700) }, { false, 2, 0, "7s", 7000, "tokens" })
        pass(7)
        t.eq({ ask_for(6000) }, { true, 2, 0, "1m0s" })
        pass(6000)
        t.eq({ ask_for(6001) }, { false, 3, 500, "0ms", nil, "tokens" })
        t.eq(limits.new({ tpm = 600 }).tokens.burst, 10)
        t.eq(limits.new({ tpm = 6 }).tokens.burst, 1)
    end)
end)

t.test("above the limit of tokens it answers 429 as the real service does", function()
    local server = start { tpm = 600, token_burst = 300, rpm = 6000 }
    local res = assert(ask(server, chat("12345678", { max_tokens = 298 })))
    t.eq(res.status, 200)
    t.eq(res.headers["x-ratelimit-limit-tokens"], "600")
    t.eq(res.headers["x-ratelimit-limit-requests"], "6000")
    t.ok(tonumber(res.headers["x-ratelimit-remaining-tokens"]) < 300)
    t.ok(res.headers["x-ratelimit-reset-tokens"]:find "^[%d.]+m?s$")
    t.eq(stats(server).tokens_charged, 300)
    res = assert(ask(server, chat("x", { max_completion_tokens = 299 })))
    t.eq(res.status, 429)
    local err = res:json().error
    t.eq({ err.type, err.code, err.param }, { "tokens", "rate_limit_exceeded", leat.json.null })
    t.ok(err.message:find("Rate limit reached for mock on tokens per min (TPM): Limit 600, Requested 300.",
        1, true), err.message)
    local wait = tonumber(res.headers["retry-after-ms"])
    t.ok(wait > 0 and wait <= 30000 and tonumber(res.headers["retry-after"]) == math.ceil(wait / 1000))
    res = assert(ask(server, chat("x", { max_tokens = 600 })))
    t.eq({ res.status, res.headers["retry-after"] }, { 429 })
    t.ok(res:json().error.message:find "^Request too large for mock .* Limit 600, Requested 601%. ")
    t.eq(stats(server).tokens_charged, 300)
    assert(leat.request { url = server.url .. "/mock/reset", method = "POST" })
    t.eq(stats(server).tokens_charged, 0)
    server:close()
end)

t.test("embeddings are under the same limits", function()
    local server = start { rpm = 60, burst = 2, tpm = 60, token_burst = 50 }
    local function embed(text)
        return assert(leat.request { url = server.url .. "/v1/embeddings", method = "POST",
            json = { model = "m", input = { text, text } } })
    end
    local res = embed(("x"):rep(20))
    t.eq({ res.status, res:json().usage.total_tokens, stats(server).tokens_charged }, { 200, 10, 10 })
    t.ok(res.headers["x-ratelimit-remaining-requests"] and res.headers["x-request-id"])
    t.eq(embed(("x"):rep(200)):json().error.type, "tokens")
    embed "x"
    local refused = false
    for _ = 1, 50 do -- far quicker than one a second
        res = embed ""
        refused = refused or res.status == 429 and res:json().error.type == "requests"
    end
    t.ok(refused)
    t.eq(embed(5).status, 400)
    server:close()
end)

t.test("a limiter learns what the mock's headers say of requests and of tokens", function()
    local server = start { rpm = 1200, burst = 100, tpm = 60000, token_burst = 5000 }
    local limiter = leat.limiter()
    local res = assert(limiter:call(ask, server, chat("x", { max_tokens = 2999 })))
    t.eq(res.status, 200)
    local s = limiter:stats()
    t.near(s.rpm, 1200, 1)
    t.near(s.tpm, 60000, 1)
    t.eq(s.free_tokens, 1000) -- a second's worth: less than the server has left
    server:close()
    server = start { tpm = 60000 }
    limiter = leat.limiter()
    assert(limiter:call(ask, server, chat("x", { max_tokens = 799 })))
    s = limiter:stats()
    t.eq(s.rpm, math.huge)
    t.near(s.tpm, 60000, 1)
    t.ok(s.free_tokens < 1000, s.free_tokens) -- 200 and what has come back since
    server:close()
end)

t.test("the same seed draws the same faults, another seed others", function()
    local function statuses(seed)
        local server = start { errors = 0.3, seed = seed }
        local list = {}
        for i = 1, 60 do list[i] = assert(ask(server, chat "x")).status end
        t.eq(stats(server).by_status["200"] + stats(server).by_status["500"], 60)
        server:close()
        return table.concat(list, " ")
    end
    local first = statuses(7)
    t.eq(statuses(7), first)
    t.ok(statuses(8) ~= first)
    local _, failed = first:gsub("500", "")
    t.ok(failed > 5 and failed < 35)
end)

t.test("a broken stream is cut half-way, a broken answer never comes", function()
    local server = start { broken = 1 }
    local res, err = ask(server, chat("a b c d", { stream = true }))
    t.fails("closed", res, err)
    t.eq(err.reason, "truncated")
    t.fails("closed", ask(server, chat "a b c d"))
    t.eq(stats(server).broken, 2)
    server:close()
end)

t.test("latency holds answers back side by side, and the witness counts them", function()
    local server = start { latency = 0.1 }
    local items = {}
    for i = 1, 20 do items[i] = i end
    local took, answers = t.took(leat.map, items, function(i) return ask(server, chat("item " .. i)) end,
        { limit = 20 })
    t.ok(took >= 0.1)
    for i = 1, 20 do
        t.eq(answers[i]:json().choices[1].message.content, "Answer to: item " .. i)
    end
    local s = stats(server)
    t.eq({ s.requests, s.peak_in_flight, s.in_flight }, { 20, 20, 0 })
    assert(leat.request { url = server.url .. "/mock/reset", method = "POST" })
    s = stats(server)
    t.eq({ s.requests, s.peak_in_flight, s.bytes }, { 0, 0, 0 })
    t.eq(s.by_status, {})
    server:close()
end)

t.test("a client that goes away is counted as cancelled", function()
    local server = start { latency = 60 }
    local task = leat.spawn(ask, server, chat "x")
    t.wait_until(function() return stats(server).in_flight == 1 end)
    task:cancel()
    t.wait_until(function() return stats(server).in_flight == 0 end)
    t.eq(stats(server).cancelled, 1)
    server:close()
end)

t.test("latencies: fixed, a range, and a long tail", function()
    local random = draw.generator(42)
    t.eq(draw.latency(1.5, random)(), 1.5)
    t.eq(draw.latency("1.5", random)(), 1.5)
    local range, low, high = draw.latency("0.5-2", random), 9, 0
    for _ = 1, 10000 do
        local s = range()
        low, high = math.min(low, s), math.max(high, s)
    end
    t.ok(low >= 0.5 and low < 0.51 and high <= 2 and high > 1.99)
    local tail, list = draw.latency("tail:1.5", random), {}
    for i = 1, 10001 do list[i] = tail() end
    table.sort(list)
    t.near(list[5001], 1.5, 0.05)
    t.near(list[9501], 1.5 * 3.73, 0.1)
    for _, text in ipairs { "x", "-1", "2-1", "tail:", "1-", "nan", "inf" } do
        t.eq(draw.latency(text, random), nil, text)
    end
end)

t.test("wrong options raise, and the command line names what it does not know", function()
    t.raises("did you mean 'latency'", mock.start, { latncy = 1 })
    t.raises("latency must be seconds", mock.start, { latency = "slow" })
    t.raises("errors must be a share", mock.start, { errors = 5 })
    t.raises("rpm must be over 0", mock.start, { rpm = 0 })
    t.raises("tpm must be over 0", mock.start, { tpm = -5 })
    t.raises("token_burst must be a whole number", mock.start, { tpm = 5, token_burst = 0.5 })
    local function parse(...) return cli.parse { ... } end
    t.eq(parse("--port", "0", "--latency=tail:2", "--errors", "0.05"),
        { port = 0, latency = "tail:2", errors = 0.05 })
    t.eq(parse("--tpm", "90000", "--token-burst=500"), { port = 8080, tpm = 90000, token_burst = 500 })
    for _, case in ipairs {
        { "--prt", "unknown option '--prt' (did you mean '--port'?)" }, { "--port", "--port needs a value" },
        { "--port=x", "--port takes a number" }, { "--port=70000", "from 0 to 65535" },
        { "--errors=2", "a share from 0 to 1" }, { "--latency=slow", "--latency takes seconds" },
        { "--rpm=0", "above 0" }, { "--tpm=0", "above 0" },
        { "--token-burst=1.5", "takes a number" }, { "words", "unknown option 'words'" },
        { "--burst=0", "takes a number from 1 on" }, { "--seed=x", "takes a whole number of at least 0" },
        { "--key", "--key needs a value" }, { "--help=yes", "takes no value" },
    } do
        local opts, wrong = parse(case[1])
        t.eq(opts, nil)
        t.ok(wrong:find(case[2], 1, true), wrong)
    end
end)

t.done()
