#!/bin/bash
# Wherever Leat calls a function of the script and something else waits for what it gives: the function computes
# without end, takes all memory, or hits a bug. Whoever waits gets that at once, and the process lives.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

feeds=$root/tests/fault/feeds.lua
places=$("$LEAT" "$feeds" | sort)

# What the one that waits gets: for most places KIND, but for these.
expected() { # expected HOW PLACE
    case $1/$2 in
    */handler_that_has_begun) echo "failure closed" ;; # the client of a broken answer
    bug/handler | bug/simulate_handler) echo "value response 500" ;;
    */handler | */simulate_handler) echo "failure closed" ;;
    loop/clean_up | bomb/clean_up) echo "failure $3" ;;
    bug/batch) echo "failure raised" ;; # one batch's: the others go on
    bug/*) echo raised ;;
    *) echo "failure $3" ;;
    esac
}

begin "each option that takes a function has its place among these"
try "$LEAT" "$feeds" options "$root/scripts/docs/types.lua"
expect_status 0
expect_equal "$(cat out)" ""

for how in loop bomb bug; do
    time_limit=20
    case $how in
    loop) kind=budget time_limit=0.2 ;;
    bomb) kind=memory ;;
    bug) kind=raised ;;
    esac
    begin "a function that ends by a $how: whoever waits for it gets that at once, wherever it stands"
    [ "$(echo "$places" | wc -l)" -ge 50 ] || fail "only these places: $places"
    for place in $places; do
        try "$LEAT" --time-limit $time_limit --memory-limit 40M "$feeds" $how "$place" "$scratch/journal.$how"
        got=$(cut -c 1-40 out)
        wanted=$(expected $how "$place" $kind)
        case $got in
        "$wanted"*) ;;
        "value response 500"*) [ "$how/$place" = bomb/handler ] || fail "$place: $got" ;; # memory was back
        *) fail "$place: got '$got', expected '$wanted' ($(head -n 1 err))" ;;
        esac
        # 4: no item of a pipeline has succeeded.
        [ "$status" -le 1 ] || [[ $status = 4 && $place == pipeline_* ]] || fail "$place: status $status"
    done
done

finish
