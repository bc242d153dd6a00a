#!/bin/bash
# When there are no more files to open: backpressure where that is possible, a clear error where it is not.
. "$(dirname "$0")/../lib.sh"
start_mock --latency 0.01
url=$mock_url/v1/models

begin "300 requests with 64 files at hand all succeed: those over the limit wait"
cat >many.lua <<LUA
local i = 0
local function more() i = i + 1 return i <= 300 and i or nil end
local c = leat.each(more, function() return request("$url") end, { limit = 200 })
print(c.ok, c.failed, c.first_error)
LUA
(
    ulimit -n 64
    exec "$LEAT" many.lua
) >out 2>err
expect_equal "$(cat out)" "300	0	nil"

begin "with none left each call says so, and all works again when there are some"
cat >none.lua <<LUA
local file = require "leat.internal.file"
assert(request("$url")) -- resolvers and their like have opened theirs
local held = {}
local function take_all()
    local err
    repeat
        held[#held + 1], err = file.open("/dev/null", "r")
    until err
    return err
end
print(take_all())
local res, err
for _ = 1, 5 do -- the first ones may have a connection left, which they close
    take_all()
    res, err = request { url = "$url", headers = { Connection = "close" }, timeout = 5 }
end
print(res, err.kind, err.reason, err.retryable)
print(select(2, leat.serve { handler = print }))
print(select(2, leat.map({ 1 }, tostring, { journal = "run.jsonl" })))
held = nil
collectgarbage()
collectgarbage()
print(request("$url").status)
LUA
(
    ulimit -n 64
    exec "$LEAT" none.lua
) >out 2>err
expect_lines err 1 # once, however often it comes
expect_err "at most 64 files and connections open"
expect_equal "$(sed 's/[Tt]oo many open files/TOO MANY/' out)" "io: cannot open /dev/null: TOO MANY
nil	io	too_many_files	true
io: serve: cannot listen on 127.0.0.1 port 0: TOO MANY
io: cannot open run.jsonl: TOO MANY
200"

begin "a server with all its descriptors taken by idle connections still lets new ones in"
cat >full.lua <<'LUA'
local server = assert(leat.serve { handler = function() sleep(0.05) return "x" end })
print(server.url)
io.stdout:flush()
leat.stopping:wait()
server:close()
LUA
mkfifo full_url
(
    ulimit -n 200
    exec "$LEAT" full.lua
) >full_url 2>full_err &
server_pid=$!
read -r full_url <full_url
cat >keep.lua <<LUA
local n = 0
local function more() n = n + 1 return n <= 180 and n or nil end
local all = leat.each(more, function() return request { url = "$full_url", timeout = 20 } end, { limit = 180 })
print(all.ok, all.failed, all.first_error) -- as many idle connections as the server lets there be
print(io.popen("'$LEAT' -e 'print(request{url=\\"$full_url\\", timeout=20}.status)'"):read "*a")
LUA
try "$LEAT" keep.lua
kill -INT $server_pid
wait $server_pid
expect_status 0
expect_out "180	0	nil"
expect_out "200"

begin "too few to begin with is one clear line"
(
    ulimit -n 8
    exec "$LEAT" -e 'print(1)'
) >out 2>err && fail "it ran"
expect_lines err 1
expect_err "too many open files"

finish
