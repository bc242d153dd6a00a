-- A request can be called off in each of its phases: at once, its connection closed, its place given back.
local leat = require "leat"
local generator = require "random"
local t = require "harness"

local url = t.url

local function engine()
    return leat.stats().engine
end

local function in_flight(path)
    local seen = t.stats().paths[path]
    return seen and seen.in_flight or 0
end

local FULL = os.getenv "LEAT_FULL" ~= nil
local slowest = 0

-- Cancels the task; how many turns passed until its end was seen. In the long form (LEAT_FULL), which needs a
-- machine that has nothing else to do, more than 10 ms are a failure, too.
local function turns_to_end(task)
    local turns = 0
    local ticker = spawn(function()
        while true do
            sleep(0)
            turns = turns + 1
        end
    end)
    sleep(0)
    local before, first = leat.now(), turns
    task:cancel "not needed any more"
    local _, err = task:await()
    local took, last = leat.now() - before, turns
    ticker:cancel()
    slowest = math.max(slowest, took)
    if FULL then t.ok(took <= 0.01, took) end
    return last - first, err
end

-- Starts a request, waits until `reached()`, cancels it; the awaiter sees the cancel, the engine is empty.
-- `target`: what is requested, or a function that does it.
local function cancel_when(reached, target)
    local task = type(target) == "function" and spawn(target) or spawn(request, target)
    t.wait_until(reached)
    t.eq(task:status(), "waiting")
    local turns, err = turns_to_end(task)
    t.fails("cancelled", nil, err)
    t.ok(turns <= 3, turns .. " turns")
    t.eq(task:status(), "cancelled")
    t.eq(engine().on_network, 0)
    t.eq(engine().active, 0)
    return err
end

t.test("cancelled before it was submitted: nothing is sent", function()
    t.stats_reset()
    local task = spawn(request, url .. "/never")
    task:cancel()
    t.fails("cancelled", task:await())
    local inner = spawn(function()
        pcall(sleep, 10) -- swallows the cancel
        return request(url .. "/never")
    end)
    sleep(0)
    inner:cancel()
    t.fails("cancelled", inner:await())
    t.eq(in_flight "/never", 0)
end)

t.test("cancelled in the queue: the request is never sent, the place is given back", function()
    t.stats_reset()
    local api = assert(leat.client { base_url = url, max_per_host = 1 })
    local first = spawn(function() return api:get "/never" end)
    t.wait_until(function() return engine().on_network == 1 end)
    local second = spawn(function() return api:get "/echo" end)
    local third = spawn(function() return api:get "/ok" end)
    t.wait_until(function() return engine().queued == 2 end)
    second:cancel()
    t.fails("cancelled", second:await())
    t.eq(engine().queued, 1)
    first:cancel()
    t.eq(assert(third:await()).body, "ok\n")
    t.eq(t.stats().paths["/echo"], nil)
end)

t.test("cancelled during the look-up: at once, though the look-up goes on", function()
    local slow = url:gsub("127%.0%.0%.1", "slow2.test")
    cancel_when(function() return engine().resolving == 1 end, slow .. "/ok")
    t.wait_until(function() return engine().resolving == 0 end)
end)

t.test("cancelled while connecting", function()
    cancel_when(function() return engine().on_network == 1 end, t.backlog_url .. "/")
end)

t.test("cancelled in the TLS handshake", function()
    local open = t.stats().connections_open
    cancel_when(function() return t.stats().connections_open > open end, t.silent_url .. "/")
    t.wait_until(function() return t.stats().connections_open == open end)
end)

t.test("cancelled while it waits for the head: the server sees the connection close", function()
    t.stats_reset()
    cancel_when(function() return in_flight "/never" == 1 end, url .. "/never")
    t.wait_until(function() return t.stats().paths["/never"].aborted == 1 end)
    t.eq(in_flight "/never", 0)
end)

t.test("cancelled in the body: the server sees the connection close", function()
    t.stats_reset()
    cancel_when(function() return in_flight "/stall-body" == 1 end, url .. "/stall-body")
    t.wait_until(function() return t.stats().paths["/stall-body"].aborted == 1 end)
end)

t.test("cancelled while a large body is on its way", function()
    t.stats_reset()
    local sent = 0
    cancel_when(function()
        sent = sent + 1
        return engine().on_network == 1 and sent > 3
    end, { url = t.silent_url:gsub("https", "http") .. "/", body = ("x"):rep(8 * 2 ^ 20) })
end)

t.test("cancelled while a proxy is asked for the way", function()
    local silent = t.silent_url:gsub("https://", "")
    for _, proxy in ipairs { "http://", "socks5h://" } do
        local open = t.stats().connections_open
        local target = { url = "https://far.test/", proxy = proxy .. silent }
        cancel_when(function() return t.stats().connections_open > open end, target)
        t.wait_until(function() return t.stats().connections_open == open end)
    end
end)

t.test("cancelled while another makes the connection it waits for: the other goes on, and vice versa",
    function()
        for _, first in ipairs { 1, 2 } do
            local open = t.stats().connections_open
            local tasks = {}
            for i = 1, 2 do
                tasks[i] = spawn(request, t.silent_url .. "/")
                t.wait_until(function() return engine().on_network == i end)
            end
            t.ok(turns_to_end(tasks[first]) <= 3)
            t.eq(engine().on_network, 1)
            t.wait_until(function() return t.stats().connections_open == open + 1 end)
            t.ok(turns_to_end(tasks[3 - first]) <= 3)
            t.eq(engine().on_network, 0)
            t.wait_until(function() return t.stats().connections_open == open end)
        end
    end)

