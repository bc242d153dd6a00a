-- All of it in one: slots, batches, a limit for each attempt, attempts, a circuit breaker, progress. A prompt
-- without an answer keeps its error.
-- usage: leat scripts/pipeline.lua [retry base in seconds]
local leat = require "leat"
local chat = require "chat"

local pipe = leat.pipeline {
    concurrency = 5,
    batch = { size = 20, interval = 0.3 },
    timeout = 15,
    retry = { attempts = 3, base = tonumber((...)) or 1 },
    breaker = { threshold = 5, reset = 30 },
    progress = true,
}

local prompts = {}
for i = 1, 40 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local answers, stats = pipe:run(prompts, chat)
for i = 1, answers.n do
    print(i, answers[i] or "failed: " .. tostring(answers.errors[i]))
end
print(stats)
