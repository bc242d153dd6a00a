#!/bin/bash
# tests/with_faultd.sh COMMAND [ARG...]
#
# Runs the command with a fault server of its own (tests/server/), whose addresses are in FAULT_URL,
# FAULT_TLS_URL ..., and with slow and missing host names (slowdns). BUILD is the build folder.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-fault.XXXXXX")
server=
clean_up() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

export FAULT_CA=$scratch/ca.pem
mkfifo "$scratch/ports"
"$build/tests/faultd" --ca "$FAULT_CA" --parent $$ >"$scratch/ports" &
server=$!
read -r ports <"$scratch/ports"
port() { # the port called $1 in the server's line
    local word
    for word in $ports; do
        [ "${word%%=*}" = "$1" ] && echo "${word#*=}" && return
    done
}
FAULT_URL=http://127.0.0.1:$(port http)
FAULT_TLS_URL=https://127.0.0.1:$(port tls)
FAULT_TLS_EXPIRED_URL=https://127.0.0.1:$(port tls_expired)
FAULT_TLS_WRONG_HOST_URL=https://127.0.0.1:$(port tls_wrong_host)
FAULT_SILENT_URL=https://127.0.0.1:$(port silent)
FAULT_REFUSED_URL=http://127.0.0.1:$(port refused)
FAULT_BACKLOG_URL=http://127.0.0.1:$(port backlog)
export FAULT_URL FAULT_TLS_URL FAULT_TLS_EXPIRED_URL FAULT_TLS_WRONG_HOST_URL FAULT_SILENT_URL \
    FAULT_REFUSED_URL FAULT_BACKLOG_URL

# Not in this shell itself: only the command's look-ups are played with. (env, because an assignment
# before "$@" would reach the shell's own helpers too.)
env LD_PRELOAD="$build/tests/slowdns.so" \
    ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS:-}" "$@"
