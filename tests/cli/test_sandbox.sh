#!/bin/bash
# --sandbox and --time-limit, as the command line gives them.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

begin "a restricted script runs, without files and processes"
try "$LEAT" --sandbox -e 'assert(not (io or debug or package) and os.execute == nil) print(os.time() > 0, ...)' a
expect_status 0
expect_out "true	a"

begin "options that name files of the machine are denied"
for option in ca_file cert key unix_socket; do
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

begin "wrong use is said"
try "$LEAT" --time-limit x loop.lua
expect_status 2
expect_err "--time-limit"
try "$LEAT" --sandbox repl
expect_status 2

finish