t.test("cancelled while an upload has nothing to send", function()
    t.stats_reset()
    local asked = false
    cancel_when(function() return asked end, { url = url .. "/upload", method = "POST", body = function()
        asked = true
        sleep(3600)
    end })
end)

t.test("cancelled between the events of a stream", function()
    t.stats_reset()
    local got = 0
    cancel_when(function() return got == 1 end, function()
        local res = assert(request { url = url .. "/tokens?n=2&ms=3600000&first=0", stream = true })
        for _ in res:events() do
            got = got + 1
        end
    end)
end)

t.test("cancelled behind a redirect, and in the pause of a retry", function()
    t.stats_reset()
    cancel_when(function() return in_flight "/never" == 1 end, url .. "/redirect?to=/never")
    local retry = leat.retry { base = 3600, max = 3600, jitter = "none" }
    local function paused()
        local seen = t.stats().paths["/status"]
        return seen and seen.requests == 1 and engine().on_network == 0
    end
    cancel_when(paused, function()
        return retry:call(request, { url = url .. "/status?code=503", expect = "2xx" })
    end)
end)

t.test("cancelled in the same turn as the answer: nothing is lost or freed twice", function()
    for _ = 1, 20 do
        local jobs = {}
        for i = 1, 30 do
            jobs[i] = function() return request(url .. "/ok") end
        end
        t.eq(assert(leat.race(jobs)).status, 200)
    end
end)

t.test("wait_for ends a request in each phase", function()
    local slow = url:gsub("127%.0%.0%.1", "slow3.test")
    for _, target in ipairs {
        slow .. "/ok", t.backlog_url .. "/", t.silent_url .. "/", url .. "/never", url .. "/stall-body",
        url .. "/redirect?to=/never",
    } do
        local err = t.fails("timeout", wait_for(0.05, request, target))
        t.eq(err.limit, 0.05)
    end
    t.wait_until(function() return engine().resolving == 0 end)
end)

t.test("of two limits the earlier one counts", function()
    local err = t.fails("timeout", wait_for(60, request, { url = url .. "/never", timeout = 0.05 }))
    t.eq(err.phase, "total")
    err = t.fails("timeout", wait_for(0.05, request, { url = url .. "/never", timeout = 60 }))
    t.eq(err.limit, 0.05)
    t.eq(err.phase ~= "idle", true)
    err = t.fails("timeout", wait_for(60, function()
        return wait_for(0.05, request, url .. "/never")
    end))
    t.eq(err.limit, 0.05)
end)

t.test("1,000 requests cancelled at odd moments leave nothing, and the next one works", function()
    local random = generator(12345)
    local paths = { "/ok", "/never", "/stall-body", "/delay?ms=2", "/redirect?n=3", "/gzip", "/text" }
    local n = 0
    local sum = leat.each(function()
        n = n + 1
        return n <= 1000 and n or nil
    end, function()
        return wait_for((random(8) - 1) / 1000, request, url .. paths[random(#paths)])
    end, { limit = 50 })
    t.eq(sum.ok + sum.failed, 1000)
    t.eq(engine().on_network, 0)
    t.eq(assert(request(url .. "/ok")).status, 200)
end)

t.test("a cancel that is swallowed comes again at the next request", function()
    local raised = {}
    local task = spawn(function()
        for i = 1, 3 do
            local ok, err = pcall(request, url .. "/never")
            raised[i] = not ok and err.kind
        end
        return "survived"
    end)
    t.wait_until(function() return engine().on_network == 1 end)
    task:cancel()
    task:await()
    t.eq(raised, { "cancelled", "cancelled", "cancelled" })
end)

t.test("a clean-up may send a request of its own", function()
    t.stats_reset()
    local task = spawn(function()
        return leat.finally(function() return request(url .. "/never") end,
            function() return request(url .. "/ok") end)
    end)
    t.wait_until(function() return in_flight "/never" == 1 end)
    task:cancel()
    t.fails("cancelled", task:await())
    t.eq(t.stats().paths["/ok"].requests, 1)
end)

t.test("a failing sibling calls the others off", function()
    t.stats_reset()
    local none, err = gather {
        function() return request(url .. "/never") end,
        function() return request(url .. "/stall-body") end,
        function()
            t.wait_until(function() return in_flight "/never" == 1 end)
            return request(t.refused_url .. "/")
        end,
    }
    t.fails("connect", none, err)
    t.wait_until(function() return in_flight "/never" == 0 and in_flight "/stall-body" == 0 end)
end)

t.test("tasks() says which request a task waits for, without secrets", function()
    local task = spawn(request, { url = url .. "/never?api_key=hunter2", method = "DELETE" })
    sleep(0)
    sleep(0)
    local text = tostring(leat.tasks())
    t.ok(text:find("waiting in request (DELETE " .. url .. "/never", 1, true), text)
    t.ok(not text:find "hunter2", text)
    task:cancel()
end)

if FULL then print(("the slowest cancel took %.2f ms"):format(slowest * 1000)) end
t.done()
