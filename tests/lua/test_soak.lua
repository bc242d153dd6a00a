-- Everything that a request can be, for long, one in twenty of them broken: memory, descriptors and tasks
-- stay level. The short form runs with the other tests; a million requests take some minutes:
--
--     LEAT_FULL=1 tests/with_faultd.sh build/leat tests/lua/test_soak.lua
local leat = require "leat"
local t = require "harness"

local full = os.getenv "LEAT_FULL"
local step = full and 84000 or 1000
local total = 12 * step
local url, tls = t.url, t.tls_url
local scratch = os.tmpname()

local function resident_kb()
    local f = assert(io.open "/proc/self/status")
    local kb = tonumber(f:read("*a"):match "VmRSS:%s+(%d+)")
    f:close()
    return kb
end

local function descriptors()
    local n = 0
    for fd = 0, 4095 do
        local f = io.open("/proc/self/fdinfo/" .. fd)
        if f then
            n = n + 1
            f:close()
        end
    end
    return n
end

local function read_all(iterator)
    local n = 0
    for _ in iterator do n = n + 1 end
    return n > 0
end

local function ok(res, err)
    if not res then return nil, err end
    if not res.ok then return nil, leat.error { kind = "http", message = "status " .. res.status } end
    return true
end

local kinds = {
    function() return ok(request(url .. "/ok")) end,
    function(i) return ok(request { url = url .. "/echo", method = "POST", json = { i, { n = i } } }) end,
    function() return ok(request(url .. "/gzip")) end,
    function() return ok(request(url .. "/redirect?to=/ok")) end,
    function() return ok(request { url = tls .. "/ok", ca_file = t.ca_file }) end,
    function(i)
        local parts = { a = "1", b = ("x"):rep(i % 999) }
        return ok(request { url = url .. "/upload", method = "POST", multipart = parts })
    end,
    function() return ok(request { url = url .. "/text", sink = scratch }) end,
    function()
        local res, err = request { url = url .. "/tokens?n=5&ms=0", stream = true }
        if not res then return nil, err end
        return read_all(res:events())
    end,
    function()
        local res, err = request { url = url .. "/lines?n=20", stream = true }
        if not res then return nil, err end
        return read_all(res:lines())
    end,
    function() -- left unread
        local res, err = request { url = url .. "/large?mb=1", stream = true }
        if not res then return nil, err end
        res:close()
        return true
    end,
    function()
        local _, err = wait_for(0.002, request, url .. "/never")
        return err.kind == "timeout"
    end,
    function()
        local task = spawn(request, url .. "/slow-body?chunks=3&ms=1")
        sleep(0)
        task:cancel()
        task:await()
        return true
    end,
}
local broken = { "/reset-before-head", "/reset-in-body", "/trunc-chunk", "/gzip-cut", "/status?code=503",
    "/empty-reply" }

local outcomes = { fine = 0, broken = 0, surprises = 0 }
local function one(i)
    if i % 20 == 0 then
        local done = ok(request { url = url .. broken[i / 20 % #broken + 1] })
        outcomes.broken = outcomes.broken + 1
        if done then outcomes.surprises = outcomes.surprises + 1 end
        return true
    end
    local done, err = kinds[i % #kinds + 1](i)
    if done then
        outcomes.fine = outcomes.fine + 1
        return true
    end
    outcomes.surprises = outcomes.surprises + 1
    return nil, err
end

local i = 0
local function run(n)
    local last = i + n
    local counts = leat.each(function()
        if i >= last then return nil end
        i = i + 1
        return i
    end, one, { limit = 100 })
    t.eq(counts.first_error, nil)
    t.wait_until(function()
        local stats = leat.stats()
        return stats.engine.pending == 0 and stats.external == 0
    end)
    collectgarbage()
    collectgarbage()
    return { kb = resident_kb(), lua = leat.stats().memory_bytes, fds = descriptors(), tasks = #leat.tasks() }
end

t.test(total .. " requests of every kind, one in twenty broken, leave everything level", function()
    run(step)
    local first = run(step)
    local last
    for _ = 1, 10 do
        last = run(step)
        if full then
            io.stderr:write(("%d requests: %.1f MB resident, %.1f MB ours, %d descriptors\n"):format(i,
                last.kb / 1024, last.lua / 1e6, last.fds))
        end
    end
    t.eq(outcomes.surprises, 0)
    t.eq(outcomes.fine + outcomes.broken, i)
    t.eq(last.tasks, first.tasks)
    t.ok(last.fds < first.fds + 50, ("%d, then %d"):format(first.fds, last.fds)) -- some are connections kept
    t.ok(last.lua - first.lua < 512 * 1024, ("%d bytes, then %d"):format(first.lua, last.lua))
    if full then t.ok(last.kb - first.kb < 1024, ("%d KB, then %d"):format(first.kb, last.kb)) end
end)

os.remove(scratch)
t.done()
