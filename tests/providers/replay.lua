-- Answers as the servers of eight families, and a gateway, do. FAMILY/NAME.http is the answer to a request
-- whose path begins with /FAMILY and whose model is NAME. "plain" and "tools" have a second file each, for a
-- request with stream=true. Of "limit" the first answer is the refusal, and the next one is "plain". Started
-- as a script, it prints its URL.
local leat = require "leat"

local M = {}

local folder = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

-- An answer as it stands in a file: status, headers, body.
function M.read(family, name)
    local file = io.open(folder .. family .. "/" .. name .. ".http", "rb")
    if not file then
        return nil
    end
    local text = file:read "*a"
    file:close()
    local head, body = text:match "^(.-\n)\n(.*)$"
    local headers = {}
    for field, value in head:gmatch "\n([%w%-]+): ([^\n]*)" do
        headers[field] = value
    end
    return { status = tonumber(head:match "^HTTP/1.1 (%d+)"), headers = headers, body = body }
end

-- In pieces that end anywhere, as a network cuts them.
local function send_in_pieces(req, answer)
    local out = assert(req:respond { status = answer.status, headers = answer.headers })
    local at, size = 1, 1
    while at <= #answer.body do
        if not out:write(answer.body:sub(at, at + size - 1)) then
            return nil
        end
        at, size = at + size, size * 7 % 61 + 1
        leat.sleep(0)
    end
    return out:close()
end

-- Starts the server. Its `seen` has the number of requests for each "family/name".
function M.start(opts)
    local seen = {}
    local server, err = leat.serve { port = opts and opts.port, handler = function(req)
        local family = req.path:match "^/(%w+)/"
        local asked = req:json() or {}
        local name = tostring(asked.model)
        local key = ("%s/%s"):format(family, name)
        seen[key] = (seen[key] or 0) + 1
        if name == "limit" and seen[key] % 2 == 0 then
            name = "plain"
        end
        if asked.stream then
            name = ({ plain = "stream", tools = "tools_stream", stream_error = "stream_error" })[name] or name
        end
        local answer = family and name:find "^[%w_]+$" and M.read(family, name)
        if not answer then
            return { status = 404, body = "no such file: " .. key }
        elseif (answer.headers["Content-Type"] or ""):find "event%-stream" then
            return send_in_pieces(req, answer)
        end
        return answer
    end }
    if server then
        return { url = server.url, seen = seen, close = function() server:close() end }
    end
    return nil, err
end

if arg and arg[0] and arg[0]:find "replay%.lua$" then
    print(assert(M.start()).url)
    io.stdout:flush()
    leat.stopping:wait()
end

return M
