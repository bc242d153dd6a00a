-- leat tests/bench/limit.lua: 300 calls through an adaptive pipeline that learns the rate from the answers,
-- against a server of 600 requests a minute, 1 s each, 5 % of them failing: how far from the time that the
-- limit allows.
local leat = require "leat"

local RPM, BURST, LATENCY = 600, 10, 1
local mock = assert(require("leat.mock").start {
    latency = LATENCY, rpm = RPM, burst = BURST, errors = 0.05, seed = 1,
})
local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "none", model = "mock" }
local prompts = {}
for i = 1, 300 do
    prompts[i] = "prompt " .. i
end
local pipe = leat.pipeline { concurrency = "adaptive", rate = {}, retry = { attempts = 6, base = 0.2 } }
local _, stats = pipe:run(prompts, function(prompt) return ai:chat(prompt) end)
local seen = assert(request(mock.url .. "/mock/stats")):json().by_status
mock:close()
local ideal = (stats.calls - BURST) / (RPM / 60) + LATENCY
print(("%d of %d answered, %d calls, %d refused with 429; %.1f s, the limit allows %.1f s: ratio %.2f")
    :format(stats.ok, stats.items, stats.calls, seen["429"] or 0, stats.wall, ideal, stats.wall / ideal))
