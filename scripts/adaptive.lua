-- A hundred calls, as many at once as the service takes: begins with 5, doubles at first, then grows by one
-- for each round that goes well, and is halved by a 429, a 503 or a timeout. Where a refusal says when to
-- come back, nothing starts before then.
local leat = require "leat"
local chat = require "chat"

local prompts = {}
for i = 1, 100 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local slots = leat.adaptive { min = 1, start = 5, max = 20 }
local started, failed, first = leat.now(), 0, nil
leat.map(prompts, function(prompt)
    return slots:call(chat, prompt)
end, { limit = 20, settle = true, on_result = function(_, _, err)
    failed, first = failed + (err and 1 or 0), first or err
end })

for _, change in ipairs(slots:history()) do
    local at = math.max(0, change.at - started)
    print(("%6.2f s  at most %2d  (%s)"):format(at, change.limit, change.reason))
end
print(("%d calls, %d failed: %.2f s"):format(#prompts, failed, leat.now() - started))
if first then
    print("the first failure: " .. tostring(first))
end
