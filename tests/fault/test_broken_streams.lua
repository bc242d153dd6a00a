-- What the reader of a stream sees when its server, its bytes or its own task misbehave: for each fault
-- either the test that is here, or where else it is tested.
--
-- line ends, marks, fields  unit/test_sse, test_stream (unit/sse_cases.txt); here through gzip, too.
--                           A huge `retry`: unit/test_sse, as no script sees it
-- the end within an event   test_stream; here that nothing of a broken one is left
-- a line without end        test_stream; here of a gigabyte, in the memory of its cap
-- gzip with flushes         test_stream; here event by event
-- the reader is slow        test_stream; here what unread streams hold, and the limit afterwards
-- the stream is dropped     test_stream; here by error, break and failing siblings
-- UTF-8 in pieces           test_stream for events; here lines and bytes
package.path = (arg[0]:match "^(.*/)" or "") .. "../lua/?.lua;" .. package.path
local leat = require "leat"
local t = require "harness"

local url = t.url

local stream, play = t.stream, t.play

local function active()
    return leat.stats().engine.active
end

-- What the iterator gives, and what it raises at its end.
local function collect(iterator)
    local items = {}
    local ok, err = pcall(function()
        for item in iterator do
            items[#items + 1] = item
        end
    end)
    return items, not ok and err or nil
end

local function counter(path)
    return t.stats().paths[path]
end

-- ---- size. First, while the peak of memory is still that of this test.

t.test("a gigabyte without a line's end is too large at the cap, in no more memory than that", function()
    for _, form in ipairs { "lines", "events" } do
        t.stats_reset()
        local before = leat.stats().memory_bytes
        local res = stream "/long-line?mb=1024"
        local items, err = collect(res[form](res, { max_bytes = 65536 }))
        t.eq({ #items, err.kind, err.retryable, res.complete }, { 0, "too_large", false, false })
        local grown = leat.stats().memory_peak_bytes - before
        t.ok(grown < 2 ^ 20, form .. ": peak of " .. grown .. " bytes over the start")
        t.eq(active(), 0)
        t.wait_until(function() return counter("/long-line").aborted == 1 end)
        t.ok(counter("/long-line").bytes_sent < 64 * 2 ^ 20, "the server was stopped")
    end
end)

t.test("streams that nobody reads hold little each, however fast the server is", function()
    local n, open = 40, {}
    local before = leat.stats().memory_bytes
    for i = 1, n do
        open[i] = stream(i % 2 == 0 and "/endless" or "/gzip-bomb?mb=20")
    end
    local last
    t.wait_until(function() -- until all of them have stopped reading
        local sent = counter("/endless").bytes_sent + counter("/gzip-bomb").bytes_sent
        local same = sent == last
        last = sent
        sleep(0.05)
        return same
    end)
    local held = leat.stats().memory_bytes - before
    t.ok(held < n * 2 ^ 20, held / n .. " bytes a stream")
    for i = 1, n do
        open[i]:close()
    end
    t.eq(active(), 0)
end)

-- ---- events

-- Every kind of line end, a mark at the start, several fields, and what is to be ignored.
local SAMPLE = "\239\187\191data: one\r\n\r\nevent: e\rdata:two\rdata\rdata:  three\r\rid: 7\n: a comment\n"
    .. "unknown: x\ndata: \228\189\160\nretry: 10x\n\nid: a\0b\r\ndata\r\n\r\n"
    .. "\239\187\191data: no\n\ndata: four\n\n"
local EVENTS = {
    { event = "message", data = "one" }, { event = "e", data = "two\n\n three" },
    { event = "message", data = "\228\189\160", id = "7" }, { event = "message", data = "", id = "7" },
    { event = "message", data = "four", id = "7" },
}

t.test("events are the same wherever the pieces are cut, however they are framed and packed", function()
    local jobs = {}
    for split = 1, #SAMPLE do
        for _, how in ipairs {
            "framing=chunked", "framing=length", "framing=none", "encoding=gzip",
            "encoding=gzip&framing=none",
        } do
            jobs[#jobs + 1] = ("%s&split=%d"):format(how, split)
        end
    end
    local sum = leat.each(jobs, function(query)
        local events, err = collect(play(SAMPLE, query):events())
        t.eq(err, nil, query)
        t.eq(events, EVENTS, query)
        return true
    end, { limit = 20 })
    t.eq({ sum.ok, sum.failed }, { #jobs, 0 })
end)

t.test("events before a break are delivered, the broken one is not, wherever it breaks", function()
    local whole = "data: 1\n\nid: 2\ndata: 2\n\n"
    local part = "event: e\ndata: 3\n"
    for _, ending in ipairs { "close", "reset" } do
        for _, framing in ipairs { "chunked", "length" } do
            for cut = 0, #part do
                local res = play(whole .. part:sub(1, cut),
                    ("end=%s&framing=%s&after=5"):format(ending, framing))
                local events, err = collect(res:events())
                t.eq(events,
                    { { event = "message", data = "1" }, { event = "message", data = "2", id = "2" } })
                t.eq({ err.kind, err.retryable, res.complete }, { "closed", true, false })
                t.eq(err.reason, ending == "close" and "truncated" or "reset")
                t.eq(active(), 0)
            end
        end
    end
end)

t.test("an event that no blank line ended is set apart at the end of the stream", function()
    local res = play "id: 1\ndata: 1\n\nevent: e\ndata: half"
    local events, err = collect(res:events())
    t.eq({ #events, err }, { 1 })
    t.eq({ res.complete, res.incomplete }, { true, { event = "e", data = "half", id = "1" } })
    res = play "data: 1\n\n: a comment"
    t.eq(#collect(res:events()), 1)
    t.eq(res.incomplete, nil)
end)

t.test("a packed event is there as soon as it is flushed, before the next one is sent", function()
    for n = 1, 5 do
        local res = play(("data: x\n\n"):rep(n), "split=9&encoding=gzip&end=hang")
        for _ = 1, n do
            t.eq(res:next_event().data, "x")
        end
        res:close()
    end
end)

-- ---- the reader's pace

t.test("no silence is counted while the reader pauses; the server's own is", function()
    local body = ("x"):rep(400000)
    local res = stream("/play?end=hang&type=text/plain", { body = body, timeout = { idle = 0.5 } })
    local size = #res:read()
    sleep(0.8)
    local err
    repeat
        local bytes
        bytes, err = res:read()
        size = size + #(bytes or "")
    until not bytes
    t.eq(size, #body)
    t.eq({ err.kind, err.phase, err.retryable }, { "timeout", "idle", true })
end)

t.test("a stream that the reader reads in bursts loses no byte", function()
    local res = stream "/pattern?bytes=2000000&seed=5"
    local parts, n = {}, 0
    for bytes in res:chunks() do
        n = n + 1
        parts[n] = bytes
        if n % 8 == 0 then
            sleep(0.001)
        end
    end
    t.eq(leat.sha256(table.concat(parts)), res.headers["x-sha256"])
end)

-- ---- dropped streams

-- fn() opens one stream of /endless and lets go of it: then its place is free at once, and the server sees
-- the connection close.
local function dropped(fn)
    t.stats_reset()
    fn()
    t.eq(active(), 0)
    t.wait_until(function() return counter("/endless").aborted == 1 end)
    t.eq(counter("/endless").in_flight, 0)
end

t.test("a task that fails in the middle of a stream drops it", function()
    dropped(function()
        local task = spawn(function()
            for _ in stream("/endless"):events() do
                error "a bug"
            end
        end)
        t.raises("a bug", task.await, task)
    end)
end)

t.test("a break drops the stream with its task, or when the collector finds it", function()
    dropped(function()
        spawn(function()
            for _ in stream("/endless"):events() do -- luacheck: ignore 512
                break
            end
        end):await()
    end)
    t.stats_reset()
    for _ in stream("/endless"):events() do -- luacheck: ignore 512
        break
    end
    t.wait_until(function()
        collectgarbage()
        return active() == 0
    end)
    t.wait_until(function() return counter("/endless").aborted == 1 end)
end)

t.test("a stream is dropped by a failing sibling, by a limit around it and by a cancel", function()
    local function read()
        for _ in stream("/endless"):events() do
            sleep(0)
        end
    end
    local function started()
        t.wait_until(function()
            local seen = counter "/endless"
            return seen and seen.in_flight == 1
        end)
    end
    dropped(function()
        t.fails("connect", gather { read, function()
            started()
            return request(t.refused_url .. "/")
        end })
    end)
    dropped(function() t.fails("timeout", wait_for(0.5, read)) end)
    dropped(function()
        local task = spawn(read)
        started()
        task:cancel()
        t.fails("cancelled", task:await())
    end)
end)

t.test("a stream is dropped while its head is awaited", function()
    t.stats_reset()
    local task = spawn(stream, "/never")
    t.wait_until(function()
        local seen = counter "/never"
        return seen and seen.in_flight == 1
    end)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(active(), 0)
    t.wait_until(function() return counter("/never").aborted == 1 end)
end)

t.test("a place that a dropped stream held is free for the next request", function()
    local api = assert(leat.client { base_url = url, max_per_host = 1 })
    for _ = 1, 20 do
        local res = assert(api:get("/endless", { stream = true }))
        local waiting = spawn(function() return api:get "/ok" end)
        t.wait_until(function() return leat.stats().engine.queued == 1 end)
        res:close()
        t.eq(assert(waiting:await()).body, "ok\n")
    end
end)

-- ---- UTF-8

t.test("UTF-8 that is cut between two pieces arrives intact in lines and in bytes", function()
    local text = "\195\188\226\130\172\240\159\152\128"
    for _, how in ipairs { "", "&encoding=gzip" } do
        for split = 1, 9 do
            local query = ("split=%d%s&type=text/plain"):format(split, how)
            t.eq((collect(play((text .. "\n"):rep(20), query):lines()))[20], text)
            t.eq(table.concat((collect(play(text:rep(20), query):chunks()))), text:rep(20))
            t.eq(play(text, query):read(#text), text)
            local record = json.decode(collect(play(json.encode { text = text } .. "\n", query):lines())[1])
            t.eq(record.text, text)
        end
    end
end)

t.done()
