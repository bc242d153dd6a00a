-- leat tests/bench/layers.lua LAYER URL COUNT IN_FLIGHT [JOURNAL]: the main job, up to one of its layers, for
-- tests/bench/suite.sh and layers.sh. "rows" instead of a URL prints COUNT rows for `leat batch`.
--
-- post: client:post with a JSON body, and res:json(). chat: ai:chat. pipeline: ai:chat in a pipeline; with a
-- JOURNAL if that is given.
local layer, url, count, in_flight, journal = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4]), arg[5]
local leat = require "leat"

local function body_of(i)
    return {
        model = "gpt-4o-mini",
        messages = {
            { role = "system", content = "You are a helpful assistant. Answer in one sentence." },
            { role = "user", content = "Explain in one sentence what " .. i .. " is" },
        },
        temperature = 0.7,
        max_tokens = 64,
        user = "bench",
    }
end

if layer == "rows" then
    for i = 1, count do
        print(leat.json.encode({ custom_id = "number-" .. i, method = "POST", url = "/v1/chat/completions",
            body = body_of(i) }, { sorted = true }))
    end
    return
end

local i = 0
local function numbers()
    i = i + 1
    return i <= count and i or nil
end

local api = assert(leat.client { base_url = url, auth = { bearer = "sk-bench" } })
local ai = assert(leat.openai { base_url = url, api_key = "sk-bench" })

local function post(n)
    local res = assert(api:post("chat/completions", { json = body_of(n) }))
    return assert(res:json()).choices[1].message.content
end

local function chat(n)
    return ai:chat(body_of(n))
end

local outcome
if layer == "pipeline" then
    outcome = assert(leat.pipeline { concurrency = in_flight, journal = journal }:each(numbers, chat))
else
    outcome = assert(leat.each(numbers, layer == "chat" and chat or post, { limit = in_flight }))
end
assert(outcome.ok == count, "not every item succeeded")
