#!/bin/bash
# What happens to files, pipes and rows of input when something is wrong with them: for each fault either the
# test that is here, or where else it is tested.
#
# no more files        cli/test_files; here the file calls of scripts, and every limit from none on
# disk full            lua/test_journal (jsonl), lua/test_upload (sinks), cli/test_batch, cli/test_cli;
#                      here journals, traces, reports, and that no line is half written
# read errors          here; system calls that are interrupted, or do half of what was asked: here
# closed, slow output  cli/test_ends, cli/test_cli; here writers, and what a slow reader costs
# Ctrl-C               cli/test_batch, cli/test_cli
# kill -9              cli/test_batch; lua/test_journal at every length of the file; here each form of journal
# result files         cli/test_batch, lua/test_journal; here CRLF, marks, foreign text without an end
# two processes        cli/test_batch, lua/test_journal; here two processes on a journal
# rows of input        cli/test_batch, lua/test_journal; here each of them in both readers
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=none OPENAI_MODEL=mock OPENAI_BASE_URL=http://127.0.0.1:1/v1
start_mock --seed 1
printf 'one\ntwo\nthree\n' >rows

# whole FILE: fails unless it is empty or ends with a line end, and every line of it is JSON.
whole() {
    [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || fail "$1 ends with half a line"
    "$LEAT" -e 'for _ in assert(leat.jsonl.read(...)) do end' "$1" >out 2>err || fail "$(cat err)"
}

begin "each call that finds no file free says so, and the script goes on"
cat >none.lua <<LUA
local file = require "leat.internal.file"
assert(request("$mock_url/v1/models"))
assert(leat.jsonl.writer "in.jsonl"):close()
local held = {}
repeat
    local f, err = file.open("/dev/null", "r")
    held[#held + 1] = f
until err
local function told(name, v, err)
    print(name, v, err.kind, err.reason)
end
told("open", file.open("x", "w"))
told("read", leat.jsonl.read "in.jsonl")
told("writer", leat.jsonl.writer "x")
told("append", leat.jsonl.writer("x", { append = true }))
told("map", leat.map({ 1 }, tostring, { journal = "x" }))
told("each", leat.each({ 1 }, tostring, { journal = "x" }))
told("batch", leat.batch({ 1 }, { journal = "x" }, tostring))
told("pipeline", leat.pipeline({ journal = "x" }):run({ 1 }, tostring))
told("body", request { url = "$mock_url", body = { file = "in.jsonl" } })
print(pcall(require, "nothing"))
print(loadfile "none.lua")
print(pcall(dofile, "none.lua"))
held = nil
collectgarbage()
collectgarbage()
assert(leat.jsonl.writer "x"):close()
print "again"
LUA
(
    ulimit -n 64
    exec "$LEAT" none.lua
) >out 2>err
expect_lines err 0
for call in open read writer append map each batch pipeline body; do
    expect_out "$call	nil	io	too_many_files"
done
expect_out "again"

begin "a file that cannot be read is a failure that names it, wherever it is read"
cat >eio.lua <<'LUA'
local bad = "/proc/self/mem" -- its first page is nobody's
print(pcall(function() for _ in leat.jsonl.read(bad) do end end))
print(assert(require "leat.internal.file".open(bad, "r")):read(1))
local v, err = request { url = "http://127.0.0.1:1/", body = { file = "." } }
print(v, err.kind)
LUA
try "$LEAT" eio.lua
expect_status 0
expect_out "false	io: cannot read /proc/self/mem: Input/output error"
expect_out "nil	io: cannot read /proc/self/mem: Input/output error"
try "$LEAT" /proc/self/mem
expect_status 2
expect_err "/proc/self/mem"
try "$LEAT" batch /proc/self/mem read.out -q
expect_status 1
expect_err "cannot read /proc/self/mem"
try "$LEAT" - </
expect_status 2
expect_err "standard input"

begin "each writer reports a full disk, and nothing hangs"
for call in 'leat.map({1, 2}, tostring, {journal = "/dev/full"})' \
    'leat.each({1, 2}, tostring, {journal = "/dev/full"})' \
    'leat.batch({1, 2}, {journal = "/dev/full"}, tostring)' \
    'leat.pipeline{journal = "/dev/full"}:run({1, 2}, tostring)'; do
    try "$LEAT" -e "local v, err = $call print(v, err.kind, err.reason, tostring(err))"
    expect_status 0
    expect_out "nil	io	disk_full	io: cannot write /dev/full: No space left on device"
done
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" batch rows /dev/full -q
expect_status 1
expect_err "cannot write /dev/full: No space left on device"
for option in --trace=/dev/full --report=/dev/full --stats=/dev/full; do
    try "$LEAT" "${option%%=*}" "${option#*=}" -e 'print "ran"'
    [[ $option == --stats* ]] && try "$LEAT" "$option" -e 'print "ran"'
    expect_status 1
    expect_out "ran"
    expect_err "written"
done
status=0
"$LEAT" --help >/dev/full 2>err || status=$?
expect_status 1

begin "if the disk is full in the middle of a line, none of that line stays"
cat >fill.lua <<'LUA'
local path, kind = ...
local function row(i) return { i = i, text = ("x"):rep(300) } end
if kind == "journal" then
    local list = {}
    for i = 1, 200 do list[i] = i end
    print(select(2, leat.map(list, row, { journal = path })).kind)
else
    local out = assert(leat.jsonl.writer(path, { append = kind == "append", sync = kind == "sync" }))
    local ok, err
    for i = 1, 200 do
        ok, err = out:write(row(i))
        if not ok then break end
    end
    if ok then ok, err = out:close() else out:close() end
    print(err.kind)
end
LUA
for kind in journal plain sync append; do
    (
        trap '' XFSZ
        ulimit -f 9
        exec "$LEAT" fill.lua "$kind.jsonl" $kind
    ) >out 2>err
    expect_equal "$(cat out)" io
    whole $kind.jsonl
done
[ "$(wc -l <journal.jsonl)" -gt 5 ] || fail "$(wc -l <journal.jsonl) lines in the journal"

begin "system calls that a stop interrupts go on where they were"
cat >stopped.lua <<LUA
local list = {}
for i = 1, 300 do list[i] = i end
local got = assert(leat.map(list, function(i)
    local res = assert(request { url = "$mock_url/v1/models", timeout = 60 })
    return res.status + i
end, { journal = "stopped.jsonl", limit = 5 }))
for i = 1, 300 do assert(got[i] == 200 + i) end
print "all"
LUA
"$LEAT" stopped.lua >out 2>err &
pid=$!
while kill -0 $pid 2>/dev/null; do
    kill -STOP $pid 2>/dev/null
    kill -CONT $pid 2>/dev/null
done
status=0
wait $pid || status=$?
expect_status 0
expect_equal "$(cat out)" "all"
expect_equal "$(wc -l <stopped.jsonl)" 301

begin "calls that a signal interrupts, and reads and writes of a part, change nothing"
cat >badly.lua <<'LUA'
local piece = ("0123456789"):rep(5000)
local server = assert(leat.serve { handler = function(req)
    if req.path ~= "/stream" then
        return { body = req.body }
    end
    local out = assert(req:respond {})
    for _ = 1, 5 do assert(out:write(piece)) end
    return out:close()
end })
local got = assert(leat.map({ 1, 2, 3, 4, 5, 6 }, function(i)
    local res = assert(request { url = server.url, body = piece .. i, timeout = 60 })
    return res.body == piece .. i
end, { journal = "badly.jsonl", limit = 3 }))
for i = 1, 6 do assert(got[i] == true) end
for _, options in ipairs { {}, { sync = true }, { append = true } } do
    local out = assert(leat.jsonl.writer("rows.badly", options))
    for i = 1, 10 do assert(out:write { i, piece }) end
    assert(out:close())
end
local sum = 0
for row in assert(leat.jsonl.read "rows.badly") do
    assert(row[2] == piece)
    sum = sum + row[1]
end
local res = assert(request { url = server.url, body = { file = "rows.badly" }, timeout = 60 })
assert(res.body == io.open("rows.badly"):read "*a")
res = assert(request { url = server.url .. "/stream", sink = "sink.badly", timeout = 60 })
assert(res.size == 5 * #piece and io.open("sink.badly"):read "*a" == piece:rep(5))
local length = 0
for line in leat.stdin:lines() do length = length + #line end
server:close()
print(sum, length)
LUA
seq 1 20000 >numbers
badly() { # badly COMMAND...: under the shim
    env LD_PRELOAD="${LEAT%/*}/tests/badcalls.so" \
        ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS-}" "$@"
}
badly "$LEAT" badly.lua <numbers >out 2>err || fail "$(cat err)"
expect_equal "$(cat out)" "110	88894"
rm badly.jsonl
badly "$LEAT" badly.lua < <(cat numbers) >out 2>err || fail "$(cat err)"
expect_equal "$(cat out)" "110	88894"
badly env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" batch rows badly.out -q || fail "leat batch failed"
expect_equal "$(wc -l <badly.out)" 3
whole badly.out

begin "with whatever number of files, a script begins and ends, or says what it could not have"
cat >few.lua <<'LUA'
local patience = tonumber((...))
local function try()
    local server, err = leat.serve { handler = function() return ("x"):rep(1000) end }
    if not server then return nil, err end
    local res
    -- Where the server has none for the connection it waits; for that some patience is enough.
    res, err = request { url = server.url, sink = "few.sink", timeout = patience }
    if res then
        res, err = leat.map({ 1, 2 }, tostring, { journal = "few.jsonl" })
    end
    server:close()
    return res, err
end
local done, err = try()
print(done and "done" or err.kind .. " " .. tostring(err.reason or err))
LUA
seen=''
for files in $(seq 3 40); do
    rm -f few.jsonl few.sink
    status=0
    (
        ulimit -n "$files"
        exec timeout --kill-after=5 200 "$LEAT" few.lua $((files < 32 ? 1 : 60))
    ) >out 2>err || status=$?
    said=$(cat out err)
    case "$status $said" in
    "0 done") seen+=d ;;
    "0 io "* | "0 timeout "*) seen+=f ;;
    [12]*"oo many open files"*) seen+=n ;;
    127*) ;; # no libraries
    *) fail "$files files: status $status: $said" ;;
    esac
