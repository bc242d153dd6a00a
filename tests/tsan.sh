#!/bin/bash
# tests/tsan.sh: builds the library under ThreadSanitizer (in build-tsan/) and runs what uses several threads: 64
# runtimes in 8 threads, a host's loop and Lua state, host functions completed from other threads, look-ups and files
# off the loop, the network on threads of its own. The last line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 2
scratch=$(mktemp -d)
mocks=()
trap 'kill "${mocks[@]}"; rm -rf "$scratch"' EXIT
cmake -B build-tsan -DLEAT_SANITIZE=thread -DLEAT_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null &&
    cmake --build build-tsan -j2 >"$scratch/build" 2>&1 || {
    tail -n 20 "$scratch/build"
    echo "0 passed, 1 failed"
    exit 1
}
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp halt_on_error=0"
mkdir "$scratch/include"
cp src/leat.h "$scratch/include"
mkfifo "$scratch/fifo"
# start_mock LATENCY: sets $url.
start_mock() {
    build-tsan/leat mock --port 0 --latency "$1" >"$scratch/fifo" &
    mocks+=($!)
    read -r url <"$scratch/fifo"
    url=${url##* }
}
start_mock 30
slow=$url
start_mock 0.1
passed=0 failed=0
run() {
    if timeout 200 "$@" >"$scratch/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $*"
        head -n 60 "$scratch/log"
    fi
}
for name in calls many loop state; do
    # shellcheck disable=SC2046 # a list of words
    gcc -g -fsanitize=thread -std=c11 -D_GNU_SOURCE -I"$scratch/include" -iquote tests/unit -o "$scratch/$name" \
        "tests/embed/$name.c" -Lbuild-tsan -lleat -Wl,-rpath,"$PWD/build-tsan" \
        $(pkg-config --cflags --libs luajit libuv) -lpthread || exit 1
done
run "$scratch/calls"
run "$scratch/many" "$slow/v1/models" "$slow/v1/chat/completions"
for name in loop state; do
    run env THREADS=2 "$scratch/$name" "$url" "$slow" tests/embed/state
done
# Over TLS, and over HTTP/2. The servers' own words are for the shell inside.
export BUILD=$PWD/build-tsan
# shellcheck disable=SC2016
{
    run tests/with_faultd.sh env -u LD_PRELOAD sh -c \
        'exec "$0" "$FAULT_TLS_URL/ok" "$FAULT_TLS_URL/never" "$FAULT_CA"' "$scratch/many"
    run tests/with_h2.sh sh -c 'exec "$0" "$H2_TLS_URL/ok" "$H2_TLS_URL/never" "$H2_CA"' "$scratch/many"
}
for name in mem loop resolver file; do
    program=$(find build-tsan -name "test_$name" -type f | head -n 1)
    [ -n "$program" ] && run "$program"
done
run env LEAT_POINTS=60 build-tsan/tests/unit/test_rows_memory_net on_a_thread
# The Lua tests of the network, with its work on threads of its own.
for name in http http_cancel task upload routes; do
    LUA_PATH="tests/lua/?.lua" BUILD=$PWD/build-tsan run tests/with_faultd.sh build-tsan/leat --network-threads 3 \
        "tests/lua/test_$name.lua"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
