#!/bin/bash
# A disk that fails: each write, sync, rename and close of OUT, of journals, writers, sinks, traces and reports
# fails once, or from then on. Nothing new starts, what is on the disk is whole, the message names the file and the
# reason, and the same command goes on. LEAT_FULL=1: each call up to 300.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=none OPENAI_MODEL=mock
start_mock --seed 1 --latency 0.001
export OPENAI_BASE_URL=$mock_url/v1
places="1 2 7"
[ "${LEAT_FULL-}" = 1 ] && places=$(seq 300)
rows=40 atonce=4
[ "${LEAT_FULL-}" = 1 ] && rows=400
seq -f 'row %g' $rows >rows
export TMPDIR=$scratch/tmp
mkdir tmp
reason='\(No space left on device\|Input/output error\|Disk quota exceeded\)'

# bad PLAN PATH COMMAND...: under the shim.
bad() {
    local plan=$1 path=$2
    shift 2
    rm -f told
    status=0
    env LD_PRELOAD="${LEAT%/*}/tests/baddisk.so" BADDISK="$plan" BADDISK_PATH="$path" BADDISK_TOLD="$scratch/told" \
        ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS-}" "$@" >out 2>err || status=$?
}
served() { "$LEAT" -e "print(request('$mock_url/mock/stats'):json().by_status['200'] or 0)"; }
# whole FILE: its lines are JSON, and the last one has its end.
whole() {
    [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || fail "$plan: $1 ends with half a line"
    "$LEAT" -e 'for _ in assert(leat.jsonl.read(...)) do end' "$1" >read 2>&1 || fail "$plan: $(head -n 1 read)"
}
# told FILE: the message names it and the reason, on one line.
named() { grep -q "cannot [a-z ]*$1.*: $reason" err || fail "$plan: $(cat err)"; }

for code in ENOSPC EIO; do
    for kind in write half sync; do
        begin "leat batch: a $kind of OUT that fails once ($code) stops the run, and no answer is lost or asked for twice"
        for at in $places; do
            plan="$kind $at $code"
            rm -f answers answers.errors
            before=$(served)
            bad "$plan" /answers "$LEAT" batch rows answers -q --concurrency $atonce
            [ -e told ] || break
            expect_status 1
            named answers
            whole answers
            n=$(($(served) - before))
            [ $n = "$(wc -l <answers)" ] || fail "$plan: $n requests, $(wc -l <answers) answers: $(cat err)"
            # A write may have the answers of all that are under way; those were started meanwhile end, too.
            [ $n -le $((at * atonce + atonce)) ] || fail "$plan: $n requests: it went on"
            try "$LEAT" batch rows answers -q
            expect_status 0
            whole answers
            expect_equal "$(wc -l <answers) $(($(served) - before))" "$rows $rows"
        done
        [ "$at" != 1 ] || fail "the shim did nothing"
    done

    begin "leat batch: writes of OUT that go on failing ($code): the answers are kept elsewhere, and the message says where"
    for at in $places; do
        plan="write $at+$code"
        rm -f answers answers.errors tmp/*
        before=$(served)
        bad "$plan" /answers "$LEAT" batch rows answers -q --concurrency $atonce
        [ -e told ] || break
        expect_status 1
        named answers
        whole answers
        kept=$(sed -n 's/.* answers could not be written to answers; they are in \(.*\): append that file to OUT/\1/p' err)
        [ -n "$kept" ] || { fail "$plan: $(cat err)"; continue; }
        n=$(($(served) - before))
        cat "$kept" >>answers
        [ $n = "$(wc -l <answers)" ] || fail "$plan: $n requests, $(wc -l <answers) answers"
        [ $n -le $((at * atonce + atonce)) ] || fail "$plan: $n requests: it went on"
        try "$LEAT" batch rows answers -q
        expect_status 0
        whole answers
        expect_equal "$(wc -l <answers) $(($(served) - before))" "$rows $rows"
    done
done

begin "leat batch: a close of OUT that fails is reported, with status 1; --ordered loses nothing either"
plan="close 1 EIO"
rm -f answers
bad "$plan" /answers "$LEAT" batch rows answers -q
expect_status 1
named answers
whole answers
expect_equal "$(wc -l <answers)" $rows
for plan in "write 3 ENOSPC" "sync 3 EIO"; do
    rm -f answers
    before=$(served)
    bad "$plan" /answers "$LEAT" batch rows answers -q --concurrency $atonce --ordered
    expect_status 1
    expect_equal "$(wc -l <answers)" $(($(served) - before))
    try "$LEAT" batch rows answers -q
    expect_equal "$(wc -l <answers) $(($(served) - before))" "$rows $rows"
done

begin "leat batch: a file of errors that cannot be written stops the run, too"
start_mock --errors 1 --seed 2
for plan in "write 1 ENOSPC" "write 1+EIO"; do
    rm -f answers answers.errors
    bad "$plan" /answers.errors env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" batch rows answers -q --retries 0 --concurrency 2
    expect_status 1
    named answers.errors
    whole answers.errors
    n=$("$LEAT" -e "print(request('$mock_url/mock/stats'):json().requests)")
    [ "$n" -lt 30 ] || fail "$n requests: it went on"
done

begin "leat batch: a failed write ends the wait for the next row, too"
mkfifo rows_to_come
plan="write 1 ENOSPC"
rm -f answers
exec 8<>rows_to_come
echo "row 1" >&8
bad "$plan" /answers timeout 200 "$LEAT" batch - answers -q <rows_to_come
exec 8>&-
expect_status 1
named answers
expect_equal "$(wc -l <answers)" 1

begin "leat batch: a full file system; what is in OUT is whole, and nothing more is sent on a rerun than fits"
cat >full.sh <<'FULL'
mount -t tmpfs -o size=64k tmpfs full || exit 99
"$LEAT" batch more full/answers -q --concurrency 4
echo "status $?"
"$LEAT" batch more full/answers -q --concurrency 4
echo "status $?"
cp full/answers kept
FULL
seq -f 'row %g' 2000 >more
mkdir full
rm -f tmp/*
start_mock --latency 0.001
status=0
OPENAI_BASE_URL=$mock_url/v1 unshare -rm bash full.sh >out 2>err || status=$?
if [ -e kept ]; then
    expect_equal "$(cat out)" "status 1
status 1"
    expect_err "cannot write full/answers: No space left on device"
    whole kept
    n=$("$LEAT" -e "print(request('$mock_url/mock/stats'):json().by_status['200'])")
    [ $((n - $(wc -l <kept))) -le 16 ] || fail "$n requests, $(wc -l <kept) answers"
    expect_equal "$(($(wc -l <kept) + $(cat tmp/leat-batch-*.jsonl 2>/dev/null | wc -l)))" "$n"
else
    echo "  skipped: no file system of its own: $(head -n 1 err)"
fi

cat >journalled.lua <<'LUA'
local form = arg[1]
local list = {}
for i = 1, 30 do list[i] = i end
local function work(i)
    local f = assert(io.open("calls", "a"))
    f:write(i, "\n")
    f:close()
    sleep(0.002)
    return i
end
local opts = { journal = "run.jsonl", limit = 3, concurrency = 3, size = 3 }
local function run()
    if form == "map" then return leat.map(list, work, { journal = "run.jsonl", limit = 3 })
    elseif form == "each" then return leat.each(list, work, { journal = "run.jsonl", limit = 3 })
    elseif form == "batch" then return leat.batch(list, { journal = "run.jsonl", size = 3, interval = 0 }, work)
    end
    return leat.pipeline { journal = "run.jsonl", concurrency = 3 }:run(list, work)
end
assert(run())
LUA
for form in map each batch pipeline; do
    begin "a journal of $form: a write or sync that fails ends the run, and nothing is done twice"
    for kind in write half sync; do
        for at in $places; do
            plan="$kind $at EIO"
            rm -f run.jsonl calls
            bad "$plan" /run.jsonl "$LEAT" journalled.lua $form
            [ -e told ] || break
            expect_status 1
            named run.jsonl
            whole run.jsonl
            [ ! -e calls ] || [ "$(wc -l <calls)" -le $((3 * at + 3)) ] || fail "$plan: $(wc -l <calls) calls: it went on"
            try "$LEAT" journalled.lua $form
            expect_status 0
            whole run.jsonl
            expect_equal "$plan: $(sort -n calls | uniq -d | wc -l) twice, $(sort -u calls | wc -l) in all" \
                "$plan: 0 twice, 30 in all"
        done
    done
done

cat >writes.lua <<'LUA'
local w = assert(leat.jsonl.writer("lines", { sync = arg[1] == "sync" or nil }))
local refused = 0
for i = 1, 30 do
    if not w:write { i = i } then refused = refused + 1 end
    if i % 5 == 0 then sleep(0.001) end
end
local ok = arg[1] == "close" and w:close()
print(refused)
LUA
for how in close sync open; do
    begin "a writer ($how): a write that fails is told with status 1; what was taken is in the file, in whole lines"
    for kind in write half; do
        for at in $places; do
            plan="$kind $at ENOSPC"
            bad "$plan" /lines "$LEAT" writes.lua $how
            [ -e told ] || break
            whole lines
            if [ $how = sync ]; then # each write has said what became of it
                expect_equal "$plan: $(($(wc -l <lines) + $(cat out)))" "$plan: 30"
            elif [ "$(($(wc -l <lines) + $(cat out)))" != 30 ]; then
                expect_status 1
                named lines
            fi
        done
    done
    plan="write 1+ENOSPC"
    bad "$plan" /lines "$LEAT" writes.lua $how
    if [ $how != sync ]; then
        expect_status 1
        named lines
    fi
    expect_equal "$(wc -l <lines)" 0
done

cat >sinks.lua <<'LUA'
local server = assert(leat.serve { handler = function() return { body = ("x"):rep(300000) } end })
local res, err = request { url = server.url, sink = "sunk" }
server:close(0)
print(res and "written" or err.kind .. " " .. err.message)
return res, err
LUA
begin "a sink: each write, sync, rename and close that fails is a failure, and the file is the old one"
for kind in write half sync rename close; do
    for at in 1 2; do
        plan="$kind $at EIO"
        echo old >sunk
        path='*/sunk'
        bad "$plan" "$path" "$LEAT" sinks.lua
        [ -e told ] || continue
        expect_status 1
        named sunk
        expect_out "io cannot"
        expect_equal "$(cat sunk)" old
        expect_equal "$(ls sunk.* 2>/dev/null)" ""
    done
    [ $at = 2 ] || fail "$kind: the shim did nothing"
done

# Not under the shim: the C library writes these by itself.
begin "a trace, a report, the figures: what cannot be written is reported with its path and reason, and status 1"
for option in trace report stats; do
    try "$LEAT" "--$option=/dev/full" -e 'for i = 1, 50 do spawn(function() sleep(0) end) end sleep(0) print "ran"'
    expect_status 1
    expect_out ran
    grep -q "/dev/full.*: $reason" err || fail "$option: $(cat err)"
done

begin "a trace of a run that is killed has what happened until a second before"
cat >traced.lua <<'LUA'
for i = 1, 15 do
    spawn(function() sleep(0) end):await()
    sleep(0.1)
end
print "now"
io.stdout:flush()
sleep(1000)
LUA
mkfifo now
"$LEAT" --trace killed.json traced.lua >now 2>err &
pid=$!
read -r _ <now
{ kill -9 $pid && wait $pid; } 2>/dev/null
[ "$(grep -c '"name":' killed.json)" -ge 10 ] || fail "$(wc killed.json)"

finish
