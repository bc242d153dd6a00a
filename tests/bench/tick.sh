#!/bin/bash
# tests/bench/tick.sh [TICKS [MODE...]]: how long leat_step(500 us) takes in a host's frame, as histograms. The modes:
# with 200 requests in flight over HTTP/1.1 (h1) and over HTTP/2 with TLS (h2); with N streams of 50 events a second
# each, without a network thread (sseN) and with one (sseN-thread), and with a stream that sends as fast as it is read
# (flood, flood-thread); with a script that never waits and LuaJIT's compiler off (loop), and the same under the
# watchdog (watchdog).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
ticks=${1-2000}
[ $# -gt 1 ] && shift && modes="$*" || modes="h1 h2 sse50 sse50-thread sse200 sse200-thread flood flood-thread loop watchdog"
scratch=$(mktemp -d)
export BUILD=${BUILD:-$root/build}
mkdir "$scratch/include"
cp "$root/src/leat.h" "$scratch/include"
gcc -O2 -std=c11 -D_GNU_SOURCE -I"$scratch/include" -o "$scratch/tick" "$root/tests/bench/tick.c" -L"$BUILD" -lleat \
    -Wl,-rpath,"$BUILD"
mkfifo "$scratch/mock"
"$BUILD/leat" mock --port 0 --latency 0.05-0.4 >"$scratch/mock" &
mock=$!
trap 'kill $mock; rm -rf "$scratch"' EXIT
read -r line <"$scratch/mock"
sse() { # sse STREAMS MS THREADS: with so many milliseconds between two events of a stream
    # shellcheck disable=SC2016 # for the shell inside
    "$root/tests/with_faultd.sh" bash -c 'LD_PRELOAD="" "$1" sse "$2" "$FAULT_URL/tokens?n=1000000000&ms=$4" "$3" "$5"' \
        - "$scratch/tick" "$ticks" "$@"
}
for mode in $modes; do
    threads=0
    [[ $mode != *-thread ]] || threads=1
    case $mode in
    h1) "$scratch/tick" io "$ticks" "${line##* }/v1/chat/completions" ;;
    h2)
        # shellcheck disable=SC2016 # for the shell inside
        "$root/tests/with_h2.sh" bash -c '"$1" io "$2" "$H2_TLS_URL/delay?ms=RANDOM" "$H2_CA"' - "$scratch/tick" \
            "$ticks"
        ;;
    sse*)
        streams=${mode#sse}
        sse "${streams%-thread}" 20 $threads
        ;;
    flood*) sse 1 0 $threads ;;
    *) "$scratch/tick" "$mode" "$ticks" ;;
    esac
done
