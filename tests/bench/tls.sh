#!/bin/bash
# tests/bench/tls.sh [COUNT [ROUNDS]]
#
# What a TLS connection costs the client, with the handshake and without resumption: verified by the system's
# certificates (and that of the server, an nginx on another core), as users have it, and by that one alone.
set -eu
cd "$(dirname "$0")/../.."
count=${1:-500} rounds=${2:-3}
build=${BUILD:-build}

. tests/bench/lib.sh
scripts/deps.sh build bench
if [ -z "${BUILD:-}" ]; then
    cmake -B build >/dev/null
    cmake --build build --target leat --parallel "$(nproc)" >/dev/null
fi

start_nginx ssl
cat /etc/ssl/certs/ca-certificates.crt "$scratch/cert.pem" >"$scratch/all.pem"
unset SSL_CERT_DIR
export SSL_CERT_FILE=$scratch/all.pem
for ((round = 1; round <= rounds; round++)); do
    measure system "$build/leat" tests/bench/tls.lua "$url" "$count"
    measure one "$build/leat" tests/bench/tls.lua "$url" "$count" "$scratch/cert.pem"
done

echo "$count TLS connections, one after the other, median of $rounds interleaved rounds"
echo
printf '%-28s %14s %14s\n' "verified by" "CPU us each" "slowest, us"
row() { # row NAME TITLE
    printf '%-28s %14s %14s\n' "$2" "$(column "$1" cpu_us_per_request | median)" \
        "$(column "$1" slowest_us | median)"
}
row system "$(grep -c BEGIN "$scratch/all.pem") certificates"
row one "one certificate"
