#!/bin/bash
# tests/fault/sweep_syscalls.sh [PROGRAM [KIND [N]]]
#
# Five programs, and in each the n-th system call of each kind fails, for every n up to 300 that there is: a
# `leat batch` (batch), a map with a journal (map), downloads into files (sink), a server with clients (serve),
# and a host's session, alone and with network threads (host0, host2). See tests/server/nthcall.c for the kinds.
#
# Nothing crashes or hangs; what was executed is kept and is not executed again, by a second run without a fault,
# unless its failure said that it may have been; the status is not 0 where something is missing, and the message
# names what failed. A fault is shown with the words that repeat it. Needs a build with -DLEAT_TESTS=ON.
#
#   SWEEP_EVERY=10   only every tenth call, of 16 rows (what tests/fault/test_syscalls.sh does); default: all, of
#                    64 rows, some 20 minutes
#   SWEEP_LASTING=1  the n-th call and all of its kind after it; then only the end of the program is judged
#   SWEEP_ERROR=EIO  another errno than the usual one of the kind
#   LEAT, BUILD      the binary and its build folder; default build/leat
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
every=${SWEEP_EVERY:-1}
most=$((every > 1 ? 100 : 300)) # calls of a kind
build=${BUILD:-$(dirname "$LEAT")}
cp -r "$root/tests/fault/syscalls" programs # they stay as they are while the sweep runs
here=$scratch/programs lasting=${SWEEP_LASTING:+yes}
kinds="open write sync rename close socket connect accept getaddrinfo send recv read"
only_program=${1-} only_kind=${2-} only_n=${3-}
export OPENAI_API_KEY=none OPENAI_MODEL=m
export SWEEP_ROWS=${SWEEP_ROWS:-$((every > 1 ? 16 : 64))}
seq -f 'row %g' "$SWEEP_ROWS" >rows

start() { # start COMMAND...: a server that says its ports on one line; sets $line
    local fifo=$scratch/ports.${#lib_pids[@]}
    mkfifo "$fifo"
    "$@" >"$fifo" 2>>"$scratch/servers.err" &
    lib_pids+=($!)
    read -r line <"$fifo"
}
start "$LEAT" "$here/service.lua"
service=http://localhost:$line
start "$build/tests/faultd" --ca "$scratch/ca.pem" --parent $$
tls=https://localhost:$(sed 's/.*\btls=\([0-9]*\).*/\1/' <<<"$line")

# under PLAN COMMAND...: with the shim, 60 seconds at most; sets $status.
under() {
    local plan=$1
    shift
    status=0
    timeout --kill-after=2 60 env LD_PRELOAD="$build/tests/nthcall.so" NTHCALL="$plan" NTHCALL_TOLD=told \
        ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS-}" "$@" >out 2>err || status=$?
}

# command PROGRAM ADDRESS: sets $command.
command_of() {
    case $1 in
    batch) command=(env OPENAI_BASE_URL="$2/v1" "$LEAT" batch "$scratch/rows" answers -q --concurrency 4) ;;
    map) command=("$LEAT" --trace=trace.json --report=report.html --stats=stats.json "$here/rows.lua" "$2") ;;
    sink) command=("$LEAT" "$here/sink.lua" "$2" "$tls" "$scratch/ca.pem") ;;
    serve) command=("$LEAT" "$here/serve.lua") ;;
    host*) command=("$build/tests/syscalls_host" "$here/rows.lua" "$2" "${1#host}") ;;
    esac
}

# told KIND: how many calls of the kind there were.
told() { sed -n "s/^$1 *0*//p" told 2>/dev/null | grep . || echo 0; }

# judge: how a run under the shim ended, by $status and err.
judge() {
    case $status in
    124 | 137) echo "it hangs" ;;
    *) [ "$status" -lt 126 ] || echo "it crashes: status $status" ;;
    esac
    [ "$status" = 0 ] || [ "$program $status" = "batch 4" ] || grep -q "$names" err || echo "status $status, and no message names what failed"
    ! grep -q 'traceback\|stack:\|attempt to\|(nil)\|AddressSanitizer\|runtime error\|internal' err || echo "not a message for a person"
    ! grep -q 'descriptors are left\|ends of one script' err || echo "not tidied up"
}
names='\.lua\|answers\|rows\|run\.jsonl\|sunk\|ca\.pem\|trace\.json\|report\.html\|stats\.json\|served\.jsonl\|address\|localhost\|127\.0\.0\.1\|standard output\|epoll\|descriptors\|runtime'

