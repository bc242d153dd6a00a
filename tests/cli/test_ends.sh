#!/bin/bash
# How a run ends: what the status says, what is shown, what has been done by then.
. "$(dirname "$0")/../lib.sh"

begin "a script from a pipe, with - or without, gets its arguments"
echo 'print(#arg, ...)' >piped.lua
"$LEAT" - one two <piped.lua >out 2>err
expect_equal "$(cat out)" "2	one	two"
"$LEAT" <piped.lua >out 2>err
expect_equal "$(cat out)" "0"

begin "what is wrong with a script from a pipe is one clear line"
status=0
printf 'x = = 1' | "$LEAT" - >out 2>err || status=$?
expect_status 1
expect_lines err 1
expect_err "stdin:1:"
status=0
printf '\033LJ\002\000' | "$LEAT" - >out 2>err || status=$?
expect_status 2
expect_lines err 1
expect_err "bytecode"

begin "options behind the script are the script's"
echo 'print(...)' >args.lua
try "$LEAT" args.lua --help -e -x --seed
expect_status 0
expect_equal "$(cat out)" "--help	-e	-x	--seed"

begin "a first line with #!, a CRLF file and a byte-order mark are accepted"
printf '#!/usr/bin/env leat\nprint(debug.getinfo(1).currentline)\n' >first.lua
try "$LEAT" first.lua
expect_equal "$(cat out)" "2"
printf 'local a = 1\r\nprint(a)\r\n' >crlf.lua
try "$LEAT" crlf.lua
expect_equal "$(cat out)" "1"
printf '\357\273\277print("marked")\n' >bom.lua
try "$LEAT" bom.lua
expect_status 0
expect_equal "$(cat out)" "marked"

begin "wrong options are one line each, status 2, and nothing runs"
for words in "--seed" "--seed x" "--seed -1" "--seed 1.5" "run" "-x" "--virtual" "-e"; do
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" $words
    expect_status 2
    expect_lines out 0
    expect_lines err 1
done

begin "a failure that nobody awaited fails the script"
try "$LEAT" -e 'spawn(function() return nil, "lost failure" end) sleep(0) print "went on"'
expect_status 1
expect_out "went on"
expect_equal "$(cat err)" "leat: script: lost failure (of task 2, (command line):1, that nobody awaited)"
printf 'spawn(request, "http://127.0.0.1:1/")\n' >unawaited.lua
try "$LEAT" unawaited.lua
expect_status 1
expect_err "(of task 2, request, that nobody awaited)"

begin "a bug in a task that nobody awaits stops the script at once, and shows its line"
cat >lonely.lua <<'LUA'
spawn(function()
    sleep(0.01)
    local x = nil
    return x.field
end)
sleep(1000)
LUA
try "$LEAT" lonely.lua
expect_status 1
expect_err "lonely.lua:4:"

begin "a task that was cancelled on purpose does not fail the script"
try "$LEAT" -e 'local t = spawn(sleep, 100) sleep(0) t:cancel() sleep(0)'
expect_status 0
expect_lines err 0

begin "false, nil and other values of the main chunk are no failures"
for value in "" "nil" "false" "false, 'text'" "nil, nil" "1, 'text'"; do
    try "$LEAT" -e "return $value"
    expect_status 0
    expect_lines err 0
done

begin "a raised failure equals a returned one: its message without a traceback, and where it was raised"
try "$LEAT" -e 'error(leat.error{kind = "io", message = "disk full"})'
expect_status 1
expect_equal "$(cat err)" "leat: io: disk full (raised at (command line):1)"
cat >fetch.lua <<'LUA'
local function fetch(path)
    return assert(request("http://127.0.0.1:1" .. path)).body
end
print(fetch "/a")
LUA
try "$LEAT" fetch.lua
expect_status 1
expect_err "Connection refused (GET http://127.0.0.1:1/a) (raised at fetch.lua:2)"
expect_lines err 1
try "$LEAT" -e 'return nil, leat.error{kind = "io", message = "disk full"}'
expect_equal "$(cat err)" "leat: io: disk full"

begin "a traceback has the line of each of its functions"
cat >lines.lua <<'LUA'
local function inner(x)
    sleep(0)
    return x.y.z
end
local function outer()
    inner {}
