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

export FAULT_CA=$scratch/ca.pem FAULT_UNIX_SOCKET=$scratch/http.sock \
    FAULT_CLIENT_CERT=$scratch/client-cert.pem FAULT_CLIENT_KEY=$scratch/client-key.pem
mkfifo "$scratch/ports"
"$build/tests/faultd" --ca "$FAULT_CA" --client-cert "$FAULT_CLIENT_CERT" \
    --client-key "$FAULT_CLIENT_KEY" --unix "$FAULT_UNIX_SOCKET" --parent $$ >"$scratch/ports" &
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
FAULT_MTLS_URL=https://127.0.0.1:$(port mtls)
FAULT_SILENT_URL=https://127.0.0.1:$(port silent)
FAULT_REFUSED_URL=http://127.0.0.1:$(port refused)
FAULT_BACKLOG_URL=http://127.0.0.1:$(port backlog)
FAULT_FLAKY_URL=http://127.0.0.1:$(port flaky)
FAULT_PROXY_URL=http://127.0.0.1:$(port proxy)
FAULT_PROXY_AUTH_URL=http://127.0.0.1:$(port proxy_auth) # for user u, password p:ss
FAULT_SOCKS_URL=socks5h://127.0.0.1:$(port socks)
FAULT_SOCKS_AUTH_URL=socks5h://127.0.0.1:$(port socks_auth)
FAULT_V6_URL= # where the machine has no ::1
[ "$(port v6)" = 0 ] || FAULT_V6_URL="http://[::1]:$(port v6)"
export FAULT_URL FAULT_TLS_URL FAULT_TLS_EXPIRED_URL FAULT_TLS_WRONG_HOST_URL FAULT_MTLS_URL \
    FAULT_SILENT_URL FAULT_REFUSED_URL FAULT_BACKLOG_URL FAULT_FLAKY_URL FAULT_PROXY_URL \
    FAULT_PROXY_AUTH_URL FAULT_SOCKS_URL FAULT_SOCKS_AUTH_URL FAULT_V6_URL

# Not in this shell itself: only the command's look-ups are played with. (env, because an assignment
# before "$@" would reach the shell's own helpers too.)
env LD_PRELOAD="$build/tests/slowdns.so" \
    ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS:-}" "$@"
