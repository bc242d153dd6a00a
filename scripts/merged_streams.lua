-- Streamed completions, their pieces in the order in which they come, and collected by prompt. A stream that
-- breaks is reported, and the others go on.
local leat = require "leat"

local ai = assert(leat.openai {
    base_url = os.getenv "OPENAI_BASE_URL" or "http://127.0.0.1:8080/v1",
    model = os.getenv "OPENAI_MODEL" or "gpt-4o-mini",
})
local prompts = { "What is a leat?", "What is a mill?", "What is a weir?", "What is a sluice?" }
local texts = { "", "", "", "" }

local pieces = leat.merge(prompts, function(prompt)
    return ai:stream(prompt)
end, { limit = 8, on_error = function(err, i)
    print(("[%d] broke off: %s"):format(i, tostring(err)))
end })
for text, i in pieces do
    print(("[%d] %s"):format(i, text))
    texts[i] = texts[i] .. text
end
for i, text in ipairs(texts) do
    print(("%d: %s"):format(i, text))
end
