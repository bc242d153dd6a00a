#!/bin/bash
# Random pipelines and batches over a service that fails in every way: summary, stats, report, trace, messages,
# exit status and the service's own counters agree. More seeds: see outcomes/agree.lua, and tests/seeds.sh.
. "$(dirname "$0")/../lib.sh"

for form in virtual batch socket; do
    last=40
    [ $form = batch ] && last=15
    [ $form = socket ] && last=5
    begin "what a run says of itself agrees ($form)"
    "$LEAT" "$root/tests/fault/outcomes/agree.lua" "$LEAT" 1 $last $form >out 2>&1 || fail "$(cat out)"
done

finish
