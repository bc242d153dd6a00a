-- An AI service: chat, a stream with pieces of a tool call, embeddings, a refusal that is tried again, an
-- error in a 200, and streams merged.
local refused = false
local function chunk(fields) return "data: " .. expect(json.encode(fields)) .. "\n\n" end
local api = expect(leat.simulate("http://ai.test", function(req)
    local body = expect(req:json())
    if req.path == "/v1/embeddings" then
        return { json = { data = { { index = 0, embedding = { 0.5 } } }, usage = { total_tokens = 2 } } }
    elseif body.user == "again" and not refused then
        refused = true
        return { status = 429, headers = { ["retry-after-ms"] = "20" },
            json = { error = { message = "slow down", type = "rate_limit_error" } } }
    elseif body.user == "bad" then
        return { json = { error = { message = "sk-key is out of credit", code = 402 } } }
    elseif not body.stream then
        return { json = { choices = { { message = { role = "assistant", content = "hello" } } },
            usage = { total_tokens = 7 } } }
    end
    local out = expect(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
    for _, text in ipairs { "Hel", "lo", " there" } do
        expect(out:write(chunk { choices = { { index = 0, delta = { content = text,
            tool_calls = { { index = 0, id = "t", ["function"] = { arguments = text } } } } } } }))
        sleep(0.01)
    end
    expect(out:write(chunk { choices = { { index = 0, delta = {}, finish_reason = "stop" } },
        usage = { total_tokens = 9 } } .. "data: [DONE]\n\n"))
    return out:close()
end))
local ai = expect(leat.openai { base_url = "http://ai.test/v1", api_key = "sk-key", model = "m",
    retry = { attempts = 3, base = 0.01 } })

local text, reply = ai:chat "hi"
expect(text == "hello" and reply.usage.total_tokens == 7, reply)
refused = false
text, reply = ai:chat("hi", { user = "again" })
expect(text == "hello", reply)
local none, err = ai:chat("hi", { user = "bad" })
expect(none == nil and err.kind == "http" and not tostring(err):find "sk-key", err)
local vectors
vectors, err = ai:embed "hi"
expect(vectors, err)

local stream
stream, err = ai:stream "hi"
expect(stream, err)
local whole = ""
for delta in stream do
    whole = whole .. delta
end
expect(whole == "Hello there" and stream.usage.total_tokens == 9)
local n = 0
for _ in leat.merge({ "a", "b" }, function(prompt) return ai:stream(prompt) end, { limit = 2 }) do
    n = n + 1
end
expect(n >= 6)
stream = expect(ai:stream "hi")
expect(stream())
stream:close()
api:close()
return true
