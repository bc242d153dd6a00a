#!/bin/bash
# A process that may open few files: it works, and says once why it is slow, or what it cannot open.
. "$(dirname "$0")/../lib.sh"

# few OPTION... SCRIPT: runs it with room for 64 files.
few() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    try bash -c 'ulimit -n 64 && exec "$@"' few "$LEAT" "$@"
}

warnings() {
    grep -c 'ulimit -n' err
}

cat >server.lua <<'LUA'
local server = assert(leat.serve { handler = function() sleep(0.05) return "fine" end })
print(server.url)
io.stdout:flush()
sleep(60)
LUA
"$LEAT" server.lua >address &
lib_pids+=($!)
until [ -s address ]; do sleep 0.02; done
URL=$(cat address)
export URL

begin "more requests than connections may be open: all are answered, and one warning says why they wait"
cat >many.lua <<'LUA'
local list = {}
for i = 1, 100 do list[i] = i end
for _ = 1, 2 do
    local results = assert(leat.map(list, function() return (assert(request(os.getenv "URL"))).body end))
    assert(results.n == 100 and results[100] == "fine")
end
LUA
few many.lua
expect_status 0
[ "$(warnings)" = 1 ] || fail "$(cat err)"
expect_err "requests wait, 16 at a time"
expect_err "at most 64 files"

begin "with network threads the warning is given, too"
few --network-threads 2 many.lua
expect_status 0
[ "$(warnings)" = 1 ] || fail "$(cat err)"
expect_err "requests wait, 8 at a time"

begin "with room for all nothing is said"
try "$LEAT" many.lua
expect_status 0
[ "$(warnings)" = 0 ] || fail "$(cat err)"

begin "no descriptor is left: the failure says so, and one warning what to do"
cat >full.lua <<'LUA'
local files = {}
repeat
    local file = io.open "/dev/null"
    files[#files + 1] = file
until not file
for _ = 1, 3 do
    local res, err = request(os.getenv "URL")
    assert(res == nil and err.kind == "io" and err.reason == "too_many_files", tostring(err))
    assert(err.retryable and tostring(err):find "Too many open files")
end
files[1]:close()
files[2]:close()
files[3]:close()
assert(request(os.getenv "URL"))
LUA
few full.lua
expect_status 0
[ "$(warnings)" = 1 ] || fail "$(cat err)"
expect_err "a connection could not be opened"

begin "a server that may have no more clients says so once"
cat >guests.lua <<'LUA'
local list = {}
for i = 1, 150 do list[i] = i end
leat.each(list, function() return request { url = os.getenv "URL", timeout = 1 } end, { limit = 150 })
LUA
(ulimit -n 140 && exec "$LEAT" server.lua >other 2>other.err) &
lib_pids+=($!)
until [ -s other ]; do sleep 0.02; done
URL=$(cat other) try "$LEAT" guests.lua
expect_status 0
[ "$(grep -c 'further clients have to wait' other.err)" = 1 ] || fail "$(cat other.err)"

# Uses up all descriptors when it is asked to. "later": gives them back soon after that.
cat >full_server.lua <<'LUA'
local server
server = assert(leat.serve { handler = function(req)
    if req.path == "/stream" then
        local out = req:respond { headers = { ["Content-Type"] = "text/plain" } }
        out:write "begun"
        sleep(60)
    elseif req.path == "/fill" then
        local files = {}
        repeat
            local file = io.open "/dev/null"
            files[#files + 1] = file
        until not file
        if arg[1] == "later" then
            server.refill = spawn(function()
                sleep(0.3)
                for _, file in ipairs(files) do file:close() end
            end)
        else
            server.files = files
        end
    else
        sleep(0.2)
    end
    return "fine"
end })
print(server.url)
io.stdout:flush()
sleep(60)
LUA
start_full() { # start_full HOW: sets URL
    rm -f address.full
    (ulimit -n 64 && exec "$LEAT" full_server.lua "$1" >address.full 2>full.err) &
    lib_pids+=($!)
    until [ -s address.full ]; do sleep 0.02; done
    URL=$(cat address.full)
}

begin "a server without a descriptor closes an idle connection for a new client"
cat >newcomers.lua <<'LUA'
local url = os.getenv "URL"
assert(assert(request { url = url .. "/stream", stream = true }):read() == "begun")
assert(request(url .. "/fill"))
local res = assert(gather { function() return request { url = url, timeout = 20 } end,
    function() return request { url = url, timeout = 20 } end })
assert(res[1].ok and res[2].ok)
LUA
start_full never
try "$LEAT" newcomers.lua
expect_status 0
[ "$(grep -c 'clients have to wait' full.err)" = 1 ] || fail "$(cat full.err)"

begin "a server that was short of descriptors for a moment accepts again, though none of its clients goes away"
cat >newcomer.lua <<'LUA'
local url, streams = os.getenv "URL", {}
for i = 1, 2 do
    streams[i] = assert(request { url = url .. "/stream", stream = true })
    assert(streams[i]:read() == "begun")
end
assert(request(url .. "/fill"))
local third = assert(request { url = url .. "/stream", stream = true }) -- on the connection that was idle
assert(request { url = url, timeout = 20 })
assert(third:read() == "begun")
LUA
start_full later
try "$LEAT" newcomer.lua
expect_status 0

finish
