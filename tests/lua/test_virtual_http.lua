-- Requests, streams and uploads against a simulated server that fails in every way, cancelled at random
-- moments: each has one outcome, and afterwards nothing is held by anybody. A seed repeats it exactly.
--
--     LEAT_SEEDS=1-10000 build/leat --virtual-time tests/lua/test_virtual_http.lua
local t = require "harness"
local leat = require "leat"
local generator = require "random"

local URL = "https://api.test"

-- What the server does with a request, by chance.
local function handler(random, seen)
    return function(req)
        seen.handled = seen.handled + 1
        local kind = random(12)
        sleep(random() * (random(5) == 1 and 20 or 0.5))
        if kind == 1 then
            return req:abort()
        elseif kind == 2 then
            return { status = 429, headers = { ["Retry-After"] = tostring(random(3)) } }
        elseif kind == 3 then
            return { status = 503, body = "down" }
        elseif kind == 4 then
            return { status = 307, headers = { Location = "/again" } }
        elseif kind == 5 then
            return { status = 500 }
        elseif kind == 6 then
            sleep(1000)
        elseif kind <= 9 then
            local out = req:respond { headers = { ["Content-Type"] = "text/plain" } }
            if not out then
                return nil
            end
            local pieces, breaks = random(20), random(6) == 1
            for i = 1, pieces do
                if random(3) == 1 then
                    sleep(random())
                end
                if not out:write(("x"):rep(random(2) == 1 and 60000 or 10) .. "\n") then
                    return nil
                end
                if breaks and i > pieces / 2 then
                    return out:abort()
                end
            end
            return out:close()
        end
        return "ok " .. #req.body
    end
end

-- What a client asks for.
local function ask(random, client, slots)
    local kind = random(6)
    local opts = { url = "/" .. kind }
    opts.timeout = random(3) == 1 and 2 or { idle = 5, first_byte = 10, total = 60 }
    if kind == 1 then
        opts.method, opts.body, opts.idempotent = "POST", ("b"):rep(random(1000)), true
    elseif kind == 2 then
        local left = random(5)
        opts.method = "PUT"
        opts.body = function()
            left = left - 1
            sleep(random())
            return left >= 0 and ("p"):rep(random(1000)) or nil
        end
    elseif kind <= 4 then
        opts.stream = true
    end
    local function call()
        local res, err = client:request(opts)
        if not res or not opts.stream then
            return res, err
        end
        if random(4) == 1 then
            sleep(random() * 5)
        end
        local read, stop = 0, random(20)
        while true do
            local chunk, broken = res:read()
            if not chunk then
                return not broken or nil, broken
            end
            read = read + 1
            if read == stop and random(3) == 1 then
                return true -- the stream ends with its task
            end
            if random(5) == 1 then
                sleep(random())
            end
        end
    end
    if kind == 5 then
        return leat.retry { attempts = 3, base = 0.1 }:call(call)
    elseif kind == 6 then
        return slots:with(call)
    end
    return call()
end

local CLIENTS = 16

local function plan(seed, seen)
    local random = generator(seed)
    math.randomseed(seed)
    local log, began = {}, leat.now()
    local server = assert(leat.simulate(URL, handler(random, seen)))
    local client = leat.client { base_url = URL, max_per_host = 4 + random(8) }
    local slots = leat.semaphore(2)
    local tasks, ended = {}, 0
    for i = 1, CLIENTS do
        tasks[i] = spawn(function()
            sleep(random() * 10)
            local ok, res, err = pcall(ask, random, client, slots)
            ended = ended + 1
            local what = ok and (res and "answered" or err and err.kind) or "cancelled"
            log[#log + 1] = ("%.3f %d %s"):format(leat.now() - began, i, what)
            seen[what] = (seen[what] or 0) + 1
            if not ok then
                error(res, 0)
            end
        end)
        if random(3) == 1 then
            local victim, at = tasks[i], random() * 20
            spawn(function()
                sleep(at)
                victim:cancel()
            end)
        end
    end
    for i = 1, CLIENTS do
        pcall(tasks[i].await, tasks[i])
    end
    for _ = 1, 2 do
        t.ok(slots:acquire(0), "a permit is not back")
    end
    slots:release()
    slots:release()
    server:close()
    sleep(0.001) -- what was cancelled last comes up in the next turn of the loop
    t.eq(server:stats().active, 0, "requests open at the server")
    local engine = leat.stats().engine
    for _, name in ipairs { "queued", "active", "pending", "events_waiting" } do
        t.eq(engine[name], 0, name)
    end
    return table.concat(log, "\n")
end

local first, last = (os.getenv "LEAT_SEEDS" or "1-100"):match "^(%d+)%-(%d+)$"
first, last = tonumber(first), tonumber(last)
local seen = { handled = 0 }

for from = first, last, 50 do
    local to = math.min(from + 49, last)
    t.test(("clients and servers of seeds %d to %d leave nothing behind"):format(from, to), function()
        for seed = from, to do
            plan(seed, seen)
        end
    end)
end

t.test("random requests reach all outcomes", function()
    for _, kind in ipairs { "answered", "timeout", "closed", "cancelled" } do
        t.ok((seen[kind] or 0) > 0, "nothing ended as " .. kind)
    end
end)

t.test("the same seed does the same again", function()
    for seed = first, first + 5 do
        t.eq(plan(seed, seen), plan(seed, seen), "seed " .. seed)
    end
end)
t.done()
