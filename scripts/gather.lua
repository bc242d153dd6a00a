-- Ten calls at once, the answers in the order of the prompts. About one latency.
local leat = require "leat"
local chat = require "chat"

local jobs = {}
for i = 1, 10 do
    jobs[i] = function()
        return chat("Explain in one sentence what " .. i .. " is")
    end
end

local started = leat.now()
local answers = assert(gather(jobs))
for i, text in ipairs(answers) do
    print(i, text)
end
print(("10 calls at once: %.2f s"):format(leat.now() - started))
