#!/bin/bash
# The build without its options: no server, no line editor, no tests.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
if grep -q '^LEAT_SANITIZE:STRING=.' "$BUILD/CMakeCache.txt"; then
    echo "  skipped: the plain build shows it"
    finish
fi

begin "it builds without a warning, and does not need libedit"
try cmake -S "$root" -B min -DLEAT_SERVE=OFF -DLEAT_REPL=OFF -DLEAT_WERROR=ON
expect_status 0
try cmake --build min --target leat --parallel "$(nproc)"
expect_status 0
LEAT=$PWD/min/leat
ldd "$LEAT" >linked
grep libedit linked && fail "it links it"

begin "the definitions for editors and the reference can be made without the server, too"
try cmake --build min --target leat_definitions
expect_status 0
cmp "$BUILD/library/leat.lua" min/library/leat.lua || fail "they differ"
if command -v cmark-gfm >/dev/null; then
    try cmake --build min --target docs
    expect_status 0
    [ -s min/docs/html/index.html ] || fail "there are no pages"
fi

begin "requests and tasks work as they do elsewhere"
export LUA_PATH="$root/tests/lua/?.lua"
for part in task http_usage; do
    try "$root/tests/with_faultd.sh" "$LEAT" "$root/tests/lua/test_$part.lua"
    expect_status 0
done

begin "whoever wants the server is told why there is none"
for code in 'leat.serve { handler = print }' 'leat.simulate("http://x.test", print)'; do
    try "$LEAT" -e "$code"
    expect_status 1
    expect_err "this leat was built without its server (LEAT_SERVE=OFF)"
done
try "$LEAT" mock --port 0
expect_status 1
expect_err "this leat was built without its server (LEAT_SERVE=OFF)"

begin "the prompt takes lines without an editor"
printf 'expect help()\nsend 6 * 7\\r\nexpect 42\nsend \\x04\nstatus 0\n' >steps
try "$BUILD/tests/pty" steps "$LEAT"
expect_status 0
finish
