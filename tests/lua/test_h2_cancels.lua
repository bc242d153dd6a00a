-- Requests over HTTP/2 that are cancelled at any moment, to our own server and to others: see cancels.lua.
--
--     LEAT_FULL=1 tests/with_h2.sh build/leat tests/lua/test_h2_cancels.lua      50,000 a row, not 1,000
local env = os.getenv

local large = ("x"):rep(300000)
local requests = {
    { path = "/ok" }, { path = "/never" }, { path = "/stall" }, { path = "/delay?ms=2" },
    { path = "/echo", method = "PUT", body = large }, { path = "/early", method = "POST", body = large },
    { path = "/stream?n=5&ms=1", stream = true, events = true }, { path = "/large?mb=1", stream = true },
    { path = "/upload", method = "POST", upload = true },
    { path = "/upload-slow?kbps=64", method = "POST", body = large },
}
local of_others = {
    { path = "/ok" }, { path = "/ok", method = "POST", body = large },
    { path = "/read", method = "POST", body = large }, { path = "/read", method = "POST", upload = true },
}
local tls, prior = { ca_file = env "H2_CA" }, { http_version = "2-prior" }
local rows = {
    { name = "HTTP/2", url = env "H2_TLS_URL", options = tls, requests = requests,
        end_others = "/die-others" },
    { name = "HTTP/2 by prior knowledge", url = env "H2_PLAIN_URL", options = prior, requests = requests,
        end_others = "/die-others" },
    { name = "HTTP/2, one stream at a time", url = env "H2_ONE_URL", options = tls, requests = requests,
        end_others = "/die-others", may_close = true }, -- an upload that was refused does not go again
}
for _, name in ipairs { "NGINX", "NGHTTPD", "H2O", "CADDY" } do
    local url = env("H2_" .. name .. "_URL")
    if url then
        rows[#rows + 1] = { name = name:lower(), url = url, options = tls, requests = of_others,
            may_close = true, many = 10000 }
    end
end
require "cancels" (rows)