end
outer()
LUA
try "$LEAT" lines.lua
expect_err "lines.lua:3: in function 'inner'"
expect_err "lines.lua:6: in function 'outer'"
expect_err "lines.lua:8: in main chunk"

begin "errors of every type are reported in words"
# value, then what must be on standard error
while IFS='|' read -r value words; do
    try "$LEAT" -e "sleep(0) error($value, 0)"
    expect_status 1
    expect_err "$words"
    try "$LEAT" -e "spawn(function() sleep(0) error($value, 0) end):await()"
    expect_status 1
    expect_err "$words"
done <<'LIST'
"text"|text
42|42
nil|a nil value was raised
false|a boolean value was raised
{}|a table value was raised
newproxy()|a userdata value was raised
print|a function value was raised
coroutine.create(print)|a thread value was raised
setmetatable({}, {__tostring = function() return "told" end})|told
setmetatable({}, {__tostring = function() error "no" end})|__tostring
setmetatable({}, {__tostring = function() return {} end})|__tostring
setmetatable({}, {__tostring = function() sleep(1) return "x" end})|__tostring
setmetatable({}, {__tostring = 5})|__tostring
setmetatable({}, {__metatable = false, __tostring = function() return "hidden" end})|hidden
LIST

begin "os.exit ends the run from anywhere, clean-ups first"
cat >exits.lua <<'LUA'
leat.finally(function()
    gather {
        function()
            leat.finally(function() sleep(1000) end, function() sleep(0.01) print "inner" end)
        end,
        function()
            sleep(0.01)
            for _ in coroutine.wrap(function() pcall(os.exit, 3) sleep(1000) end) do
                print "not here"
            end
        end,
    }
end, function() print "outer" end)
LUA
try "$LEAT" exits.lua
expect_status 3
expect_equal "$(cat out)" "inner
outer"
expect_lines err 0

begin "os.exit: true, false and nothing are 0, 1 and 0"
try "$LEAT" -e 'os.exit(true)'
expect_status 0
try "$LEAT" -e 'os.exit(false)'
expect_status 1
try "$LEAT" -e 'os.exit() print "not here"'
expect_status 0
expect_lines out 0

begin "recursion without end is an error, not a crash, whatever it goes through"
while read -r name code; do
    try "$LEAT" -e "local f $code print(pcall(f)) print 'alive'"
    expect_status 0
    expect_out "alive"
    expect_out "overflow"
    [ "$status" = 0 ] || echo "  (through $name)"
done <<'LIST'
calls f = function() return 1 + f() end
coroutines f = function() return coroutine.wrap(f)() end
gsub f = function() return (("x"):gsub(".", f)) end
gsub-tables f = function() return (("x"):gsub(".", setmetatable({}, {__index = f}))) end
gsub-in-coroutines f = function() return coroutine.wrap(function() return (("x"):gsub(".", f)) end)() end
sort-in-coroutines f = function() coroutine.wrap(function() table.sort({1, 2}, f) end)() end
sort f = function() table.sort({1, 2}, f) end
index f = function() return setmetatable({}, {__index = f}).x end
finally f = function() return leat.finally(function() return f() end, function() end) end
with f = function() return semaphore(1):with(function() return 1, f() end) end
LIST

begin "recursion of coroutines and gsub survives a stack of 256 KB"
for code in 'f = function() return coroutine.wrap(f)() end' \
    'f = function() return (("x"):gsub(".", f)) end' \
    'f = function() return coroutine.wrap(function() return (("x"):gsub(".", f)) end)() end'; do
    status=0
    (
        ulimit -s 256
        exec "$LEAT" -e "local f $code print(pcall(f)) print 'alive'"
    ) >out 2>err || status=$?
    # A sanitizer needs more stack than that for itself.
    if grep -q Sanitizer err; then continue; fi
    expect_status 0
    expect_out "alive"
done

begin "what can never be woken under a shield without end does not hang the run"
try "$LEAT" -e 'local e = leat.event() leat.shield(math.huge, function() e:wait() end)'
expect_status 1
expect_err "stuck"
try "$LEAT" -e 'local e = leat.event() while true do pcall(e.wait, e) end'
expect_status 1
expect_err "stuck"
try "$LEAT" -e 'local q = leat.queue() local s = semaphore(0)
gather { function() q:get() end, function() s:acquire() end, function() sleep(0.01) end }'
expect_status 1
expect_err "waiting in get"
expect_err "waiting in acquire"

