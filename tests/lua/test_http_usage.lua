-- Wrong use raises at the script's own line, and says what was given and what is accepted.
local leat = require "leat"
local t = require "harness"

local url = t.url

local function raises(text, options)
    if options.url == nil then
        options.url = url .. "/ok"
    end
    local message = t.raises(text, function()
        request(options)
    end)
    t.ok(message:find "^[^\n]*test_http_usage%.lua:%d+: ", "names the script's line: " .. message)
    t.ok(message:find("request: ", 1, true), message)
end

t.test("an unknown option is named, with the one that was meant", function()
    raises("request: unknown option 'methd' (did you mean 'method'?)", { methd = "GET" })
    raises("request: unknown option 'header' (did you mean 'headers'?)", { header = {} })
    raises("request: unknown option 'time_out' (did you mean 'timeout'?)", { time_out = 1 })
    raises("request: unknown option 'retries'", { retries = 3 })
    raises("request: unknown option 'base_url'", { base_url = url })
    raises("request: unknown option 1", { 5 })
    raises("request: unknown option a table", { [{}] = 5 })
    raises("request: unknown option '" .. ("x"):rep(40), { [("x"):rep(1000)] = 5 })
end)

t.test("each option says which type it wants", function()
    local function f() end
    for name, row in pairs {
        method = { "string", 5 }, sink = { "string", {} }, ca_file = { "string", true },
        headers = { "table", "x" }, auth = { "table", "x" }, query = { "table", "x=1" },
        form = { "table", "x=1" }, follow = { "boolean", 1 }, idempotent = { "boolean", "yes" },
        insecure = { "boolean", 0 }, compressed = { "boolean", "gzip" },
    } do
        raises(("request: option '%s' must be a %s, got "):format(name, row[1]), { [name] = row[2] })
        raises(("request: option '%s' must be a %s, got a function"):format(name, row[1]), { [name] = f })
    end
    raises("request: option 'body' must be a string, {file=path} or a function, got ", { body = {} })
    raises("request: option 'body' must be a string, {file=path} or a function, got 5", { body = 5 })
    raises("or a function, got a table (json= and form= take one)", { body = { name = "x" } })
    for _, bad in ipairs { -1, 1.5, 0 / 0, 1 / 0, 2 ^ 54, "5" } do
        raises("request: option 'max_body' must be a whole number of at least 0, got ", { max_body = bad })
    end
    for _, bad in ipairs { -1, 101, 0.5, "5", false } do
        raises("request: option 'max_redirects' must be a whole number from 0 to 100, got ",
            { max_redirects = bad })
    end
    raises("request: option 'max_per_host' must be a whole number from 1 to 1000000, got 0",
        { max_per_host = 0 })
    raises("request: option 'http_version' must be '1.1', '2' or '2-prior', got '3'", { http_version = "3" })
    raises("request: option 'http_version' must be '1.1', '2' or '2-prior', got 2", { http_version = 2 })
end)

t.test("times must be numbers, not negative, and of a phase that exists", function()
    raises("request: option 'timeout' must be 0 or more seconds, got -1", { timeout = -1 })
    raises("request: option 'timeout' must be 0 or more seconds, got ", { timeout = 0 / 0 })
    raises("request: option 'timeout' must be a number of seconds, got '5'", { timeout = "5" })
    raises("request: timeout.total must be 0 or more seconds, got -0.5", { timeout = { total = -0.5 } })
    raises("request: timeout.queue must be a number of seconds, got true", { timeout = { queue = true } })
    raises("request: timeout: unknown option 'idel' (did you mean 'idle'?)", { timeout = { idel = 1 } })
    raises("request: timeout: unknown option 1", { timeout = { 5 } })
end)

t.test("headers, queries and forms say what cannot be sent", function()
    raises("request: the name of a header must be a string, got 1", { headers = { "a" } })
    raises("request: header 'X' must be a string, a number or a list of them, got true",
        { headers = { X = true } })
    raises("request: header 'X' must be a string, a number or a list of them, got a table",
        { headers = { X = { {} } } })
    raises("request: query parameter 'a' must be a string, a number, a boolean or a list of them, "
        .. "got a function", { query = { a = print } })
    raises("request: query parameter 'a' must be ", { query = { a = { {} } } })
    for what, spec in pairs {
        ["header 'A'"] = "headers", ["query parameter 'A'"] = "query", ["form field 'A'"] = "form",
        ["multipart 'A'"] = "multipart",
    } do -- nothing of what is given is left out in silence
        raises("request: " .. what .. " must be a list without holes, got one with the key 3",
            { [spec] = { A = { "1", [3] = "3" } } })
        raises("request: " .. what .. " must be a list without holes, got one with the key a string",
            { [spec] = { A = { "1", b = "3" } } })
    end
    raises("header 'A' must be a list without holes, got one with the key a string",
        { headers = { A = { b = 1 } } })
    raises("request: multipart field 1 must be a pair such as {\"name\", value}, got a string (not shown",
        { multipart = { "a" } })
    raises("request: the name of a multipart field must be a string, got 3",
        { multipart = { { "a", 1 }, [3] = { "c", 3 } } })
    raises("request: query parameter 1 must be a pair", { query = { "a" } })
    raises("request: form field 1 must be a pair", { form = { { "a" } } })
    raises("request: the name of a form field must be a string, got true", { form = { [true] = 1 } })
end)

