-- One chat completion: chat(prompt) returns the answer's text, or nil, err. The scripts beside it use it.
-- OPENAI_BASE_URL and OPENAI_API_KEY say where; without them `leat mock --port 8080` is expected.
local leat = require "leat"

local api = leat.client {
    base_url = (os.getenv "OPENAI_BASE_URL" or "http://127.0.0.1:8080/v1"):gsub("/*$", "/"),
    auth = { bearer = os.getenv "OPENAI_API_KEY" or "no-key" },
}
local model = os.getenv "OPENAI_MODEL" or "gpt-4o-mini"

return function(prompt)
    local res, err = api:post("chat/completions", {
        json = { model = model, messages = { { role = "user", content = prompt } } },
    })
    if not res then
        return nil, err
    end
    local reply, bad = res:json()
    if not res.ok then
        local message = reply and reply.error and reply.error.message or res.reason
        return nil, leat.error { kind = "http", status = res.status, message = message }
    end
    if not reply then
        return nil, bad
    end
    return reply.choices[1].message.content
end
