-- Under leat.step an HTTP/2 connection gets twenty requests: an event costs the library more the more there
-- are on it. The rest goes to further ones, and to no more of these than needed.
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
assert(seen.peak_streams == 20, seen.peak_streams)
assert(seen.connections == 4, seen.connections)
print "shared ok"
os.exit(0, true)
