#!/bin/bash
# tests/seeds.sh [N [BINARY]]
#
# Runs the simulated programs for seeds 1 to N (10000): on virtual time, without sockets. What fails is named
# with the seeds it was among; LEAT_SEEDS=FROM-TO repeats them. Then 40 times as many changed inputs as seeds; and
# for a tenth of the seeds (1000) a process each, whose summary, stats, report, trace and exit status must agree.
set -eu
cd "$(dirname "$0")/.."
seeds=${1:-10000}
leat=${2:-build/leat}
status=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for name in random random_scopes http policies pipeline_random openai_random mutations; do
    echo "$name: seeds 1 to $seeds"
    if ! LEAT_SEEDS=1-$seeds LEAT_MUTATIONS=$((40 * seeds)) LUA_PATH="tests/lua/?.lua;;" "$leat" --virtual-time --seed 1 \
        "tests/lua/test_virtual_$name.lua" >"$out" 2>&1; then
        status=1
    fi
    grep -v '^ok ' "$out"
done
echo "outcomes: seeds 1 to $((seeds / 10))"
for form in virtual batch; do
    "$leat" tests/fault/outcomes/agree.lua "$leat" 1 $((seeds / 10)) $form || status=1
done
exit $status
