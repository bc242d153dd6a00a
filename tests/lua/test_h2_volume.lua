-- POSTs in volume over HTTP/2 against servers of others, 64 in flight: all are answered, and the server's own
-- log has each once. Where a server reloads meanwhile, one may fail, as `closed`; none is acted on twice.
--
--     LEAT_FULL=1 tests/with_h2.sh build/leat tests/lua/test_h2_volume.lua       40,000 a row, not 1,000
local leat = require "leat"
local t = require "harness"

local env = os.getenv
local COUNT = env "LEAT_FULL" and 40000 or 1000
local IN_FLIGHT = 64

local PLAIN, CADDY, NGHTTPD = "^(%S+)", '"X%-Id":%["([^"]+)"%]', " x%-id: (%S+)"
local nginx, read = { env "H2_NGINX_LOG", PLAIN }, { env "H2_READ_LOG", PLAIN }
local h2o, caddy = { env "H2_H2O_LOG", PLAIN }, { env "H2_CADDY_LOG", CADDY }
local nghttpd = { env "H2_NGHTTPD_LOG", NGHTTPD }

local function reload_nginx()
    os.execute("kill -HUP " .. env "H2_NGINX_PID")
end

local function reload_caddy()
    local file = assert(io.open(env "H2_CADDY_CONFIG"))
    local text = file:read "*a"
    file:close()
    -- "must-revalidate": the same configuration counts as another one.
    local headers = { ["Content-Type"] = "text/caddyfile", ["Cache-Control"] = "must-revalidate" }
    assert(request { url = "http://localhost/load", unix_socket = env "H2_CADDY_ADMIN", body = text,
        headers = headers, expect = "2xx" })
end

-- name, URL, path, logs to count in, how to reload
local rows = {
    { "nginx, which reads the body", "H2_NGINX_URL", "/read", { nginx, read } },
    { "nginx, which does not", "H2_NGINX_URL", "/ok", { nginx } },
    { "nginx with a GOAWAY after 50", "H2_NGINX_SHORT_URL", "/read", { nginx, read } },
    { "nginx with a GOAWAY after 50, unread", "H2_NGINX_SHORT_URL", "/ok", { nginx } },
    { "nginx by prior knowledge", "H2_NGINX_PLAIN_URL", "/read", { nginx, read } },
    { "nghttpd", "H2_NGHTTPD_URL", "/echo", { nghttpd } },
    { "h2o", "H2_H2O_URL", "/read", { h2o, read } },
    { "Caddy, which reads the body", "H2_CADDY_URL", "/read", { caddy, read } },
    { "Caddy, which does not", "H2_CADDY_URL", "/ok", { caddy } },
    { "nginx that reloads", "H2_NGINX_URL", "/read", { nginx, read }, reload_nginx },
    { "nginx that reloads, unread", "H2_NGINX_URL", "/ok", { nginx }, reload_nginx },
    { "nginx that reloads, with a GOAWAY after 50", "H2_NGINX_SHORT_URL", "/read", { nginx, read },
        reload_nginx },
    { "Caddy that reloads", "H2_CADDY_URL", "/read", { caddy, read }, reload_caddy },
}

-- How many ids that begin so the log has, and how often one has come again.
local function count(log, prefix)
    local seen, n, twice = {}, 0, 0
    for line in io.lines(log[1]) do
        local id = line:match(log[2])
        if id and id:find(prefix, 1, true) == 1 then
            n = n + (seen[id] and 0 or 1)
            twice = twice + (seen[id] and 1 or 0)
            seen[id] = true
        end
    end
    return n, twice
end

local function one(row, prefix, i)
    local url = env(row[2])
    return request { url = url .. row[3], method = "POST", headers = { ["X-Id"] = prefix .. i },
        body = ('{"n":%d,"pad":"%s"}'):format(i, ("x"):rep(200)), ca_file = env "H2_CA",
        http_version = url:find "^http:" and "2-prior" or nil }
end

-- Sends COUNT of them. `reload` is called when a quarter, the half and three quarters have been answered.
local function send(row, prefix, reload)
    local i, answered, failed, most, odd = 0, 0, 0, 0, {}
    leat.each(function()
        i = i + 1
        return i <= COUNT and i or nil
    end, function(n)
        local res, err = one(row, prefix, n)
        if not res then
            failed = failed + 1
            local expected = reload and err.kind == "closed" and err.retryable and not err.idempotent
            if not expected then odd[#odd + 1] = tostring(err) end
            return true
        end
        if reload and res.status == 502 then -- it has lost the one behind it, which reloads, too
            failed = failed + 1
            return true
        end
        answered = answered + 1
        most = math.max(most, res.attempts)
        if res.status ~= 200 or res.version ~= "2" then odd[#odd + 1] = res.status .. " " .. res.version end
        if reload and answered % (COUNT / 4) == 0 and answered < COUNT then reload() end
        return true
    end, { limit = IN_FLIGHT })
    t.eq(odd, {})
    t.eq(answered + failed, COUNT)
    return answered, failed, most
end

for number, row in ipairs(rows) do
    if env(row[2]) then
        t.test(("%d POSTs, 64 at a time, to %s: %s, none twice"):format(COUNT, row[1],
            row[5] and "answered or closed" or "all answered"), function()
            local prefix = ("v%d-"):format(number)
            local before = leat.stats().engine
            local answered, failed, most = send(row, prefix, row[5])
            local after = leat.stats().engine
            for _, log in ipairs(row[4]) do
                t.wait_until(function() return count(log, prefix) >= answered end)
                local n, twice = count(log, prefix)
                t.eq(twice, 0)
                t.ok(n <= answered + failed, n)
            end
            -- What a GOAWAY sends again goes over one new connection.
            local connects = after.connects - before.connects
            t.ok(connects <= 10 + 2 * COUNT / 50, connects .. " connections")
            io.write(("  %d answered, %d not, %d sent (one request %d times), %d connections\n"):format(
                answered, failed, after.wire_attempts - before.wire_attempts, most, connects))
        end)
    end
end

t.done()
