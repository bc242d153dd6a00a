-- Requests over HTTP/1.1, plain and over TLS, that are cancelled at any moment: see cancels.lua.
--
--     LEAT_FULL=1 tests/with_faultd.sh build/leat tests/lua/test_http_cancels.lua    50,000 a row, not 1,000
local t = require "harness"

local large = ("x"):rep(300000)
local requests = {
    { path = "/ok" }, { path = "/never" }, { path = "/stall-body" }, { path = "/delay?ms=2" },
    { path = "/redirect?n=3" }, { path = "/redirect?to=/never" }, { path = "/gzip" },
    { path = "/echo", method = "PUT", body = large }, { path = "/slow-head" },
    { path = "/tokens?n=5&ms=1", stream = true, events = true }, { path = "/large?mb=1", stream = true },
    { path = "/upload", method = "POST", upload = true }, { path = "/status?code=503" },
}
require "cancels" {
    { name = "HTTP/1.1", url = t.url, options = {}, requests = requests, end_others = "/end-others" },
    { name = "HTTP/1.1 over TLS", url = t.tls_url, options = { ca_file = t.ca_file }, requests = requests,
        end_others = "/end-others" },
}