done
[[ $seen =~ ^n+f.*d$ ]] || fail "from few to many: $seen"

begin "a reader that goes away ends a writer of lines with 141, quietly"
{
    status=0
    "$LEAT" -e 'local out = leat.jsonl.writer "-"
        while true do assert(out:write { 1 }) end' 2>err || status=$?
    echo "$status" >code
} | head -n 1 >out
expect_equal "$(cat out)" "[1]"
expect_lines err 0
expect_equal "$(cat code)" 141

begin "output that is closed from the beginning goes into no other file, and the loss is reported"
try bash -c '"$0" -e "$1" >&-' "$LEAT" \
    'print "lost" io.stdout:flush() local f = io.open("kept", "w") print "lost" f:write "mine" f:close()'
expect_status 1
expect_err "cannot write to standard output"
expect_equal "$(cat kept)" mine

begin "a slow reader makes the writer wait, the others go on, and memory stays bounded"
cat >slow.lua <<'LUA'
local out, written, piece = assert(leat.jsonl.writer "-"), 0, ("x"):rep(1e6)
local writer = spawn(function()
    for i = 1, 60 do
        assert(out:write { piece })
        written = i
    end
    assert(out:close())
end)
local before
repeat -- others run meanwhile
    before = written
    for _ = 1, 100 do sleep(0.001) end
