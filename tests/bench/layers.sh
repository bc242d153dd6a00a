#!/bin/bash
# tests/bench/layers.sh [COUNT [ROUNDS [IN_FLIGHT]]]
# tests/bench/layers.sh --instructions [LAYER]
#
# What an item of the main job costs, layer by layer: client:post with its JSON, ai:chat, a pipeline over that, the
# same with a journal, and `leat batch`; and `leat batch` as a script with asyncio and httpx, if that is installed.
# The server is an nginx on another core. The layers run in turn, so that a busy machine slows all of them. Prints
# the medians of the CPU time of the client process, with its start, and the ratio of each to client:post.
#
# With --instructions callgrind counts the instructions of an item instead: (3000 items - 1000 items) / 2000. This
# is the same on a busy machine. With a LAYER (post, chat, pipeline, journal, batch) it counts that layer alone,
# and keeps the profile of 3000 items in $TMPDIR/callgrind.LAYER, for callgrind_annotate.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
instructions="" in_flight=64 layers=(post chat pipeline journal batch)
if [ "${1:-}" = --instructions ]; then
    instructions=yes
    [ -z "${2:-}" ] || layers=("$2")
else
    count=${1:-20000} rounds=${2:-5} in_flight=${3:-64}
fi

. tests/bench/lib.sh
scripts/deps.sh build bench
if [ -z "${BUILD:-}" ]; then
    cmake -B build -DLEAT_TESTS=ON >/dev/null
    cmake --build build --target leat --parallel "$(nproc)" >/dev/null
fi
unset OPENAI_MODEL OPENAI_BASE_URL OPENAI_API_KEY_FILE OPENAI_BASE_URL_FILE
export OPENAI_API_KEY=sk-bench

title_of() {
    case $1 in
        post) echo "client:post, JSON" ;;
        chat) echo "ai:chat" ;;
        pipeline) echo "pipeline of ai:chat" ;;
        journal) echo "pipeline with a journal" ;;
        batch) echo "leat batch" ;;
        httpx) echo "asyncio + httpx" ;;
    esac
}

rows_of() { # rows_of COUNT: the path of a file of so many rows
    local path=$scratch/rows.$1.jsonl
    [ -e "$path" ] || "$build/leat" tests/bench/layers.lua rows - "$1" >"$path"
    echo "$path"
}

# job LAYER COUNT: sets `command`.
job() {
    local script=("$build/leat" tests/bench/layers.lua)
    rm -f "$scratch"/out.*
    case $1 in
        post | chat | pipeline) command=("${script[@]}" "$1" "$base" "$2" "$in_flight") ;;
        journal) command=("${script[@]}" pipeline "$base" "$2" "$in_flight" "$scratch/out.journal") ;;
        batch) command=("$build/leat" batch "$(rows_of "$2")" "$scratch/out.answers" -q --base-url "$base"
            --concurrency "$in_flight") ;;
        httpx) command=(/usr/bin/python3 tests/bench/peers/httpx_batch.py "$url" "$(rows_of "$2")"
            "$scratch/out.answers" "$in_flight") ;;
    esac
}

start_nginx
base=${url%/chat/completions}

counted() { # counted LAYER COUNT PROFILE: instructions
    job "$1" "$2"
    valgrind --tool=callgrind --callgrind-out-file="$3" "${command[@]}" 2>&1 >"$scratch/said" |
        sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}

if [ -n "$instructions" ]; then
    printf '%-24s %14s %10s\n' "$in_flight in flight" "instructions" "ratio"
    first=
    for layer in "${layers[@]}"; do
        few=$(counted "$layer" 1000 "$scratch/profile")
        many=$(counted "$layer" 3000 "${TMPDIR:-/tmp}/callgrind.$layer")
        each=$(((many - few) / 2000))
        first=${first:-$each}
        printf '%-24s %14d %10s\n' "$(title_of "$layer")" "$each" \
            "$(awk -v a="$each" -v b="$first" 'BEGIN { printf "%.2f", a / b }')"
    done
    exit
fi

timed() { # timed LAYER COUNT: adds CPU time for each item to the figures of the layer
    local user system
    job "$1" "$2"
    TIMEFORMAT='%U %S'
    read -r user system < <({ time taskset -c "$client_core" "${command[@]}" >"$scratch/said"; } 2>&1)
    awk -v t="$user $system" -v n="$2" \
        'BEGIN { split(t, p, " "); printf "cpu_us=%.2f\n", (p[1] + p[2]) / n * 1e6 }' >>"$scratch/$1"
}

if /usr/bin/python3 -c 'import httpx' 2>/dev/null; then
    layers+=(httpx)
fi
for ((round = 1; round <= rounds; round++)); do
    for layer in "${layers[@]}"; do
        items=$count
        [ "$layer" != httpx ] || items=$(((count + 3) / 4))
        timed "$layer" "$items"
    done
done

echo "$count items, $in_flight in flight, median of $rounds interleaved rounds"
echo
printf '%-24s %12s %10s\n' "" "CPU us each" "ratio"
for layer in "${layers[@]}"; do
    printf '%-24s %12s %10s\n' "$(title_of "$layer")" "$(column "$layer" cpu_us | median)" \
        "$(ratio "$layer" post cpu_us)"
done
if [ "$layer" = httpx ]; then
    echo
    echo "leat batch takes $(ratio httpx batch cpu_us) times less than httpx"
fi
