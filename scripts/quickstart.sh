#!/bin/bash
# scripts/quickstart.sh: from a fresh checkout to a running pipeline, in one command.
#
# Installs what is missing, builds into build/, starts the built-in server (`leat mock`) on a free
# loopback port, runs scripts/main_job.lua against it, and stops the server. No key, no network. With
# OPENAI_BASE_URL and OPENAI_API_KEY set, the same script talks to that service instead.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

scripts/deps.sh build

scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-quickstart.XXXXXX")
mock=
clean_up() {
    [ -z "$mock" ] || kill "$mock" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "building ..."
if ! { cmake -B build && cmake --build build --target leat_installed --parallel "$(nproc)"; } \
    >"$scratch/log" 2>&1; then
    tail -n 40 "$scratch/log" >&2
    say "the build failed"
    exit 1
fi

if [ -n "${OPENAI_BASE_URL:-}" ]; then
    say "using OPENAI_BASE_URL"
else
    mkfifo "$scratch/mock"
    build/leat mock --port 0 --latency "${MOCK_LATENCY:-0.5-1.5}" --seed 1 \
        >"$scratch/mock" 2>"$scratch/mock.err" &
    mock=$!
    # Its first line ends with its address. The descriptor stays open, or its later lines would fail.
    exec 3<"$scratch/mock"
    if ! read -r line <&3; then
        cat "$scratch/mock.err" >&2
        say "the mock server did not start"
        exit 1
    fi
    say "$line"
    export OPENAI_BASE_URL="${line##* }/v1" OPENAI_API_KEY="${OPENAI_API_KEY:-none}"
fi

say "running scripts/main_job.lua: 100 prompts, at most 5 at once"
say ""
build/leat scripts/main_job.lua "$@"
