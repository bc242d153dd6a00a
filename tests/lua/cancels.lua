-- For test_http_cancels.lua and test_h2_cancels.lua: requests that are cancelled at any moment. Afterwards
-- nothing is left of them, and the next request works.
--
-- A row has: name, url, options for each request; requests, a list of tables with a path, and with `stream`
-- or `upload`; many, how many requests the long form makes (50,000); end_others, the path at which the server
-- ends all others; may_close: the server's own defences may close connections that see many resets.
local leat = require "leat"
local generator = require "random"
local t = require "harness"

local FULL = os.getenv "LEAT_FULL" ~= nil
local IN_FLIGHT = 50

local function options_of(row, wanted)
    local o = { url = row.url .. wanted.path, stream = wanted.stream, method = wanted.method }
    for k, v in pairs(row.options) do
        o[k] = v
    end
    o.body = wanted.body
    return o
end

-- Pauses for `ticks` turns, or `seconds`.
local function pause(ticks, seconds)
    for _ = 1, ticks do
        sleep(0)
    end
    if seconds > 0 then sleep(seconds) end
end

-- One request as `wanted` says. A stream is read, and an upload is made, with pauses.
local function perform(row, wanted, random)
    local o = options_of(row, wanted)
    if wanted.upload then
        local n = 0
        o.body = function()
            n = n + 1
            pause(random(2) - 1, random(3) == 1 and 0.001 or 0)
            return n <= 8 and ("x"):rep(random(20000)) or nil
        end
    end
    local res, err = request(o)
    if not res then return nil, err end
    if wanted.stream then
        for _ in (wanted.events and res:events() or res:chunks()) do
            pause(random(2) - 1, 0)
        end
    end
    return true
end

-- From half a millisecond to an eighth of a second: in each phase some end, on a slow machine too.
local function while_of(random)
    return 2 ^ random(9) / 4000
end

-- The ways to be cancelled.
local ways = {
    function(random, ...) return leat.wait_for(while_of(random), ...) end,
    function(random, ...)
        local task = spawn(...)
        pause(random(6) - 1, random(2) == 1 and 0 or while_of(random))
        task:cancel()
        return task:await()
    end,
    function(random, ...) -- with the task around it
        local fn, row, wanted = ...
        local task = spawn(function()
            return gather { function() return fn(row, wanted, random) end, function() sleep(3600) end }
        end)
        pause(random(6) - 1, random(2) == 1 and 0 or while_of(random))
        task:cancel()
        return task:await()
    end,
    function(random, ...) -- in the pause of a retry, too
        local retry = leat.retry { attempts = 3, base = 0.002 }
        return leat.wait_for(while_of(random), retry.call, retry, ...)
    end,
}

local EXPECTED = { cancelled = true, timeout = true }

local function cancel_all(row, count, random)
    local sum, odd, i = { ok = 0, cancelled = 0, closed = 0 }, {}, 0
    leat.each(function()
        i = i + 1
        return i <= count and i or nil
    end, function()
        local wanted = row.requests[random(#row.requests)]
        local ok, res, err = pcall(ways[random(#ways)], random, perform, row, wanted, random)
        if not ok then res, err = nil, res end
        local kind = res and "ok" or type(err) == "table" and err.kind
        if EXPECTED[kind] then kind = "cancelled" end
        if sum[kind] and (kind ~= "closed" or row.may_close) then
            sum[kind] = sum[kind] + 1
        elseif #odd < 5 then
            odd[#odd + 1] = wanted.path .. ": " .. tostring(err)
        end
        return true
    end, { limit = IN_FLIGHT })
    t.eq(odd, {})
    return sum
end

local GAUGES = { "queued", "active", "resolving", "on_network", "events_waiting", "pending" }

local function nothing_left(before)
    t.wait_until(function()
        collectgarbage()
        local stats = leat.stats()
        for _, name in ipairs(GAUGES) do
            if stats.engine[name] ~= 0 then return false end
        end
        return stats.tasks <= before.tasks and stats.timers <= before.timers
            and stats.external <= before.external
    end)
end

return function(rows)
    for _, row in ipairs(rows) do
        local count = FULL and (row.many or 50000) or 1000
        local name = "%s: %d requests cancelled at any moment leave nothing, and the next one works"
        t.test(name:format(row.name, count), function()
            local random = generator(tonumber(os.getenv "LEAT_SEED") or 3)
            local next_one = { path = "/ok" }
            assert(request(options_of(row, next_one)))
            if row.end_others then assert(request(options_of(row, { path = row.end_others }))) end
            local before, sockets, others = leat.stats(), t.descriptors()
            local sum = cancel_all(row, count, random)
            nothing_left(before)
            t.eq(assert(request(options_of(row, next_one))).status, 200)
            io.write(("  %d cancelled, %d done, %d closed\n"):format(sum.cancelled, sum.ok, sum.closed))
            t.ok(sum.cancelled > count / 4)
            if not row.end_others then return end
            -- What is open now is idle: when the server has ended it, as few are left as before.
            t.wait_until(function()
                assert(request(options_of(row, { path = row.end_others })))
                local now, other = t.descriptors()
                return now <= sockets and other <= others
            end)
        end)
    end
    t.done()
end