begin "tasks that wait for each other are listed, not waited for"
try "$LEAT" -e 'local a, b
a = spawn(function() sleep(0) b:await() end)
b = spawn(function() sleep(0) a:await() end)
a:await()'
expect_status 1
expect_err "waiting in await"

begin "the same script ends in the same order on real and on virtual time"
cat >mixed.lua <<'LUA'
local log = {}
local function say(...) log[#log + 1] = table.concat({...}, ":") end
local sem, q = semaphore(2), leat.queue(1)
gather({
    function() for i = 1, 3 do sleep(0.05) say("sleeper", i) end end,
    function() for i = 1, 2 do q:put(i) say("put", i) sleep(0.07) end q:close() end,
    function() for v in q:iter() do say("got", v) end end,
    function() say("limit", select(2, wait_for(0.12, sleep, 5)).kind) end,
    function() sem:with(sleep, 0.11) say("first") end,
    function() sem:with(sleep, 0.11) say("second") end,
    function() sem:with(sleep, 0.02) say("third") end,
    function() for i, s in leat.as_completed({0.09, 0.03}, function(s) sleep(s) return s end) do say(i, s) end end,
    function()
        local t = spawn(leat.finally, function() sleep(5) end, function() sleep(0.02) say "cleaned" end)
        sleep(0.16)
        t:cancel()
        say(tostring(t:await() == nil))
    end,
}, { settle = true })
say(leat.race { function() sleep(0.03) return "slow" end, function() sleep(0.01) return "quick" end })
print(table.concat(log, "\n"))
LUA
try "$LEAT" --virtual-time mixed.lua
expect_status 0
cp out virtual
# A machine that stands still for longer than the gaps between the sleeps tells nothing: up to five tries.
for _ in {1..5}; do
    try "$LEAT" mixed.lua
    expect_status 0
    cmp -s out virtual && break
done
expect_equal "$(cat out)" "$(cat virtual)"
[ "$(wc -l <virtual)" -ge 16 ] || fail "only $(wc -l <virtual) lines"

begin "--virtual-time and a seed repeat a run to the last digit"
cat >dice.lua <<'LUA'
local out = {}
gather((function()
    local jobs = {}
    for i = 1, 50 do
        jobs[i] = function() sleep(math.random()) out[#out + 1] = i .. "@" .. leat.now() .. leat.uuid() end
    end
    return jobs
end)())
print(table.concat(out, " "), leat.time())
LUA
try "$LEAT" --virtual-time --seed 5 dice.lua
cp out once
try "$LEAT" --virtual-time --seed 5 dice.lua
expect_equal "$(cat out)" "$(cat once)"
try "$LEAT" --virtual-time --seed 6 dice.lua
[ "$(cat out)" != "$(cat once)" ] || fail "another seed, the same run"

begin "a closed standard output ends the run quietly with 141"
{
    status=0
    "$LEAT" -e 'while true do print("x") end' 2>err || status=$?
    echo "$status" >code
} | head -n 1 >out
expect_equal "$(cat out)" "x"
expect_lines err 0
expect_equal "$(cat code)" "141"

begin "a task that ignores its cancel does not keep the run from ending"
try "$LEAT" -e 'local t = spawn(function() while true do pcall(sleep, 1) end end)
sleep(0) t:cancel() print(select(2, t:await()).reason)'
expect_status 0
expect_out "cancel_ignored"

begin "the output of a script that is interrupted is not lost"
cat >slow.lua <<'LUA'
print "before"
io.stderr:write "ready\n"
leat.finally(function() sleep(1000) end, function() print "cleaned" end)
LUA
mkfifo told
env --default-signal=INT,TERM "$LEAT" slow.lua >out 2>told &
pid=$!
exec 7<told
read -r _ <&7
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
exec 7<&-
expect_status 143
expect_equal "$(cat out)" "before
cleaned"

# interrupted SIGNALS CODE [OPTION...]: runs CODE, sends each signal once CODE has called ready(), or has begun;
# status, out and err. Standard input stays open, and nothing comes from it.
mkfifo silent
exec 8<>silent
interrupted() {
    local code=$2
    [[ $code == *"ready()"* ]] || code="ready() $code"
    rm -f told
    mkfifo told
    env --default-signal=INT,TERM,HUP "$LEAT" "${@:3}" -e "local function ready() io.stderr:write 'ready\n' end $code" \
        >out 2>told <silent &
    pid=$!
    exec 7<told
    read -r _ <&7
    for sig in $1; do # two that come at once count as one: the one before has to arrive
        kill -s "$sig" "$pid" 2>/dev/null
        while grep -qs '^S[hi][dg]Pnd:.*[1-9a-f]' "/proc/$pid/status"; do read -rt 0.01 <> <(:); done
    done
    status=0
    cat <&7 >err & # what runs on in the background keeps the pipe
    wait "$pid" || status=$?
    exec 7<&-
}

begin "one Ctrl-C ends a loop that never waits: a warning with its line, and its clean-ups run"
interrupted INT 'leat.finally(function() while true do end end, function() sleep(0.01) print "cleaned" end)'
expect_status 130
expect_equal "$(cat out)" "cleaned"
expect_equal "$(cat err)" "leat: warning: interrupted, but a task computes at (command line):1 and does not wait: if it goes on, it is cancelled there
leat: interrupted"

begin "a task that learns of its cancel late, as on a busy machine, has not ignored it"
# Its thread hears nothing for longer than a task may ignore its cancel.
interrupted "INT TERM" 'local ffi = require "ffi"
ffi.cdef "int pthread_sigmask(int, const void *, void *); int sigemptyset(void *); int sigaddset(void *, int);"
ffi.cdef "int poll(void *, unsigned long, int);"
local deaf = ffi.new "char[128]"
ffi.C.sigemptyset(deaf)
ffi.C.sigaddset(deaf, 14)
ffi.C.pthread_sigmask(0, deaf, nil)
ready()
local till = leat.now() + 1.5
while leat.now() < till do ffi.C.poll(nil, 0, 10) end
local ok, err = pcall(function()
    ffi.C.pthread_sigmask(1, deaf, nil)
    while true do end
end)
print(ok, err.kind)'
expect_equal "$(cat out)" "false	cancelled"
expect_lines err 0

begin "the trace, the report and the lines of writers are whole after that"
interrupted INT 'local w = leat.jsonl.writer "rows.jsonl" for i = 1, 1000 do w:write { i = i } end ready()
while true do end' \
    --trace trace.json --report report.html --stats=stats.json
expect_status 130
expect_equal "$(wc -l <rows.jsonl)" 1000
try "$LEAT" -e 'for _, name in ipairs { "trace.json", "stats.json" } do assert(json.decode(io.open(name):read "*a"), name) end'
expect_status 0
grep -q "</html>" report.html || fail "the report is not whole"

begin "a SIGTERM and a SIGHUP end such a loop in the same way"
interrupted "TERM" 'while true do end'
expect_status 143
interrupted "HUP" 'while true do end'
expect_status 129
expect_err "interrupted"

begin "a second Ctrl-C ends such loops at once, wherever they are"
# shellcheck disable=SC2016 # Lua
while read -r name options code; do
    [ "$options" != - ] || options=
    interrupted "INT INT" "$code" ${options:+"$options"}
    expect_status 130
    if [ "$status" != 130 ] || grep -q " 5 s" err; then fail "$name: $(cat err)"; fi
done <<'LIST'
pcall - while true do pcall(function() while true do end end) end
coroutine - coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()
child - spawn(function() while true do end end) sleep(100)
sort - table.sort({3,2,1,4}, function() while true do end end)
later - pcall(sleep, 100) while true do end
index - return setmetatable({}, {__index = function() while true do end end}).x
iterator - for _ in function() while true do end end do end
gsub - (("x"):gsub(".", function() while true do end end))
virtual-time --virtual-time while true do end
LIST

begin "a second Ctrl-C ends such a loop where a time limit is set, too"
interrupted "INT INT" 'while true do end' --time-limit 100
expect_status 130

begin "an item of a pipeline that never waits is cancelled alone, the others end"
interrupted INT 'local results = leat.pipeline{}:run({1, 2}, function(i)
    if i == 1 then while true do end end
    sleep(0.1)
    return i
end)
print(results[1], results.errors[1].kind, results[2])'
expect_status 130
expect_equal "$(cat out)" "nil	cancelled	2"

begin "Ctrl-C ends a wait for standard input, for a command and for its output"
for code in 'io.read()' 'for _ in io.lines() do end' 'os.execute "echo $$ >child; exec sleep 30 2>/dev/null"' \
    'io.stdin:read "*a"' 'os.execute "mkfifo lonely 2>/dev/null" io.open("lonely")' 'while true do os.execute "sleep 0.05" end'; do
    interrupted INT "leat.finally(function() $code end, function() print 'cleaned' end)"
    expect_status 130
    expect_equal "$(cat out)" "cleaned"
    # At a terminal the command gets the Ctrl-C itself; here Leat alone had it.
    [ ! -e child ] || kill "$(cat child)"
    rm -f child
done

begin "Ctrl-C ends a call of C that does not return within 5 s, and what was printed is not lost"
interrupted INT 'local w = leat.jsonl.writer "kept.jsonl" for i = 1, 1000 do w:write { i = i } end
print "before" ready() local p = ("a*"):rep(30) .. "b" print((("a"):rep(40)):find(p))'
expect_status 130
expect_equal "$(cat out)" "before"
expect_equal "$(wc -l <kept.jsonl)" 1000
expect_err "in a call that does not return"
expect_err "did not give way for 5 s"

begin "a third Ctrl-C ends everything at once"
interrupted "INT INT INT" 'print "before" local p = ("a*"):rep(30) .. "b" print((("a"):rep(40)):find(p))'
expect_status 130
expect_equal "$(cat out)" "before"
for _ in {1..500}; do # what is read may not be in the file yet
    grep -q "third interrupt" err && break
    read -rt 0.02 <> <(:)
done
expect_err "leat: ended by the third interrupt: clean-ups may not have run"

begin "Ctrl-C ends a finalizer that does not return when the state is closed"
interrupted "INT INT INT" 'local p = newproxy(true) getmetatable(p).__gc = function() while true do end end kept = p'
expect_status 130

begin "a script and a module that take leat.stopping for a condition get a warning with file and line"
printf 'local leat = require "leat"\nreturn function() return not leat.stopping end\n' >taking.lua
printf '#!/usr/bin/env leat\nrequire "taking"\nif leat.stopping then print "always" end -- not leat.stopping\n' >taken.lua
try "$LEAT" taken.lua
expect_status 0
expect_lines err 2
expect_err "leat: warning: taken.lua:3: leat.stopping is an event and always counts as true: write leat.is_stopping()"
expect_err "taking.lua:2: "
try "$LEAT" --sandbox -e 'if leat.stopping then print "always" end'
expect_err "(command line):1: leat.stopping is an event"

begin "what goes to a closed standard output is no success, and what comes from a closed standard input no end"
status=0
"$LEAT" -e 'print(1)' >&- 2>err || status=$?
expect_status 1
expect_equal "$(cat err)" "leat: cannot write to standard output"
status=0
"$LEAT" -e 'local x = 1' >&- 2>err || status=$?
expect_status 0
expect_lines err 0
status=0
"$LEAT" -e 'print(select(2, io.read())) print(select(2, leat.stdin:read()))' <&- >out 2>err || status=$?
expect_status 0
expect_out "Bad file descriptor"
[ "$(grep -c 'Bad file descriptor' out)" = 2 ] || fail "$(cat out)"
status=0
"$LEAT" - <&- >out 2>err || status=$?
expect_status 2
expect_err "cannot read a script from standard input: Bad file descriptor"
status=0
"$LEAT" -e 'leat.log.warn "x" print "went on"' 2>&- >out || status=$?
expect_status 0
expect_equal "$(cat out)" "went on"

begin "under nohup a SIGHUP is ignored"
rm -f told
mkfifo told
(trap '' HUP; exec "$LEAT" -e 'io.stderr:write "ready\n" sleep(0.1) print "went on"' >out 2>told) &
pid=$!
read -r _ <told
kill -HUP "$pid"
status=0
wait "$pid" || status=$?
expect_status 0
expect_equal "$(cat out)" "went on"

begin "a closed standard output runs the clean-ups, and the status says so"
{
    status=0
    "$LEAT" -e 'leat.finally(function() while true do print("x") sleep(0) end end, function() io.stderr:write "cleaned\n" end)' 2>err || status=$?
    echo "$status" >code
} | head -n 1 >out
expect_equal "$(cat err)" "cleaned"
expect_equal "$(cat code)" "141"

finish
