#!/bin/bash
# The library as a host gets it: installed, found by pkg-config and by CMake, linked shared and static.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
prefix=$scratch/prefix
sanitize=$(sed -n -e 's/^LEAT_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' \
    -e 's/^CMAKE_C_FLAGS:STRING=\(--coverage\).*/\1/p' "$BUILD/CMakeCache.txt")

begin "cmake --install puts the binary, header, libraries, leat.pc and the CMake package in place"
try cmake --install "$BUILD" --prefix "$scratch/staged"
expect_status 0
for file in leat leat-static; do
    grep -qx "prefix=$scratch/staged" "$(find "$scratch/staged" -name "$file.pc")" || fail "$file.pc has another prefix"
done
try env DESTDIR="$scratch/image" cmake --install "$BUILD" --prefix /opt/leat
expect_status 0
grep -qx "prefix=/opt/leat" "$(find "$scratch/image/opt/leat" -name leat.pc)" || fail "leat.pc has another prefix"
# As a package of a distribution is: everything below must work where it ends up.
mv "$scratch/staged" "$prefix"
libdir=$(dirname "$(find "$prefix" -name libleat.a)")
for file in "$prefix/bin/leat" "$prefix/include/leat.h" "$libdir/libleat.so" "$libdir/lua/5.1/leat.so" \
    "$libdir/pkgconfig/leat.pc" "$libdir/cmake/leat/leatConfig.cmake" \
    "$libdir/cmake/leat/leatConfigVersion.cmake" "$prefix/share/man/man1/leat.1" "$prefix/share/man/man3/leat.3" \
    "$prefix/share/bash-completion/completions/leat" "$prefix/share/zsh/site-functions/_leat"; do
    [ -e "$file" ] || fail "$file is not there"
done
export PKG_CONFIG_PATH=$libdir/pkgconfig
# The prefix in leat.pc is that before the move.
pc() { pkg-config --define-variable=prefix="$prefix" "$@"; }

begin "what scripts/quickstart.sh builds can be installed"
grep -q -- "--target leat_installed" "$root/scripts/quickstart.sh" || fail "it builds something else"
if [ "${LEAT_FULL:-}" = 1 ]; then
    try cmake -S "$root" -B fresh
    expect_status 0
    try cmake --build fresh --target leat_installed --parallel 2
    expect_status 0
    try cmake --install fresh --prefix "$scratch/quick"
    expect_status 0
    expect_equal "$(cd "$scratch/quick" && find . | sort)" "$(cd "$prefix" && find . | sort)"
else
    echo "  skipped: a build from the start (LEAT_FULL=1)"
fi

begin "the libraries show leat_* and nothing else"
nm -D --defined-only "$libdir/libleat.so" | awk '{ print $3 }' | grep -v '^leat_' >shown
nm -g --defined-only "$libdir/libleat.a" | awk 'NF == 3 { print $3 }' | grep -v '^leat_' >>shown
# The sanitizers add names of their own, and so does gcov.
grep -v -e '^__' -e '^$' -e '^mangle_path$' shown >extra && fail "also: $(tr '\n' ' ' <extra)"

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

# both LANGUAGE SOURCE COMPILER...: the host outside the tree by pkg-config, then by CMake.
both() {
    local language=$1 source=$root/tests/embed/outside/$2
    shift 2

    begin "a host in $language outside the tree, by pkg-config"
    # CMake's way takes leat.h for a system header, which hides its warnings: here they count.
    # shellcheck disable=SC2046,SC2086 # lists of words
    try "$@" -Wall -Wextra -Werror -pedantic $sanitize -o "by_pc_$language" "$source" \
        $(pc --cflags --libs leat) -Wl,-rpath,"$libdir"
    expect_status 0
    try "./by_pc_$language"
    expect_status 0
    expect_equal "$(cat out)" "4 letters"

    begin "a host in $language outside the tree, by CMake"
    outside "$language" "-DCMAKE_${language}_FLAGS=-Wall -Wextra -Werror $sanitize"
    expect_status 0
    expect_out "-- leat $version"
    try cmake --build "by_cmake_$language"
    expect_status 0
    try "by_cmake_$language/host"
    expect_status 0
    expect_equal "$(cat out)" "4 letters"
    ldd "by_cmake_$language/host" >linked
    grep -qF "$libdir/libleat.so" linked || fail "not linked with the installed library: $(cat linked)"
}
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$BUILD/CMakeCache.txt")
outside() { # outside LANGUAGE OPTION...: configures it
    try cmake -S "$root/tests/embed/outside" -B "by_cmake_$1" -DLANGUAGE="$1" \
        -DCMAKE_PREFIX_PATH="$prefix" "${@:2}"
}
both C host.c gcc -std=c11
if command -v g++ >/dev/null; then
    both CXX host.cc g++ -std=c++17
else
    echo "  skipped: hosts in C++: no g++"
fi

begin "CMake's package keeps to the versions that it can stand for"
outside C -DWANTED="$version"
expect_status 0
for wanted in 99 "${version%%.*}.99"; do
    outside C -DWANTED="$wanted"
    expect_status 1
    expect_err "with requested version \"$wanted\""
done

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
try ./many "$mock_url/v1/models" "$mock_url/v1/chat/completions"
expect_status 0
expect_out "2 passed, 0 failed"

# over_tls SERVERS QUICK SLOW CA: the same; the last three are shell words for the servers' environment.
over_tls() {
    try "$root/tests/$1" env -u LD_PRELOAD sh -c "exec ./many $2 $3 $4"
    expect_status 0
    expect_out "2 passed, 0 failed"
}
begin "the same over TLS"
# shellcheck disable=SC2016 # for the shell inside
over_tls with_faultd.sh '"$FAULT_TLS_URL/ok"' '"$FAULT_TLS_URL/never"' '"$FAULT_CA"'
if [ -x "$BUILD/tests/h2d" ]; then
    begin "the same over HTTP/2"
    # shellcheck disable=SC2016
    over_tls with_h2.sh '"$H2_TLS_URL/ok"' '"$H2_TLS_URL/never"' '"$H2_CA"'
else
    echo "  skipped: the same over HTTP/2: no h2d (libnghttp2-dev)"
fi

finish
