-- A server whose clients leave, whose handlers fail, answer late, stream, and are stopped with it.
local left = 0
local server = expect(leat.serve { max_body = 5000, handler = function(req)
    local path = req.path
    if path == "/fails" then
        return nil, leat.error { kind = "io", message = "no" }
    elseif path == "/bug" then
        error "a bug"
    elseif path == "/early" then
        expect(req:respond { status = 201, json = { early = true } })
        sleep(0.001)
        return nil
    elseif path == "/endless" then
        return leat.finally(function()
            local out = expect(req:respond { headers = { ["X-Way"] = "endless" } })
            while true do
                local ok, err = out:write(("x"):rep(200000)) -- waits for who reads
                if not ok then
                    return nil, err
                end
            end
        end, function() left = left + 1 end)
    end
    return { headers = { ["X-A"] = { "1", "2" } }, body = req.body .. tostring(req.remote ~= nil)
        .. table.concat(req:header_values "x-two", "") }
end })
local function ask(path, options)
    options = options or {}
    options.url, options.timeout = server.url .. path, 10
    return request(options)
end

local res = expect(ask("/echo?x=%20", { body = "abc", headers = { ["X-Two"] = { "1", "2" } } }))
expect(res.status < 500, "no memory in the handler")
expect(res.body == "abctrue12", res.body)
expect(expect(ask "/fails").status == 500 and expect(ask "/bug").status == 500)
res = expect(ask("/echo", { body = ("x"):rep(6000) }))
expect(res.status < 500, "no memory in the handler")
expect(res.status == 413)
res = expect(ask "/early")
expect(res.status < 500, "no memory in the handler")
expect(res.status == 201 and expect(res:json()).early)

for _ = 1, 2 do
    res = expect(ask("/endless", { stream = true }))
    expect(res.status < 500, "no memory in the handler")
    expect(res:read(30000))
    res:close()
end
local reading, closing = leat.event(), leat.event()
local reader = spawn(leat.finally, function()
    local stream, err = ask("/endless", { stream = true })
    while stream do
        local piece
        piece, err = stream:read()
        if not piece then
            return nil, err or "it ended"
        end
        reading:set()
        closing:wait(30)
    end
    return nil, err
end, function() reading:set() end)
local over = { ok = true, failed = true, raised = true, cancelled = true }
while not reading:is_set() and not over[reader:status()] do -- there may be no memory to begin
    sleep(0.001)
end
expect(server:stats().requests >= 7)
closing:set()
server:close(0.001)
local none, err = reader:await()
expect(none == nil and err.kind == "closed", err)
local again, why = ask "/echo"
expect(left == 3, "a handler is left")
expect(again == nil and why.kind == "connect", why)
return true
