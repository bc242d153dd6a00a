-- leat tests/bench/limit.lua: 300 calls through an adaptive pipeline, against a server of 600 requests a
-- minute, 1 s each, 5 % of them failing: how far from the time that the limit allows, and how many are
-- refused; with nothing known of the rate, and learning it from the answers' headers.
local leat = require "leat"

local RPM, BURST, LATENCY = 600, 10, 1
local WARM = 3 -- seconds

local function measure(name, rate)
    local mock = assert(require("leat.mock").start {
        latency = LATENCY, rpm = RPM, burst = BURST, errors = 0.05, seed = 1,
    })
    local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "none", model = "mock" }
    local prompts = {}
    for i = 1, 300 do
        prompts[i] = "prompt " .. i
    end
    local began, late = leat.now(), 0
    local pipe = leat.pipeline { concurrency = "adaptive", rate = rate, retry = { base = 0.2 } }
    local _, stats = pipe:run(prompts, function(prompt)
        local text, err = ai:chat(prompt)
        if err and err.status == 429 and leat.now() - began > WARM then
            late = late + 1
        end
        return text, err
    end)
    local seen = assert(request(mock.url .. "/mock/stats")):json().by_status
    mock:close()
    local allowed = ((seen["200"] or 0) + (seen["500"] or 0) - BURST) / (RPM / 60) + LATENCY
    print(("%-13s %9d %6d %8d %10.1f %% %9.1f %9.1f %7.2f"):format(name, stats.ok, stats.calls,
        seen["429"] or 0, 100 * late / stats.calls, stats.wall, allowed, stats.wall / allowed))
end

print("              answered  calls  refused  after 3 s   seconds   allowed   ratio")
measure("by refusals")
measure("by headers", {})
