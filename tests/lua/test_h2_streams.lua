-- Streams of server-sent events over HTTP/2: many share a few connections. Those that nobody reads hold back
-- themselves alone, and keep no more than their windows.
--
--   LEAT_FULL=1 tests/with_h2.sh build/leat tests/lua/test_h2_streams.lua
--
-- reads 1,000 streams, of which a third is left unread for 5 s. It prints the gaps between the events of the
-- others, without the unread ones and with them. It needs a machine that has nothing else to do.
local leat = require "leat"
local t = require "harness"

local env = os.getenv
local FULL = env "LEAT_FULL" ~= nil
local STREAMS, EVENTS, GAP_MS = 120, 20, 10
if FULL then
    STREAMS, EVENTS, GAP_MS = 1000, 26, 200
end
local SLOW = math.floor(STREAMS / 3)
local MOST_CONNECTIONS = FULL and 10 or 2 -- with 100 streams on each, as servers allow
local WINDOW = 64 * 1024
-- A stream that nobody reads keeps a window for its reader, and one that came meanwhile; and its own state.
local LEAST, MOST = WINDOW, 2 * WINDOW + 16 * 1024
-- A connection keeps its own state, TLS's, and what was read ahead.
local CONNECTION = 64 * 1024

local chunk = 'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"%s",'
    .. '"choices":[{"index":0,"delta":{%s},"finish_reason":%s}]}\n\n'

-- The text of n events with contents of at least `size` bytes.
local function chunks_of(model, word, last)
    return function(n, size)
        local parts = {}
        for i = 1, n do
            local content = word:format(i)
            content = content .. ("x"):rep(size - #content)
            parts[i] = chunk:format(model, ('"content":"%s"'):format(content), "null")
        end
        return table.concat(parts) .. last .. "data: [DONE]\n\n"
    end
end

local function of_file()
    local parts = {}
    for i = 1, 3472 do
        parts[i] = ('data: {"n":%04d,"pad":"%s"}\n\n'):format(i, ("."):rep(48))
    end
    return table.concat(parts)
end

local query = "?n=%d&ms=%d&size=%d"
local servers = {
    { name = "h2d", url = env "H2_TLS_URL" .. "/stream" .. query,
        text = chunks_of("h2d", "word%d ", chunk:format("h2d", "", '"stop"')) },
    { name = "h2d, prior knowledge", url = env "H2_PLAIN_URL" .. "/stream" .. query, version = "2-prior",
        text = chunks_of("h2d", "word%d ", chunk:format("h2d", "", '"stop"')) },
}
if env "H2_NGINX_URL" then
    servers[#servers + 1] = { name = "nginx", url = env "H2_NGINX_URL" .. "/events/tokens" .. query,
        text = chunks_of("mock", "tok %d ", "") }
end
if env "H2_NGHTTPD_URL" then
    servers[#servers + 1] = { name = "nghttpd", url = env "H2_NGHTTPD_URL" .. "/events", text = of_file }
end

local numbers = t.numbers

local function open(server, n, ms, size)
    local res = assert(request { url = server.url:format(n, ms, size), stream = true, ca_file = env "H2_CA",
        http_version = server.version })
    t.eq({ res.status, res.version }, { 200, "2" })
    return res
end

-- What the buffers hold.
local function buffered()
    local stats = leat.stats()
    return stats.memory_bytes - stats.lua_bytes
end

-- Reads so many streams at once, and compares every event. Returns the median of the times between two.
local function read_all(server, count)
    local gaps, want = {}, {}
    for data in server.text(EVENTS, 0):gmatch "data: ([^\n]*)" do
        want[#want + 1] = data
    end
    local counts = leat.each(numbers(count), function()
        local res = open(server, EVENTS, GAP_MS, 0)
        local n, last = 0, nil
        for event in res:events() do
            n = n + 1
            if event.data ~= want[n] then
                t.eq(event.data, want[n])
            end
            local now = leat.now()
            gaps[#gaps + 1] = last and now - last
            last = now
        end
        t.eq({ n, res.complete }, { #want, true })
        return true
    end, { limit = count })
    t.eq(counts.ok, count, tostring(counts.first_error))
    table.sort(gaps)
    return gaps[math.ceil(#gaps / 2)]
end

for _, server in ipairs(servers) do
    t.test(("%d streams from %s, a third of them unread for a while"):format(STREAMS, server.name), function()
        local connects = leat.stats().engine.connects
        -- Also makes what is kept for later streams, so that it is not counted below.
        local alone = read_all(server, STREAMS - SLOW)
        for _ in open(server, 1, 0, 0):events() do end -- what the first one makes once is not counted below
        local before, from = buffered(), leat.now()
        local slow = assert(leat.map(numbers(SLOW), function()
            return open(server, 32, 0, 8192)
        end, { limit = SLOW }))
        local beside = read_all(server, STREAMS - SLOW)
        t.wait_until(function() return leat.now() - from >= (FULL and 5 or 0) end)
        t.wait_until(function() return buffered() - before >= SLOW * LEAST end)
        local kept = buffered() - before
        t.ok(kept <= SLOW * MOST + MOST_CONNECTIONS * CONNECTION, kept / SLOW)
        t.ok(leat.stats().engine.connects - connects <= MOST_CONNECTIONS)
        if FULL then
            print(("   %d connections; median gap %.3f ms alone, %.3f ms beside %d unread (%.2f), "
                .. "%.1f KiB for each"):format(leat.stats().engine.connects - connects, alone * 1e3,
                beside * 1e3, SLOW, beside / alone, kept / SLOW / 1024))
            t.ok(beside / alone <= 1.2)
        end
        local text = server.text(32, 8192)
        leat.each(slow, function(res)
            local parts = {}
            for bytes in res:chunks() do
                parts[#parts + 1] = bytes
            end
            t.ok(table.concat(parts) == text)
            t.eq(res.complete, true)
            return true
        end, { limit = SLOW })
    end)
end

t.done()
