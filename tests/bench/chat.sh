#!/bin/bash
# tests/bench/chat.sh [COUNT [ROUNDS [IN_FLIGHT]]]
#
# What a chat request costs the client: nginx answers on one core, the client runs on another, Leat
# and a bare C client on libcurl (tests/bench/bare.c) in turn, so that a busy machine slows both. Each
# request is a POST of a 240-byte body, built and encoded anew, on a kept-alive connection; the reply
# of 300 bytes is decoded. Prints medians, and the ratio of the two.
set -eu
cd "$(dirname "$0")/../.."
count=${1:-20000} rounds=${2:-5} in_flight=${3:-64}
build=${BUILD:-build}

. tests/bench/lib.sh
scripts/deps.sh build bench
if [ -z "${BUILD:-}" ]; then
    cmake -B build -DLEAT_TESTS=ON >/dev/null
    cmake --build build --target leat bare --parallel "$(nproc)" >/dev/null
fi

# The two programs note their start on different clocks: when CLOCK_BOOTTIME (7) was 0, in wall time.
boot_ns=$("$build/leat" -e 'local ffi = require "ffi"
ffi.cdef "struct ts { long s, ns; }; int clock_gettime(int clock, struct ts *out);"
local boot, wall = ffi.new "struct ts", ffi.new "struct ts"
ffi.C.clock_gettime(7, boot)
ffi.C.clock_gettime(0, wall)
print((tostring((wall.s - boot.s) * 1000000000LL + wall.ns - boot.ns):gsub("%a+$", "")))')

start_nginx
clocked() { # measure, with the time of the start
    local now=$EPOCHREALTIME
    START_S=$now BENCH_START_NS=$((${now/./} * 1000 - boot_ns)) measure "$@"
}

for ((round = 1; round <= rounds; round++)); do
    measure bare "$build/tests/bare" "$url" "$count" "$in_flight"
    measure leat "$build/leat" tests/bench/chat.lua "$url" "$count" "$in_flight"
done
for ((round = 1; round <= 2 * rounds; round++)); do
    clocked bare_first "$build/tests/bare" "$url" 1 1
    clocked leat_first "$build/leat" tests/bench/chat.lua "$url" 1 1
done

echo "$count chat requests, $in_flight in flight, median of $rounds interleaved rounds"
echo
printf '%-28s %10s %10s %10s\n' "" "bare C" "leat" "ratio"
row() { printf '%-28s %10s %10s %10s\n' "$1" "$2" "$3" "$4"; }
row "CPU per request (us)" "$(column bare cpu_us_per_request | median)" "$(column leat cpu_us_per_request | median)" \
    "$(ratio leat bare cpu_us_per_request)"
row "start to first response (ms)" "$(column bare_first first_ms | median)" \
    "$(column leat_first first_ms | median)" "$(ratio leat_first bare_first first_ms)"
row "peak memory (MB)" "$(mb bare)" "$(mb leat)" "$(ratio leat bare peak_rss_kb)"
