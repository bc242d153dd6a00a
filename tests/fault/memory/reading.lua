-- One stream after the other, read in every way: by pieces, lines, events, callbacks; to the end, or not.
local server = expect(leat.serve { handler = function(req)
    local out = expect(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
    for i = 1, 5 do
        local text = ("id: %d\nevent: tick\ndata: %s\ndata: %d\n\n"):format(i, ("x"):rep(100), i)
        local ok, err = out:write(text)
        if not ok then
            return nil, err
        end
        sleep(0)
    end
    if req.path == "/cut" then
        return out:abort()
    end
    return out:close()
end })
local size = #("id: 1\nevent: tick\ndata: \ndata: 1\n\n") + 100
local function open(path)
    local res, err = request { url = server.url .. (path or "/"), stream = true, timeout = 10 }
    if res and res.status >= 500 then
        return nil, leat.error { kind = "memory", message = "no memory in the handler" }
    end
    return res, err
end

local res = expect(open())
expect(#expect(res:read(10)) == 10)
local n = 10
for piece in res:chunks() do
    n = n + #piece
end
expect(n == 5 * size)

res, n = expect(open()), 0
for line in res:lines() do
    n = n + #line
end
expect(n == 5 * (size - 5))
res, n = expect(open()), 0
for event in res:events() do
    n = n + tonumber(event.id)
    expect(event.event == "tick" and #event.data == 102)
end
expect(n == 15)
res, n = expect(open()), 0
expect(res:each_event(function(event)
    n = n + 1
    return event.id ~= "3"
end))
expect(n == 3)
res, n = expect(open()), 0
expect(res:each_chunk(function(piece) n = n + #piece end))
expect(n == 5 * size)

res = expect(open())
local one = spawn(function() return res:events()().id end)
local id, lost = one:await()
expect(id == "1", lost)
res = expect(open "/cut")
local ok, err = pcall(function()
    for _ in res:events() do n = n + 1 end
end)
expect(not ok and err.kind == "closed", err)
res = expect(open())
res:close()
ok, err = pcall(res.read, res)
expect(not ok and tostring(err):find("it is closed", 1, true), err)
server:close()
return true
