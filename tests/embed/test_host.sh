#!/bin/bash
# What a host may bring to a runtime: a config of another version, a print sink, memory,
# a uv loop, a Lua state.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
sanitize=$(sed -n 's/^LEAT_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' "$BUILD/CMakeCache.txt")

# host NAME MODULE... -- ARGUMENT...: builds tests/embed/NAME.c against the library and runs it.
host() {
    local name=$1 modules=()
    shift
    while [ "$1" != -- ]; do
        modules+=("$1")
        shift
    done
    # shellcheck disable=SC2046,SC2086 # lists of words
    try gcc -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror $sanitize -o "$name" "$root/tests/embed/$name.c" \
        -iquote "$root/tests/unit" -I"$scratch/include" -L"$BUILD" -Wl,-rpath,"$BUILD" -lleat \
        $([ "${#modules[@]}" = 0 ] || pkg-config --cflags --libs "${modules[@]}") -lpthread
    expect_status 0
    run "./$name" "${@:2}"
}

run() {
    try "$@"
    expect_status 0
    grep -q '^[1-9][0-9]* passed, 0 failed$' out || fail "$(grep -v '^ok ' out | tail -n 30)"
}
mkdir include && cp "$root/src/leat.h" include # alone, as it is installed

begin "a config of another version, a print sink, an allocator"
host config --

start_mock --latency 3600
# shellcheck disable=SC2154 # start_mock's
silent_url=$mock_url
start_mock --latency 0.1

begin "the host's own uv loop"
host loop libuv -- "$mock_url" "$silent_url"
THREADS=2 run ./loop "$mock_url" "$silent_url"

begin "the host's own Lua state"
host state luajit libuv -- "$mock_url" "$silent_url" "$root/tests/embed/state"
THREADS=2 run ./state "$mock_url" "$silent_url" "$root/tests/embed/state"

begin "the soname says which programs it can stand for"
readelf -d "$BUILD/libleat.so" >dynamic
grep -qF 'soname: [libleat.so.0]' dynamic || fail "$(grep -i soname dynamic)"

finish
