#!/bin/bash
# --sandbox, --time-limit and --memory-limit, as the command line gives them.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

begin "a restricted script runs, without files and processes"
try "$LEAT" --sandbox -e 'assert(not (io or debug or package) and os.execute == nil) print(os.time() > 0, ...)' a
expect_status 0
expect_out "true	a"

begin "options that name files of the machine are denied, before the request is sent"
for option in ca_file cert key sink unix_socket; do
    try "$LEAT" --sandbox -e "local v, err = request{url='http://127.0.0.1:1/', $option='/etc/passwd'} print(err.kind)"
    expect_status 0
    expect_out "denied"
    try "$LEAT" --sandbox -e "local c = leat.client{$option='/etc/passwd'} print(c and 'made')"
    grep -q made out && fail "a client takes $option"
done

begin "no key of the host's goes to an address of the script's"
OPENAI_API_KEY=canary try "$LEAT" --sandbox -e 'print(leat.inspect(leat.openai{base_url="http://127.0.0.1:1"}))'
grep -q canary out err && fail "it is in there"

begin "leat's own modules cannot be swapped from outside"
mkdir leat && echo 'error "swapped"' >leat/init.lua
LEAT_LUA_DIR=$PWD try "$LEAT" --sandbox -e 'print "own"'
expect_status 0
expect_out "own"

begin "an endless script ends at its limit, with its line"
printf 'local x\nwhile true do x = 1 end\n' >loop.lua
try "$LEAT" --time-limit 0.05 loop.lua
expect_status 1
expect_err "loop.lua:2"

begin "an endless __tostring ends as well"
try "$LEAT" --time-limit 0.05 -e 'error(setmetatable({}, {__tostring = function() while true do pcall(error) end end}))'
expect_status 1

begin "wrong use is reported"
try "$LEAT" --time-limit x loop.lua
expect_status 2
expect_err "--time-limit"
try "$LEAT" --sandbox repl
expect_status 2

begin "--memory-limit ends the task that takes more, and the others go on"
try "$LEAT" --memory-limit 8M -e 'local t = {} for i = 1, 1e8 do t[i] = {} end'
expect_status 1
expect_err "memory: not enough memory, in task 1"
try "$LEAT" --memory-limit 8388608 -e 'local _, err = wait_for(5, function()
        local s = "x" while true do s = s .. s end
    end) print(err.kind) return #("x"):rep(2^20)'
expect_status 0
expect_out "memory"
try "$LEAT" --memory-limit 1.5g -e 'print "roomy"'
expect_out "roomy"
for wrong in "" 10 64MB -5M 1T x; do
    try "$LEAT" --memory-limit "$wrong" -e 'print "ran"'
    expect_status 2
    expect_lines out 0
    expect_err "--memory-limit takes bytes, or 64M or 1G, from 1M, got '$wrong'"
done

finish
