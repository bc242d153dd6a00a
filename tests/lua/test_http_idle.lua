-- Idle connections of HTTP/1.1, plain and over TLS, that the server ends: see idle.lua.
--
--     LEAT_FULL=1 tests/with_faultd.sh build/leat tests/lua/test_http_idle.lua     10,000 requests, not 1,000
local t = require "harness"

local hows = { "fin", "reset", "half" }
local rows = {
    { name = "HTTP/1.1", url = t.url, options = {} },
    { name = "HTTP/1.1 over TLS", url = t.tls_url, options = { ca_file = t.ca_file } },
}
for _, row in ipairs(rows) do
    row.hows, row.end_others = hows, "/end-others"
end
require "idle" (rows)
