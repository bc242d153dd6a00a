-- leat tests/bench/sse.lua URL STREAMS [HOW]: reads that many streams of chat completion chunks through the
-- whole runtime at once. URL is /tokens of a fault server. HOW: "events" takes them alone; "json" (default)
-- decodes each and takes its text; "stream" does that by ai:stream.
local url, streams, how = ...
local events, bytes = 0, 0

local function read_events(decode)
    local res = assert(request { url = url, stream = true })
    for event in res:events() do
        if decode and event.data ~= "[DONE]" then
            local chunk = assert(json.decode(event.data))
            bytes = bytes + #(chunk.choices[1].delta.content or "")
        end
        events = events + 1
    end
    return true
end

local function read_stream()
    local ai = assert(leat.openai { base_url = url:gsub("/tokens", ""), api_key = "", model = "mock" })
    for delta in assert(ai:stream "hello") do
        bytes = bytes + #delta
        events = events + 1
    end
    return true
end

local jobs = {}
for i = 1, tonumber(streams) do
    jobs[i] = how == "stream" and read_stream or function() return read_events(how ~= "events") end
end
local from = os.clock()
assert(gather(jobs))
print(("events=%d us_per_event=%.3f peak_kb=%d"):format(events, (os.clock() - from) / events * 1e6,
    io.open "/proc/self/status":read "*a":match "VmHWM:%s*(%d+)"))
