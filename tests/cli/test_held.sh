#!/bin/bash
# What is said when one task holds all others up, and when it is not.
. "$(dirname "$0")/../lib.sh"

# held SCRIPT [OPTION...]: runs it with another task that is ready all the time.
held() {
    { echo 'local other = spawn(function() while true do sleep(0.001) end end) sleep(0)'
        echo "$1"
        echo 'other:cancel()'; } >held.lua
    try "$LEAT" "${@:2}" held.lua
    expect_status 0
}

# What takes 0.3 s of the thread's own time, in Lua.
compute='local c = os.clock while c() - began < 0.3 do end'

begin "computing for over 100 ms while others are ready is reported once for its place, with what to do"
held "local function compute(began)
$compute
end
for _ = 1, 3 do compute(os.clock()) sleep(0) end"
expect_lines err 1
expect_err "leat: warning: held.lua:3: a task has computed for over 100 ms without a wait, while others were ready: "
expect_err "sleep(0)"

begin "each of two places is reported"
held "local function one(began)
$compute
end
local function two(began)
$compute
end
one(os.clock()) sleep(0) two(os.clock())"
expect_lines err 2
expect_err "held.lua:3: "
expect_err "held.lua:6: "

begin "compiled code is reported, too, and so is code that a limit has interpreted"
arithmetic='local began, n = os.clock(), 0
while os.clock() - began < 0.3 do for i = 1, 1e6 do n = n + i % 7 end end'
for limits in "" "--time-limit 100" "--memory-limit 64M" "--time-limit 100 --memory-limit 64M"; do
    # shellcheck disable=SC2086 # a list of words
    held "$arithmetic" $limits
    expect_err "held.lua:3: a task has computed"
done

begin "os.execute, a read of its output and of standard input are reported, each with its way out"
mkfifo slow
exec 8<>slow
held 'os.execute "sleep 0.3"'
expect_lines err 1
expect_err 'held.lua:2: os.execute blocked all tasks for over 100 ms while others were ready: run the command in the background (end it with " &")'
held 'local f = io.popen "sleep 0.3; echo done"
print(f:read())
f:close()'
expect_lines err 1
expect_equal "$(cat out)" "done"
expect_err "held.lua:3: file:read blocked all tasks"
held 'local f = io.popen "sleep 0.3"
f:close()'
expect_err "held.lua:3: file:close blocked all tasks"
held 'for line in io.popen("sleep 0.3; echo done"):lines() do
    print(line)
end'
expect_err "held.lua:2: file:lines blocked all tasks"
held 'local f = io.popen("sleep 0.3; wc -c", "w")
f:write(("x"):rep(200000))
f:flush()
f:close()'
expect_equal "$(tr -d " " <out)" 200000
expect_err "held.lua:3: file:write blocked all tasks"
mkfifo other_end
# On a busy machine the program may begin late: then once more, with a longer pause.
for pause in 0.5 2 8; do
    (sleep $pause; echo "done" >other_end) &
    held 'print(io.open("other_end"):read())'
    wait $!
    [ ! -s err ] || break
done
expect_lines err 1
expect_equal "$(cat out)" "done"
expect_err "held.lua:2: io.open blocked all tasks for over 100 ms while others were ready: a pipe opens only when its other end is open"
echo 'local other = spawn(function() while true do sleep(0.001) end end) sleep(0)
print(io.read())
for line in io.lines() do print(line) end
other:cancel()' >reads.lua
for pause in 0.4 2 8; do
    (sleep $pause; echo one; sleep $pause; echo two) | "$LEAT" reads.lua >out 2>err
    [ "$(wc -l <err)" -lt 2 ] || break
done
expect_equal "$(cat out)" "one
two"
expect_lines err 2
expect_err "reads.lua:2: io.read blocked all tasks for over 100 ms while others were ready: leat.stdin:read"
expect_err "reads.lua:3: io.lines blocked all tasks"

begin "nothing is reported where no other task was ready, on virtual time, and with -q"
# shellcheck disable=SC2016 # Lua
echo 'local began = os.clock() while os.clock() - began < 0.3 do end os.execute "sleep 0.3" print(io.read())' >alone.lua
(sleep 0.3; echo) | "$LEAT" alone.lua >out 2>err
expect_lines err 0
echo 'spawn(sleep, 30) sleep(0)
local began = os.clock() while os.clock() - began < 0.3 do end os.execute "sleep 0.3" os.exit(0)' >later.lua
try "$LEAT" later.lua
expect_lines err 0
held 'local began = os.clock() while os.clock() - began < 0.3 do end os.execute "sleep 0.3"' --virtual-time
expect_lines err 0
held 'local began = os.clock() while os.clock() - began < 0.3 do end os.execute "sleep 0.3"' -q
expect_lines err 0

begin "these functions do what Lua's own do, and their errors name the script's line"
cat >same.lua <<'LUA'
print(os.execute "exit 3", os.execute(), os.execute "exit 0")
print(pcall(function() os.execute {} end))
print(io.popen("exit 3"):close())
local f = io.popen "printf 'a\nb\n12 x'"
print(f:read "*l", f:read(1), f:read "*a")
f:close()
for line in io.popen("seq 2"):lines() do io.write(line, ";") end
print(io.read "*n", io.read(0), io.read "*l", io.read "*l")
for line in io.lines() do io.write(line, ";") end
print(pcall(function() io.read "*q" end))
print(pcall(function() io.stdin:read "*q" end))
print(pcall(function() io.stdin.read() end))
print(pcall(function() io.lines "nowhere" end))
print(io.open "nowhere")
print(pcall(function() io.open("nowhere", "z") end))
print(pcall(function() io.open() end))
local w = io.popen("cat", "w")
print(w:write("a", 1, "\n"))
w:close()
print(pcall(function() w:write {} end), pcall(function() io.popen("cat >/dev/null", "w"):write({}) end))
local dir = io.open "/"
print(dir:read "*a")
print(pcall(function() for _ in dir:lines() do end end))
print(io.type(f), pcall(f.read, f))
LUA
printf '12 x\nsecond\nthird\nfourth\n' | "$LEAT" same.lua >out 2>err
expect_equal "$(cat err)" ""
printf '12 x\nsecond\nthird\nfourth\n' | luajit same.lua >theirs
expect_equal "$(sed 's/at line [0-9]*//' out)" "$(cat theirs)"

begin "-v reports what has waited for long, for what, where, and who holds it"
cat >waits.lua <<'LUA'
local sem = semaphore(1)
local holder = spawn(function() sem:with(sleep, 100) end)
holder.name = "the holder"
sleep(0)
for _ = 1, 5 do
    spawn(function() sem:acquire() end).name = "one that waits"
end
sleep(100)
LUA
mkfifo long
env --default-signal=INT "$LEAT" -v waits.lua 2>long &
pid=$!
exec 7<long
: >err
while read -r line <&7; do
    echo "$line" >>err
    case $line in *"and 2 more"*) break ;; esac # the last one
done
kill -INT "$pid"
wait "$pid"
exec 7<&-
expect_err "leat: debug: task 1 (waits.lua) at waits.lua:8: waiting in sleep"
expect_err "leat: debug: task 2 (the holder) at waits.lua:2: waiting in sleep"
expect_err "leat: debug: task 3 (one that waits) at waits.lua:6: waiting in acquire (1 permit, 5 waiting; held by task 2) for "
expect_err "leat: debug: and 2 more (one that waits) at waits.lua:6: waiting in acquire"
expect_lines err 6

finish
