#!/bin/bash
# Fuzzes what reads bytes from outside: with clang's libFuzzer for the given number of seconds each
# (20), else with the changed copies of the corpus that standalone.h makes. What libFuzzer finds new
# stays in a folder of its own; a crash leaves its input in the working folder and its name on the
# last lines.
#
#     tests/fuzz/run.sh [SECONDS [NAME...]]     names: cookies http1 http2 json lines sse url (all)
set -u
here=$(cd "$(dirname "$0")" && pwd)
src=$here/../../src
seconds=${1:-20}
shift
[ $# -gt 0 ] || set -- cookies http1 http2 json lines sse url
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

fuzz() { # fuzz NAME "SOURCE..." "PACKAGE...": of src/ and of pkg-config
    local name=$1 module sources cflags libs flags status
    # shellcheck disable=SC2086 # a list of words
    read -ra cflags <<<"$([ -z "$3" ] || pkg-config --cflags $3)"
    # shellcheck disable=SC2086
    read -ra libs <<<"$([ -z "$3" ] || pkg-config --libs $3) -lm"
    sources=("$here/$name.c")
    for module in $2; do sources+=("$src/$module.c"); done
    flags=(-std=c11 -D_GNU_SOURCE -g -O1 -fno-sanitize-recover=all -iquote "$src" "${cflags[@]}")
    echo "fuzzing $name"
    if command -v clang >/dev/null && clang -fsanitize=fuzzer,address,undefined "${flags[@]}" \
            "${sources[@]}" -o "$scratch/fuzz" "${libs[@]}" 2>"$scratch/log"; then
        mkdir "$scratch/found-$name"
        "$scratch/fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
            -print_final_stats=1 "$scratch/found-$name" "$here/corpus_$name" 2>&1 | tail -12
        status=${PIPESTATUS[0]}
    else
        cc -fsanitize=address,undefined -DFUZZ_STANDALONE "${flags[@]}" "${sources[@]}" \
            -o "$scratch/fuzz" "${libs[@]}" && "$scratch/fuzz" "$here/corpus_$name"/*
        status=$?
    fi
    if [ "$status" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

for name in "$@"; do
    case $name in
    cookies) fuzz cookies "engine/cookie_jar engine/cookie_parse ground/mem ground/buf ground/err" libpsl ;;
    http1) fuzz http1 "ground/http1_parse ground/http1_head ground/headers ground/mem ground/buf ground/err" "" ;;
    http2) fuzz http2 "engine/http2 engine/http2_deliver engine/http2_events engine/http2_guard engine/http2_request engine/http2_session engine/http2_stream ground/headers ground/mem ground/buf ground/err" "libnghttp2 libuv" ;;
    json) fuzz json "ground/json_scan ground/json_put lua/lua_json_decode lua/lua_json_encode ground/secret ground/log ground/mem ground/buf ground/err" luajit ;;
    lines) fuzz lines "ground/lines ground/mem ground/buf ground/err" "" ;;
    sse) fuzz sse "ground/sse ground/mem ground/buf ground/err" "" ;;
    url) fuzz url "engine/transfer ground/headers engine/cookie_jar engine/cookie_parse ground/base64 ground/redact ground/log ground/secret ground/mem ground/buf ground/err" "libcurl libpsl" ;;
    *)
        echo "no such target: $name"
        exit 2
        ;;
    esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
