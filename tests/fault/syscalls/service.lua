-- The service that the programs of the sweep ask. It counts what was executed, by run (the first part of the
-- path) and by row. Each fifth answer ends its connection. A batch's every seventh row is refused at first.
local executed, refused, answers = {}, {}, 0
local BIG = ("0123456789abcdef"):rep(64 * 1024)

local function count(run, id)
    executed[run] = executed[run] or {}
    executed[run][id] = (executed[run][id] or 0) + 1
end

local function chat(text)
    return { json = { id = "c", object = "chat.completion", model = "m",
        choices = { { index = 0, finish_reason = "stop",
            message = { role = "assistant", content = "answer to " .. text } } },
        usage = { prompt_tokens = 3, completion_tokens = 2, total_tokens = 5 } } }
end

local function answer(req)
    local run, rest = req.path:match "^/([^/]+)(/.*)$"
    if rest == "/executed" then
        return { json = leat.json.object(executed[run] or {}) }
    elseif rest == "/big" then
        return { body = BIG }
    elseif rest == "/do" then
        count(run, req.query.id)
        sleep(0.002)
        return { json = { id = tonumber(req.query.id) } }
    elseif rest == "/v1/chat/completions" then
        local row = req.body:match "row (%d+)"
        if row % 7 == 0 and not refused[run .. row] then
            refused[run .. row] = true
            return { status = 400, json = { error = { message = "not today" } } }
        end
        count(run, row)
        sleep(0.002)
        return chat("row " .. row)
    end
    return { status = 404 }
end

local server = assert(leat.serve { handler = function(req)
    local res = answer(req)
    answers = answers + 1
    if answers % 5 == 0 then
        res.headers = { Connection = "close" }
    end
    return res
end })
print(server.port)
io.stdout:flush()
