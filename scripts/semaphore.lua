-- A hundred calls, at most five at a time: twenty latencies. The semaphore bounds the calls, also where
-- several parts of a script share it; the limit of map bounds the tasks, which are not all made at the start.
local leat = require "leat"
local chat = require "chat"

local sem, prompts = semaphore(5), {}
for i = 1, 100 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local started = leat.now()
local answers = assert(leat.map(prompts, function(prompt)
    return sem:with(chat, prompt)
end, { limit = 10 }))
print(("%d calls, at most %d at a time: %.2f s"):format(answers.n, sem.limit, leat.now() - started))
