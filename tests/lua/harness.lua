--- The harness of the Lua tests: each tests/lua/test_*.lua is one program.
---
--- ```lua
--- local t = require "harness"
--- t.test("a sum is right", function() t.eq(1 + 1, 2) end)
--- t.done()
--- ```
---
--- After each test the runtime must be as empty as before it: tasks, timers, transfers, handles and
--- file descriptors.
local leat = require "leat"
local ffi = require "ffi"

local harness = {}

local filter = os.getenv("LEAT_TEST_FILTER") or ""
local passed, failed = 0, 0
local current -- the test that runs: { failures = {...} }

--- Where the fault server listens (see tests/server/faultd.c); each is nil without tests/with_faultd.sh.
harness.url = os.getenv("FAULT_URL")
harness.tls_url = os.getenv("FAULT_TLS_URL")
harness.tls_expired_url = os.getenv("FAULT_TLS_EXPIRED_URL")
harness.tls_wrong_host_url = os.getenv("FAULT_TLS_WRONG_HOST_URL")
harness.silent_url = os.getenv("FAULT_SILENT_URL") -- https; accepts and never speaks
harness.refused_url = os.getenv("FAULT_REFUSED_URL")
harness.backlog_url = os.getenv("FAULT_BACKLOG_URL") -- connecting hangs
harness.ca_file = os.getenv("FAULT_CA")
harness.mtls_url = os.getenv("FAULT_MTLS_URL") -- wants a client certificate
harness.client_cert, harness.client_key = os.getenv("FAULT_CLIENT_CERT"), os.getenv("FAULT_CLIENT_KEY")
harness.flaky_url = os.getenv("FAULT_FLAKY_URL")
harness.proxy_url, harness.proxy_auth_url = os.getenv("FAULT_PROXY_URL"), os.getenv("FAULT_PROXY_AUTH_URL")
harness.socks_url, harness.socks_auth_url = os.getenv("FAULT_SOCKS_URL"), os.getenv("FAULT_SOCKS_AUTH_URL")
harness.v6_url = os.getenv("FAULT_V6_URL") -- "" where the machine has no ::1
harness.unix_socket = os.getenv("FAULT_UNIX_SOCKET")

-- ---- showing and comparing values

