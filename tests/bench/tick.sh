#!/bin/bash
# tests/bench/tick.sh [TICKS]: how long leat_step(500 us) takes in a host's frame, as histograms: with 200 requests
# in flight, with a script that never waits (LuaJIT's compiler off), and the same under the watchdog.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
build=${BUILD:-$root/build}
mkdir "$scratch/include"
cp "$root/src/leat.h" "$scratch/include"
gcc -O2 -std=c11 -D_GNU_SOURCE -I"$scratch/include" -o "$scratch/tick" "$root/tests/bench/tick.c" -L"$build" -lleat \
    -Wl,-rpath,"$build"
mkfifo "$scratch/mock"
"$build/leat" mock --port 0 --latency 0.05-0.4 >"$scratch/mock" &
mock=$!
trap 'kill $mock; rm -rf "$scratch"' EXIT
read -r line <"$scratch/mock"
for mode in io loop watchdog; do
    "$scratch/tick" "${line##* }" $mode "${1-2000}"
done
