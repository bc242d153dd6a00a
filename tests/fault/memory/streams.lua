-- Streams from a server in the same process: events of two merged, one dropped halfway, lines, a body that is
-- sent piece by piece, and one that goes to a file.
local scratch = ...

local server = expect(leat.serve { handler = function(req)
    if req.path == "/upload" then
        return { json = { got = #req.body } }
    end
    local out = expect(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
    for i = 1, 4 do
        local ok, err = out:write("id: " .. i .. "\ndata: " .. req.path .. i .. "\n\n")
        if not ok then
            return nil, err
        end
        sleep(0)
    end
end })

local function open(name)
    local res, err = request { url = server.url .. "/" .. name, stream = true, timeout = 3 }
    if not res then
        return nil, err
    end
    expect(res.ok, "no memory in the handler")
    return res:events()
end

local seen = 0
for event in leat.merge({ "a", "b" }, open, { limit = 2 }) do
    seen = seen + #event.data
end
expect(seen == 2 * 4 * #"/a1")

local res = expect(request { url = server.url .. "/c", stream = true, timeout = 3 })
expect(expect(res:next_event()).data == "/c1")
res:close()

local n = 0
res = expect(request { url = server.url .. "/d", stream = true, timeout = 3 })
expect(res:each_line(function(line) n = n + #line end))
expect(n > 0)

local piece = 0
res = expect(request { url = server.url .. "/upload", method = "PUT", timeout = 3, body = function()
    piece = piece + 1
    return piece <= 3 and ("x"):rep(1000) or nil
end })
expect(expect(res:json()).got == 3000)

local path = scratch .. "/sink"
res = expect(request { url = server.url .. "/e", sink = path, timeout = 3 })
expect(res.size > 0 and os.remove(path))
server:close()
return true
