#!/bin/bash
# What a script can do wrong, and how its run ends: for each fault either the test that is here, or where else
# it is tested.
#
# a request where none can be   lua/virtual_coroutine (sort); here after close, in a finalizer
# permits                       lua/virtual_sync, lua/virtual_cancel
# gather                        lua/virtual_gather
# a result in the limit's tick  lua/virtual_cancel, lua/test_task, unit/test_sched
# odd times                     here
# clocks                        lua/test_task, unit/test_loop; here a process that was stopped
# loops without end             runaway_scripts, unit/test_limit; here by the command, and what it cannot stop
# patterns                      lua/test_sandbox
# recursion                     cli/test_ends; here more ways, on stacks of 256 KB and 8 MB
# memory                        runaway_scripts, unit/test_limit
# odd errors                    cli/test_ends, cli/test_cli; here where they go through tasks and clean-ups
# bytecode                      lua/test_usage, cli/test_ends, embed/calls; here each way into the command
# no memory                     no_memory, unit/test_torture, and the unit tests of each module
# the prompt                    cli/test_repl; here a bug in a pasted chunk, and what is huge
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
start_mock --seed 1

begin "a request where none can be made raises, and names the reason and the function"
cat >where.lua <<LUA
local url = "$mock_url/v1/models"
local function finalized(fn)
    local p = newproxy(true)
    getmetatable(p).__gc = fn
end
local function told(name, ok, what)
    print(name, ok, (tostring(what):gsub("\n.*", "")))
end
told("sort", pcall(table.sort, { 3, 2, 1 }, function(a, b) request(url) return a < b end))
finalized(function() request(url) end)
told("finalizer", pcall(function() collectgarbage() collectgarbage() end))
local res = assert(request { url = url, stream = true })
res:close()
told("closed", pcall(res.read, res))
told("closed json", pcall(res.next_event, res))
kept = newproxy(true) -- luacheck: ignore
getmetatable(kept).__gc = function() told("at the end", pcall(request, url)) end
LUA
try "$LEAT" where.lua
expect_status 0
expect_lines err 0
expect_out "sort	false	where.lua:9: request: cannot wait inside sort"
expect_out "finalizer	false	where.lua:10: request: cannot wait inside collectgarbage"
expect_out "closed	"
expect_out "at the end	false	where.lua:17: request: called outside a task"

