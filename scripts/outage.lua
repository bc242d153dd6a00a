-- An hour of calls, one a second, to an API that is down for half of it: how many get through, how many
-- are refused without a call, and what the API is spared. The API is simulated, and so is the clock: the
-- hour takes no time, and the same seed gives the same hour again.
-- usage: leat --virtual-time --seed 1 scripts/outage.lua [minutes that it is down]
local leat = require "leat"

local API = "https://api.example.com"
local began = leat.now() -- 0 under virtual time
if began > 0 then
    leat.log.warn "this takes an hour; with --virtual-time it takes none"
end
local down_from = began + 15 * 60
local down_to = down_from + (tonumber((...)) or 30) * 60

-- While it is down it answers with 503, breaks off, or never answers.
local reached, during = 0, 0
local server = assert(leat.simulate(API, function(req)
    reached = reached + 1
    sleep(0.2 + math.random())
    if leat.now() < down_from or leat.now() >= down_to then
        return { json = { text = "ok" } }
    end
    during = during + 1
    local fault = math.random(3)
    if fault == 1 then
        return { status = 503 }
    elseif fault == 2 then
        return req:abort()
    end
    sleep(600)
end))

local opened, minutes = 0, {}

local function count(_, _, err)
    local slot = math.floor((leat.now() - began) / 300) + 1
    local m = minutes[slot] or { ok = 0, refused = 0, failed = 0 }
    minutes[slot] = m
    local what = not err and "ok" or err.kind == "circuit_open" and "refused" or "failed"
    m[what] = m[what] + 1
end

local pipe = leat.pipeline {
    concurrency = "adaptive", timeout = 10,
    retry = { attempts = 3, base = 1 },
    breaker = { threshold = 5, reset = 30, on_change = function(_, now)
        opened = opened + (now == "open" and 1 or 0)
    end },
    on_result = count,
}
local i = 0
local function each_second()
    if i > 0 then
        sleep(1)
    end
    i = i + 1
    return i <= 3600 and i or nil
end
pipe:each(each_second, function(item)
    return request(API .. "/item/" .. item)
end)
server:close()
print "minutes        ok   refused    failed"
for slot = 1, 24 do
    local m = minutes[slot]
    if m then
        print(("%2d to %2d  %7d   %7d   %7d"):format(slot * 5 - 5, slot * 5, m.ok, m.refused, m.failed))
    end
end
print(("%d calls reached the API, %d of them while it was down; the circuit opened %d time%s"):format(
    reached, during, opened, opened == 1 and "" or "s"))
