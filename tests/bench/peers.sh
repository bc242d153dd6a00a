#!/bin/bash
# tests/bench/peers.sh [COUNT [ROUNDS [IN_FLIGHT]]]
#
# The chat job of suite.sh with what one would take instead of Leat (tests/bench/peers/), interleaved, so that a busy
# machine slows all of them: CPU time and peak memory of the client. Leat's CPU time includes its start.
set -eu
cd "$(dirname "$0")/../.."
count=${1:-5000} rounds=${2:-3} in_flight=${3:-64}

. tests/bench/lib.sh
scripts/deps.sh peers
prepare leat
start_nginx
for ((round = 1; round <= rounds; round++)); do
    measure leat "$build/leat" tests/bench/chat.lua "$url" "$count" "$in_flight"
    measure fetch node tests/bench/peers/fetch_chat.mjs "$url" "$count" "$in_flight"
    measure aiohttp /usr/bin/python3 tests/bench/peers/aiohttp_chat.py "$url" "$count" "$in_flight"
    measure httpx /usr/bin/python3 tests/bench/peers/httpx_chat.py "$url" "$count" "$in_flight"
done

echo "$count chat requests, $in_flight in flight, median of $rounds interleaved rounds"
echo
printf '%-24s %12s %12s %14s\n' "" "CPU us each" "times Leat's" "peak memory MB"
row() { # row NAME TITLE
    printf '%-24s %12s %12s %14s\n' "$2" "$(column "$1" cpu_us_per_request | median)" \
        "$(ratio "$1" leat cpu_us_per_request)" "$(mb "$1")"
}
row leat Leat
row fetch "node $(node --version | tr -d v), fetch"
row aiohttp "$(/usr/bin/python3 -c 'import aiohttp; print("aiohttp", aiohttp.__version__)')"
row httpx "$(/usr/bin/python3 -c 'import httpx; print("httpx", httpx.__version__)')"
