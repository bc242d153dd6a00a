#!/bin/bash
# Random pipelines over a service that fails in every way: summary, stats, report, trace, messages, exit status and
# the service's own counters agree. More seeds: leat tests/fault/outcomes/agree.lua LEAT FROM TO [socket]
. "$(dirname "$0")/../lib.sh"

for form in virtual socket; do
    last=40
    [ $form = socket ] && last=5
    begin "what a run says of itself agrees, $form time"
    "$LEAT" "$root/tests/fault/outcomes/agree.lua" "$LEAT" 1 $last $form >out 2>&1 || fail "$(cat out)"
done

finish
