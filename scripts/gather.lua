-- Ten calls at once, the answers in the order of the prompts: about one latency. However many there are, no
-- more than ten run at a time: without `limit` it would be all of them.
-- usage: leat scripts/gather.lua [calls]
local leat = require "leat"
local chat = require "chat"

local calls, jobs = tonumber((...)) or 10, {}
for i = 1, calls do
    jobs[i] = function()
        return chat("Explain in one sentence what " .. i .. " is")
    end
end

local started = leat.now()
local answers = assert(gather(jobs, { limit = 10 }))
for i, text in ipairs(answers) do
    print(i, text)
end
print(("%d calls, ten at once: %.2f s"):format(calls, leat.now() - started))
