#!/bin/bash
# tests/bench/sse.sh [EVENTS [ROUNDS [STREAMS]]]
#
# What a server-sent event of a chat completion costs the client: the fault server sends as fast as it
# can on one core; on the other, in turn, Leat reads 8 streams at once, with the JSON of each event
# decoded in Lua, and a C program on libcurl that only finds the lines (tests/bench/sse_bare.c). Prints
# medians of the CPU time per event, and their ratio.
set -eu
cd "$(dirname "$0")/../.."
events=${1:-50000} rounds=${2:-5} streams=${3:-8}
build=${BUILD:-build}
if [ -z "${BUILD:-}" ]; then
    cmake -B build -DLEAT_TESTS=ON >/dev/null
    cmake --build build --target leat faultd sse_bare --parallel "$(nproc)" >/dev/null
fi
if [ -z "${FAULT_URL:-}" ]; then
    BUILD=$PWD/$build exec taskset -c 0 tests/with_faultd.sh bash "$0" "$events" "$rounds" "$streams"
fi
core=1
[ "$(nproc)" -gt 1 ] || core=0
url="$FAULT_URL/tokens?n=$events&ms=0"
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
field() { sed -n "s/.*$1=\([0-9.]*\).*/\1/p"; }
leat='' bare='' peak=0
for ((i = 0; i < rounds; i++)); do
    out=$(taskset -c "$core" "$build/leat" tests/bench/sse.lua "$url" "$streams")
    leat+=$(field us_per_event <<<"$out")$'\n'
    peak=$(field peak_kb <<<"$out")
    out=$(taskset -c "$core" "$build/tests/sse_bare" "$url" "$streams")
    bare+=$(field us_per_event <<<"$out")$'\n'
done
leat=$(median <<<"${leat%$'\n'}") bare=$(median <<<"${bare%$'\n'}")
awk -v l="$leat" -v b="$bare" -v p="$peak" -v s="$streams" 'BEGIN {
    printf "%d streams: Leat %.2f us per event with its JSON decoded, bare libcurl %.2f us without; ratio %.1f; peak %.1f MB\n",
        s, l, b, l / b, p / 1024 }'
