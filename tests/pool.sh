# The pool of tests/run.sh: test programs that run beside each other, are counted and are shown.
#
#     . tests/pool.sh
#     jobs=2 limit=300
#     run NAME COMMAND...     # starts it as soon as fewer than $jobs run
#     check NAME COMMAND...   # the same for what has no verdict but its status
#     pool_start NAME COMMAND...    # the same for what is no test; its output is in $pool_scratch/$pool_started
#     pool_await NUMBER       # waits for that, and has its status
#     pool_end                # waits for the rest; the last line is `N passed, N failed`
#
# What a process writes into $pool_scratch/report.*, a sanitizer's log for example, is a failure, whatever its program
# says. Otherwise nobody would see what is reported by a process that is killed, or whose status nobody reads.
#
# Each program has its number in LEAT_TEST_RUN, and so has all that it starts: by this the pool finds and ends what a
# program leaves behind, and everything when it is itself interrupted.
# shellcheck shell=bash
jobs=${jobs:-1} limit=${limit:-600} filter=${filter:-}
grace=${grace:-10} # the seconds that a program has for ending when it was told to
passed=0 failed=0
pool_scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-tests.XXXXXX")
pool_started=0 pool_began=$SECONDS
declare -A pool_running=() # a program's process id: its number
pool_names=() pool_limits=() pool_times=() pool_status=() # by number
trap pool_clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run NAME COMMAND...: a program that dies, hangs or ends without a verdict is one failure; whatever fails is shown whole.
run() {
    local name=$1
    shift
    [[ $name == *"$filter"* ]] || return 0
    pool_start "$name" timeout --kill-after="$grace" "$limit" "$@"
    pool_limits[pool_started]=$limit
}

# check NAME COMMAND...: a command that passes by ending with 0 (a linter) is one test.
check() {
    local name=$1
    shift
    run "$name" bash -c '"$@" && echo "1 passed, 0 failed" || echo "0 passed, 1 failed"' check "$@"
}

# In the background, under the next number. (Of its own accord a shell would have it ignore Ctrl-C.)
pool_start() {
    local name=$1 TIMEFORMAT='%R %U %S'
    shift
    while [ "${#pool_running[@]}" -ge "$jobs" ]; do pool_take; done
    pool_started=$((pool_started + 1))
    pool_names[pool_started]=$name
    { time LEAT_TEST_RUN=$pool_scratch/$pool_started env --default-signal=INT,QUIT "$@" \
        </dev/null >"$pool_scratch/$pool_started" 2>&1; } 2>"$pool_scratch/$pool_started.time" &
    pool_running[$!]=$pool_started
}

pool_await() {
    while [ -z "${pool_status[$1]-}" ]; do pool_take; done
    return "${pool_status[$1]}"
}

# pool_take: waits for one of those that run.
pool_take() {
    local pid='' n code=0
    wait -n -p pid "${!pool_running[@]}" || code=$?
    n=${pool_running[$pid]}
    unset "pool_running[$pid]"
    pool_status[n]=$code
    pool_times[n]=$(tail -n 1 "$pool_scratch/$n.time") # above it the shell tells of signals
    [ -z "${pool_limits[n]-}" ] || pool_count "$n" "$code"
}

# pool_count NUMBER STATUS: counts the program and shows it.
pool_count() {
    local n=$1 code=$2 name=${pool_names[$1]} log=$pool_scratch/$1 verdict took p=0 f=0
    took=$(awk '{ printf "%6.1f s, %.1f s of CPU", $1, $2 + $3 }' <<<"${pool_times[n]}")
    verdict=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -n "$verdict" ]; then
        p=${verdict%% *}
        f=${verdict#*, }
        f=${f%% *}
    fi
    if [ -z "$verdict" ] || { [ "$code" != 0 ] && [ "$f" = 0 ]; }; then
        f=$((f + 1))
        case $code in
        0) echo "  ended without a verdict" >>"$log" ;;
        124 | 137)
            pool_kill KILL "$n"
            echo "  killed: its limit is ${pool_limits[n]} s" >>"$log"
            ;;
        *) echo "  ended with status $code" >>"$log" ;;
        esac
    fi
    passed=$((passed + p)) failed=$((failed + f))
    if [ "$f" = 0 ]; then
        printf '%-44s %4d passed %s\n' "$name" "$p" "$took"
        grep -a '^ *skipped: ' "$log" | sed 's/^ */    | /'
    else
        printf '%-44s %4d passed, %d FAILED %s\n' "$name" "$p" "$f" "$took"
        grep -av '^ok ' "$log" | tail -n 200 | sed 's/^/    | /'
    fi
    rm -f "$log" "$log.time"
}

# pool_wait: waits for all that run.
pool_wait() {
    while [ "${#pool_running[@]}" -gt 0 ]; do pool_take; done
}

# pool_marked [NUMBER]: the processes of this run, or of that program.
pool_marked() {
    local pattern="LEAT_TEST_RUN=$pool_scratch/${1:-[0-9]*}"
    grep -lazx -- "$pattern" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'
}

# pool_kill SIGNAL [NUMBER]: true if there was something to end.
pool_kill() {
    local pids
    pids=$(pool_marked "${2-}")
    # shellcheck disable=SC2086 # a list of words
    [ -n "$pids" ] && { kill -s "$1" $pids 2>/dev/null || true; }
}

pool_wait_for_end() {
    local until=$((SECONDS + grace))
    while [ -n "$(pool_marked)" ] && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
}

pool_clean_up() {
    trap '' INT TERM HUP
    if pool_kill TERM; then
        pool_wait_for_end
        while pool_kill KILL; do sleep 0.1; done
    fi
    rm -rf "$pool_scratch"
}

# pool_count_reports: shows them, and counts each as a failure.
pool_count_reports() {
    local file
    for file in "$pool_scratch"/report.*; do
        [ -s "$file" ] || continue
        failed=$((failed + 1))
        echo "process ${file##*.} reported:"
        sed 's/^/    | /' "$file"
    done
}

# pool_end: waits for the rest; a program that has left a process behind has failed. Then the slowest, and the verdict.
pool_end() {
    pool_wait
    local pid n
    pool_wait_for_end # servers end a moment after what they served
    for pid in $(pool_marked); do
        n=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n "s,^LEAT_TEST_RUN=$pool_scratch/,,p")
        [ -n "$n" ] || continue
        failed=$((failed + 1))
        echo "${pool_names[n]} left a process behind: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
    done
    pool_count_reports
    if [ "${#pool_times[@]}" -gt 10 ]; then
        echo "the slowest, in seconds, of CPU, in the kernel:"
        for n in "${!pool_times[@]}"; do echo "${pool_times[n]} ${pool_names[n]}"; done >"$pool_scratch/times"
        LC_ALL=C sort -rn "$pool_scratch/times" | head -n 10 | sed 's/^/    /'
        awk -v elapsed=$((SECONDS - pool_began)) '{ sum += $2 + $3 }
            END { printf "%d s, and of CPU %d s in the programs\n", elapsed, sum }' "$pool_scratch/times"
    fi
    if [ $((passed + failed)) = 0 ]; then
        echo "no test ran"
        failed=1
    fi
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}
