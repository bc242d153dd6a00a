-- Responses read as they come: bytes, lines and events, their ends, backpressure, and who owns a stream.
local leat = require "leat"
local t = require "harness"

local url = t.url

local stream, play = t.stream, t.play

local function collect(iterator, limit)
    local items = {}
    local ok, err = pcall(function()
        for item in iterator do
            items[#items + 1] = item
            if #items == limit then
                return
            end
        end
    end)
    return items, not ok and err or nil
end

local function active()
    return leat.stats().engine.active
end

-- ---- what is read

t.test("a stream is returned with its head, and its body is read as it comes", function()
    local res = play("abcdef", "split=2&gap=5&type=text/plain")
    t.eq(res.status, 200)
    t.eq(res.ok, true)
    t.eq(res.headers["content-type"], "text/plain")
    t.eq(res.body, nil)
    t.eq(res:read(2), "ab")
    t.eq(res:read(3), "cde")
    t.eq(res:read(10), "f")
    t.eq({ res:read() }, {})
    t.eq({ res:read(5) }, {})
    t.eq(res.complete, true)
    t.ok(res.timing.total > 0)
    t.ok(tostring(res):find "^response 200 OK, streamed", tostring(res))
    res = play("ab", "end=hang")
    t.eq(res:read(2), "ab")
    t.eq(res.complete, nil)
    res:close()
end)

t.test("read(n) gives n bytes, be they more than the window", function()
    local res = stream "/pattern?bytes=2000000&seed=3"
    local sum = 0
    for _, n in ipairs { 1, 1, 70000, 500000, 64 * 1024, 1000000 } do
        local bytes = res:read(n)
        t.eq(#bytes, n)
        sum = sum + n
    end
    t.eq(#res:read(2000000), 2000000 - sum)
    t.eq(res:read(), nil)
end)

local function unescape(text)
    return (text:gsub("\\(.)(%x?%x?)", function(c, hex)
        if c == "x" then
            return string.char(tonumber(hex, 16))
        end
        return (({ n = "\n", r = "\r", t = "\t", ["0"] = "\0" })[c] or c) .. hex
    end))
end

local function sse_cases()
    local cases = {}
    for line in io.lines((arg[0]:match "^(.*)lua/[^/]*$" or "tests/") .. "unit/sse_cases.txt") do
        local mark, text = line:sub(1, 1), line:sub(3)
        if mark == "=" then
            cases[#cases + 1] = { name = text, events = {} }
        elseif mark == "<" then
            cases[#cases].bytes = unescape(text)
        elseif mark == ">" then
            table.insert(cases[#cases].events, unescape(text))
        elseif mark == "?" then
            cases[#cases].incomplete = unescape(text)
        end
    end
    return cases
end

local function show(event)
    return event.event .. "|" .. event.data .. "|" .. (event.id or "")
end

t.test("every case of server-sent events through a socket, whole and in pieces", function()
    local cases = sse_cases()
    t.ok(#cases > 60)
    leat.each(cases, function(case)
        for _, split in ipairs { 1, 2, 3, 7, 100000 } do
            for _, framing in ipairs { "chunked", "none" } do
                local res = play(case.bytes, ("split=%d&framing=%s"):format(split, framing))
                local events, err = collect(res:events())
                t.eq(err, nil, case.name)
                for i, event in ipairs(events) do
                    events[i] = show(event)
                end
                t.eq(events, case.events, case.name .. " in pieces of " .. split)
                t.eq(res.incomplete and show(res.incomplete), case.incomplete, case.name)
                t.eq(res.complete, framing == "none" and "unknown" or true, case.name)
            end
        end
        return true
    end, { limit = 20 })
end)

t.test("lines end with LF or CRLF, in whatever pieces they come", function()
    local cases = {
        { "a\nb\r\nc", { "a", "b", "c" } },
        { "\n\r\n\n", { "", "", "" } },
        { "a\rb\n", { "a\rb" } },
        { '{"n":1}\n{"n":2}\n', { '{"n":1}', '{"n":2}' } },
        { "\228\189\160\n\195\188", { "\228\189\160", "\195\188" } },
        { "", {} },
    }
    for _, case in ipairs(cases) do
        for split = 1, 5 do
            t.eq((collect(play(case[1], "split=" .. split):lines())), case[2])
        end
    end
end)

t.test("next_event gives nil at the end and nil, err for a break", function()
    local res = play "data: 1\n\n"
    t.eq(res:next_event().data, "1")
    t.eq({ res:next_event() }, {})
    t.eq({ res:next_event() }, {})
    res = play("data: 1\n\ndata: 2", "end=reset")
    t.eq(res:next_event().data, "1")
    local err = t.fails("closed", res:next_event())
    t.eq(err.reason, "truncated" == err.reason and "truncated" or "reset")
    t.fails("closed", res:next_event())
    t.eq(res.complete, false)
end)

t.test("a gzip'd stream is delivered flush by flush", function()
    local res = play("data: one\n\ndata: two\n\n", "split=11&encoding=gzip&end=hang")
    t.eq(res:next_event().data, "one")
    t.eq(res:next_event().data, "two")
    res:close()
    res = play(("data: x\n\n"):rep(5000), "split=90&encoding=gzip")
    t.eq(#collect(res:events()), 5000)
    t.eq(res.complete, true)
end)

t.test("UTF-8 that is cut between two pieces arrives intact", function()
    local text = ("\228\189\160\229\165\189"):rep(50)
    for split = 1, 7 do
        t.eq(play("data: " .. text .. "\n\n", "split=" .. split):next_event().data, text)
    end
end)

t.test("HEAD and 204 are streams that end at once", function()
    local res = assert(request { url = url .. "/text", method = "HEAD", stream = true })
    t.eq(res:read(), nil)
    t.eq(res.complete, true)
    res = stream "/status?code=204"
    t.eq(res:read(), nil)
end)

t.test("a redirect is followed before the stream begins", function()
    local res = stream "/redirect?to=/text?lines=2"
    t.eq(#collect(res:lines()), 2)
    t.ok(res.url:find "/text%?lines=2$")
end)

t.test("a status that is no success is a stream like any other", function()
    local res = play("data: no\n\n", "status=500")
    t.eq(res.status, 500)
    t.eq(res:next_event().data, "no")
end)

t.test("trailers are there at the end", function()
    local res = stream "/trailers"
    while res:read() do end -- luacheck: ignore 542
    t.eq(res.trailers["X-Sum"], "42")
end)

t.test("an error event inside a 200 is an event, and the stream ends as it ends", function()
    local events, err = collect(stream("/sse-error"):events())
    t.eq(err, nil)
    t.eq(events[3].event, "error")
    t.eq(json.decode(events[3].data).error.type, "server_error")
end)

-- ---- how streams break

t.test("iterators raise on a broken stream, with what came before delivered", function()
    for _, case in ipairs {
        { "end=close", "truncated" }, { "end=close&framing=length", "truncated" }, { "end=reset", nil },
        { "end=reset&framing=length", nil },
    } do
        local events, err = collect(play("data: 1\n\ndata: 2\n\ndata: 3", case[1]):events())
        t.eq(#events, 2, case[1])
        t.eq(err.kind, "closed", case[1])
        t.ok(not case[2] or err.reason == case[2], err.reason)
        t.eq(err.retryable, true)
        local lines
        lines, err = collect(play("1\n2\n3", case[1]):lines())
        t.eq(lines, { "1", "2" }, "half a line is none")
        t.eq(err.kind, "closed")
    end
end)

t.test("the end of a gzip'd stream that is cut off is an error", function()
    local events, err = collect(play("data: 1\n\n", "encoding=gzip&end=close"):events())
    t.eq(#events, 1)
    t.eq(err.kind, "closed")
    local lines
    lines, err = collect(stream("/gzip-cut?lines=1000"):lines())
    t.ok(#lines > 0 and #lines < 1000)
    t.eq({ err.kind, err.reason }, { "protocol", "decode" })
    err = select(2, collect(stream("/gzip-badcrc"):chunks()))
    t.eq({ err.kind, err.reason }, { "protocol", "decode" })
end)

t.test("a stalled stream is a timeout of its idle limit; a plain timeout sets it", function()
    local res = play("data: 1\n\n", "end=hang")
    res:close()
    for _, timeout in ipairs { { idle = 0.5 }, 0.5 } do
        res = stream("/play?end=hang", { body = "data: 1\n\n", timeout = timeout })
        t.eq(res:next_event().data, "1")
        local err = t.fails("timeout", res:next_event())
        t.eq(err.phase, "idle")
        t.near(err.limit, 0.5, 0.01)
    end
    local _, err = request { url = url .. "/never", stream = true, timeout = 0.1 }
    t.eq({ err.kind, err.phase }, { "timeout", "first_byte" })
    _, err = request { url = url .. "/slow-head?ms=3000", stream = true, timeout = 0.2 }
    t.eq({ err.kind, err.phase }, { "timeout", "first_byte" })
end)

t.test("a plain timeout does not end a stream that goes on", function()
    local res = stream("/tokens?n=12&ms=100", { timeout = 1 })
    t.eq(#collect(res:events()), 13)
end)

t.test("total ends a stream that goes on", function()
    local res = stream("/tokens?n=1000&ms=20", { timeout = { total = 1 } })
    local events, err = collect(res:events())
    t.ok(#events > 0)
    t.eq({ err.kind, err.phase }, { "timeout", "total" })
end)

t.test("while the reader takes its time no idle limit fires", function()
    local res = stream("/pattern?bytes=3000000&seed=1", { timeout = { idle = 0.5 } })
    local size = #res:read()
    sleep(0.8)
    for bytes in res:chunks() do
        size = size + #bytes
    end
    t.eq(size, 3000000)
end)

t.test("lines and events have caps", function()
    local before = leat.stats().memory_bytes
    local events
    local err = select(2, collect(stream("/long-line?mb=64"):lines()))
    t.eq(err.kind, "too_large")
    err = select(2, collect(stream("/long-line?mb=64"):events()))
    t.eq(err.kind, "too_large")
    local res = play("data: 12345\n\ndata: 123456789\n\n")
    events, err = collect(res:events { max_bytes = 14 })
    t.eq(#events, 1)
    t.eq(err.kind, "too_large")
    t.eq(res.complete, false)
    collectgarbage()
    t.ok(leat.stats().memory_bytes - before < 4e6)
end)

t.test("max_body holds for a stream where it is set, and a bomb is stopped where it is not", function()
    local _, err = collect(stream("/pattern?bytes=100000&seed=1", { max_body = 50000 }):chunks())
    t.eq(err.kind, "too_large")
    _, err = collect(stream("/gzip?lines=100000", { max_body = 50000 }):chunks())
    t.eq(err.kind, "too_large")
    local size = 0
    local ok
    ok, err = pcall(function()
        for bytes in stream("/gzip-bomb?mb=100"):chunks() do
            t.ok(#bytes < 2e6, #bytes)
            size = size + #bytes
        end
    end)
    t.eq(ok, false)
    t.eq({ err.kind, err.reason }, { "too_large", "ratio" })
    t.ok(size < 40e6, size)
end)

-- ---- backpressure

t.test("an unread stream stops reading its socket", function()
    t.stats_reset()
    local res = stream "/endless?type=text/plain"
    local function sent()
        return t.stats().paths["/endless"].bytes_sent
    end
    local last
    t.wait_until(function() -- until the kernel's buffers are full
        local now = sent()
        local same = now == last
        last = now
        sleep(0.05)
        return same
    end)
    local held = leat.stats().memory_bytes
    t.wait_until(function()
        res:read()
        return sent() > last
    end)
    t.ok(leat.stats().memory_bytes - held < 1e6)
    res:close()
end)

t.test("a slow reader loses nothing", function()
    local res = stream "/gzip?lines=20000"
    local n = 0
    for line in res:lines() do
        n = n + 1
        if n % 500 == 0 then
            sleep(0.002)
        end
        t.eq(line, ("this is line %06d"):format(n))
    end
    t.eq(n, 20000)
end)

-- What /pattern sends: a block of 4093 bytes, over and over (tests/server/faultd_stream.c).
local function pattern(seed)
    local x, block = seed % 2147483646 + 1, {}
    for i = 1, 4093 do
        x = x * 16807 % 2147483647
        block[i] = string.char(x % 256)
    end
    return table.concat(block):rep(2)
end

t.test("200 streams of 1 MB merged with a slow reader: every byte is right, in little memory", function()
    local bytes, n = 1024 * 1024, 200
    local seeds, expected, sizes, taken = {}, {}, {}, 0
    for i = 1, n do
        seeds[i], sizes[i] = i, 0
    end
    local function open(seed)
        return request { url = ("%s/pattern?bytes=%d&seed=%d"):format(url, bytes, seed), stream = true }
    end
    local first = pattern(1)
    t.eq(leat.sha256(first:sub(1, 4093):rep(257):sub(1, bytes)),
        assert(request(("%s/pattern?bytes=%d&seed=1"):format(url, bytes))).headers["x-sha256"])
    for chunk, seed in leat.merge(seeds, open, { limit = n }) do
        expected[seed] = expected[seed] or pattern(seed)
        for at = 1, #chunk, 4093 do
            local piece = chunk:sub(at, at + 4092)
            local from = sizes[seed] % 4093
            if piece ~= expected[seed]:sub(from + 1, from + #piece) then
                t.ok(false, ("stream %d differs after byte %d"):format(seed, sizes[seed]))
            end
            sizes[seed] = sizes[seed] + #piece
        end
        taken = taken + 1
        if taken % 20 == 0 then
            sleep(0.001)
        end
    end
    for seed = 1, n do
        t.eq(sizes[seed], bytes)
    end
    t.ok(leat.stats().memory_peak_bytes < 64e6, leat.stats().memory_peak_bytes)
    print(("# peak %.1f MB"):format(leat.stats().memory_peak_bytes / 1e6))
end)

-- ---- ends

t.test("close frees the place at once and the server sees it", function()
    t.stats_reset()
    local res = stream "/endless"
    t.eq(active(), 1)
    res:close()
    t.eq(active(), 0)
    t.wait_until(function() return t.stats().paths["/endless"].aborted == 1 end)
    t.raises("stream: it is closed", res.read, res)
    t.eq(res.complete, false)
    res:close()
end)

t.test("a task that ends closes the streams it read", function()
    local res
    spawn(function()
        res = stream "/endless"
        res:read()
    end):await()
    t.eq(active(), 0)
    t.raises("stream: it is closed", res.read, res)
end)

t.test("a stream that is returned passes to the awaiter, and is closed with it", function()
    local kept
    spawn(function()
        local res = spawn(stream, "/endless"):await()
        t.ok(#res:read() > 0)
        local function open()
            return stream "/endless"
        end
        local list = gather { open, open }
        t.ok(#list[1]:read() > 0 and #list[2]:read() > 0)
        local boxed = spawn(function() return { inner = stream "/endless" } end):await()
        t.ok(#boxed.inner:read() > 0)
        local waited = wait_for(5, stream, "/endless")
        t.ok(#waited:read() > 0)
        t.eq(active(), 5)
        kept = { res, list, boxed, waited }
    end):await()
    t.eq(active(), 0)
    t.ok(kept)
end)

t.test("the task that reads a stream last owns it", function()
    local res = stream "/endless"
    spawn(function() res:read() end):await()
    t.eq(active(), 0)
    local task = spawn(function()
        local mine = stream "/endless"
        spawn(function() return 1 end):await()
        return mine
    end)
    res = task:await()
    t.ok(#res:read() > 0)
    res:close()
end)

t.test("the collector closes a stream that nobody holds", function()
    stream "/endless"
    t.wait_until(function()
        collectgarbage()
        return active() == 0
    end)
end)

t.test("a cancel while it is read closes it, and loses no byte that was not taken", function()
    local res = play("data: 1\n\n", "end=hang")
    local reader = spawn(function()
        return wait_for(0.05, function()
            res:next_event()
            return res:next_event()
        end)
    end)
    local v, err = reader:await()
    t.eq(v, nil)
    t.eq(err.kind, "timeout")
    t.eq(active(), 0)
end)

t.test("two tasks cannot read one stream", function()
    local res = stream "/play?end=hang"
    local other = spawn(function() return (res:read()) end)
    sleep(0)
    t.raises("two tasks cannot read one stream", res.read, res)
    other:cancel()
    other:await()
    res:close()
end)

t.test("closing a stream that another task reads ends its wait", function()
    local res = stream "/play?end=hang"
    local other = spawn(function() return res:read() end)
    sleep(0)
    res:close()
    t.fails("closed", other:await())
end)

t.test("the forms that cannot leak close the stream however they end", function()
    local n = 0
    t.eq(stream("/endless?type=text/event-stream"):each_chunk(function() n = n + 1 return n < 3 end), true)
    t.eq({ n, active() }, { 3, 0 })
    t.eq(play("data: 1\n\ndata: 2\n\n"):each_event(function(event) return event.data ~= "1" end), true)
    t.eq(active(), 0)
    t.fails("closed", play("1\n2\n", "end=close"):each_line(function() end))
    t.raises("a bug", function()
        play("1\n2\n", "end=hang"):each_line(function() error "a bug" end)
    end)
    t.eq(active(), 0)
end)

-- ---- wrong use

t.test("wrong use says what to do", function()
    local plain = assert(request(url .. "/ok"))
    t.raises("read: call it with a colon on a response that was asked for with stream=true", plain.read,
        plain)
    local res = play "data: 1\n\n"
    t.raises("json: the body of this response is read as a stream", res.json, res)
    t.raises("read: the number of bytes", res.read, res, 0)
    t.raises("events: unknown option 'max'", res.events, res, { max = 1 })
    res:events()()
    t.raises("stream: it is read by events() already", res.read, res)
    t.raises("stream: it is read by events() already", res.lines, res)
    t.raises("each_event: the first argument must be a function, got nil", res.each_event, res)
    res:close()
    t.raises("request: option 'stream' must be a boolean, got 'yes'", request, { url = url, stream = "yes" })
    t.raises("client: unknown option 'stream'", leat.client, { stream = true })
end)

-- ---- merge of streams

t.test("merged streams: the ones that break do not disturb the others", function()
    local queries = { "", "end=close", "", "end=reset", "" }
    local body = "data: a\n\ndata: b\n\n"
    local told, got = {}, {}
    local function open(query)
        return request { url = url .. "/play?gap=5&split=9&" .. query, body = body, stream = true }
    end
    for event, i in leat.merge(queries, open, { on_error = function(err, i) told[i] = err.kind end }) do
        got[i] = (got[i] or "") .. event.data
    end
    t.eq(got, { "ab", "ab", "ab", "ab", "ab" })
    t.eq(told, { [2] = "closed", [4] = "closed" })
end)

t.test("merge reads a stream by its content-type, and close closes all of them", function()
    local m = leat.merge {
        events = play "data: e\n\n",
        lines = play("1\n2\n", "type=application/x-ndjson"),
        bytes = play("xyz", "type=text/plain"),
    }
    local got = {}
    for item, key in m do
        got[#got + 1] = key .. ":" .. (type(item) == "table" and item.data or item)
    end
    table.sort(got)
    t.eq(got, { "bytes:xyz", "events:e", "lines:1", "lines:2" })
    m = leat.merge { stream "/endless", stream "/endless", stream "/endless" }
    m()
    t.eq(active(), 3)
    m:close()
    t.eq(active(), 0)
end)

t.done()
