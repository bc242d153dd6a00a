-- One broken TLS peer beside a hundred good ones. OpenSSL keeps its errors per thread, not per connection.
local t = require "harness"
local leat = require "leat"

local broken = {
    expired = { "tls", { url = t.tls_expired_url .. "/ok", ca_file = t.ca_file } },
    ["wrong host"] = { "tls", { url = t.tls_wrong_host_url .. "/ok", ca_file = t.ca_file } },
    untrusted = { "tls", { url = t.tls_url .. "/ok" } },
    ["no certificate given"] = { "closed", { url = t.mtls_url .. "/ok", ca_file = t.ca_file } },
    ["spoilt record"] = { "closed", { url = t.tls_url .. "/spoil-in-body", ca_file = t.ca_file } },
    ["reset in the body"] = { "closed", { url = t.tls_url .. "/reset-in-body", ca_file = t.ca_file } },
    ["reset before the head"] = { "closed", { url = t.tls_url .. "/reset-before-head",
        ca_file = t.ca_file } },
    ["silent in the handshake"] = { "timeout", { url = t.silent_url .. "/ok", ca_file = t.ca_file,
        timeout = { connect = 0.2 } } },
    ["gone in an upload"] = { "closed", { url = t.tls_url .. "/upload-gone", method = "POST",
        body = ("x"):rep(4e6), ca_file = t.ca_file } },
}

-- Good ones go on until the broken one has failed: posts on kept and on fresh connections, and streams.
local function good(i, over)
    local rounds = 0
    repeat
        rounds = rounds + 1
        if i % 10 == 0 then
            local res = assert(request { url = t.tls_url .. "/drip?bps=1000&bytes=50", ca_file = t.ca_file,
                stream = true })
            local parts = {}
            for part in res:chunks() do
                parts[#parts + 1] = part
            end
            t.ok(#table.concat(parts) > 0)
        else
            local res = assert(request { method = "POST", url = t.tls_url .. "/echo", body = "body " .. i,
                ca_file = t.ca_file, headers = i % 3 == 0 and { Connection = "close" } or nil, timeout = 60 })
            t.eq({ res.status, res:json().body }, { 200, "body " .. i })
        end
    until over:is_set()
    return rounds
end

t.test("a TLS peer that is broken fails alone, beside a hundred good ones", function()
    local plain = assert(leat.serve { handler = function() return "fine" end })
    broken["no TLS"] = { "tls", { url = plain.url:gsub("^http:", "https:"), ca_file = t.ca_file } }
    local over, now = leat.event(), nil
    local jobs = {}
    for i = 1, 100 do
        jobs[i] = function()
            local ok, err = pcall(good, i, over)
            assert(ok, ("beside a peer that is broken (%s): %s"):format(now, tostring(err)))
        end
    end
    jobs[101] = function()
        for name, case in pairs(broken) do
            now = name
            for _ = 1, 2 do
                local res, err = request(case[2])
                t.ok(res == nil and err.kind == case[1], name .. ": " .. tostring(err))
            end
        end
        over:set()
    end
    assert(gather(jobs))
    plain:close()
end)

t.done()
