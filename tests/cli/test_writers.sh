#!/bin/bash
# What leat.jsonl.writer was given is in the file, however the program ends. No writer here is closed.
. "$(dirname "$0")/../lib.sh"

# whole FILE N: fails unless the file has the numbers 1 to N, each on a line of its own.
whole() {
    "$LEAT" -e 'local n = 0
        for row in assert(leat.jsonl.read(arg[1])) do n = n + 1 assert(row.i == n) end
        assert(n == tonumber(arg[2]), n)' "$1" "$2" >told 2>&1 || fail "$1: $(head -n 1 told)"
}
# has FILE N PID: waits until the file has at least N lines, or the process has ended.
has() {
    while { [ ! -e "$1" ] || [ "$(wc -l <"$1")" -lt "$2" ]; } && kill -0 "$3" 2>/dev/null; do
        read -rt 0.005 <> <(:) || :
    done
}

cat >ends.lua <<'LUA'
local path, how = arg[1], arg[2]
local w = assert(leat.jsonl.writer(path))
for i = 1, 5000 do assert(w:write { i = i }) end
local ends = {}
function ends.normal() end
function ends.exit() os.exit(3) end
function ends.error() error "a bug" end
function ends.failure() return nil, leat.error { kind = "io", message = "no" } end
function ends.collected()
    w = nil
    collectgarbage()
    collectgarbage()
end
function ends.stuck() leat.event():wait() end
function ends.memory()
    local held = {}
    while true do held[#held + 1] = ("x"):rep(100000) .. #held end
end
function ends.computes() while true do end end
function ends.waits() sleep(1000) end
function ends.catches() while true do pcall(sleep, 1000) end end
function ends.writes()
    for i = 5001, 1e9 do w:write { i = i } end
end
if ends[how] then return ends[how]() end
LUA

while read -r how expected options; do
    begin "an end by $how leaves all lines in the file"
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" $options ends.lua "$how.jsonl" "$how"
    expect_status "$expected"
    whole "$how.jsonl" 5000
done <<'ENDS'
normal 0
exit 3
error 1
failure 1
collected 0
stuck 1
memory 1 --memory-limit 20M
computes 1 --time-limit 0.2
normal 0 --virtual-time
ENDS

begin "a script that computes, and never waits, has its lines in the file all the same"
"$LEAT" ends.lua computing.jsonl computes 2>/dev/null &
pid=$!
has computing.jsonl 5000 $pid
kill -9 $pid
wait $pid 2>/dev/null
whole computing.jsonl 5000

for sig in INT TERM; do
    for how in computes waits catches writes; do
        begin "$sig, thrice, while it $how: no line is lost, and none torn"
        rm -f ended.jsonl
        "$LEAT" ends.lua ended.jsonl $how 2>/dev/null &
        pid=$!
        has ended.jsonl 5000 $pid
        # Two that come together count as one.
        while kill -s $sig $pid 2>/dev/null; do read -rt 0.02 <> <(:) || :; done
        status=0
        wait $pid || status=$?
        expect_status "$([ $sig = INT ] && echo 130 || echo 143)"
        whole ended.jsonl "$(wc -l <ended.jsonl)"
        [ "$(wc -l <ended.jsonl)" -ge 5000 ] || fail "$(wc -l <ended.jsonl) lines"
    done
done

begin "Ctrl-C, once, while a task waits: all lines are there"
"$LEAT" ends.lua once.jsonl waits 2>/dev/null &
pid=$!
has once.jsonl 5000 $pid
kill -s INT $pid
wait $pid
whole once.jsonl 5000

begin "what is flushed, and what sync=true has written, is there when the call returns"
cat >flushed.lua <<'LUA'
local w = assert(leat.jsonl.writer "flushed.jsonl")
assert(w:write { i = 1 } and w:write { i = 2 } and w:flush())
assert(#assert(io.open "flushed.jsonl"):read "*a" == 16)
local s = assert(leat.jsonl.writer("synced.jsonl", { sync = true }))
for i = 1, 3 do
    assert(s:write { i = i })
    assert(#assert(io.open "synced.jsonl"):read "*a" == 8 * i)
end
LUA
try "$LEAT" flushed.lua
expect_status 0
if command -v strace >/dev/null; then
    begin "flush and close put the file onto the disk; a write does, with sync=true"
    cat >disk.lua <<'LUA'
local how = arg[1]
local w = assert(leat.jsonl.writer("disk.jsonl", { sync = how == "sync" or nil }))
assert(w:write { i = 1 })
if how == "flush" then assert(w:flush()) elseif how == "close" then assert(w:close()) end
os.exit(0)
LUA
    for how in flush close sync; do
        strace -f -e trace=fdatasync -o trace "$LEAT" disk.lua $how
        grep -q 'fdatasync.*= 0' trace || fail "$how: no fdatasync"
    done
fi

begin "a reader that does not read holds up nobody, and what it reads in the end is whole"
mkfifo slow
cat >slow.lua <<'LUA'
local w = assert(leat.jsonl.writer("slow", { append = true }))
for i = 1, 20000 do assert(w:write { i = i }) end -- more than a pipe holds
io.stderr:write "written\n"
LUA
exec 9<>slow
"$LEAT" slow.lua 2>err &
pid=$!
has err 1 $pid
expect_err written
timeout 200 head -n 20000 <&9 >read.jsonl
wait $pid
exec 9<&-
whole read.jsonl 20000

begin "lines that were taken and could not be written are reported, and the status is 1"
for how in none close flush exit; do
    cat >full.lua <<'LUA'
local w = assert(leat.jsonl.writer "/dev/full")
w:write { i = 1 } -- nobody looks at what it returns
if arg[1] == "close" then w:close() elseif arg[1] == "flush" then w:flush() end
if arg[1] == "exit" then os.exit(0) end
LUA
    try "$LEAT" full.lua $how
    expect_status 1
    expect_err "leat: error: cannot write /dev/full: No space left on device; the last 8 bytes of it are lost"
    expect_lines err 1
done

begin "a full disk: what is in the file is whole lines, and the failure is reported once"
status=0
(
    trap '' XFSZ
    ulimit -f 8
    exec "$LEAT" ends.lua small.jsonl normal
) >out 2>err || status=$?
expect_status 1
expect_err "cannot write small.jsonl: File too large"
whole small.jsonl "$(wc -l <small.jsonl)"
[ "$(wc -l <small.jsonl)" -gt 100 ] || fail "$(wc -l <small.jsonl) lines"

finish
