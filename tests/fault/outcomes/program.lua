-- program.lua SEED [socket]: pipelines of random options and items, over a service that fails in every way.
-- Compares what this process can see, and prints the rest as JSON, for agree.lua.
local expected = require "leat.expected"
local reasons = require "leat.reasons"

local seed, on_sockets = tonumber(arg[1]), arg[2] == "socket"

local state = seed * 2654435761 % 4294967296
local function random(n) -- 1..n, or in [0, 1)
    state = (state * 1103515245 + 12345) % 2147483648
    local r = math.floor(state / 65536) / 32768
    return n and math.floor(r * n) + 1 or r
end
random()

local function one_of(list)
    return list[random(#list)]
end

local problems = {}
local function wrong(...)
    local parts = { ... }
    for i = 1, select("#", ...) do
        parts[i] = tostring(parts[i])
    end
    problems[#problems + 1] = table.concat(parts, " ")
end

local function same(what, a, b)
    if a ~= b then
        wrong(what .. ":", a, "and", b)
    end
end

-- Seconds are short where they are real.
local function seconds(s)
    return on_sockets and s / 100 or s
end

-- ---- the service

local server = { requests = 0, by_status = {}, by_id = {}, aborted = 0, slow = 0 }

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
if on_sockets then
    HINTS = { { ["retry-after"] = "0" }, { ["retry-after-ms"] = "5" }, {} }
end

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
    function() local c = completion "odd" c.usage.total_tokens = -1 return c end,
    function() local c = completion "huge" c.usage.total_tokens = 1e300 return c end,
    function() return "<html><title>Welcome</title></html>" end,
    function() return '{"choices":[{"logprob":-Infinity}]}' end,
}

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
        return with(one_of { 400, 401, 403, 404, 404, 409, 410, 422 })
    elseif kind == 2 then
        return with(one_of { 500, 502, 503, 504, 501 }, nil, one_of(HINTS))
    elseif kind == 3 then
        return with(429, nil, one_of(HINTS))
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
        return with(503, nil, one_of(HINTS))
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

local service
if on_sockets then
    service = assert(leat.serve { handler = handler })
else
    service = assert(leat.simulate("http://service.test", handler))
end
local base = service.url or "http://service.test"

-- ---- the items

local sums = { items = 0, ok = 0, failed = 0, skipped = 0, resumed = 0, why_failed = {}, why_skipped = {} }
local unlooked, ids = {}, 0
local ai = leat.openai { base_url = base .. "/v1", api_key = "k", model = "m", retry = false }
local api = leat.client { base_url = base, expect = "2xx" }

local function new_id()
    ids = ids + 1
    return tostring(ids)
end

local function url_of(id)
    return base .. "/thing?id=" .. id
end

local KINDS = {
    get = function()
        return request(url_of(new_id()))
    end,
    post = function()
        return request { url = url_of(new_id()), method = "POST", body = "x" }
    end,
    keyed = function()
        local headers = { ["Idempotency-Key"] = new_id() }
        return request { url = url_of(new_id()), method = "POST", headers = headers }
    end,
    body = function() -- does not look
        local id = new_id()
        local res, err = request(url_of(id))
        if res then
            unlooked[#unlooked + 1] = id
            return res.body
        end
        return nil, err
    end,
    looks = function()
        local res, err = request(url_of(new_id()))
        if res then
            return res.ok and res.body or "no"
        end
        return nil, err
    end,
    expects = function()
        return request { url = url_of(new_id()), expect = one_of { "2xx", 404, { "2xx", "4xx" } } }
    end,
    client = function()
        return api:get("thing?id=" .. new_id())
    end,
    stream = function()
        return request { url = url_of(new_id()), stream = true }
    end,
    chat = function()
        return ai:chat "hello"
    end,
    streamed = function()
        local stream, err = ai:stream "hello"
        if not stream then
            return nil, err
        end
        local text = ""
        for delta in stream do
            text = text .. delta
        end
        return text
    end,
    two = function()
        local both, err = gather {
            function() return ai:chat "one" end, function() return api:get "thing" end,
        }
        return both and both.n, err
    end,
    within = function()
        return leat.retry { attempts = 2, base = seconds(0.1) }:call(request, url_of(new_id()))
    end,
    words = function(item)
        return nil, item % 2 == 0 and "even" or "row " .. item
    end,
    raises = function()
        error(leat.error { kind = "invalid", message = "bad row" })
    end,
    value = function(item)
        return item
    end,
    nothing = function()
        return nil
    end,
    nowhere = function()
        return request "http://nobody.invalid:1/"
    end,
}
if on_sockets then
    KINDS.nowhere = function()
        return request "http://127.0.0.1:1/"
    end
end
local NAMES = {}
for name in pairs(KINDS) do
    NAMES[#NAMES + 1] = name
end
table.sort(NAMES)

-- ---- a pipeline

local function grouped(errs, calls)
    local failed, skipped = reasons.new(), reasons.new()
    for index, err in pairs(errs) do
        (calls[index] and failed or skipped):add(err)
    end
    return failed, skipped
end

local function same_reasons(what, list, wanted)
    local a, b = reasons.text(list, 100), wanted:text(100)
    same(what, a, b)
end

local function add(into, list)
    for _, entry in ipairs(list) do
        into[entry.reason] = (into[entry.reason] or 0) + entry.count
    end
end

local function check_summary(stats, what)
    local text = tostring(stats)
    local head = ("%d item%s: %d ok, %d failed, %d skipped"):format(stats.items,
        stats.items == 1 and "" or "s", stats.ok, stats.failed, stats.skipped)
    if text:sub(1, #head) ~= head then
        wrong(what, "begins its summary by", text:match "[^\n]*", "and not", head)
    end
    for _, name in ipairs { "failed", "skipped" } do
        local sum = 0
        for _, entry in ipairs(stats["why_" .. name]) do
            sum = sum + entry.count
        end
        same(what .. ", reasons for " .. name, sum, stats[name])
        if stats[name] > 0 and not text:find(("\n%d %s: "):format(stats[name], name), 1, true) then
            wrong(what, "does not say in its summary why items", name)
        end
    end
end

local missed = 0

local function check_thresholds(stats)
    local called = stats.ok + stats.failed + stats.skipped
    if not stats:check { failed = stats.failed, ok = stats.ok, items = stats.items, calls = stats.calls,
        success_rate = called > 0 and stats.ok / called or nil } then
        wrong "the figures miss themselves"
    end
    if random(8) == 1 then
        missed = missed + 1
        if stats:check { failed = stats.failed - 1 } then
            wrong "one failure less was met"
        end
    end
end

local all_failed = 0

-- Each pipeline is made at a place of its own, by which the end of the program tells them apart.
local function make_at(i, opts)
    return assert(loadstring("return (leat.pipeline((...)))", "@place" .. i))(opts)
end

local function pipeline(place)
    local names = {}
    for i = 1, random(3) == 1 and 1 or random(#NAMES) do
        names[i] = one_of(NAMES)
    end
    local lines, told, journal = {}, {}, random(4) == 1 and os.tmpname() or nil
    local accept = random(3) == 1 and one_of { 404, "4xx", { 304, "5xx" },
        function(res) return res.status == 409 end } or nil
    local opts = {
        concurrency = one_of { 1, 3, 10, "adaptive" }, accept = accept,
        retry = random(3) > 1 and { attempts = random(4), base = seconds(0.2), max_retry_after = seconds(10) }
            or random(2) == 1,
        timeout = random(2) == 1 and seconds(3 + random(5)) or nil,
        deadline = random(3) == 1 and seconds(5 + random(10)) or nil,
        breaker = random(3) == 1 and { threshold = 2 + random(4), reset = seconds(5) } or nil,
        batch = random(4) == 1 and { size = 1 + random(5), interval = seconds(0.1) } or nil,
        progress = function(line) lines[#lines + 1] = line end, journal = journal,
        on_result = function(index, value, err)
            told[index] = (told[index] or 0) + 1
            if err == nil and expected.refuses(accept and expected.compile(accept, "x", "y"), value) then
                wrong("item", index, "is ok with", tostring(value))
            end
        end,
    }
    if on_sockets then
        opts.retry = random(3) > 1 and { attempts = random(4), base = 0.01, max_retry_after = 0.1 }
    end
    local pipe = make_at(place, opts)
    local total = { items = 0, ok = 0, failed = 0, skipped = 0, resumed = 0 }
    local failed_all = reasons.new()
    local ran = false
    for _ = 1, random(2) do
        local n, calls = random(25), {}
        lines, told = {}, {}
        local function call(item, index)
            calls[index] = (calls[index] or 0) + 1
            local value, err = KINDS[names[(item - 1) % #names + 1]](item)
            if journal and type(value) == "table" and value.status and not expected.refuses(
                accept and expected.compile(accept, "x", "y"), value) then
                return value.body or "streamed" -- a journal cannot hold a response
            end
            return value, err
        end
        local list = {}
        for i = 1, n do
            list[i] = i
        end
        local results, stats
        if random(3) == 1 then
            stats = pipe:each(list, call)
        else
            results, stats = pipe:run(list, call)
        end
        ran = true
        same("items", stats.items, n)
        same("their ends", stats.ok + stats.failed + stats.skipped + stats.resumed, n)
        for i = 1, n do
            same("item " .. i .. " was told", told[i], 1)
        end
        if results then
            local errs = 0
            for i = 1, n do
                errs = errs + (results.errors[i] ~= nil and 1 or 0)
            end
            same("errors", errs, stats.failed + stats.skipped)
            local failed, skipped = grouped(results.errors, calls)
            same("failed items", failed.n, stats.failed)
            same_reasons("why failed", stats.why_failed, failed)
            same_reasons("why skipped", stats.why_skipped, skipped)
        end
        check_summary(stats, "the run")
        local last = lines[#lines] or ""
        if stats.failed > 0 and not last:find(("%d failed: %s"):format(stats.failed,
            reasons.text(stats.why_failed)), 1, true) then
            wrong("the progress ends with", last, "and the summary is", tostring(stats))
        end
        local attempts = 0
        for _, c in pairs(calls) do
            attempts = attempts + c
        end
        same("calls", attempts, stats.calls)
        check_thresholds(stats)
        for _, name in ipairs { "items", "ok", "failed", "skipped", "resumed" } do
            total[name] = total[name] + stats[name]
        end
        for _, entry in ipairs(stats.why_failed) do
            failed_all:add_label(entry.reason, entry.count)
        end
    end
    for _ = 1, random(4) - 2 do -- and a call of its own now and then
        local value, err = pipe:call(KINDS[one_of(NAMES)], 1)
        local failed = value == nil and err ~= nil
        total.items = total.items + 1
        local now = pipe:stats()
        local name = not failed and "ok" or now.skipped > total.skipped and "skipped" or "failed"
        total[name] = total[name] + 1
    end
    local stats = pipe:stats()
    for name, n in pairs(total) do
        same("all " .. name, stats[name], n)
        sums[name] = sums[name] + n
    end
    check_summary(stats, "the pipeline")
    add(sums.why_failed, stats.why_failed)
    add(sums.why_skipped, stats.why_skipped)
    if ran and stats.ok + stats.resumed == 0 and stats.failed > 0 then
        all_failed = all_failed + 1
    end
    if journal then
        os.remove(journal)
    end
end

for place = 1, random(3) do
    pipeline(place)
end

-- Items of leat.each are counted alike, but are of no pipeline.
if random(2) == 1 then
    local n, seen = random(10), 0
    local counts = leat.each((function()
        local list = {}
        for i = 1, n do list[i] = i end
        return list
    end)(), function(item)
        seen = seen + 1
        return KINDS[one_of { "get", "looks", "words", "value" }](item)
    end)
    same("each", counts.ok + counts.failed, n)
    local why = 0
    for _, entry in ipairs(counts.why_failed) do
        why = why + entry.count
    end
    same("each, reasons", why, counts.failed)
end
service:close(seconds(1))

local not_ok = 0
for _, id in ipairs(unlooked) do
    local status = server.by_id[id]
    if not status then
        wrong("the service does not know", id)
    elseif status < 200 or status > 299 then
        not_ok = not_ok + 1
    end
end
local by_status = {}
for status, n in pairs(server.by_status) do
    by_status[tostring(status)] = n
end
io.write(leat.json.encode({
    problems = leat.json.array(problems), sums = sums, missed = missed, unlooked = not_ok,
    all_failed = all_failed,
    server = { requests = server.requests, by_status = leat.json.object(by_status), aborted = server.aborted,
        slow = server.slow },
}), "\n")
