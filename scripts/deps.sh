#!/bin/bash
# scripts/deps.sh [build|docs|test|servers|hosts|valgrind|coverage|bench|peers]...
#
# Installs the Debian packages that building (the default), making the reference (docs), testing (servers: against
# those of others; hosts: inside of other programs) or benchmarking (peers: beside other clients) needs, and only
# those that are missing: with nothing missing it needs neither root nor a network.
set -eu

build="gcc libc6-dev make cmake pkg-config ca-certificates libluajit-5.1-dev libuv1-dev
    libcurl4-openssl-dev zlib1g-dev libssl-dev libnghttp2-dev libpsl-dev lua-cjson-dev
    libedit-dev"
wanted=$build
for use in "$@"; do
    case $use in
    build) ;;
    docs) wanted="$wanted cmark-gfm" ;;
    test)
        wanted="$wanted g++ luajit lua-check curl libsdl2-dev nginx-light"
        wanted="$wanted nghttp2-server nghttp2-client cmark-gfm"
        ;;
    servers) wanted="$wanted h2o caddy tinyproxy dante-server" ;;
    hosts) wanted="$wanted neovim love chromium" ;;
    valgrind) wanted="$wanted valgrind" ;;
    coverage) wanted="$wanted gcovr" ;;
    bench) wanted="$wanted nginx-light curl" ;;
    peers)
        wanted="$wanted python3-httpx python3-aiohttp golang-go"
        command -v node >/dev/null || wanted="$wanted nodejs"
        ;;
    *)
        echo "usage: scripts/deps.sh [build|docs|test|servers|hosts|valgrind|coverage|bench|peers]..." >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps: not a Debian system; cmake will name what is missing" >&2
    exit 0
fi

missing=
for package in $wanted; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as_root="sudo"
    else
        echo "deps: these packages are missing, and installing them needs root. Run:" >&2
        echo "  sudo apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi

echo "deps: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    # shellcheck disable=SC2086 # as_root is one word or none
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1
}
# shellcheck disable=SC2086 # a list of words
if ! { apt update && apt install --no-install-recommends $missing; }; then
    cat "$log" >&2
    echo "deps: apt-get failed (above); by hand: sudo apt-get install$missing" >&2
    exit 1
fi
