-- Requests with every kind of body, to a server in the same process.
local scratch = ...
local path = scratch .. "/body"
local file = expect(io.open(path, "wb"))
file:write(("0123456789"):rep(2000))
file:close()

local server = expect(leat.serve { handler = function(req)
    return { json = { n = #req.body, sum = leat.sha256(req.body), type = req.headers["content-type"],
        method = req.method, query = req.query_string, auth = req.headers.authorization } }
end })
local function send(options)
    options.url, options.timeout = server.url .. "/", 10
    local res, err = request(options)
    if not res then
        return nil, err
    elseif res.status >= 500 then
        return nil, leat.error { kind = "memory", message = "no memory in the handler" }
    end
    return res:json()
end

local got = expect(send { json = { list = { 1, 2 }, text = "é" },
    query = { a = 1, b = { "x", "y z" } } })
expect(got.type == "application/json" and got.method == "POST")
expect(got.query:find("b=y%20z", 1, true), got.query)
got = expect(send { form = { { "a", "1&2" }, { "b", "=" } }, auth = { basic = { "user", "pass" } } })
expect(got.n == #"a=1%262&b=%3D" and got.auth:find "^Basic ")
got = expect(send { body = ("x"):rep(50000), method = "PUT", auth = { bearer = "token" } })
expect(got.n == 50000 and got.auth == "Bearer token")
got = expect(send { body = { file = path } })
expect(got.n == 20000 and got.sum == leat.sha256(("0123456789"):rep(2000)))
local pieces = 0
got = expect(send { body = function()
    pieces = pieces + 1
    sleep(0)
    return pieces <= 3 and ("y"):rep(pieces * 1000) or nil
end })
expect(got.n == 6000)
local none, err = send { body = function()
    return nil, leat.error { kind = "io", message = "no more" }
end }
expect(none == nil and err.kind == "io", err)
got = expect(send { multipart = { text = "a", file = { file = path }, many = { "b",
    { content = "c", filename = "c.txt", type = "text/plain" } } } })
expect(got.n > 20000 and got.type:find "^multipart/form%-data")
none, err = send { body = { file = scratch .. "/none" } }
expect(none == nil and err.kind == "io", err)
server:close()
expect(os.remove(path))
return true
