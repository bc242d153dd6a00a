-- For test_http_idle.lua and test_h2_idle.lua: servers that end idle connections at any moment. The server's
-- own count says how often each request came to it.
--
-- A row has: name, url; options, for each request; hows, the ends that its server knows; end_others, the path
-- at which it ends all other connections; shares: its requests share connections.
local leat = require "leat"
local generator = require "random"
local t = require "harness"

local FULL = os.getenv "LEAT_FULL" ~= nil
local COUNT, WORKERS, ROUNDS = FULL and 10000 or 1000, 32, FULL and 50 or 6

local function ask(row, path, more)
    local o = { url = row.url .. path }
    for _, from in ipairs { row.options, more or {} } do
        for k, v in pairs(from) do
            o[k] = v
        end
    end
    return request(o)
end

-- Asks on a connection of its own: what the witness says touches none of the others.
local function control(row, path)
    local own = { url = row.url:gsub("127%.0%.0%.1", "localhost"), options = row.options }
    return assert(ask(own, path, { insecure = true, expect = "2xx" }))
end

local function seen_of(row)
    local seen = {}
    for id, n in control(row, "/seen-all").body:gmatch "(%S+) (%d+)\n" do
        seen[id] = tonumber(n)
    end
    return seen
end

-- Whether there is none but the one that asks.
local function all_ended(row)
    return control(row, "/stats"):json().connections_open == 1
end

local function end_all(row)
    control(row, row.end_others)
    t.wait_until(function() return all_ended(row) end)
end

-- What has ended before a request is begun is never used for it: even a POST succeeds.
local function ended_before(row, how)
    end_all(row)
    control(row, "/stats/reset")
    for round = 1, ROUNDS do
        local function post(i, path)
            local headers = { ["X-Id"] = ("%s-%d-%d"):format(how, round, i) }
            local res = assert(ask(row, path, { body = "x", headers = headers }))
            t.eq({ res.status, res.attempts }, { 200, 1 })
            return true
        end
        local path, jobs = "/idle?ms=1&how=" .. how, {}
        for i = 1, WORKERS do
            jobs[i] = function() return post(i, row.shares and "/ok" or path) end
        end
        assert(gather(jobs))
        if row.shares then post(0, path) end -- alone, for it ends the connection of all
        t.wait_until(function() return all_ended(row) end)
    end
    local n = 0
    for _, count in pairs(seen_of(row)) do
        n = n + 1
        t.eq(count, 1)
    end
    t.eq(n, ROUNDS * (WORKERS + (row.shares and 1 or 0)))
end

-- Returns when the server has no more than the connection of `control`. Until then nothing else happens in
-- this process.
local function block_until_ended(row)
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write(([[
        local spec = { url = %q, http_version = %s, insecure = true }
        repeat until assert(request(spec)):json().connections_open == 2
    ]]):format(row.url .. "/stats", row.options.http_version and "'2-prior'" or "nil"))
    file:close()
    local program = assert(os.getenv "LEAT", "LEAT must name the program")
    t.eq(os.execute(("%s -q %s"):format(program, script)), 0)
    os.remove(script)
end

-- The same where it ended while the script had the thread, so that nobody has looked at it.
local function ended_unseen(row, how)
    for _ = 1, 3 do
        end_all(row)
        assert(ask(row, "/idle?ms=1&how=" .. how, { body = "x" }))
        block_until_ended(row)
        local res = assert(ask(row, "/ok", { body = "x" }))
        t.eq({ res.status, res.attempts }, { 200, 1 })
    end
end

local METHODS = {
    { method = "GET" }, { method = "PUT", body = "x" }, { body = "x", idempotent = true }, { body = "x" },
    { body = ("x"):rep(3000) },
}

-- Sends COUNT requests with pauses, each to be followed by an end of the connection. Returns what became of
-- them.
local function at_any_moment(row, random)
    local outcomes, i = {}, 0
    leat.each(function()
        i = i + 1
        return i <= COUNT and i or nil
    end, function(n)
        local more = {}
        for k, v in pairs(METHODS[random(#METHODS)]) do
            more[k] = v
        end
        more.headers = { ["X-Id"] = "r" .. n }
        sleep(random(3) == 1 and 0 or random(120) / 10000)
        local path = ("/idle?ms=%d&how=%s&deaf=%d"):format(random(12), row.hows[random(#row.hows)],
            random(4) == 1 and 1 or 0)
        local res, err = ask(row, path, more)
        outcomes[n] = { res = res, err = err, idempotent = more.method ~= nil or more.idempotent }
        return true
    end, { limit = WORKERS })
    return outcomes
end

local function check(n, outcome, seen)
    local res, err, name = outcome.res, outcome.err, "request " .. n
    if outcome.idempotent then
        t.ok(res, name .. ": " .. tostring(err))
        t.ok(seen >= 1 and seen <= res.attempts, name)
    elseif res then
        t.eq(seen, 1, name)
    else
        t.eq({ err.kind, err.retryable, err.idempotent, err.attempts }, { "closed", true, false, 1 }, name)
        t.ok(seen <= 1, name)
    end
end

return function(rows)
    for _, row in ipairs(rows) do
        for _, how in ipairs(row.hows) do
            local name = "%s: a connection that has ended while idle (%s) is not used again"
            t.test(name:format(row.name, how), function() ended_before(row, how) end)
            if how ~= "half" then -- the server keeps its half until we see it
                t.test(name:format(row.name, how .. ", while the script computed"),
                    function() ended_unseen(row, how) end)
            end
        end
        t.test(("%s: %d requests while the server ends idle connections at any moment: none that may be "
            .. "sent twice fails, and no other is"):format(row.name, COUNT), function()
            local random = generator(tonumber(os.getenv "LEAT_SEED") or 7)
            control(row, "/stats/reset")
            local outcomes = at_any_moment(row, random)
            local seen, closed, again = seen_of(row), 0, 0
            for n = 1, COUNT do
                check(n, outcomes[n], seen["r" .. n] or 0)
                closed = closed + (outcomes[n].res and 0 or 1)
                again = again + (outcomes[n].res and outcomes[n].res.attempts > 1 and 1 or 0)
            end
            io.write(("  %d sent again, %d closed\n"):format(again, closed))
            t.ok(again + closed > 0, "some connections were lost")
        end)
    end
    t.done()
end
