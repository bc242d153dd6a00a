-- leat tests/bench/sse.lua URL STREAMS: reads that many streams of chat completion chunks at once through the
-- whole runtime, decodes each event's JSON and takes the text out of it.
local url, streams = ...
local events, bytes = 0, 0
local jobs = {}
for i = 1, tonumber(streams) do
    jobs[i] = function()
        local res = assert(request { url = url, stream = true })
        for event in res:events() do
            if event.data ~= "[DONE]" then
                local chunk = assert(json.decode(event.data))
                bytes = bytes + #(chunk.choices[1].delta.content or "")
            end
            events = events + 1
        end
        return true
    end
end
local from = os.clock()
assert(gather(jobs))
print(("events=%d us_per_event=%.3f peak_kb=%d"):format(events, (os.clock() - from) / events * 1e6,
    io.open "/proc/self/status":read "*a":match "VmHWM:%s*(%d+)"))
