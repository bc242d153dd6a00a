-- One chat completion: chat(prompt) returns the answer's text, or nil, err. The scripts beside it use it.
-- OPENAI_BASE_URL and OPENAI_API_KEY say where; without them `leat mock --port 8080` is expected.
local leat = require "leat"

local ai = assert(leat.openai {
    base_url = os.getenv "OPENAI_BASE_URL" or "http://127.0.0.1:8080/v1",
    model = os.getenv "OPENAI_MODEL" or "gpt-4o-mini",
    retry = false, -- to try again is for each script to say
})

return function(prompt)
    return ai:chat(prompt)
end
