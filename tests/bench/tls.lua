-- leat tests/bench/tls.lua URL COUNT: a part of tests/bench/suite.sh. COUNT requests, each on a TLS
-- connection of its own, one after the other.
local url, count = arg[1], tonumber(arg[2])

local function ask()
    assert(request { url = url, method = "POST", body = "{}",
        headers = { Connection = "close" }, http_version = "1.1" })
end

ask() -- which reads the certificates, once
local leat = require "leat"
local connects, began, slowest = leat.stats().engine.connects, os.clock(), 0
for _ = 1, count do
    local before = os.clock()
    ask()
    slowest = math.max(slowest, os.clock() - before)
end
local cpu_s = os.clock() - began
assert(leat.stats().engine.connects - connects == count, "a connection was used twice")
print(("connections=%d cpu_us_per_request=%.0f slowest_us=%.0f"):format(
    count, cpu_s / count * 1e6, slowest * 1e6))
