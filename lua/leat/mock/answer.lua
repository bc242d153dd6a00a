-- Sends a completion of the mock, either whole or as a stream.
local encode = require("leat.json").encode
local tasks = require "leat.task"

local M = {}

function M.count(self, status)
    local name = tostring(status)
    self.by_status[name] = (self.by_status[name] or 0) + 1
end

function M.whole(self, req, a, headers)
    local body = a.head .. ',"choices":[{"index":0,"message":{"role":"assistant","content":'
        .. encode(table.concat(a.tokens)) .. ',"refusal":null},"logprobs":null,"finish_reason":"' .. a.reason
        .. '"}],"usage":' .. a.usage .. "}"
    headers["Content-Type"] = "application/json"
    self.bytes = self.bytes + #body
    M.count(self, 200)
    return req:answer(200, headers, body)
end

-- Sends the answer token by token. `broken`: sends only half of it and then breaks the connection.
function M.stream(self, req, a, headers, with_usage, broken)
    headers["Content-Type"] = "text/event-stream; charset=utf-8"
    headers["Cache-Control"] = "no-cache"
    local out, err = req:respond { headers = headers }
    if not out then
        return nil, err
    end
    self.streams = self.streams + 1
    M.count(self, 200)
    local open = ',"choices":[{"index":0,"delta":'
    local last = broken and math.floor(#a.tokens / 2) or #a.tokens
    local function send(rest)
        local event = "data: " .. a.head .. rest .. "}\n\n"
        self.bytes = self.bytes + #event
        return out:write(event)
    end
    local usage_null = with_usage and ',"usage":null' or ""
    send(open .. '{"role":"assistant","content":""},"finish_reason":null}]' .. usage_null)
    for i = 1, last do
        if self.token_delay > 0 then
            tasks.sleep(self.token_delay)
        end
        local ok
        ok, err = send(open .. '{"content":' .. encode(a.tokens[i]) .. '},"finish_reason":null}]'
            .. usage_null)
        if not ok then
            return nil, err
        end
    end
    if broken then
        return out:abort()
    end
    send(open .. '{},"finish_reason":"' .. a.reason .. '"}]' .. usage_null)
    if with_usage then
        send(',"choices":[],"usage":' .. a.usage)
    end
    out:write "data: [DONE]\n\n"
    return out:close()
end

return M
