-- Under leat.step, too, requests share one HTTP/2 connection.
local leat = require "leat"
local url, ca = os.getenv "H2_TLS_URL", os.getenv "H2_CA"

local seen
local function look()
    seen = assert(leat.request { url = url .. "/stats", ca_file = ca }):json()
end

leat.start(look) -- alone: from then on the protocol is known
repeat leat.step() until seen
for _ = 1, 60 do
    leat.start(leat.request, { url = url .. "/never", method = "POST", body = "x", ca_file = ca })
end
repeat
    seen = nil
    leat.start(look)
    repeat leat.step() until seen
until seen.streams_open == 61 -- with its own
assert(seen.peak_streams == 61, seen.peak_streams)
assert(seen.connections == 1, seen.connections)
print "shared ok"
os.exit(0, true)
