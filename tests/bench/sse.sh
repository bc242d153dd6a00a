#!/bin/bash
# tests/bench/sse.sh [EVENTS [ROUNDS [STREAMS]]]
# tests/bench/sse.sh --instructions
#
# What a server-sent event of a chat completion costs the client: the fault server sends as fast as it
# can on one core; on the other, in turn, Leat reads 8 streams at once, with the JSON of each event
# decoded in Lua, and a C program on libcurl that only finds the lines (tests/bench/sse_bare.c). Prints
# medians of the CPU time per event, and their ratio.
#
# With --instructions callgrind counts the instructions of an event instead, of one stream: taken by events(), decoded,
# and as a delta of ai:stream. It is (3000 events - 1000 events) / 2000, and the same on a busy machine. The profiles of
# 3000 events are left in $TMPDIR/callgrind.HOW.
set -eu
cd "$(dirname "$0")/../.."
instructions=
[ "${1:-}" != --instructions ] || instructions=$1
events=${1:-50000} rounds=${2:-5} streams=${3:-8}
build=${BUILD:-build}
if [ -z "${BUILD:-}" ]; then
    cmake -B build -DLEAT_TESTS=ON >/dev/null
    cmake --build build --target leat faultd sse_bare --parallel "$(nproc)" >/dev/null
fi
if [ -z "${FAULT_URL:-}" ]; then
    BUILD=$build exec taskset -c 0 tests/with_faultd.sh bash "$0" "$@"
fi
core=1
[ "$(nproc)" -gt 1 ] || core=0

counted() { # counted HOW EVENTS: instructions; the profile is left
    LD_PRELOAD='' valgrind --tool=callgrind --callgrind-out-file="${TMPDIR:-/tmp}/callgrind.$1" \
        "$build/leat" tests/bench/sse.lua "$FAULT_URL/tokens?n=$2&ms=0" 1 "$1" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}
if [ -n "$instructions" ]; then
    first=
    printf '%-28s %14s %10s\n' "an event" "instructions" "ratio"
    for row in "events()=events" "events() and json.decode=json" "ai:stream=stream"; do
        few=$(counted "${row#*=}" 1000)
        each=$((($(counted "${row#*=}" 3000) - few) / 2000))
        [ "${row#*=}" != json ] || first=$each
        printf '%-28s %14d %10s\n' "${row%=*}" "$each" \
            "$(awk -v a="$each" -v b="$first" 'BEGIN { if (b) printf "%.2f", a / b }')"
    done
    exit
fi

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
