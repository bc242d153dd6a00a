#!/bin/bash
# tests/bench/peers/nginx_lua.sh FOLDER: unpacks Debian's Lua module of nginx into the folder. It cannot be installed:
# its LuaJIT and the one that Leat is built with exclude each other.
set -eu
mkdir -p "$1"
cd "$1"
apt-get -q download libnginx-mod-http-lua libnginx-mod-http-ndk libluajit2-5.1-2 libluajit2-5.1-common \
    lua-resty-core lua-resty-lrucache >/dev/null
for package in *.deb; do
    dpkg -x "$package" .
done
rm -- *.deb
