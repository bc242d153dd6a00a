-- Answers of every kind: redirects, cookies, compressed and cut bodies, sinks, limits, repeated headers.
local scratch = ...
local packed = leat.base64.decode "H4sIAAAAAAACAyvJSFUoTsxNVShJrSjRUSjBwwUAJ0wPvSsAAAA="
local plain = "the same text, the same text, the same text"
local other
local server = expect(leat.serve { handler = function(req)
    local path = req.path
    if path == "/hop" then
        local n = tonumber(req.query.n)
        return { status = 302, headers = { Location = n > 0 and "/hop?n=" .. n - 1 or other.url .. "/far" } }
    elseif path == "/loop" then
        return { status = 307, headers = { Location = "/loop" } }
    elseif path == "/packed" then
        return { headers = { ["Content-Encoding"] = "gzip" }, body = packed }
    elseif path == "/cut" then
        return { headers = { ["Content-Encoding"] = "gzip" }, body = packed:sub(1, -12) }
    elseif path == "/login" then
        return { headers = { ["Set-Cookie"] = { "id=1; Path=/", "theme=dark; Max-Age=60" } }, body = "in" }
    end
    return { headers = { ["X-Many"] = { "a", "b" } }, body = req.headers.cookie or plain }
end })
other = expect(leat.serve { handler = function(req) return req.headers.authorization or "a stranger" end })
local function get(path, options)
    options = options or {}
    options.url, options.timeout = server.url .. path, 10
    local res, err = request(options)
    if res and res.status >= 500 then
        return nil, leat.error { kind = "memory", message = "no memory in the handler" }
    end
    return res, err
end

local res = expect(get("/hop?n=2", { auth = { bearer = "secret" } }))
expect(res.body == "a stranger")
local none, err = get "/loop"
expect(none == nil and err.kind == "protocol", err)
expect(expect(get "/packed").body == plain)
none, err = get "/cut"
expect(none == nil and err.kind == "protocol", err)
none, err = get("/packed", { max_body = 10 })
expect(none == nil and err.kind == "too_large", err)
res = expect(get "/")
expect(table.concat(res:header_values "x-many", ",") == "a,b" and res.headers["X-MANY"])
expect(res.timing.total >= 0)

local path = scratch .. "/sink"
res = expect(get("/packed", { sink = path }))
expect(res.size == #plain)
local file = expect(io.open(path, "rb"))
expect(file:read "*a" == plain)
file:close()
expect(os.remove(path))

local client = expect(leat.client { base_url = server.url, cookies = true, headers = { ["X-One"] = "1" },
    query = { all = 1 }, timeout = 10 })
res = expect(client:get "login")
expect(res.status < 500, "no memory in the handler")
res = expect(client:get "/see")
expect(res.status < 500, "no memory in the handler")
expect(res.body == "id=1; theme=dark" or res.body == "theme=dark; id=1", res.body)
res = expect(client:head "/see")
expect(res.body == "")
res = expect(request { url = "http://name.test:" .. server.port .. "/", timeout = 10,
    resolve = { ["name.test:" .. server.port] = "127.0.0.1" } })
expect(res.status < 500, "no memory in the handler")
expect(res.body == plain)
none, err = request { url = "http://127.0.0.1:1/", timeout = 10 }
expect(none == nil and err.kind == "connect", err)
none, err = request "nowhere"
expect(none == nil and err.kind == "invalid", err)
server:close()
other:close()
return true
