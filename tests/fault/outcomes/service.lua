-- A service that fails in every way, by random numbers, and counts what it does.
local M = {}

-- random(n): 1 to n; random(): in [0, 1). By seed.
function M.generator(seed)
    local state = seed * 2654435761 % 4294967296
    local function random(n)
        state = (state * 1103515245 + 12345) % 2147483648
        local r = math.floor(state / 65536) / 32768
        return n and math.floor(r * n) + 1 or r
    end
    random()
    return random
end

local function completion(content, reason)
    return { id = "c", object = "chat.completion", model = "m", choices = { { index = 0,
        message = { role = "assistant", content = content }, finish_reason = reason or "stop" } },
        usage = { prompt_tokens = 3, completion_tokens = 2, total_tokens = 5 } }
end

local ODD_HEADERS = {
    { ["x-ratelimit-limit-requests"] = "20", ["x-ratelimit-remaining-requests"] = "19",
        ["x-ratelimit-reset-requests"] = "1s" },
    { ["x-ratelimit-remaining-requests"] = "5", ["x-ratelimit-reset-requests"] = "6ms" },
    { ["x-request-id"] = "r" }, {}, {}, {},
}

local HINTS = {
    { ["retry-after"] = "0" }, { ["retry-after"] = "Thu, 01 Jan 1970 00:00:00 GMT" },
    { ["retry-after"] = "1" }, { ["retry-after-ms"] = "20" },
    { ["retry-after"] = "1m30s" }, { ["retry-after"] = "100000" }, {}, {}, {},
}
local SHORT_HINTS = { { ["retry-after"] = "0" }, { ["retry-after-ms"] = "5" }, {} }

local WORDS = {
    '{"error":{"message":"no such thing","type":"invalid_request_error"}}', '{"message":"no"}',
    '{"detail":[{"loc":["body"],"msg":"field required"}]}', '[{"error":{"message":"listed"}}]',
    '{"error":"as text"}', "plain words", "<html><head><title>Bad gateway</title></head></html>", "",
    '{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}',
    'data: {"error":{"message":"framed"}}\n\n',
}

local CHATS = {
    function() return completion "fine" end,
    function() return completion "fine" end,
    function() return completion "fine" end,
    function() return { choices = leat.json.null } end,
    function() return { choices = leat.json.array {} } end,
    function() return { error = { message = "overloaded", code = 503 } } end,
    function() return completion("cut", "error") end,
    function() return "<html><title>Welcome</title></html>" end,
    function() return '{"choices":[{"logprob":-Infinity}]}' end,
    function() local c = completion "odd" c.usage.total_tokens = -1 return c end,
    function() local c = completion "huge" c.usage.total_tokens = 1e300 return c end,
}

-- The handler, and its counters. opts: on_sockets (times are short), mild (it refuses no account).
function M.new(random, opts)
    local server = { requests = 0, by_status = {}, by_id = {}, aborted = 0, slow = 0 }
    local hints = opts.on_sockets and SHORT_HINTS or HINTS

    local function one_of(list)
        return list[random(#list)]
    end

    local function seconds(s)
        return opts.on_sockets and s / 100 or s
    end

    local function streamed(req)
        local out, err = req:respond { headers = { ["Content-Type"] = "text/event-stream" } }
        if not out then
            return nil, err
        end
        local kind = random(6)
        local noise = one_of { "data:\n\n", ": ping\n\n", "event: ping\ndata: keep\n\n", "" }
        out:write(noise .. 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
        if kind == 1 then
            return out:abort()
        elseif kind == 2 then
            return out:close() -- neither [DONE] nor a finish_reason
        elseif kind == 3 then
            out:write 'data: {"error":{"message":"in the midst","code":500}}\n\n'
            return out:close()
        end
        out:write('data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n' .. noise
            .. one_of { "data: [DONE]\n\n", "data:  [DONE] \n\n", "" })
        return out:close()
    end

    local function drawn_answer(req)
        local kind = random(24)
        local headers = {}
        for name, value in pairs(one_of(ODD_HEADERS)) do
            headers[name] = value
        end
        local function with(status, body, more)
            for name, value in pairs(more or {}) do
                headers[name] = value
            end
            return { status = status, headers = headers, body = body or one_of(WORDS) }
        end
        if kind == 1 then
            return with(one_of(opts.mild and { 400, 404, 409, 410, 422 }
                or { 400, 401, 403, 404, 404, 409, 410, 422 }))
        elseif kind == 2 then
            return with(one_of { 500, 502, 503, 504, 501 }, nil, one_of(hints))
        elseif kind == 3 then
            return with(429, nil, one_of(hints))
        elseif kind == 4 then
            return with(408)
        elseif kind == 5 and req.method ~= "POST" then
            local id = req.query.id or "?"
            return with(302, "", { location = one_of { "/else?id=" .. id, "?id=" .. id .. "&again=1" } })
        elseif kind == 6 then
            return with(one_of { 204, 304 }, "")
        elseif kind == 7 then
            server.slow = server.slow + 1
            sleep(seconds(20))
        elseif kind == 8 then
            server.aborted = server.aborted + 1
            return nil, "abort"
        elseif kind <= 10 then
            return with(503, nil, one_of(hints))
        end
        if req.path:find "^/v1" then
            local said = req.body:find '"stream":true' and "stream" or one_of(CHATS)()
            if said == "stream" then
                return "stream"
            end
            return { status = 200, headers = headers, json = type(said) == "table" and said or nil,
                body = type(said) == "string" and said or nil }
        end
        return with(200, '{"fine":true}')
    end

    local function handler(req)
        server.requests = server.requests + 1
        sleep(seconds(random() * 0.5))
        local answer, why = drawn_answer(req)
        if answer == nil and why == "abort" then
            return req:abort()
        end
        local status = answer == "stream" and 200 or answer.status
        server.by_status[status] = (server.by_status[status] or 0) + 1
        if req.query.id then
            server.by_id[req.query.id] = status
        end
        return answer == "stream" and streamed(req) or answer
    end

    return handler, server
end

-- The counters as JSON can hold them.
function M.counted(server)
    local by_status = {}
    for status, n in pairs(server.by_status) do
        by_status[tostring(status)] = n
    end
    return { requests = server.requests, by_status = leat.json.object(by_status), aborted = server.aborted,
        slow = server.slow }
end

return M
