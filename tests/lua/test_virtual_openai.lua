-- openai: which limit a silent stream runs into, and what keeps it from that; waits that only a body tells.
local t = require "harness"
local leat = require "leat"

local URL = "http://api.test"
local PIECE = 'data: {"choices":[{"index":0,"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'

local function simulated(handler, opts, fn)
    local server = assert(leat.simulate(URL, handler))
    opts.base_url, opts.api_key, opts.model = URL, "key", "m"
    fn(assert(leat.openai(opts)))
    server:close()
end

-- Sends `noise` n times, 10 s before each, and then the answer.
local function thinking(noise, n)
    return function(req)
        local out = assert(req:respond { headers = { ["Content-Type"] = "text/event-stream" } })
        for _ = 1, n do
            sleep(10)
            if not out:write(noise) then return end
        end
        out:write(PIECE .. "data: [DONE]\n\n")
        return out:close()
    end
end

t.test("a model may think for an hour behind comments, pings and empty data", function()
    for _, noise in ipairs { ": keep-alive\n\n", "data:\n\n", 'data: ""\n\n', "data: :\n\n", "data: ping\n\n",
        "event: ping\ndata: {}\n\n", "\n", "data: {}\n\n" } do
        for _, timeout in ipairs { { idle = 11, first_byte = 5 }, 11 } do
            simulated(thinking(noise, 360), { timeout = timeout, retry = false }, function(ai)
                local began = leat.now()
                local stream, err = ai:stream "x"
                t.ok(stream, noise .. tostring(err))
                t.eq(stream(), "ok")
                t.ok(leat.now() - began >= 3600)
                t.eq(stream(), nil)
            end)
        end
    end
end)

t.test("a stream without a byte runs into the limit to idle, not into that to the first byte", function()
    simulated(thinking("", 6), { timeout = { idle = 30, first_byte = 5 }, retry = false }, function(ai)
        local began = leat.now()
        local err = t.fails("timeout", ai:stream "x")
        t.eq({ err.phase, err.limit, leat.now() - began }, { "idle", 30, 30 })
    end)
end)

t.test("the limit to the first byte ends with the headers; wait_for limits the first piece", function()
    simulated(function(req)
        sleep(10)
        return thinking(": x\n\n", 30)(req)
    end, { timeout = { first_byte = 5 }, retry = false }, function(ai)
        t.eq(t.fails("timeout", ai:stream "x").phase, "first_byte")
    end)
    local limits = { first_byte = 5, idle = 20 }
    simulated(thinking(": x\n\n", 30), { timeout = limits, retry = false }, function(ai)
        local began = leat.now()
        local err = t.fails("timeout", leat.wait_for(60, ai.stream, ai, "x"))
        t.eq({ err.phase, leat.now() - began }, { "total", 60 })
    end)
end)

t.test("a wait that only the body states is waited for, by chat, stream and in a pipeline", function()
    for _, said in ipairs { '{"error":{"message":"Rate limit reached. Please try again in 1m30s."}}',
        '[{"error":{"code":429,"message":"Quota","details":[{"retryDelay":"90s"}]}}]' } do
        local times = {}
        simulated(function()
            times[#times + 1] = leat.now()
            if #times % 2 == 1 then return { status = 429, body = said } end
            return { headers = { ["Content-Type"] = "text/event-stream" }, body = PIECE }
        end, {}, function(ai)
            t.eq(assert(ai:stream "x")(), "ok")
            t.ok(times[2] - times[1] >= 90 and times[2] - times[1] < 130, times[2] - times[1])
            local results = leat.pipeline({ retry = { attempts = 2 } }):run({ "x" }, function(prompt)
                return assert(ai:stream(prompt))()
            end)
            t.eq(results[1], "ok")
            t.ok(times[4] - times[3] >= 90 and times[4] - times[3] < 130, times[4] - times[3])
        end)
    end
end)

t.test("leat.retry around a plain request obeys a wait that only the body states", function()
    for body, status in pairs { ['{"detail":"Too many requests. Try again in 50 seconds."}'] = 429,
        ['{"error":"Model is currently loading","estimated_time":50}'] = 503 } do
        local times = {}
        local server = assert(leat.simulate(URL, function()
            times[#times + 1] = leat.now()
            return #times == 1 and { status = status, body = body } or "ok"
        end))
        local spec = { url = URL, method = "POST", body = "x" }
        local res = assert(leat.retry({ base = 0.001 }):call(request, spec))
        t.eq(res.body, "ok")
        t.ok(times[2] - times[1] >= 50 and times[2] - times[1] < 70, times[2] - times[1])
        server:close()
    end
end)

t.test("a plain request that a spent quota refuses is not tried again", function()
    local n = 0
    local server = assert(leat.simulate(URL, function()
        n = n + 1
        return { status = 429, headers = { ["x-should-retry"] = "true" },
            body = '{"error":{"type":"insufficient_quota"}}' }
    end))
    t.eq(assert(leat.retry({ base = 0.001 }):call(request, URL)).status, 429)
    t.eq(n, 1)
    local results = leat.pipeline({ retry = { attempts = 3 } }):run({ 1 }, function() return request(URL) end)
    t.eq({ n, results.errors[1].status, results.errors[1].retryable }, { 2, 429, false })
    server:close()
end)

t.test("a wait of ages in a body is bounded, and what is no number is none", function()
    local reply_error = require "leat.http.reply_error"
    for text, wait in pairs { ['{"retry_after":1e300}'] = 366 * 86400, ['{"retry_after":"1m30s"}'] = 90,
        ['{"error":"try again in 99999999999 days"}'] = 366 * 86400, ['{"retry_after":"6ms"}'] = 0.006,
        ['{"retry_after":-1}'] = false } do
        t.eq({ text, reply_error.read(text).retry_after or false }, { text, wait })
    end
end)

t.done()