until written == before
assert(written < 10, written)
io.stderr:write "it stands\n"
writer:await()
for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmHWM:%s*(%d+)"
    if kib then io.stderr:write(kib, "\n") end
end
LUA
: >err
"$LEAT" slow.lua 2>err | {
    until [ -s err ]; do read -rt 0.01 <> <(:) || :; done
    wc -c
} >out
expect_equal "$(cat out)" $((60 * 1000005))
# A sanitizer has memory of its own.
sanitized_by || [ "$(tail -n 1 err)" -lt 40000 ] || fail "$(tail -n 1 err) KiB"

begin "a journal with CRLF, a mark at its front, or no last line end is taken up"
cat >take_up.lua <<'LUA'
local path = ...
local calls = 0
local got, err = leat.map({ 1, 2, 3 }, function(x) calls = calls + 1 return x * x end, { journal = path, limit = 1 })
print(got and got[3], calls, err)
LUA
"$LEAT" take_up.lua first.jsonl >out
expect_equal "$(cat out)" "9	3	nil"
sed 's/$/\r/' first.jsonl >crlf.jsonl
{ printf '\357\273\277' && cat first.jsonl; } >marked.jsonl
printf %s "$(cat first.jsonl)" >unended.jsonl
printf %s "$(cat crlf.jsonl)" | head -c -1 >crlf_unended.jsonl
for form in crlf marked unended crlf_unended; do
    try "$LEAT" take_up.lua $form.jsonl
    expect_equal "$(cat out)" "9	0	nil"
    expect_lines err 0
    try "$LEAT" take_up.lua $form.jsonl
    expect_equal "$(cat out)" "9	0	nil"