local function show(v, depth)
    if type(v) == "string" then
        return #v > 200 and ("%q... (%d bytes)"):format(v:sub(1, 200), #v) or ("%q"):format(v)
    end
    local meta = type(v) == "table" and getmetatable(v)
    if type(v) ~= "table" or (meta and meta.__tostring) then return tostring(v) end
    if (depth or 0) >= 3 then return "{...}" end
    local parts = {}
    for k, x in pairs(v) do
        if #parts == 12 then parts[13] = "..." break end
        local key = type(k) == "string" and k or "[" .. tostring(k) .. "]"
        parts[#parts + 1] = key .. " = " .. show(x, (depth or 0) + 1)
    end
    return "{" .. table.concat(parts, ", ") .. "}"
end

-- The path to the first difference, or nil.
local function difference(a, b, path)
    if rawequal(a, b) or (a ~= a and b ~= b) then return nil end
    if type(a) ~= "table" or type(b) ~= "table" then
        if a == b then return nil end
        return ("%sis %s, expected %s"):format(path == "" and "" or path .. " ", show(a), show(b))
    end
    for k, v in pairs(a) do
        local d = difference(v, b[k], path .. "[" .. tostring(k) .. "]")
        if d then return d end
    end
    for k, v in pairs(b) do
        if a[k] == nil then
            return ("%s[%s] is nil, expected %s"):format(path, tostring(k), show(v))
        end
    end
end

-- ---- assertions: recorded as well as raised, so that a pcall in the test cannot hide one

-- "file:line: " of the innermost frame that is the test's own.
local function where_in_test()
    for level = 3, 30 do
        local info = debug.getinfo(level, "Sl")
        if not info then break end
        if info.currentline > 0 and not info.short_src:find("harness.lua", 1, true) then
            return ("%s:%d: "):format(info.short_src, info.currentline)
        end
    end
    return ""
end

local function fail(message)
    local where = where_in_test()
    if current then current.failures[#current.failures + 1] = where .. message end
    error(where .. message, 0)
end

--- Fails the test unless `v` is true-like. Returns v.
function harness.ok(v, message)
    if not v then fail(message and tostring(message) or "expected a true value, got " .. show(v)) end
    return v
end

--- Fails the test unless a equals b, tables by their content.
function harness.eq(a, b, message)
    local d = difference(a, b, "")
    if d then fail((message and message .. ": " or "") .. d) end
end

--- Fails the test unless a is within `rel` (0.1 unless said) of b, as a share of b.
function harness.near(a, b, rel)
    if type(a) ~= "number" or math.abs(a - b) > (rel or 0.1) * math.abs(b) then
        fail(("is %s, expected %s within %g %%"):format(show(a), show(b), (rel or 0.1) * 100))
    end
end

--- Fails the test unless `v, err` is a failure of this kind. Returns err.
function harness.fails(kind, v, err)
    if v ~= nil or type(err) ~= "table" then
        fail(("expected a failure of kind %s, got %s, %s"):format(kind, show(v), show(err)))
    elseif err.kind ~= kind then
        fail(("expected kind %s, got %s: %s"):format(kind, tostring(err.kind), tostring(err)))
    end
    return err
end

--- Fails the test unless fn(...) raises and the message holds `text` (plain, or a Lua pattern).
--- Returns what was raised.
function harness.raises(text, fn, ...)
    local ran, raised = pcall(fn, ...)
    if ran then fail(("expected a raise with %q, it returned %s"):format(text, show(raised))) end
    local message = tostring(raised)
    if not message:find(text, 1, true) then
        local valid, found = pcall(string.find, message, text)
        if not (valid and found) then
            fail(("expected a raise with %q, got %s"):format(text, message))
        end
    end
    return raised
end

--- Seconds that fn(...) takes, and its first two results.
function harness.took(fn, ...)
    local start = leat.now()
    local a, b = fn(...)
    return leat.now() - start, a, b
end

-- ---- the witness

local function witness(path)
    local res = assert(leat.request(harness.url .. path))
    return assert(res:json())
end

--- The fault server's counters: requests, in_flight, peak_in_flight, aborted, connections,
--- connections_open, connections_peak, and the first four by path in `paths`.
function harness.stats() return witness("/stats") end

--- Sets the fault server's counters to zero.
function harness.stats_reset() assert(leat.request(harness.url .. "/stats/reset")) end

--- How many requests with the header X-Id: id the fault server has seen.
function harness.seen(id) return witness("/seen?id=" .. id).count end

--- Returns the path of an empty file of the test's own, in memory where that can be had. For what syncs each
--- line: the virtual clock stands still for that.
function harness.memory_path()
    local path = os.tmpname()
    local shared = "/dev/shm/" .. path:match "[^/]*$"
    local probe = io.open(shared, "w")
    if not probe then return path end
    probe:close()
    os.remove(path)
    return shared
end

--- Waits until fn() is true-like, and returns that; fails the test after `seconds` (60; LEAT_PATIENCE times
--- that).
function harness.wait_until(fn, seconds)
    local deadline = leat.now() + (seconds or 60) * (tonumber(os.getenv "LEAT_PATIENCE") or 1)
    repeat
        local v = fn()
        if v then return v end
        leat.sleep(0.002)
    until leat.now() > deadline
    fail("waited in vain")
end

-- ---- emptiness

ffi.cdef [[
    struct leat_test_entry { uint64_t inode; int64_t offset; uint16_t size; uint8_t kind; char name[256]; };
    void *opendir(const char *path);
    struct leat_test_entry *readdir64(void *folder);
    int closedir(void *folder);
    long readlink(const char *path, char *buf, size_t size);
]]

-- Open descriptors: sockets, others.
local link = ffi.new("char[256]")
local function count_fds()
    local sockets, others = 0, -1 -- the folder itself is open, too
    local folder = ffi.C.opendir "/proc/self/fd"
    while true do
        local entry = ffi.C.readdir64(folder)
        if entry == nil then break end
        local n = ffi.C.readlink("/proc/self/fd/" .. ffi.string(entry.name), link, 256)
        if n > 0 then -- not "." and ".."
            if ffi.string(link, n):find("^socket:") then sockets = sockets + 1 else others = others + 1 end
        end
    end
    ffi.C.closedir(folder)
    return sockets, others
end

--- How many sockets are open, and how many other descriptors.
harness.descriptors = count_fds

-- What in leat.stats() counts things alive now; all else there only ever grows, or is a size.
local gauges = {
    live = true, tasks = true, timers = true, transfers = true, pending = true, queued = true,
    active = true, resolving = true, on_network = true, events_waiting = true, handles = true,
    refs = true, external = true, servers = true,
}

local function snapshot()
    local now = {}
    local function walk(t, path)
        for k, v in pairs(t) do
            if type(v) == "table" then
                walk(v, path .. k .. ".")
            elseif type(v) == "number" and gauges[k] then
                now[path .. k] = v
            end
        end
    end
    local stats = leat.stats()
    walk(stats, "")
    local sockets
    sockets, now.fds = count_fds()
    -- Idle kept-alive connections are the engine's to keep; how many it has it says itself.
    local idle = stats.engine and (stats.engine.connections_open or stats.engine.idle_connections)
    if idle then now.sockets = math.max(0, sockets - idle) end
    return now
end

local function grown(before, after)
    local list = {}
    for name, n in pairs(after) do
        if n > (before[name] or 0) then
            list[#list + 1] = ("%s %d (before: %d)"):format(name, n, before[name] or 0)
        end
    end
    table.sort(list)
    return list
end

-- Handles close a turn or two after they were let go, so look again for a while.
local function left_behind(before)
    local list
    for turn = 1, 1000 do
        collectgarbage()
        collectgarbage()
        list = grown(before, snapshot())
        if #list == 0 then return list end
        leat.sleep(turn < 20 and 0 or 0.01)
    end
    return list
end

-- ---- running

-- What the first request makes once and for all is part of every test's "before".
if harness.url then pcall(function() leat.request(harness.url .. "/ok") end) end

--- Runs one test: fn() in a task of its own. It fails by an assertion, by a raise, by returning
--- `nil, err`, or by leaving something behind.
function harness.test(name, fn)
    if not name:find(filter, 1, true) then return end
    collectgarbage()
    local before = snapshot()
    current = { failures = {} }
    local failures = current.failures
    local task = leat.spawn(function()
        local traced, value, err = xpcall(fn, function(raised)
            if type(raised) == "table" then return raised end
            return debug.traceback(tostring(raised), 2)
        end)
        if not traced then error(value, 0) end
        return value, err
    end)
    local ran, value, err = pcall(function() return task:await() end)
    if not ran then
        if #failures == 0 then failures[1] = tostring(value) end
    elseif value == nil and err ~= nil then
        failures[#failures + 1] = "it returned nil, " .. tostring(err)
    end
    task = nil -- luacheck: ignore
    local left = left_behind(before)
    if #left > 0 then failures[#failures + 1] = "left behind: " .. table.concat(left, ", ") end
    current = nil
    if #failures == 0 then
        passed = passed + 1
        io.write("ok ", name, "\n")
    else
        failed = failed + 1
        for _, message in ipairs(failures) do
            io.write("  ", (message:gsub("\n", "\n  ")), "\n")
        end
        io.write("FAIL ", name, "\n")
    end
    io.flush()
end

--- The list 1, 2 ... n.
function harness.numbers(n)
    local list = {}
    for i = 1, n do list[i] = i end
    return list
end

--- Opens a stream from the fault server.
function harness.stream(path, options)
    options = options or {}
    options.url, options.stream = harness.url .. path, true
    return assert(request(options))
end

--- Opens a stream that plays `body` back.
function harness.play(body, query)
    return harness.stream("/play?" .. (query or ""), { body = body })
end

--- The last line of a test program: prints the verdict and fails the program if a test failed.
function harness.done()
    io.write(passed, " passed, ", failed, " failed\n")
    io.flush()
    os.exit(failed > 0 and 1 or 0) -- never 4, as where all items of some pipeline failed on purpose
end

return harness
