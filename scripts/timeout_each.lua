-- A limit for each call: one that takes too long says so in its place, the others are untouched.
-- usage: leat scripts/timeout_each.lua [seconds]
local leat = require "leat"
local chat = require "chat"

local limit = tonumber((...)) or 10
local prompts = {}
for i = 1, 10 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local answers = leat.map(prompts, function(prompt)
    local text, err = wait_for(limit, chat, prompt)
    if err and err.kind == "timeout" then
        return "[timeout] " .. prompt
    end
    return text, err
end, { settle = true })

for i, slot in ipairs(answers) do
    print(i, slot.ok and slot.value or "[" .. tostring(slot.err) .. "]")
end
