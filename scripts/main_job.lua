-- The main job: a hundred prompts through a pipeline; progress while it runs, and the figures at the end.
-- usage: leat scripts/main_job.lua [retry base in seconds]
local leat = require "leat"

local ai = assert(leat.openai {
    base_url = os.getenv "OPENAI_BASE_URL" or "http://127.0.0.1:8080/v1",
    model = os.getenv "OPENAI_MODEL" or "gpt-4o-mini",
})
local pipe = leat.pipeline {
    concurrency = 5, timeout = 15, retry = { attempts = 3, base = tonumber((...)) or 1 }, progress = true,
}

local prompts = {}
for i = 1, 100 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local answers, stats = pipe:run(prompts, function(prompt)
    return ai:chat(prompt)
end)
print(stats)
print("the first answer: " .. tostring(answers[1] or answers.errors[1]))
if stats.ok < answers.n then
    return nil, leat.error { kind = "script", message = answers.n - stats.ok .. " prompts without an answer" }
end