done

begin "what a power cut leaves at the end of a journal is cut off, and done again"
for tail in '{' '{"ke' '{"key":"x","ok":true,"val' '{"error":{"kind":"i' '\0\0\0\0' '{"key":"\xc3'; do
    { head -n 3 first.jsonl && printf "$tail"; } >torn.jsonl
    try "$LEAT" take_up.lua torn.jsonl
    expect_equal "$(cat out)" "9	1	nil"
    cmp -s torn.jsonl first.jsonl || fail "after '$tail' it is another file"
done
printf '{"leat_jou' >torn.jsonl
try "$LEAT" take_up.lua torn.jsonl
expect_equal "$(cat out)" "9	3	nil"
cmp -s torn.jsonl first.jsonl || fail "a torn head was not mended"

begin "foreign lines in a journal stay, with a line end or without"
for tail in 'my notes' '[1]\n5\nnull\n"x"' '{"a":1}' '{"key":5}\n\377\n\n{"key":"x"}' 'x\0y'; do
    { head -n 3 first.jsonl && printf "$tail"; } >foreign.jsonl
    cp foreign.jsonl before
    for calls in 1 0; do
        try "$LEAT" take_up.lua foreign.jsonl
        expect_equal "$(cat out)" "9	$calls	nil"
        expect_err "that are not records of a journal"
    done
    cmp -s -n "$(wc -c <before)" before foreign.jsonl || fail "after '$tail' it is changed"
done

begin "a file that is not a journal and has no line end is left as it is"
for text in 'dear diary' '{"a":1}' '[]' '<html>' "{'leat"; do
    printf %s "$text" >diary
    try "$LEAT" take_up.lua diary
    expect_out "is not a journal"
    expect_equal "$(cat diary)" "$text"
done

begin "leat batch takes up an OUT with CRLF or a mark, and leaves foreign text without a line end"
export OPENAI_BASE_URL=$mock_url/v1
"$LEAT" batch rows done.out -q --ordered || fail "status $?"
sed 's/$/\r/' done.out >crlf.out
{ printf '\357\273\277' && cat done.out; } >marked.out
for form in crlf marked; do
    try "$LEAT" batch rows $form.out
    expect_status 0
    expect_err "0 rows answered, 3 done before"
done
{ head -n 2 done.out && printf 'my notes'; } >notes.out
try "$LEAT" batch rows notes.out
expect_err "1 lines are not answers"
expect_err "1 row answered, 2 done before"
expect_equal "$(sed -n 3p notes.out)" "my notes"
expect_equal "$(wc -l <notes.out)" 4
printf 'only notes' >notes.out
try "$LEAT" batch rows notes.out -q
expect_status 0
expect_equal "$(head -n 1 notes.out)" "only notes"

items=300 kills=4 # of each form
[ "${LEAT_FULL-}" = 1 ] && items=3000 kills=50
begin "a journalled map, each, batch and pipeline, each killed with -9 $kills times: none lost, none twice"
cat >killed.lua <<'LUA'
local form, n = arg[1], tonumber(arg[2])
local list, path = {}, form .. ".jsonl"
for i = 1, n do list[i] = i end
local function fn(x)
    sleep(0.001)
    local f = io.open(form .. ".calls", "a")
    f:write(x, "\n")
    f:close()
    return { square = x * x }
end
local results
if form == "map" then
    results = assert(leat.map(list, fn, { journal = path, limit = 10 }))
elseif form == "each" then
    local counts = assert(leat.each(list, fn, { journal = path, limit = 10 }))
    assert(counts.ok + counts.resumed == n)
    results = assert(leat.map(list, fn, { journal = path, limit = 10 }))
elseif form == "batch" then
    results = assert(leat.batch(list, { size = 10, interval = 0, journal = path }, fn))
    for i = 1, n do results[i] = results[i].value end
else
    results = assert(leat.pipeline { concurrency = 10, journal = path }:run(list, fn))
