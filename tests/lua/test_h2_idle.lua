-- Idle connections of HTTP/2 that the server ends, with and without a GOAWAY: see idle.lua.
--
--     LEAT_FULL=1 tests/with_h2.sh build/leat tests/lua/test_h2_idle.lua       10,000 requests, not 1,000
local env = os.getenv

local hows = { "fin", "reset", "bye" }
local rows = {
    { name = "HTTP/2", url = env "H2_TLS_URL", options = { ca_file = env "H2_CA" } },
    { name = "HTTP/2 by prior knowledge", url = env "H2_PLAIN_URL", options = { http_version = "2-prior" } },
}
for _, row in ipairs(rows) do
    row.hows, row.end_others, row.shares = hows, "/die-others", true
end
require "idle" (rows)