begin "times: 0 lets the others run once, huge ones wait, what is no time raises"
cat >times.lua <<'LUA'
local order = {}
gather {
    function() order[#order + 1] = "a" sleep(0) order[#order + 1] = "a2" end,
    function() order[#order + 1] = "b" sleep(-0) order[#order + 1] = "b2" end,
}
print(table.concat(order, " "))
for _, s in ipairs { 1e18, 1e308, math.huge } do
    print(s, select(2, wait_for(1, sleep, s)).kind, (wait_for(s, function() return "in time" end)))
end
for _, s in ipairs { -1, -1e-9, -math.huge, 0 / 0, "1", {} } do
    local ok, what = pcall(sleep, s)
    print(ok, (tostring(what):gsub("table: 0x%x+", "table")))
end
for _, call in ipairs {
    { wait_for, 0 / 0, print }, { leat.shield, -1, print }, { leat.event().wait, leat.event(), 0 / 0 },
    { semaphore(0).acquire, semaphore(0), -1 }, { leat.queue().get, leat.queue(), 0 / 0 },
    { request, { url = "http://x", timeout = 0 / 0 } }, { request, { url = "http://x", timeout = -1 } },
} do
    io.write(tostring((pcall(unpack(call)))), " ")
end
print()
print(sleep(1e18), leat.now() >= 315360000) -- ten years stand for all that is longer
LUA
try "$LEAT" --virtual-time times.lua
expect_status 0
expect_equal "$(sed -n 1p out)" "a b a2 b2"
expect_equal "$(sed -n '2,4s/^[^	]*	//p' out | sort -u)" "timeout	in time"
expect_equal "$(sed -n '5,10p' out | cut -f 1 | sort -u)" false
for value in -1 -1e-09 -inf nan "'1'" "a table"; do expect_out "got $value"; done
expect_equal "$(sed -n 11p out)" "false false false false false false false "
expect_equal "$(sed -n 12p out)" "true	true"

begin "a process that was stopped ends no sleep early, and loses none"
cat >suspended.lua <<'LUA'
io.stdout:setvbuf "line"
local early = 0
local list = {}
for i = 1, 50 do list[i] = i end
print "ready"
assert(leat.map(list, function(i)
    local before = leat.now()
    sleep(i / 200)
    if leat.now() - before < i / 200 then early = early + 1 end
    return true
end))
print(early)
LUA
mkfifo lines
"$LEAT" suspended.lua >lines &
pid=$!
exec 8<lines
read -r _ <&8
for _ in {1..20}; do
    kill -STOP $pid
    kill -CONT $pid
done
expect_equal "$(cat <&8)" 0
exec 8<&-
status=0
wait $pid || status=$?
expect_status 0

begin "--time-limit ends what never waits, whatever catches it, and names the script's line"
while IFS='|' read -r code; do
    printf 'local x\n%s\n' "$code" >loop.lua
    try "$LEAT" --time-limit 0.05 loop.lua
    expect_status 1
    expect_err "time limit"
    expect_err "loop.lua:2"
done <<'LIST'
while true do end
while true do pcall(function() while true do end end) end
xpcall(error, function() while true do end end)
coroutine.wrap(function() while true do end end)()
table.sort({3, 2, 1}, function() while true do end end)
("abc"):gsub(".", function() while true do end end)
x = setmetatable({}, {__index = function() while true do end end}).x
for _ in function() while true do end end do end
LIST

begin "recursion without end is an error, on a stack of 256 KB as well where Leat or Lua's own stack bounds it"
while read -r name least code; do
    for stack in $least 8192; do
        status=0
        (
            ulimit -s $stack
            exec "$LEAT" -e "local f $code print(pcall(f)) print(#('x'):rep(1000), json.decode('[1]')[1]) sleep(0)"
        ) >out 2>err || status=$?
        # A sanitizer needs more stack than that for itself.
        if grep -q Sanitizer err; then continue; fi
        [ "$status" = 0 ] || fail "$name with $stack KB: status $status"
        expect_out "overflow"
        expect_out "1000	1"
    done
done <<'LIST'
wrap 256 f = function() return coroutine.wrap(f)() end
wrap-pcall 256 f = function() local ok, e = pcall(coroutine.wrap(f)) if not ok then error(e, 0) end end
gsub 256 f = function() return (("x"):gsub(".", f)) end
gsub-table 256 f = function() return (("x"):gsub(".", setmetatable({}, {__index = f}))) end
sort 8192 f = function() table.sort({1, 2}, f) end
foreach 256 f = function() table.foreach({1}, f) end
concat 256 f = function() return setmetatable({}, {__concat = f}) .. "x" end
format 8192 f = function() return ("%s"):format(setmetatable({}, {__tostring = f})) end
load 8192 f = function() return assert(load(f)) end
LIST
for text in '("("):rep(1e5)' '"return " .. ("{"):rep(1e5)' '("do "):rep(1e5)' '"return " .. ("-"):rep(3e4) .. "1"' \
    '"return " .. ("not "):rep(1e5) .. "1"' '"return a" .. ("..a"):rep(1e5)'; do
    try "$LEAT" -e "print(load($text)) print 'alive'"
    expect_status 0
    expect_out alive
done

begin "errors of every type come through tasks, gathers, handlers and clean-ups as words"
for value in '{}' nil false 'newproxy()' '42' 'print' 'setmetatable({}, {__tostring = error})' \
    'setmetatable({}, {__index = error, __metatable = false})' 'leat.error{message = "m"}'; do
    for code in "gather { function() error($value) end }" \
        "leat.map({1}, function() sleep(0) error($value) end)" \
        "leat.finally(print, function() error($value) end)" \
        "leat.finally(function() error 'first' end, function() error($value) end)" \
        "wait_for(5, function() error($value) end)" \
        "coroutine.wrap(function() error($value) end)()" \
        "leat.retry { attempts = 2, base = 0.001 }:call(function() error($value) end)" \
        "(function() package.preload.broken = function() error($value) end return require 'broken' end)()" \
        "spawn(function() error($value) end):await()" \
        "leat.race { function() error($value) end }"; do
        try "$LEAT" -e "return $code"
        [ "$status" = 1 ] && [ -s err ] || fail "status $status: $code"
        grep -q "expected near" err && fail "$code: $(cat err)"
        grep -q "PANIC\|Sanitizer\|Assertion" err && fail "$code: $(head -n 1 err)"
    done
done
try "$LEAT" -e 'error(("long "):rep(1e6))'
expect_status 1
expect_err "long long"
[ "$(wc -c <err)" -lt 100000 ] || fail "$(wc -c <err) bytes"
try "$LEAT" -e 'return nil, ("long "):rep(1e6)'
expect_status 1
expect_err "long long"

begin "bytecode is refused with words, each way that it may come"
"$LEAT" -e 'io.open("code.luac", "wb"):write(string.dump(function() print "it ran" end)):close()'
printf '#!/usr/bin/env leat\n' | cat - code.luac >masked.luac
printf '\357\273\277' | cat - code.luac >marked.luac
for code in code masked marked; do
    for words in "$code.luac" "run $code.luac" "-i $code.luac" "-" "" "repl"; do
        status=0
        # shellcheck disable=SC2086 # a list of words
        "$LEAT" $words <$code.luac >out 2>err || status=$?
        [ "$status" = 2 ] || [ "$status" = 1 ] || fail "status $status for $code: $words"
        [ -s err ] || fail "no word about $code: $words"
        grep -q "it ran" out && fail "it ran: $code: $words"
    done
done
try "$LEAT" -e "$(printf '\033LJ\002')"
expect_status 2
expect_err "bytecode"
try "$LEAT" -e 'package.path = "./?.luac" require "code"'
expect_status 1
expect_err "bytecode"

begin "the prompt goes on after a bug in a chunk of many lines, and shows what is huge by its head"
cat >many_lines <<'LUA'
kept = 1
function f()
    local t = nil
    return t.x
end
f()
kept + 1
for i = 1, 2 do
    if i == 2 then
        error "in the middle"
    end
end
kept + 2
local t = {} for i = 1, 1e5 do t[i] = ("x"):rep(1000) end kept_t = t
kept_t
#kept_t
setmetatable({}, {__index = error, __tostring = error})
print(("y"):rep(3e7):sub(1, 3))
kept + 3
LUA
status=0
"$LEAT" repl <many_lines >out 2>err || status=$?
expect_status 1
expect_err "[2]:3: attempt to index local 't'"
expect_err "in the middle"
for value in 2 3 4 100000; do grep -qx $value out || fail "no $value: $(head -c 500 out)"; done
[ "$(wc -c <out)" -lt 100000 ] || fail "$(wc -c <out) bytes are shown"

finish