# served PLAN KIND: serve.lua with its clients; sets $status.
served() {
    local pid url
    rm -f address
    { under "$1" "$LEAT" "$here/serve.lua"; echo $status >status; } &
    pid=$!
    until [ -e address ] || ! kill -0 $pid 2>/dev/null; do sleep 0.005; done
    if [ -e address ]; then
        url=$(cat address)
        timeout 100 "$LEAT" "$here/clients.lua" "$url" "$2" 2>&1
    fi
    wait $pid
    status=$(cat status)
}

# once PROGRAM KIND N: one fault. What is wrong goes to standard output. It stands in a folder of its own.
once() {
    local program=$1 kind=$2 n=$3 plan address command kept again
    plan="$kind $n${lasting:+"+"}${SWEEP_ERROR:+" $SWEEP_ERROR"}"
    address=$service/$program-$kind-$n
    rm -rf ./*
    mkdir tmp
    export TMPDIR=$PWD/tmp
    echo old >sunk
    cp sunk sunk_tls
    command_of "$program" "$address"
    if [ "$program" = serve ]; then
        served "$plan" "$kind" >clients
        [ -n "$lasting" ] || cat clients
        judge
        return
    fi
    under "$plan" "${command[@]}"
    judge
    [ -z "$lasting" ] || return
    mv err err.faulted
    "$LEAT" "$here/check.lua" "$program" "$address" "$kind" faulted $status 2>&1
    kept=$(sed -n 's/.* answers could not be written to answers; they are in \(.*\): append that file to OUT/\1/p' err.faulted)
    [ -z "$kept" ] || cat "$kept" >>answers
    for again in 1 2; do # a refused row is answered at the second time, and may be refused only now
        status=0
        timeout --kill-after=2 60 "${command[@]}" >out.again 2>err.again || status=$?
        [ "$again $status" = "1 4" ] || break
    done
    [ $status = 0 ] || { echo "the second run ends with status $status"; cat err.again; }
    "$LEAT" "$here/check.lua" "$program" "$address" "$kind" again $status 2>&1
    ls -d sunk.* sunk_tls.* 2>/dev/null | sed 's/$/ is left behind/'
}

# try_one PROGRAM KIND N: writes what is wrong to PROGRAM.faults.
try_one() {
    local wrong
    wrong=$(once "$@")
    [ -n "$wrong" ] || return
    {
        echo "FAULT: $0 $*"
        echo "$wrong"
        grep -a '^failed:' told
        head -n 5 err.faulted err 2>/dev/null
    } | sed 's/^/  /' >>"$scratch/$1.faults"
}

# sweep PROGRAM: every n of each kind; first a run without a fault, which counts the calls.
sweep() {
    local program=$1 kind n index=0 tried
    local -A calls=()
    # A server that may send nothing any more has nobody to tell it to end.
    [ "$program$lasting" != serveyes ] || kinds="open write sync rename close socket"
    mkdir "$scratch/$program"
    cd "$scratch/$program" || exit 2
    : >"$scratch/$program.counts"
    try_one "$program" none 0
    [ "$(told open)" != 0 ] || echo "  the shim was not loaded" >>"$scratch/$program.faults"
    for kind in $kinds; do
        calls[$kind]=$(told "$kind")
    done
    for kind in $kinds; do
        [ -z "$only_kind" ] || [ "$kind" = "$only_kind" ] || continue
        tried=0
        for n in ${only_n:-$(seq $((calls[$kind] < most ? calls[$kind] : most)))}; do
            [ -n "$only_n" ] || [ $((++index % every)) = 0 ] || continue
            tried=$((tried + 1))
            try_one "$program" "$kind" "$n"
        done
        [ "$tried" = 0 ] || echo "$program: $kind: $tried of ${calls[$kind]}" >>"$scratch/$program.counts"
    done
}

declare -A says=(
    [batch]="leat batch: a system call that fails loses no answer, and no row is asked for twice"
    [map]="a journalled map: a system call that fails loses no result, and nothing is done twice"
    [sink]="a sink: after a system call that fails the file is the old one or the new one"
    [serve]="leat.serve: a system call that fails costs at most the requests that it served, and none runs twice"
    [host0]="a host: a system call that fails is told, and leaves no descriptor; the next session goes on"
    [host2]="a host with network threads: as without"
)
programs="batch map sink serve host0 host2"
sweeps=()
for program in $programs; do
    [ -z "$only_program" ] || [ "$program" = "$only_program" ] || continue
    sweep "$program" &
    sweeps+=($!)
done
wait "${sweeps[@]}"
for program in $programs; do
    [ -e "$program.counts" ] || continue
    begin "${says[$program]}"
    sed 's/^/  /' "$program.counts"
    if [ -e "$program.faults" ]; then
        fail "$(grep -c FAULT: "$program.faults") faults"
        cat "$program.faults"
    fi
done
finish
