-- leat tests/bench/chat.lua URL COUNT IN_FLIGHT [HTTP_VERSION]: what tests/bench/suite.sh measures. Posts a
-- chat body that is built and encoded per request, decodes the reply and reads one field of it.
local url, count, in_flight = arg[1], tonumber(arg[2]), tonumber(arg[3])
local start_s = tonumber(os.getenv("START_S")) -- wall clock just before this program was started
local leat = require "leat"
local json = leat.json

local api = leat.client {
    headers = { ["content-type"] = "application/json" },
    http_version = arg[4],
    timeout = { connect = 120, first_byte = 120 }, -- 10,000 at once take long where others compute too
}

local first_s, answered, warm_cpu_s = nil, 0, 0
local function chat(i)
    local body = json.encode {
        model = "gpt-4o-mini",
        messages = {
            { role = "system", content = "You are a helpful assistant. Answer in one sentence." },
            { role = "user", content = "Explain in one sentence what " .. i .. " is" },
        },
        temperature = 0.7,
        max_tokens = 64,
        stream = false,
        user = "bench",
    }
    local res = assert(api:post(url, { body = body }))
    first_s = first_s or leat.time()
    answered = answered + 1
    if answered == 2 * in_flight then -- the connections are made
        warm_cpu_s = os.clock()
    end
    local reply = assert(res:json())
    return assert(reply.choices[1].message.content)
end

local i = 0
local function numbers()
    i = i + 1
    return i <= count and i or nil
end

local began = leat.now()
local outcome = leat.each(numbers, chat, { limit = in_flight })
local wall_s = leat.now() - began
if outcome.failed > 0 then error(outcome.first_error) end

local peak_kb = 0
for line in io.lines("/proc/self/status") do
    peak_kb = tonumber(line:match("^VmHWM:%s*(%d+)")) or peak_kb
end
local cpu_s = os.clock()
local warm_us = warm_cpu_s > 0 and (cpu_s - warm_cpu_s) / (count - 2 * in_flight) * 1e6 or 0
print(("requests=%d wall_s=%.3f cpu_us_per_request=%.2f warm_us=%.2f peak_rss_kb=%d first_ms=%.2f"):format(
    outcome.ok, wall_s, cpu_s / count * 1e6, warm_us, peak_kb, start_s and (first_s - start_s) * 1000 or 0))