t.test("auth says what it can be", function()
    raises("request: auth: unknown option 'baerer' (did you mean 'bearer'?)", { auth = { baerer = "x" } })
    raises("request: option 'auth' must have either bearer=", { auth = {} })
    raises("request: option 'auth' must have either bearer=", { auth = { bearer = "a", basic = "b:c" } })
    raises("request: auth.basic must be", { auth = { basic = { "user" } } })
    raises("request: auth.basic must be", { auth = { basic = "user" } })
    raises("request: auth: option 'bearer' must be a string, got 5", { auth = { bearer = 5 } })
end)

t.test("one body is enough", function()
    raises("request: only one of the options 'body', 'json', 'form' and", { body = "x", json = {} })
    raises("request: only one of the options 'body', 'json', 'form' and", { form = {}, json = {} })
    raises("request: only one of the options 'body', 'json', 'form' and", { body = "", form = {} })
end)

t.test("the target must be a URL or a table of options", function()
    t.raises("request: expected a URL or a table such as {url=\"https://...\"}, got nil", request)
    t.raises("request: expected a URL or a table such as {url=\"https://...\"}, got 5", request, 5)
    t.raises("request: option 'url' must be a string, got nil", request, {})
    t.raises("request: option 'url' must be a string, got 5", request, { url = 5 })
    t.raises("request: options go into one table with the URL", request, url, { timeout = 1 })
end)

t.test("a client takes no URL and no body, and is called with a colon", function()
    t.raises("client: options must be a table, got nil (as in leat.client{base_url=", leat.client)
    t.raises("client: options must be a table, got a string (not shown", leat.client, "http://x/")
    t.raises("client: unknown option 'url'", leat.client, { url = url })
    t.raises("client: unknown option 'json'", leat.client, { json = {} })
    t.raises("client: unknown option 'bas_url' (did you mean 'base_url'?)", leat.client, { bas_url = url })
    t.raises("client: option 'base_url' must be a string, got 5", leat.client, { base_url = 5 })
    t.raises("client: option 'timeout' must be 0 or more seconds, got -1", leat.client, { timeout = -1 })
    local api = assert(leat.client { base_url = url })
    t.raises("client:get: call it with a colon", api.get, "/ok")
    t.raises("client:request: call it with a colon", api.request, "/ok")
    t.raises("client:get: the URL must be a string, got nil", api.get, api)
    t.raises("client:get: the URL must be a string, got a table", api.get, api, { url = "/ok" })
    t.raises("may hold a secret) (as in api:post(url, {json={...}})", api.post, api, "/ok", "x")
    t.raises("client:post: the options must not have a url or a method", api.post, api, "/ok",
        { method = "GET" })
    t.raises("request: unknown option 'jsn' (did you mean 'json'?)", api.post, api, "/ok", { jsn = {} })
    t.raises("request: option 'url' must be a string, got nil", api.request, api, {})
end)

t.test("a base_url that is no URL fails as data", function()
    t.fails("invalid", leat.client { base_url = "api.example.com/v1" })
    t.fails("invalid", leat.client { base_url = "" })
    t.fails("invalid", leat.client { headers = { ["bad name"] = "1" } })
    t.fails("invalid", leat.client { auth = { basic = { "us:er", "p" } } })
end)

t.test("a raise in the middle of the options leaves nothing behind", function()
    for _ = 1, 100 do
        pcall(request, { url = url, headers = { A = ("x"):rep(1000), B = true }, body = ("x"):rep(10000) })
    end
    t.eq(assert(request(url .. "/ok")).status, 200)
end)

t.test("a request where no task can wait is refused with the reason", function()
    t.raises("request: cannot wait inside", table.sort, { 2, 1, 3 }, function()
        return request(url .. "/ok") ~= nil
    end)
    t.raises("request: cannot wait inside", print, setmetatable({}, {
        __tostring = function() return request(url .. "/ok").body end,
    }))
end)

t.test("a finalizer that sends a request does not disturb the one being made", function()
    local tried = 0
    local function litter()
        local object = newproxy(true)
        getmetatable(object).__gc = function()
            tried = tried + 1
            pcall(request, { url = url .. "/ok", headers = { a = "b" } })
        end
    end
    for i = 1, 200 do
        litter()
        local got = assert(request { url = url .. "/echo", query = { i = i }, json = { i } }):json()
        t.eq(got.query, "i=" .. i)
    end
    collectgarbage()
    t.ok(tried > 100)
end)

t.test("a request works inside a coroutine of the script's own", function()
    local pages = coroutine.wrap(function()
        for i = 1, 3 do
            coroutine.yield(assert(request { url = url .. "/echo", query = { i = i } }):json().query)
        end
    end)
    t.eq({ pages(), pages(), pages() }, { "i=1", "i=2", "i=3" })
end)

t.done()
