#!/bin/bash
# Fuzzes the JSON code: with clang's libFuzzer for the given number of seconds (20), else with the
# changed copies of the corpus that json.c makes itself. What libFuzzer finds new stays in a folder of
# its own; a crash leaves its input in the working folder and its name on the last lines.
#
#     tests/fuzz/run.sh [SECONDS]
set -u
here=$(cd "$(dirname "$0")" && pwd)
src=$here/../../src
seconds=${1:-20}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

read -ra luajit <<<"$(pkg-config --cflags luajit)"
read -ra libs <<<"$(pkg-config --libs luajit) -lm"
sources=("$here/json.c")
for name in json_scan lua_json_build lua_json_encode mem buf err; do sources+=("$src/$name.c"); done
flags=(-std=c11 -D_GNU_SOURCE -g -O1 -fno-sanitize-recover=all -iquote "$src" "${luajit[@]}")

if command -v clang >/dev/null && clang -fsanitize=fuzzer,address,undefined "${flags[@]}" \
        "${sources[@]}" -o "$scratch/fuzz" "${libs[@]}" 2>"$scratch/log"; then
    mkdir "$scratch/found"
    "$scratch/fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
        "$scratch/found" "$here/corpus_json" 2>&1 | tail -12
    status=${PIPESTATUS[0]}
else
    cc -fsanitize=address,undefined -DFUZZ_STANDALONE "${flags[@]}" "${sources[@]}" \
        -o "$scratch/fuzz" "${libs[@]}" || exit 1
    "$scratch/fuzz" "$here"/corpus_json/*
    status=$?
fi
if [ "$status" = 0 ]; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
fi
exit "$status"
