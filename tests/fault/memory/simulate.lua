-- Requests that are answered in the process: redirects, streams, failures, timeouts, too large bodies.
local calls = 0
local api = expect(leat.simulate("http://api.test", { max_body = 1000, handler = function(req)
    calls = calls + 1
    if req.path == "/old" then
        return { status = 302, headers = { Location = "/new?from=old" } }
    elseif req.path == "/slow" then
        sleep(60)
    elseif req.path == "/stream" then
        local out = expect(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
        for i = 1, 3 do
            local ok, err = out:write("data: " .. i .. "\n\n")
            if not ok then
                return nil, err
            end
            sleep(0.01)
        end
        return out:close()
    elseif req.path == "/broken" then
        local out = expect(req:respond {})
        expect(out:write "half")
        return out:abort()
    end
    return { json = { path = req.path, from = req.query.from, n = #req.body, method = req.method } }
end }))
local function ask(target)
    local res, err = request(target)
    if res and res.status >= 500 then
        return nil, leat.error { kind = "memory", message = "no memory in the handler" }
    end
    return res, err
end

local res = expect(ask "http://api.test/old")
local body = expect(res:json())
expect(body.path == "/new" and body.from == "old" and res.url:find "/new")
res = expect(ask { url = "http://api.test/x", json = { a = 1 }, headers = { ["X-One"] = { "1", "2" } } })
expect(expect(res:json()).n == 7)
res = expect(ask { url = "http://api.test/x", method = "PUT", body = ("x"):rep(2000) })
expect(res.status == 413, res)
local none, err = ask { url = "http://api.test/slow", timeout = 1 }
expect(none == nil and err.kind == "timeout", err)
none, err = wait_for(0.5, request, "http://api.test/slow")
expect(none == nil and err.kind == "timeout", err)
none, err = request "http://nobody.test/"
expect(none == nil and err.kind == "denied", err)
none, err = ask "http://api.test/broken"
expect(none == nil and err.kind == "closed", err)

res = expect(ask { url = "http://api.test/stream", stream = true })
local sum = 0
for event in res:events() do
    sum = sum + tonumber(event.data)
end
expect(sum == 6)
res = expect(ask { url = "http://api.test/stream", stream = true })
expect(expect(res:read(4)) == "data")
res:close()
local got = expect(leat.map({ 1, 2, 3 }, function(i)
    local one, why = ask { url = "http://api.test/n", form = { i = i }, max_per_host = 1 }
    if not one then
        return nil, why
    end
    return one.status
end))
expect(got[1] == 200 and got[3] == 200)
api:close()
none, err = request "http://api.test/"
expect(none == nil and err.kind == "denied", err)
return true