end
for i = 1, n do assert(results[i].square == i * i) end
LUA
RANDOM=11
for form in map each batch pipeline; do
    for ((i = 0; i < kills; i++)); do
        "$LEAT" killed.lua $form $items 2>killed.err &
        pid=$!
        disown $pid
        at=$(($(grep -c "" $form.jsonl 2>/dev/null) + RANDOM % (items / kills) + 1))
        while { [ ! -e $form.jsonl ] || [ "$(wc -l <$form.jsonl)" -lt $at ]; } && kill -0 $pid 2>/dev/null; do
            read -rt 0.002 <> <(:) || :
        done
        kill -9 $pid 2>/dev/null
        while kill -0 $pid 2>/dev/null; do read -rt 0.002 <> <(:) || :; done
    done
    try "$LEAT" killed.lua $form $items
    expect_status 0
    expect_equal "$(wc -l <$form.jsonl)" $((items + 1))
    expect_equal "$(sort -u $form.calls | wc -l)" $items
    [ "$(wc -l <$form.calls)" -le $((items + kills * 10)) ] || fail "$form: $(wc -l <$form.calls) calls"
done

begin "of two processes on one journal the second is refused"
cat >hold.lua <<'LUA'
leat.each({ 1 }, function()
    print "held"
    io.stdout:flush()
    sleep(1000)
end, { journal = "shared.jsonl" })
LUA
mkfifo held
"$LEAT" hold.lua >held 2>hold.err &
lib_pids+=($!)
exec 7<held
read -r line <&7
expect_equal "$line" held
try "$LEAT" -e 'local v, err = leat.map({1}, tostring, {journal = "shared.jsonl"}) print(v, err.kind, err.reason)'
expect_equal "$(cat out)" "nil	io	locked"
disown "${lib_pids[-1]}"
kill -9 "${lib_pids[-1]}"
while kill -0 "${lib_pids[-1]}" 2>/dev/null; do read -rt 0.01 <> <(:) || :; done
try "$LEAT" -e 'print(leat.map({1}, tostring, {journal = "shared.jsonl"})[1])'
expect_equal "$(cat out)" 1
exec 7<&-

begin "rows of input: empty, blank, no last line end, CRLF, a mark, what is not JSON, each by its line"
cat >read.lua <<'LUA'
for row, line in assert(leat.jsonl.read(..., { on_error = function(err, text)
    print("bad", err.line, err.kind, text and #text)
end })) do
    print(line, json.encode(row))
end
LUA
: >empty
printf '\357\273\277' >mark
printf '\n \r\n\t\n' >blank
for input in empty mark blank; do
    try "$LEAT" read.lua $input
    expect_status 0
    expect_lines out 0
    try "$LEAT" read.lua - <$input
    expect_status 0
    expect_lines out 0
    try "$LEAT" batch $input none.out -q
    expect_status 0
    [ ! -s none.out ] || fail "answers for $input"
done
printf '\357\273\277{"a":1}\r\n\n[\n{"a":"\377"}\n{"a":"\0"}\n\0\n{"a":2} x\n"last"' >mixed
wanted='1	{"a":1}
bad	3	invalid	1
bad	4	invalid	9
bad	5	invalid	9
bad	6	invalid	1
bad	7	invalid	9
8	"last"'
try "$LEAT" read.lua mixed
expect_equal "$(cat out)" "$wanted"
try "$LEAT" read.lua - < <(cat mixed)
expect_equal "$(cat out)" "$wanted"
try "$LEAT" batch mixed mixed.out
expect_status 4
for line in 1 4 5 7; do expect_err "line $line: "; done
expect_equal "$(grep -c '"custom_id":"row-8"' mixed.out)" 1

begin "a line of 100 MB is reported by its number and not held; the rest goes on"
{ echo 1; head -c 100000000 /dev/zero | tr '\0' x; echo; echo 3; } >long
cat >>read.lua <<'LUA'
for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmHWM:%s*(%d+)"
    if kib then print(kib) end
end
LUA
for input in long -; do
    try "$LEAT" read.lua $input <long
    expect_equal "$(head -n 3 out)" "1	1
bad	2	invalid	nil
3	3"
    sanitized_by || [ "$(tail -n 1 out)" -lt 60000 ] || fail "$(tail -n 1 out) KiB"
done

finish
