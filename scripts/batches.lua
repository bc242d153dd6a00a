-- Batches of ten with half a second between them. A failure keeps its error in its place. One slow call holds
-- up its whole batch: where no pause is wanted, leat.map(prompts, chat, { limit = 10, settle = true }) starts
-- the next call as soon as one has ended.
-- usage: leat scripts/batches.lua [interval]
local leat = require "leat"
local chat = require "chat"

local prompts = {}
for i = 1, 30 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local answers = leat.batch(prompts, {
    size = 10,
    interval = tonumber((...)) or 0.5,
    on_batch = function(n, results)
        print(("batch %d: %d calls"):format(n, results.n))
    end,
}, chat)

for i, slot in ipairs(answers) do
    print(i, slot.ok and slot.value or "failed: " .. tostring(slot.err))
end
