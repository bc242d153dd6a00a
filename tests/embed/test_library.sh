#!/bin/bash
# The library as a host gets it: installed, found by pkg-config, linked shared and static.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
prefix=$scratch/prefix
sanitize=$(sed -n 's/^LEAT_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' "$BUILD/CMakeCache.txt")

begin "cmake --install puts the binary, header, libraries and leat.pc in place"
try cmake --install "$BUILD" --prefix "$prefix"
expect_status 0
libdir=$(dirname "$(find "$prefix" -name libleat.a)")
for file in "$prefix/bin/leat" "$prefix/include/leat.h" "$libdir/libleat.so" \
    "$libdir/pkgconfig/leat.pc" "$prefix/share/man/man1/leat.1" "$prefix/share/man/man3/leat.3" \
    "$prefix/share/bash-completion/completions/leat" "$prefix/share/zsh/site-functions/_leat"; do
    [ -e "$file" ] || fail "$file is not there"
done
export PKG_CONFIG_PATH=$libdir/pkgconfig
# The prefix in leat.pc is the configured one.
pc() { pkg-config --define-variable=prefix="$prefix" "$@"; }

begin "the libraries show leat_* and nothing else"
nm -D --defined-only "$libdir/libleat.so" | awk '{ print $3 }' | grep -v '^leat_' >shown
nm -g --defined-only "$libdir/libleat.a" | awk 'NF == 3 { print $3 }' | grep -v '^leat_' >>shown
# The sanitizers add names of their own.
grep -v -e '^__' -e '^$' shown >extra && fail "also: $(tr '\n' ' ' <extra)"

begin "a host links the shared library"
# shellcheck disable=SC2046,SC2086 # lists of words
try gcc -std=c11 -Wall -Wextra -Werror $sanitize -o shared "$root/tests/embed/host.c" \
    $(pc --cflags --libs leat) -Wl,-rpath,"$libdir"
expect_status 0
try ./shared
expect_status 0
expect_out "host ok"
ldd shared >linked
grep -q libleat.so linked || fail "libleat.so is not linked"

begin "a host links the static library"
# shellcheck disable=SC2046,SC2086 # lists of words
try gcc -std=c11 -Wall -Wextra -Werror $sanitize -o static "$root/tests/embed/host.c" \
    $(pc --cflags --libs leat-static)
expect_status 0
try ./static
expect_status 0
expect_out "host ok"
ldd ./static >linked
grep -q libleat linked && fail "libleat.so is linked"

begin "a C++ host can include the header"
if command -v g++ >/dev/null; then
    echo '#include <leat.h>
int main() { return leat_version() == nullptr; }' >host.cc
    # shellcheck disable=SC2046,SC2086 # lists of words
    try g++ $sanitize -o cxx host.cc $(pc --cflags --libs leat) -Wl,-rpath,"$libdir"
    expect_status 0
    try ./cxx
    expect_status 0
fi

begin "host and scripts call each other: values, host functions, other threads, misuse"
# shellcheck disable=SC2046,SC2086 # lists of words
try gcc -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror $sanitize -o calls "$root/tests/embed/calls.c" \
    $(pc --cflags --libs leat) -Wl,-rpath,"$libdir" -lpthread
expect_status 0
try ./calls
expect_status 0
grep -q '^[1-9][0-9]* passed, 0 failed$' out || fail "$(tail -n 5 out)"

begin "the example of a tool host runs a script within limits, with a function of its own"
# shellcheck disable=SC2046,SC2086 # lists of words
try gcc -std=c11 -Wall -Wextra -Werror $sanitize -o tool_host "$root/scripts/embed/tool_host.c" \
    $(pc --cflags --libs leat) -Wl,-rpath,"$libdir" -lpthread
expect_status 0
cat >tool.lua <<'LUA'
local words = leat.map({ "leat", "mill" }, function(word) return tool.look_up(word) end)
print(words[1], words[2], io, select(2, tool.look_up()))
LUA
try ./tool_host tool.lua
expect_status 0
expect_equal "$(cat out)" "leat: 4 letters	mill: 4 letters	nil	invalid: tool.look_up takes a word"
echo 'while true do end' >loop.lua
try ./tool_host loop.lua
expect_status 1
expect_err "loop.lua:1"

begin "64 runtimes in 8 threads, freed with requests in flight, leave nothing behind"
start_mock --latency 30
# shellcheck disable=SC2046,SC2086,SC2154 # lists of words; mock_url is start_mock's
try gcc -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror $sanitize -o many "$root/tests/embed/many.c" \
    $(pc --cflags --libs leat) -Wl,-rpath,"$libdir" -lpthread
expect_status 0
try ./many "$mock_url"
expect_status 0
expect_out "2 passed, 0 failed"

finish
