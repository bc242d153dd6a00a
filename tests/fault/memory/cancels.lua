-- Requests that are cancelled in each phase: queued, looked up, waiting for the head, sending, in the
-- body, on a redirect. Whatever they held is free again.
local gone = 0
local server = expect(leat.serve { handler = function(req)
    if req.path == "/stream" then
        local out = expect(req:respond {})
        while true do
            local ok, why = out:write(("x"):rep(1000))
            if not ok then
                gone = gone + 1
                return nil, why
            end
            sleep(0.001)
        end
    elseif req.path == "/away" then
        return { status = 302, headers = { Location = "/silent" } }
    elseif req.path == "/silent" then
        return leat.finally(function() sleep(60) end, function() gone = gone + 1 end)
    end
    return "ok"
end })
local function ask(path, options)
    options = options or {}
    options.url, options.max_per_host = server.url .. path, 2
    local res, err = request(options)
    if res and res.status >= 500 then
        return nil, leat.error { kind = "memory", message = "no memory in the handler" }
    end
    return res, err
end
local function cancelled(after, fn, ...)
    local task = spawn(fn, ...)
    for _ = 1, after do
        sleep(0.001)
    end
    task:cancel "enough"
    local value, err = task:await()
    expect(value == nil and err.kind == "cancelled", err or tostring(value))
end

cancelled(0, ask, "/silent")
cancelled(1, ask, "/silent")
cancelled(1, ask, "/away")
cancelled(0, request, "http://localhost:1/")
local held = { spawn(ask, "/silent"), spawn(ask, "/silent") }
sleep(0)
local queued = spawn(ask, "/") -- both places are taken
sleep(0.001)
queued:cancel()
local none, err = queued:await()
local late, why = ask("/", { timeout = { queue = 0.001 } })
for _, task in ipairs(held) do
    if task:status() ~= "waiting" then
        expect(task:await())
    end
end
expect(none == nil and err.kind == "cancelled", err)
expect(late == nil and why.kind == "timeout", why)
for _, task in ipairs(held) do
    task:cancel()
    task:await()
end
cancelled(1, ask, "/", { body = function() sleep(0.002) return ("y"):rep(1000) end })
cancelled(0, function()
    local res = expect(ask("/stream", { stream = true }))
    while res:read() do
        sleep(0)
    end
    return "it ended"
end)
local res = expect(ask("/stream", { stream = true }))
expect(res:read(1500))
none, err = wait_for(0.001, function()
    while true do
        expect(res:read())
    end
end)
expect(none == nil and err.kind == "timeout", err)
none, err = gather { function() return ask "/silent" end, function() return ask "/stream" end,
    function() sleep(0.001) return nil, leat.error { kind = "io", message = "no" } end }
expect(none == nil and err.kind == "io", err)
expect(expect(ask "/").body == "ok")
server:close()
return true
