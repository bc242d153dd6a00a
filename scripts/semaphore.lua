-- A hundred calls, at most five at a time. Twenty latencies.
local leat = require "leat"
local chat = require "chat"

local sem, jobs = semaphore(5), {}
for i = 1, 100 do
    jobs[i] = function()
        return sem:with(chat, "Explain in one sentence what " .. i .. " is")
    end
end

local started = leat.now()
local answers = assert(gather(jobs))
print(("%d calls, at most %d at a time: %.2f s"):format(answers.n, sem.limit, leat.now() - started))
