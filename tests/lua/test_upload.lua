-- What is sent without being held whole: files, pull functions, multipart forms; and sinks.
local leat = require "leat"
local t = require "harness"
local ffi = require "ffi"
local bit = require "bit"

local url = t.url
local folder = os.getenv "TMPDIR" or "/tmp"
local names = {}

local function path_of(name)
    local path = ("%s/leat-upload-%s-%s"):format(folder, leat.uuid(), name)
    names[#names + 1] = path
    return path
end

local function write(name, text)
    local path = path_of(name)
    local f = assert(io.open(path, "wb"))
    f:write(text)
    f:close()
    return path
end

local function read(path)
    local f = io.open(path, "rb")
    if not f then
        return nil
    end
    local text = f:read "*a"
    f:close()
    return text
end

local function upload(options)
    options.url = options.url or url .. "/upload"
    local res, err = request(options)
    if not res then
        return nil, err
    end
    return assert(res:json())
end

local text = ("0123456789abcdef"):rep(20000)

-- ---- bodies

t.test("a file is sent with its length, and not held whole", function()
    local path = write("file", text)
    local got = assert(upload { body = { file = path } })
    t.eq(got.bytes, #text)
    t.eq(got.sha256, leat.sha256(text))
    t.eq(assert(upload { body = { file = write("empty", "") } }).bytes, 0)
    local echo = assert(request { url = url .. "/echo", body = { file = path } }):json()
    t.eq(echo.method, "POST")
    t.eq(echo.headers["content-length"], tostring(#text))
    t.eq(echo.headers["transfer-encoding"], nil)
    t.eq(echo.headers.expect, nil)
    echo = assert(request { url = url .. "/echo", method = "PUT", body = { file = path },
        headers = { ["Content-Type"] = "text/plain" } }):json()
    t.eq({ echo.method, echo.headers["content-type"] }, { "PUT", "text/plain" })
end)

t.test("a function is asked for one piece after the other, may wait, and is sent in chunks", function()
    local n = 0
    local echo = assert(request { url = url .. "/echo", body = function()
        n = n + 1
        sleep(0.001)
        return n <= 20 and ("piece %d;"):format(n) or nil
    end }):json()
    t.eq(echo.headers["transfer-encoding"], "chunked")
    t.ok(echo.body:find "^piece 1;piece 2;.*piece 20;$")
    t.eq(assert(upload { body = function() end }).bytes, 0)
    local sent = 0
    t.eq(assert(upload { body = function()
        sent = sent + 1
        return sent == 1 and "" or sent <= 40 and text or nil
    end }).bytes, 39 * #text)
end)

ffi.cdef [[
    struct leat_test_in { unsigned short family, port; unsigned char ip[4]; char zero[8]; };
    int socket(int, int, int);
    int setsockopt(int, int, int, const void *, unsigned);
    int bind(int, const void *, unsigned);
    int listen(int, int);
    int getsockname(int, void *, unsigned *);
    int accept(int, void *, unsigned *);
    long recv(int, void *, size_t, int);
    long send(int, const void *, size_t, int);
    int close(int);
]]

-- A server for one request of `total` bytes, of which it reads 128 KB every `pause` seconds.
local function slow_reader(total, pause)
    local fd = ffi.C.socket(2, 1 + 2048, 0) -- not blocking
    local at, size = ffi.new("struct leat_test_in", { family = 2 }), ffi.new("unsigned[1]", 16)
    at.ip[0], at.ip[3] = 127, 1
    ffi.C.setsockopt(fd, 1, 8, ffi.new("int[1]", 65536), 4) -- SO_RCVBUF: not megabytes in the kernel
    assert(ffi.C.bind(fd, at, 16) == 0 and ffi.C.listen(fd, 1) == 0)
    ffi.C.getsockname(fd, at, size)
    local buffer, seen = ffi.new "char[131072]", { bytes = 0 }
    local task = spawn(function()
        local peer = t.wait_until(function()
            local accepted = ffi.C.accept(fd, nil, nil)
            return accepted >= 0 and accepted
        end)
        ffi.C.close(fd)
        local head = 0
        repeat
            local n = tonumber(ffi.C.recv(peer, buffer, 131072, 0x40)) -- MSG_DONTWAIT
            seen.bytes = seen.bytes + math.max(n, 0)
            head = seen.bytes == n and #ffi.string(buffer, n):match "^.-\r\n\r\n" or head
            sleep(pause)
        until n == 0 or seen.bytes == head + total
        local answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nread"
        ffi.C.send(peer, answer, #answer, 0x4000)
        ffi.C.close(peer)
        return seen.bytes - head
    end)
    local port = bit.bor(bit.lshift(bit.band(at.port, 255), 8), bit.rshift(at.port, 8))
    return "http://127.0.0.1:" .. port, task, seen
end

t.test("a large body that goes out slowly is not idle; one that no longer moves is", function()
    local body = ("x"):rep(12 * 1024 * 1024)
    local slow, task = slow_reader(#body, 0.015)
    local started = leat.now()
    local res = assert(request { url = slow, body = body, timeout = { idle = 1, first_byte = 1 } })
    t.eq({ res.body, task:await() }, { "read", #body })
    t.ok(leat.now() - started > 1, "it was to take longer than the limit")
    local err = t.fails("timeout", upload { url = url .. "/upload?stall=1", body = body,
        timeout = { idle = 0.2, first_byte = 60 } })
    t.eq({ err.phase, err.limit, err.retryable }, { "idle", 0.2, true })
end)

t.test("a file that shrinks or grows while it is sent is a failure, never another body", function()
    for mode, says in pairs { wb = "the body ended after %d+ of 12582912 bytes",
        ab = "the body is longer than the 12582912 bytes it had at first" } do
        local path = write("changing", ("x"):rep(12 * 1024 * 1024))
        local slow, task, seen = slow_reader(math.huge, 0.01)
        local sending = spawn(request, { url = slow, body = { file = path } })
        t.wait_until(function() return seen.bytes > 0 end)
        local f = assert(io.open(path, mode))
        f:write(mode == "ab" and "more" or "")
        f:close()
        local err = t.fails("io", sending:await())
        t.ok(err.message:find(says), err.message)
        task:await()
    end
end)

t.test("a function is not asked for more than the server takes", function()
    local pieces = 0
    local v, err = wait_for(0.5, request, { url = url .. "/upload?stall=1", body = function()
        pieces = pieces + 1
        return text
    end })
    t.eq(v, nil)
    t.eq(err.kind, "timeout")
    t.ok(pieces * #text < 20e6, pieces)
end)

t.test("what the function fails with is the request's failure; a bug of it is raised", function()
    local err = t.fails("script", upload { body = function() return nil, "no more" end })
    t.eq(err.message, "no more")
    t.fails("invalid", upload { body = function()
        error(leat.error { kind = "invalid", message = "bad" })
    end })
    t.raises("oops", upload, { body = function() error "oops" end })
    t.raises("must return strings, and nil at the end; got 5", upload, { body = function() return 5 end })
    t.eq(leat.stats().engine.active, 0)
end)

t.test("a request that ends early stops asking", function()
    local n = 0
    local res = assert(request { url = url .. "/upload-early?status=413&linger=1", body = function()
        n = n + 1
        sleep(0.001)
        return text
    end })
    t.eq(res.status, 413)
    local before = n
    sleep(0.01)
    t.eq(n, before)
    t.fails("connect", upload { url = t.refused_url, body = function() return "x" end })
    t.fails("invalid", upload { url = "nonsense", body = function() return "x" end })
end)

t.test("a cancel stops an upload in the middle of it", function()
    local calls, ended = 0, false
    local v, err = wait_for(0.1, request, { url = url .. "/upload", body = function()
        calls = calls + 1
        if calls > 3 then
            leat.finally(function() sleep(10) end, function() ended = true end)
        end
        return "x"
    end })
    t.eq(v, nil)
    t.eq(err.kind, "timeout")
    t.ok(ended)
end)

t.test("while the function takes its time no limit of silence fires", function()
    local n = 0
    local got = assert(upload { timeout = { idle = 0.5, first_byte = 0.5 }, body = function()
        n = n + 1
        sleep(0.6)
        return n <= 2 and "x" or nil
    end })
    t.eq(got.bytes, 2)
end)

t.test("a file that cannot be opened is a failure before anything is sent", function()
    local err = t.fails("io", upload { body = { file = "/no/such/file" } })
    t.eq(err.reason, "not_found")
    t.ok(tostring(err):find "/no/such/file")
    t.fails("io", upload { multipart = { a = { file = "/no/such/file" } } })
end)

t.test("a piece by piece body is not sent again to where a redirect leads", function()
    local path = write("again", "hello")
    local err = t.fails("protocol", request { url = url .. "/redirect?code=307&to=/echo", follow = true,
        body = { file = path } })
    t.eq(err.reason, "redirect")
    local echo = assert(request { url = url .. "/redirect?code=303&to=/echo", follow = true,
        body = { file = path } }):json()
    t.eq({ echo.method, echo.body }, { "GET", "" })
end)

t.test("both directions at once: a stream is read while its body is sent", function()
    local n = 0
    local res = assert(request { url = url .. "/upload", stream = true, body = function()
        n = n + 1
        return n <= 5 and "abc" or nil
    end })
    t.eq(json.decode(res:read(10000)).bytes, 15)
end)

t.test("an upload over TLS", function()
    local got = assert(upload { url = t.tls_url .. "/upload", ca_file = t.ca_file,
        body = { file = write("tls", text) } })
    t.eq(got.sha256, leat.sha256(text))
end)

t.test("100 uploads at once", function()
    local path = write("many", text)
    local items = {}
    for i = 1, 100 do
        items[i] = i
    end
    local results = assert(leat.map(items, function()
        return upload { body = { file = path } }
    end, { limit = 30 }))
    for i = 1, 100 do
        t.eq(results[i].bytes, #text)
    end
end)

-- ---- multipart

local function parts_of(echo)
    local boundary = echo.headers["content-type"]:match "^multipart/form%-data; boundary=(%S+)$"
    local parts = {}
    for part in (echo.body:gsub("%-%-" .. boundary:gsub("%-", "%%-") .. "%-?%-?", "\1")):gmatch "[^\1]+" do
        if part ~= "\r\n" then
            parts[#parts + 1] = part
        end
    end
    return parts
end

t.test("a multipart form has fields, several of one name, files and types", function()
    local path = write("part", "file text")
    local echo = assert(request { url = url .. "/echo", multipart = {
        name = "value", n = 5, yes = true,
        list = { "one", "two" },
        file = { file = path, type = "text/plain" },
        blob = { content = "\0\255", filename = "a.bin" },
    } }):json()
    t.eq(tonumber(echo.headers["content-length"]), echo.body_length)
    local file_name = path:match "[^/]*$"
    t.eq(parts_of(echo), {
        '\r\nContent-Disposition: form-data; name="blob"; filename="a.bin"\r\n'
            .. 'Content-Type: application/octet-stream\r\n\r\n\0\195\191\r\n',
        '\r\nContent-Disposition: form-data; name="file"; filename="' .. file_name
            .. '"\r\nContent-Type: text/plain\r\n\r\nfile text\r\n',
        '\r\nContent-Disposition: form-data; name="list"\r\n\r\none\r\n',
        '\r\nContent-Disposition: form-data; name="list"\r\n\r\ntwo\r\n',
        '\r\nContent-Disposition: form-data; name="n"\r\n\r\n5\r\n',
        '\r\nContent-Disposition: form-data; name="name"\r\n\r\nvalue\r\n',
        '\r\nContent-Disposition: form-data; name="yes"\r\n\r\ntrue\r\n',
    })
end)

t.test("pairs keep an order, and without files a form is one string", function()
    local echo = assert(request { url = url .. "/echo",
        multipart = { { "z", 1 }, { "a", { content = "x", type = "text/x" } } } }):json()
    local parts = parts_of(echo)
    t.ok(parts[1]:find('name="z"', 1, true) and parts[2]:find "Content%-Type: text/x")
    echo = assert(request { url = url .. "/redirect?code=307&to=/echo", follow = true,
        multipart = { a = "b" } }):json()
    t.eq(#parts_of(echo), 1)
end)

t.test("names and types cannot smuggle anything into a form", function()
    local echo = assert(request { url = url .. "/echo", multipart = {
        ['a"\r\nX-Evil: 1'] = { content = "v", filename = 'f"\r\n.txt' } } }):json()
    t.ok(parts_of(echo)[1]:find('name="a%22%0D%0AX-Evil: 1"; filename="f%22%0D%0A.txt"', 1, true))
    t.fails("invalid", request { url = url, multipart = { a = { content = "x", type = "a\r\nb" } } })
end)

t.test("wrong use of bodies says what is accepted", function()
    t.raises("only one of the options 'body', 'json', 'form' and 'multipart'", request,
        { url = url, json = 1, multipart = {} })
    t.raises("option 'body' must be a string, {file=path} or a function, got 5", request,
        { url = url, body = 5 })
    t.raises("request: body: unknown option 'fil' (did you mean 'file'?)", request,
        { url = url, body = { fil = "x" } })
    t.raises("multipart 'a' must have either file=path or content=text", request,
        { url = url, multipart = { a = {} } })
    t.raises("multipart 'a' must be a string, a number, a boolean or a table", request,
        { url = url, multipart = { a = print } })
    t.raises("request: option 'sink' must be a string, got 5", request, { url = url, sink = 5 })
end)

-- ---- sinks

local function parts_left(path)
    local list = io.popen(("ls -a '%s'"):format(folder)):read "*a"
    return list:find((path:match "[^/]*$") .. ".part", 1, true)
end

t.test("a sink has all of the body, and the response says how much", function()
    local path = path_of "sink"
    local res = assert(request { url = url .. "/text?lines=5000", sink = path })
    t.eq({ res.status, res.body, res.sink, res.size, res.complete }, { 200, nil, path, 100000, true })
    t.eq(read(path), assert(request(url .. "/text?lines=5000")).body)
    res = assert(request { url = url .. "/gzip?lines=10", sink = path })
    t.eq(res.size, 200)
    t.eq(#read(path), 200)
    assert(request { url = url .. "/status?code=204", sink = path })
    t.eq(read(path), "")
end)

t.test("a sink keeps the old content until all of the new is there", function()
    local path = write("old", "old content")
    t.fails("closed", request { url = url .. "/reset-in-body", sink = path })
    t.eq(read(path), "old content")
    local v, err = wait_for(0.1, request, { url = url .. "/drip", sink = path })
    t.eq({ v, err.kind }, { nil, "timeout" })
    t.eq(read(path), "old content")
    local res = assert(request { url = url .. "/status?code=404", sink = path })
    t.eq({ res.status, res.body, res.sink }, { 404, "status\n", nil })
    t.eq(read(path), "old content")
    t.eq(parts_left(path), nil)
    t.fails("io", request { url = url .. "/ok", sink = "/no/such/folder/file" })
end)

t.test("a disk that is full is an error", function()
    t.fails("io", request { url = url .. "/ok", sink = "/dev/full/x" })
end)

t.test("a total timeout and max_body hold for a sink", function()
    local path = path_of "limits"
    local err = t.fails("timeout", request { url = url .. "/drip", sink = path, timeout = 0.2 })
    t.eq(err.phase, "total")
    t.fails("too_large", request { url = url .. "/text?lines=5000", sink = path, max_body = 1000 })
    t.eq(read(path), nil)
    t.eq(parts_left(path), nil)
end)

t.test("gigabytes up and down take no more memory than megabytes", function()
    local mb = os.getenv "LEAT_FULL" and 3000 or 300
    local path = path_of "large"
    local peak = leat.stats().memory_peak_bytes
    local res = assert(request { url = ("%s/pattern?bytes=%.0f&seed=1"):format(url, mb * 1e6), sink = path })
    t.eq(res.size, mb * 1e6)
    local got = assert(upload { body = { file = path } })
    t.eq(got.bytes, mb * 1e6)
    t.ok(leat.stats().memory_peak_bytes - peak < 8e6, leat.stats().memory_peak_bytes - peak)
    local rss = tonumber(read "/proc/self/status":match "VmHWM:%s*(%d+)")
    print(("# %d MB each way; peak resident size %.1f MB"):format(mb, rss / 1024))
end)

for _, path in ipairs(names) do
    os.remove(path)
end
t.done()
