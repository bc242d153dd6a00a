-- Many at once, and many cancelled. The short form runs with the other tests; the long one takes a minute or
-- two and is the one to run before a release:
--
--     LEAT_FULL=1 tests/with_faultd.sh build/leat tests/lua/test_load.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"

local full = os.getenv "LEAT_FULL"
local url = t.url

local function peak_kb()
    local file = assert(io.open "/proc/self/status")
    local text = file:read "*a"
    file:close()
    return tonumber(text:match "VmHWM:%s*(%d+)")
end

local function idle(stats)
    local e = stats.engine
    return e.pending == 0 and e.queued == 0 and e.active == 0 and e.on_network == 0 and e.resolving == 0
end

local in_flight = full and 10000 or 1500

t.test(in_flight .. " requests in flight at once all succeed", function()
    t.stats_reset()
    local hold = url .. "/hold?ms=" .. 2000 * (tonumber(os.getenv "LEAT_PATIENCE") or 1)
    local items = {}
    for i = 1, in_flight do
        items[i] = i
    end
    local counts = leat.each(items, function()
        local res, err = request(hold)
        if not res then
            return nil, err
        end
        t.eq(res.status, 200)
        return true
    end, { limit = in_flight })
    t.eq(counts.first_error, nil)
    t.eq(counts.ok, in_flight)
    t.ok(t.stats().peak_in_flight > in_flight * 0.8, "peak " .. t.stats().peak_in_flight)
    io.stderr:write(("%d in flight: peak memory %.0f MB\n"):format(in_flight, peak_kb() / 1024))
    if full then
        t.ok(peak_kb() < 250 * 1024, peak_kb() .. " KB")
    end
end)

local cancelled_total = full and 100000 or 3000

t.test(cancelled_total .. " requests cancelled at random moments leave nothing behind", function()
    local random = generator(20)
    local paths = { "/ok", "/hold?ms=20", "/never", "/slow-head?ms=30", "/slow-body?chunks=5&ms=5", "/gzip",
        "/redirect?to=/ok", "/large?mb=1" }
    local refused = os.getenv "FAULT_BACKLOG_URL"
    local outcomes = { ok = 0, failed = 0, cancelled = 0 }
    local i = 0
    leat.each(function()
        i = i + 1
        return i <= cancelled_total and i or nil
    end, function()
        local path = paths[random(#paths)]
        local target = random(40) == 1 and refused or url .. path
        local task = spawn(request, { url = target, max_per_host = random(3) == 1 and 20 or nil,
            timeout = 20 })
        local moment = random(12)
        if moment > 2 then
            sleep(moment > 4 and (random(40) - 1) / 1000 or 0)
        end
        task:cancel()
        local _, err = task:await()
        local key = not err and "ok" or err.kind == "cancelled" and "cancelled" or "failed"
        outcomes[key] = outcomes[key] + 1
        return true
    end, { limit = 200 })
    t.eq(outcomes.ok + outcomes.failed + outcomes.cancelled, cancelled_total)
    t.ok(outcomes.cancelled > cancelled_total / 2, "cancelled " .. outcomes.cancelled)
    t.wait_until(function() return idle(leat.stats()) end)
    local stats = leat.stats()
    t.eq(stats.timers, 0)
    t.eq(assert(request(url .. "/ok")).status, 200)
    -- The witness agrees: its side of every cancelled request is closed.
    t.wait_until(function() return t.stats().in_flight <= 1 end)
    io.stderr:write(("%d answered, %d failed, %d cancelled\n"):format(outcomes.ok, outcomes.failed,
        outcomes.cancelled))
end)

t.test("a cancel returns at once in every phase, a hanging look-up included, and the loop goes on", function()
    local never = url .. "/never"
    local phases = {
        ["name look-up"] = "http://slow.test/",
        connect = os.getenv "FAULT_BACKLOG_URL",
        tls = os.getenv "FAULT_SILENT_URL",
        head = never,
        body = url .. "/stall-body",
    }
    local longest = 0
    for phase, target in pairs(phases) do
        local ticks = 0
        local ticker = spawn(function()
            while true do
                sleep(0)
                ticks = ticks + 1
            end
        end)
        local began, task = leat.now(), spawn(request, target)
        t.wait_until(function()
            return ticks > 10 and leat.now() - began > 0.05 and task:status() == "waiting"
        end)
        local before = leat.now()
        local ticks_before = ticks
        task:cancel()
        t.fails("cancelled", task:await())
        longest = math.max(longest, leat.now() - before)
        t.ok(ticks - ticks_before < 1000, phase) -- a few turns, not a wait
        ticker:cancel()
        ticker:await()
    end
    io.stderr:write(("longest cancel: %.2f ms\n"):format(longest * 1000))
    t.wait_until(function() return leat.stats().engine.resolving == 0 end) -- the system's, in its thread
end)

t.test("memory stays level over thousands of requests of which some fail", function()
    local function round(n)
        leat.each(function()
            n = n - 1
            return n >= 0 and n or nil
        end, function(i)
            return request(url .. (i % 20 == 0 and "/reset-before-head" or "/ok"))
        end, { limit = 50 })
        collectgarbage()
        collectgarbage()
        return leat.stats().memory_bytes
    end
    round(500)
    local warm = round(500)
    local after = round(full and 50000 or 2000)
    t.ok(after < warm + 256 * 1024, ("%d bytes, then %d"):format(warm, after))
end)

t.done()
