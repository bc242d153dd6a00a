#!/bin/bash
# Standard input read by tasks: pipes, files, what is odd about either; and the log on standard error.
. "$(dirname "$0")/../lib.sh"

cat >lines.lua <<'LUA'
for line in leat.stdin:lines() do print(("%q"):format(line)) end
print(leat.stdin:read())
LUA

begin "lines of a pipe: LF, CRLF, empty, and a last one without an end"
try "$LEAT" lines.lua < <(printf 'a\nb\r\n\n\r\nlast')
expect_status 0
expect_equal "$(cat out)" '"a"
"b"
""
""
"last"
nil'

begin "lines of a file"
printf 'a\nb\r\n\nlast' >input
try "$LEAT" lines.lua <input
expect_status 0
expect_equal "$(cat out)" '"a"
"b"
""
"last"
nil'

begin "an empty input has no lines, whatever it is"
try "$LEAT" lines.lua </dev/null
expect_equal "$(cat out)" nil
: >empty
try "$LEAT" lines.lua <empty
expect_equal "$(cat out)" nil
try "$LEAT" lines.lua < <(:)
expect_equal "$(cat out)" nil

begin "many lines, long ones among them, arrive whole and in order"
cat >sum.lua <<'LUA'
local n, bytes = 0, 0
for line in leat.stdin:lines() do
    n, bytes = n + 1, bytes + #line
    assert(line:match("^%d+") == tostring(n), "out of order")
end
print(n, bytes)
LUA
awk 'BEGIN { for (i = 1; i <= 20000; i++) { s = i; if (i % 5000 == 0) { while (length(s) < 200000) s = s "xxxxxxxxxxxxxxxxxxxx" } print s } }' >many
expected=$(awk '{ n++; b += length($0) } END { printf "%d\t%d", n, b }' many)
try "$LEAT" sum.lua <many
expect_equal "$(cat out)" "$expected"
try "$LEAT" sum.lua < <(cat many)
expect_equal "$(cat out)" "$expected"

begin "read(n) and read('a')"
cat >parts.lua <<'LUA'
print(leat.stdin:read(3), leat.stdin:read(2), leat.stdin:read "a", leat.stdin:read "a", leat.stdin:read(1))
LUA
printf 'abcdefgh' >input
try "$LEAT" parts.lua <input
expect_equal "$(cat out)" 'abc	de	fgh		nil'

begin "a line over the limit is an error, and the next read goes on behind it"
cat >long.lua <<'LUA'
for _ = 1, 4 do
    local line, err = leat.stdin:read("l", 10)
    print(line, err and err.kind)
end
print(pcall(function() for _ in leat.stdin:lines(3) do end end))
LUA
{ printf 'short\n'; head -c 300000 /dev/zero | tr '\0' x; printf '\n1234567890\r\n12345678901\nlonger\n'; } >input
try "$LEAT" long.lua <input
expect_status 0
expect_equal "$(head -4 out)" 'short	nil
nil	too_large
1234567890	nil
nil	too_large'
expect_equal "$(tail -1 out)" 'false	too_large: stdin: a line is longer than 3 bytes'
try "$LEAT" long.lua < <(cat input)
expect_equal "$(sed -n 2p out)" 'nil	too_large'

begin "an input that cannot be read is a failure, not the end of the input"
try "$LEAT" -e 'local line, err = leat.stdin:read() print(line, err.kind)' 0>write-only
expect_status 0
expect_equal "$(cat out)" 'nil	io'
try "$LEAT" -e 'local line, err = leat.stdin:read() print(line, err.kind)' </
expect_status 0
expect_equal "$(cat out)" 'nil	io'

# Waits, for at most 20 s, until the file holds the line.
wait_for_line() {
    local i
    for ((i = 0; i < 400; i++)); do
        grep -q -- "$1" "$2" 2>/dev/null && return 0
        sleep 0.05
    done
    return 1
}

begin "other tasks go on while one waits for a line, and a wait given up loses nothing"
cat >slow.lua <<'LUA'
io.stdout:setvbuf "no"
local reader = spawn(function()
    print(select(2, wait_for(0.01, function() return leat.stdin:read() end)).kind)
    return leat.stdin:read()
end)
for _ = 1, 30 do sleep(0.001) end
print(pcall(leat.stdin.read, leat.stdin))
print "ticked"
print(reader:await())
LUA
mkfifo fifo
"$LEAT" slow.lua <fifo >out 2>err &
pid=$!
exec 3>fifo
wait_for_line ticked out
printf 'the ' >&3
printf 'line\n' >&3
exec 3>&-
wait "$pid"
# shellcheck disable=SC2034 # expect_status reads it
status=$?
expect_status 0
expect_equal "$(head -1 out)" timeout
expect_equal "$(grep -c 'another task is reading' out)" 1
expect_equal "$(tail -1 out)" 'the line'

begin "reading leaves the flags of the open file alone"
cat >flags.lua <<'LUA'
local function flags()
    for line in io.lines "/proc/self/fdinfo/0" do
        if line:find "^flags" then return line end
    end
end
local before = flags()
leat.stdin:read()
print(flags() == before)
LUA
try "$LEAT" flags.lua < <(printf 'x\n')
expect_equal "$(cat out)" true

begin "a script that waits for input that never ends can be stopped"
mkfifo fifo2
"$LEAT" -e 'spawn(function() return leat.stdin:read() end):cancel() print(leat.stats().external)' <fifo2 >out 2>err &
pid=$!
exec 3>fifo2
wait "$pid"
# shellcheck disable=SC2034 # expect_status reads it
status=$?
exec 3>&-
expect_status 0
expect_equal "$(cat out)" 0

begin "a log line is one line, with its fields in order and no secret in it"
cat >log.lua <<'LUA'
leat.log.warn("two\nlines", { api_key = "sk-canary", url = "https://u:canary@h/p?token=canary", b = 2, a = "x y" })
leat.log.debug("not shown")
leat.log.error(nil)
leat.log.info("\27[31mred\r\0", { [1] = "first", [true] = false, b = "\b" })
LUA
try "$LEAT" log.lua
expect_status 0
expect_lines out 0
expect_lines err 3
expect_err 'info: \x1b[31mred\r\x00 1=first b=\x08 true=false'
expect_err 'two\nlines a="x y" api_key=*** b=2 url='
expect_equal "$(grep -c canary err)" 0

begin "the same seed gives the same identifiers, no seed other ones"
one=$("$LEAT" --seed 7 -e 'print(leat.uuid())')
two=$("$LEAT" --seed 7 -e 'print(leat.uuid())')
expect_equal "$one" "$two"
three=$("$LEAT" -e 'print(leat.uuid())')
four=$("$LEAT" -e 'print(leat.uuid())')
expect_equal "$([ "$three" = "$four" ] && echo same)" ""

finish
