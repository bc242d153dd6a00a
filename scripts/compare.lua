-- The same hundred calls in six ways, against a mock that takes eight a second: how long each takes, what the
-- server refused, and the time that the way of working would take if nothing were refused.
-- usage: leat scripts/compare.lua [--quick]
local leat = require "leat"

local CALLS, AT_ONCE = 100, 12
local quick = (...) == "--quick"
local latency = quick and 0.03 or 1.5
local per_second = AT_ONCE / latency

local mock = assert(require("leat.mock").start {
    latency = latency, rpm = per_second * 60, burst = AT_ONCE,
})
local ai = assert(leat.openai {
    base_url = mock.url .. "/v1", api_key = "none", model = "mock", retry = false,
})

local prompts = {}
for i = 1, CALLS do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local function chat(prompt)
    return ai:chat(prompt)
end

local function mapped(limit)
    return function()
        local ok = 0
        leat.map(prompts, chat, { limit = limit, settle = true, on_result = function(_, text)
            ok = ok + (text and 1 or 0)
        end })
        return ok, 0
    end
end

local function piped(opts)
    opts.retry = { attempts = 5, base = latency / 1.5 }
    return function()
        local _, stats = leat.pipeline(opts):run(prompts, chat)
        return stats.ok, stats.retried
    end
end

local pause = latency / 3
local at_rate = (CALLS - AT_ONCE) / per_second + latency
local ways = {
    { "serial", CALLS * latency, mapped(1) },
    { "unlimited", latency, mapped(CALLS) },
    { "semaphore(5)", CALLS / 5 * latency, mapped(5) },
    { "batches + retry", CALLS / 10 * (latency + pause) - pause,
        piped { concurrency = 10, batch = { size = 10, interval = pause } } },
    { "adaptive", at_rate, piped { concurrency = { min = 1, start = 5, max = 20, decrease = 0.85 } } },
    { "rate known", at_rate,
        piped { concurrency = 20, rate = { rps = 0.98 * per_second, burst = AT_ONCE - 1 } } },
}

print(("%d calls of %g s; the server takes %g a second, and %d at a blow"):format(CALLS, latency, per_second,
    AT_ONCE))
print(("%-16s %9s %9s %9s %6s %9s"):format("", "seconds", "ideal", "answered", "429s", "retries"))
for _, way in ipairs(ways) do
    sleep(AT_ONCE / per_second) -- the server has forgotten the way before
    assert(request { url = mock.url .. "/mock/reset", method = "POST" })
    local before = leat.now()
    local ok, retries = way[3]()
    local took = leat.now() - before
    local seen = assert(request(mock.url .. "/mock/stats")):json()
    print(("%-16s %9.2f %9.2f %9d %6d %9d"):format(way[1], took, way[2], ok, seen.by_status["429"] or 0,
        retries))
end
mock:close()
