-- The baseline: ten calls, one after the other. Ten latencies.
local leat = require "leat"
local chat = require "chat"

local started = leat.now()
for i = 1, 10 do
    local answer = assert(chat("Explain in one sentence what " .. i .. " is"))
    print(i, answer)
end
print(("10 calls in a row: %.2f s"):format(leat.now() - started))
