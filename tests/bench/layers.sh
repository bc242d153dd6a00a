#!/bin/bash
# tests/bench/layers.sh [LAYER]
#
# How many instructions an item of the main job takes, layer by layer: client:post with its JSON, ai:chat, a pipeline
# over that, the same with a journal, and `leat batch`: by callgrind, (3000 items - 1000 items) / 2000. This is the
# same on a busy machine. (tests/bench/suite.sh measures the CPU time of the layers.) With a LAYER (post, chat,
# pipeline, journal, batch) it counts that layer alone. The profile of 3000 items is kept in
# $TMPDIR/callgrind.LAYER, for callgrind_annotate.
set -eu
cd "$(dirname "$0")/../.."
in_flight=64 layers=(post chat pipeline journal batch)
[ "${1:-}" != --instructions ] || shift # as it was once called
[ -z "${1:-}" ] || layers=("$1")

. tests/bench/lib.sh
prepare leat
start_nginx

printf '%-24s %14s %10s\n' "$in_flight in flight" "instructions" "ratio"
first=
for layer in "${layers[@]}"; do
    layer "$layer" 1000 "$in_flight"
    few=$(instructions "$scratch/profile" "${command[@]}")
    layer "$layer" 3000 "$in_flight"
    many=$(instructions "${TMPDIR:-/tmp}/callgrind.$layer" "${command[@]}")
    each=$(((many - few) / 2000))
    first=${first:-$each}
    printf '%-24s %14d %10s\n' "$layer" "$each" "$(awk -v a="$each" -v b="$first" 'BEGIN { printf "%.2f", a / b }')"
done
