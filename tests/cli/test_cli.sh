#!/bin/bash
# The command line: what it prints where, and the status it ends with.
. "$(dirname "$0")/../lib.sh"

begin "a script gets its arguments, in arg and in ..."
cat >args.lua <<'LUA'
print(arg[0], #arg, arg[1], ...)
LUA
try "$LEAT" args.lua one "two three"
expect_status 0
expect_equal "$(cat out)" "args.lua	2	one	one	two three"
expect_lines err 0

begin "run is the same as naming the script"
try "$LEAT" run args.lua x
expect_equal "$(cat out)" "args.lua	1	x	x"

begin "-e runs one line"
try "$LEAT" -e 'print(1 + 1)'
expect_status 0
expect_equal "$(cat out)" "2"

begin "a word that is neither a script nor a command says which commands there are"
try "$LEAT" bacth in.jsonl out.jsonl
expect_status 2
expect_lines err 1
expect_err "cannot read script 'bacth': No such file or directory, and there is no such command: batch, help"

begin "a script that is not there is one clear line"
try "$LEAT" missing.lua
expect_status 2
expect_lines err 1
expect_err "missing.lua"

begin "a directory instead of a script is one clear line"
try "$LEAT" /tmp
expect_status 2
expect_lines err 1
expect_err "/tmp"

begin "a syntax error is one clear line with file and line"
printf 'local a = 1\nlocal = 2\n' >syntax.lua
try "$LEAT" syntax.lua
expect_status 1
expect_lines err 1
expect_err "syntax.lua:2:"

begin "a binary file is refused in one clear line"
head -c 4096 "$LEAT" >binary.lua
try "$LEAT" binary.lua
expect_status 2
expect_lines err 1
expect_err "binary.lua"

begin "bytecode is refused in one clear line"
printf '\033LJ\002\000' >code.lua
try "$LEAT" code.lua
expect_status 2
expect_lines err 1
expect_err "code.lua"

begin "an empty script is fine"
: >empty.lua
try "$LEAT" empty.lua
expect_status 0
expect_lines err 0

begin "a script that returns nil, err has failed: its message, status 1"
echo 'return nil, "no such luck"' >fails.lua
try "$LEAT" fails.lua
expect_status 1
expect_err "no such luck"
expect_lines out 0

begin "a bug shows the script's line and a traceback"
cat >bug.lua <<'LUA'
local function inner(t)
    return t.field.missing
end
local function outer()
    sleep(0)
    local v = inner({})
    return v
end
local v = outer()
print(v)
LUA
try "$LEAT" bug.lua
expect_status 1
expect_err "bug.lua:2:"
expect_err "bug.lua:6:"

begin "a bug in a task shows the awaiting task's lines too"
cat >bug2.lua <<'LUA'
local function work()
    sleep(0)
    error("boom")
end

local function wait_for_it(task)
    local v = task:await()
    return v
end
local v = wait_for_it(spawn(work))
print(v)
LUA
try "$LEAT" bug2.lua
expect_status 1
expect_err "bug2.lua:3: boom"
expect_err "bug2.lua:7:"

begin "an error that is a table, nil, or breaks in its own tostring is reported, not a crash"
for value in '{}' nil false 'newproxy()' 'setmetatable({}, {__tostring = error})' \
    'setmetatable({}, {__tostring = function() return 1 end})'; do
    try "$LEAT" -e "error($value)"
    expect_status 1
done

begin "a script that nothing can wake ends with a list of who waits"
cat >stuck.lua <<'LUA'
local e = leat.event()
spawn(function() e:wait() end)
e:wait()
LUA
try "$LEAT" stuck.lua
expect_status 1
expect_err "stuck.lua:2"
expect_err "stuck.lua:3"

begin "tasks that wait for each other are named as a circle"
cat >circle.lua <<'LUA'
local a, b
a = spawn(function() sleep(0) b:await() end)
b = spawn(function() sleep(0) a:await() end)
a.name, b.name = "alpha", "beta"
LUA
try "$LEAT" circle.lua
expect_status 1
expect_err "in a circle: task 2 (alpha) waits for task 3 (beta), which waits for task 2"
cat >circle.lua <<'LUA'
local sem = semaphore(1)
spawn(function() leat.event():wait() end)
sem:with(function()
    spawn(function() leat.event():wait() end)
    gather { function() sleep(0) sem:with(print) end }
end)
LUA
try "$LEAT" circle.lua
expect_status 1
expect_err "in a circle: task 1 (circle.lua) waits for task 4 (circle.lua:5), which waits for task 1"

begin "a script that thousands of tasks wait in says where, and how many"
cat >stuck.lua <<'LUA'
local sem = semaphore(0)
for _ = 1, 20000 do
    spawn(function() sem:acquire() end)
end
LUA
try "$LEAT" stuck.lua
expect_status 1
expect_err "task 1 (stuck.lua): joining"
expect_err "and 19997 more (stuck.lua:3) at stuck.lua:3: waiting in acquire"

begin "os.exit sets the status, after clean-ups have run"
echo 'leat.finally(function() os.exit(7) end, function() sleep(0.01) print("cleaned") end)' >exit.lua
try "$LEAT" exit.lua
expect_status 7
expect_out "cleaned"

begin "wrong usage is status 2 and says what is wrong"
try "$LEAT" --no-such-option
expect_status 2
expect_err "--no-such-option"
expect_lines out 0
try "$LEAT" -e
expect_status 2

begin "an option in the place of another one's text is a forgotten value"
try "$LEAT" mock --key --port 0
expect_status 2
expect_err "--key needs a value, but '--port' follows; if it is the value, write --key=--port"
try "$LEAT" batch --model --rpm 3
expect_status 2
expect_err "--model needs a value, but '--rpm' follows; if it is the value, write --model=--rpm"

begin "--network-threads gives the network threads of its own, as many as asked for"
threads='local n = 0
for _ in io.popen("ls /proc/" .. io.open("/proc/self/stat"):read("*n") .. "/task"):lines() do n = n + 1 end print(n)'
try "$LEAT" -e "$threads"
plain=$(cat out) # the script's own, the one that watches for signals, and a sanitizer's
[ "$plain" = 2 ] || [ "$plain" = 3 ] || fail "$plain threads"
try "$LEAT" --network-threads 3 -e "$threads"
expect_equal "$(cat out)" $((plain + 3))
try "$LEAT" --network-threads 2 -e 'print(request("http://127.0.0.1:1/"))'
expect_status 0
expect_out "connect: "

begin "--network-threads where they cannot be says so"
try "$LEAT" --network-threads 17 -e 'print(1)'
expect_status 2
expect_err "from 0 to 16, got '17'"
try "$LEAT" --network-threads
expect_status 2
try "$LEAT" --network-threads x -e 'print(1)'
expect_status 2
try "$LEAT" --network-threads 1 --virtual-time -e 'print(1)'
expect_status 2
expect_err "network threads cannot be used with virtual time"
try "$LEAT" --network-threads 1 -e 'print(leat.simulate("http://a.example", print))'
expect_out "while network threads are in use"

begin "math.random differs from run to run, and repeats with --seed"
one=$("$LEAT" -e 'print(math.random(), leat.uuid())')
two=$("$LEAT" -e 'print(math.random(), leat.uuid())')
[ "$one" != "$two" ] || fail "two runs drew the same numbers: $one"
one=$("$LEAT" --seed 7 -e 'print(math.random(), leat.uuid())')
two=$("$LEAT" --seed 7 -e 'print(math.random(), leat.uuid())')
expect_equal "$one" "$two"

begin "a permit that was never given back is named at the end, with its line"
printf 'local sem = semaphore(1)\nsem:acquire()\n' >leak.lua
try "$LEAT" leak.lua
expect_status 0
expect_err "a permit acquired at leak.lua:2 by task 1 was never released"

begin "-i without a script is refused"
try "$LEAT" -i
expect_status 2
try "$LEAT" -i - </dev/null
expect_status 2

begin "--help fits a screen and goes to standard output"
try "$LEAT" --help
expect_status 0
expect_out "leat"
[ "$(wc -l <out)" -le 40 ] || fail "$(wc -l <out) lines"

begin "--version names the libraries with their versions"
try "$LEAT" --version
expect_status 0
for library in LuaJIT libuv libcurl; do
    grep -qi "$library.*[0-9]\.[0-9]" out || fail "no $library"
done

begin "version is --version"
cp out first
try "$LEAT" version
expect_status 0
cmp -s out first || fail "another text"
try "$LEAT" version now
expect_status 2
expect_err "unexpected argument 'now'"

begin "help shows the usage and what functions there are, and tells about each of them what help() does"
try "$LEAT" help
expect_status 0
expect_out "usage: leat [options] script.lua"
expect_out "  gather                 Runs a list of functions"
for name in gather leat.gather semaphore:with json json.decode queue response; do
    try "$LEAT" help "$name"
    expect_status 0
    expect_lines err 0
    echo "help '$name'" | "$LEAT" repl >at_prompt
    cmp -s out at_prompt || fail "not what help shows at the prompt: $name"
done
grep -q "^ *response:json" out || fail "no methods of a response"
try "$LEAT" help Gather res:json
expect_out "gather(list, [opts]) -> results"
expect_out "response:json([opts])"

begin "help of a command shows its usage"
for command in batch mock; do
    try "$LEAT" help $command
    expect_status 0
    expect_out "usage: leat $command"
done
expect_equal "$("$LEAT" help mock)" "$("$LEAT" mock --help)"

begin "help of a name that is not there: status 2, and what is near"
try "$LEAT" help gater
expect_status 2
expect_lines out 0
expect_equal "$(cat err)" "leat: help: nothing is known about 'gater' (did you mean 'gather'?); leat help lists what there is"
try "$LEAT" help request xyzzy
expect_status 2
expect_lines out 0
expect_err "'xyzzy'"

begin "a script named as a command is run by its path"
for name in help version batch; do
    echo 'print "the script"' >$name
    try "$LEAT" ./$name
    expect_equal "$(cat out)" "the script"
    try "$LEAT" run $name
    expect_equal "$(cat out)" "the script"
    rm $name
done

begin "cjson and cjson.safe are there, linked with leat where they are not installed"
cat >cjson_user.lua <<'LUA'
local cjson, safe = require "cjson", require "cjson.safe"
assert(require "cjson" == cjson and package.loaded["cjson.safe"] == safe)
local t = cjson.decode '{"a": [1, null, "x"]}'
assert(t.a[2] == cjson.null and cjson.null == json.null and json.decode "null" == cjson.null)
assert(json.encode(t) == '{"a":[1,null,"x"]}' and cjson.encode { json.null } == "[null]")
local value, err = safe.decode "{"
assert(value == nil and type(err) == "string" and not pcall(cjson.decode, "{"))
local own = cjson.new()
own.encode_number_precision(3)
assert(own.encode { 1 / 3 } == "[0.333]" and cjson.encode { 1 / 3 } ~= "[0.333]")
assert(rawget(_G, "cjson") == nil)
print(cjson._VERSION, pcall(require, "cjson.unsafe"))
LUA
for path in "$PWD/?.so" ";;"; do
    try env LUA_CPATH="$path" "$LEAT" cjson_user.lua
    expect_status 0
    expect_out "module 'cjson.unsafe' not found"
done
mkdir beside
echo 'return { mine = true }' >beside/cjson.lua
echo 'print(require "cjson".mine)' >beside/user.lua
try "$LEAT" beside/user.lua
expect_equal "$(cat out)" "true"
try "$LEAT" --sandbox -e 'require "cjson"'
expect_status 1
expect_err "require 'cjson' is not allowed in the sandbox"

begin "a reader that goes away ends the script quietly"
"$LEAT" -e 'for i = 1, 1e6 do print(i) end' 2>err | head -n 1 >out
expect_equal "$(cat out)" "1"
expect_lines err 0

begin "output that could not be written is an error, not a loss nobody sees"
status=0
"$LEAT" -e 'print(1)' >/dev/full 2>err || status=$?
expect_status 1
expect_err "cannot write to standard output"

begin "a long wait and a long limit are shown in plain numbers"
cat >long.lua <<'LUA'
print(wait_for(3600, sleep, 1e6))
spawn(sleep, 90000)
sleep(20000)
print(leat.tasks())
LUA
try "$LEAT" --virtual-time long.lua
expect_out "within 3600 s"
expect_out "70000 s left"
expect_out "for 20000 s"

begin "an hour of sleeps takes no time under --virtual-time, in the same order"
cat >hour.lua <<'LUA'
local order = {}
local began = leat.now()
gather {
    function() for i = 1, 3 do sleep(1200) order[#order + 1] = "a" .. i end end,
    function() for i = 1, 2 do sleep(1500) order[#order + 1] = "b" .. i end end,
}
print(table.concat(order, " "), leat.now() - began)
LUA
try "$LEAT" --virtual-time hour.lua
expect_status 0
expect_equal "$(cat out)" "a1 b1 a2 b2 a3	3600"

begin "--virtual-time refuses real sockets"
try "$LEAT" --virtual-time -e 'local r, err = request "http://127.0.0.1:1/" print(r, err.kind)'
expect_equal "$(cat out)" "nil	denied"

# ---- signals. The script says when it is ready; bash starts background jobs with SIGINT ignored,
# hence env.

# start_signalled SCRIPT-TEXT: runs it in the background, waits for its first line; sets $pid.
start_signalled() {
    printf '%s\n' "$1" >signalled.lua
    rm -f lines
    mkfifo lines
    env --default-signal=INT,TERM "$LEAT" signalled.lua >lines 2>err &
    pid=$!
    exec 8<lines
    read -r line <&8
    expect_equal "$line" "ready"
}
# end_signalled: its status, and the rest of its output in out.
end_signalled() {
    cat <&8 >out
    exec 8<&-
    status=0
    wait "$pid" || status=$?
}

begin "Ctrl-C cancels the script and lets its clean-up run: status 130"
start_signalled 'io.stdout:setvbuf("line")
leat.finally(function() print("ready") sleep(1000) end, function() sleep(0.01) print("cleaned") end)'
kill -INT "$pid"
end_signalled
expect_status 130
expect_out "cleaned"

begin "Ctrl-C sets leat.stopping"
start_signalled 'io.stdout:setvbuf("line")
spawn(function() leat.stopping:wait() print("stopping") end)
print("ready")
sleep(1000)'
kill -INT "$pid"
end_signalled
expect_status 130

begin "three Ctrl-C end a script that will not stop"
start_signalled 'io.stdout:setvbuf("line")
print("ready")
local stop = leat.stopping
pcall(sleep, 1000)
print("first")
local until_s = os.clock() + 60
while os.clock() < until_s do end'
kill -INT "$pid"
read -r line <&8
expect_equal "$line" "first"
kill -INT "$pid"
kill -INT "$pid"
# Signals of one kind that wait together arrive as one: ask again until it has gone.
for _ in {1..100}; do
    kill -INT "$pid" 2>/dev/null || break
    sleep 0.05
done
end_signalled
expect_status 130

begin "SIGTERM is status 143"
start_signalled 'io.stdout:setvbuf("line")
print("ready")
sleep(1000)'
kill -TERM "$pid"
end_signalled
expect_status 143

simulated='leat.simulate("http://x.test", function() return { json = { a = 1 } } end)'
begin "a simulated origin that nobody can call any more does not keep a script from its end"
for mode in --virtual-time -v; do
    try "$LEAT" $mode -e "$simulated print(request('http://x.test/').status)"
    expect_status 0
    expect_out 200
    try "$LEAT" $mode -e "$simulated spawn(function() sleep(0.01) print(request('http://x.test/').status) end)"
    expect_status 0
    expect_out 200
done

begin "a simulated origin does not hide that nothing can wake the script"
try "$LEAT" --virtual-time -e "$simulated leat.event():wait()"
expect_status 1
expect_err "nothing can wake one"
expect_err "event:wait"

finish
