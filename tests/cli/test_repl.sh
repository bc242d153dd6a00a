#!/bin/bash
# The prompt, on a real pseudo-terminal (see pty.c for the steps), on a dumb one, and behind a pipe.
[ -n "${FAULT_URL:-}" ] || exec "$(dirname "$0")/../with_faultd.sh" bash "$0" "$@"
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
pty=${BUILD:-$root/build}/tests/pty
export TERM=xterm XDG_STATE_HOME=$scratch/state URL=$FAULT_URL NO_COLOR=1
unset LC_ALL LC_CTYPE LANG
history=$XDG_STATE_HOME/leat/history

# play [ARG...] <STEPS: leat with these arguments on a terminal.
play() {
    cat >steps
    "$pty" steps "$LEAT" "$@" >played 2>&1 && return
    fail "the steps"
    cat played
}

begin "it starts on a terminal: version and help in two lines, a prompt, Ctrl-D leaves with 0"
play <<'STEPS'
expect leat 0
expect help()
line 1>
send \x04
status 0
STEPS

begin "an expression is shown, a statement is not, results keep their numbers"
play repl <<'STEPS'
line 1>
send 1 + 1\r
row 2
line 2>
send x = 5\r
line 3>
send {x, _, _1, name = "n"}\r
row { 5, 2, 2, name = "n" }
line 4>
send 1, nil, "three"\r
row 1
row nil
row "three"
line 5>
send _3.name, _4\r
row "n"
line 6>
send   -- nothing\r
line 7>
send \r
line 7>
send sleep(0)\r
row true
STEPS

begin "an unfinished chunk is asked for further, and its error names its line"
play <<'STEPS'
line 1>
send function double(a)\r
line  |
send   return 2 * a\r
send end\r
line 2>
send double(21)\r
row 42
line 3>
send text = [[one\r
line  |
send two]]\r
line 4>
send #text\r
row 7
line 5>
send do local a = 1\r
line  |
send   a = a .. nil\r
line  |
send end\r
row error: [5]:2: attempt to concatenate a nil value
line 6>
send x = (1 +\r
line  |
send \x03
line 6>
send x = = 1\r
row error: [6]:1: unexpected symbol near '='
line 7>
send x = 'open\r
row error: [7]:1: unfinished string near '<eof>'
line 8>
STEPS

begin "pasted lines are one chunk, to be looked at before Enter, and without the terminal's marks"
play <<'STEPS'
line 1>
send \e[200~total = 0\rfor i = 1, 4 do\r\ttotal = total + i\rend\rtotal\r\e[201~
line total
send \r
row 10
line 2>
send \e[200~"a\tb"\e[201~\r
row "a\\tb"
line 3>
send \e[200~
send 7 *
send  6\e[2
send 01~
line 3> 7 * 6
send \r
row 42
STEPS

begin "a failure is an error line, a bug a message with its traceback"
play <<'STEPS'
line 1>
send nil, "no luck"\r
row error: no luck
line 2>
send request "nonsense"\r
expect error: invalid:
line 3>
send _err.kind\r
row "invalid"
line 4>
send function inner() error "boom" end function outer() inner() return 1 end\r
line 5>
send outer()\r
row error: [4]:1: boom
row         [4]:1: in function 'inner'
row         [4]:1: in function 'outer'
row         [5]:1: in the line
line 6>
send error {}\r
row error: {}
line 7>
send setmetatable({}, {__tostring = error})\r
row a table whose __tostring fails
line 8>
STEPS

begin "locals of earlier lines stay, and are the same variable in their closures"
play <<'STEPS'
line 1>
send local n, s = 1, "local z = 9 -- local" -- local y = 3\r
line 2>
send local function inc() n = n + 1 return n end\r
line 3>
send inc() inc()\r
line 4>
send n, s, y, z\r
row 3
row nil
line 5>
send n = 100\r
line 6>
send inc(), rawget(_G, "n")\r
row 101
line 7>
send local n = 5 do local n = 6 end if n then local inner = 1 end return n, inner\r
row 5
line 8>
send n .. inc()\r
row "5102"
line 9>
send local t = {["local"] = 1, f = function() local hidden = 1 return hidden end}\r
line 10>
send t.f(), hidden\r
line 11>
send for i = 1, 300 do inc() end n = 7 for i = 1, 300 do n = n + 1 end\r
line 12>
send n, inc()\r
row 307
row 403
STEPS

begin "Tab completes globals, fields, methods of a response, options, modules, locals"
play <<'STEPS'
line 1>
send gath\t
line 1> gather(
send {})\r
line 2>
send local res = request(os.getenv "URL" .. "/ok")\r
line 3>
send res:js\t
line 3> res:json(
send )\x15
send res.stat\t
line 3> res.status
send \r
row 200
line 4>
send leat.base\t
line 4> leat.base64
send .e\t
line 4> leat.base64.encode(
send "x")\r
row "eA=="
line 5>
send request{time\t
line 5> request{timeout =
send 1}\x15
send leat.map({}, print, {conc\t
line 5> leat.map({}, print, {concurrency =
send \x15
send require "leat.ins\t
line 5> require "leat.inspect"
send \x15
STEPS

begin "several candidates are listed above the line, none does nothing"
play <<'STEPS'
line 1>
send string.re\t
line 1> string.re
row rep      reverse
send p\t
line 1> string.rep(
send \x15
send nothing_like_it\t
send x\r
row nil
line 2>
send \t1\r
row 1
STEPS

begin "background tasks print above the line that is typed; a failed one is reported once"
mkfifo gate
play <<'STEPS'
line 1>
send local gate = leat.event()\r
line 2>
send t = spawn(function() gate:wait() for i = 1, 3 do print("tick", i) sleep(0) end io.stderr:write "to stderr\\n" end)\r
line 3>
send b = spawn(function() gate:wait() sleep(0.01) local x = nil + 1 return x end)\r
line 4>
send f = spawn(function() gate:wait() sleep(0.02) return nil, "it failed" end)\r
line 5>
send spawn(function() sleep(0.3) gate:set() end)\r
line 6>
send half typed
row tick    3
row to stderr
expect failed
expect [3]:1: attempt to perform arithmetic on a nil value
expect it failed
line 6> half typed
column 13
send \x15t:status()\r
row "ok"
line 7>
send f:await()\r
row error: script: it failed
line 8>
send spawn(function() return nil, "awaited here" end):await()\r
row error: script: awaited here
line 9>
send 1\r
row 1
line 10>
STEPS
expect_equal "$(grep -c 'awaited here' played)" 0

begin "a stream prints its words above the line that is being typed"
play <<'STEPS'
line 1>
send t = spawn(function() for ev in request{url=os.getenv "URL" .. "/lines?n=3&ms=150", stream=true}:lines() do print("got", ev) end end)\r
line 2>
send half
row got     {"n":1}
line 2> half
row got     {"n":3}
line 2> half
send \x15t:await()\r
line 3>
send s = request{url=os.getenv "URL" .. "/lines?n=2&ms=0", stream=true}\r
line 4>
send read = s:lines()\r
line 5>
send json.decode(read()).n + 70\r
row 71
line 6>
send json.decode(read()).n + 70\r
row 72
STEPS

begin "output in large pieces while lines are entered is neither lost nor in the way"
play <<'STEPS'
line 1>
send b = spawn(function() for i = 1, 20 do io.write(("y"):rep(300000), "\\n") sleep(0.01) end print "all written" end)\r
send x = 1\r
send y = 2\r
send z = 3\r
row all written
send \r
send x + y + z, b:status()\r
row 6
row "ok"
STEPS

begin "a line can read the terminal, and what it writes without a line end stays"
play <<'STEPS'
line 1>
send io.write "name? " name = leat.stdin:read()\r
line name?
send me\r
line 2>
send name\r
row "me"
line 3>
send io.write "no end" x = 1\r
row no end
line 4>
send spawn(function() sleep(0.01) io.write "dots ." end)\r
row dots .
line 5>
STEPS

begin "colours unless NO_COLOR forbids them; exit is enough to leave"
NO_COLOR='' play <<'STEPS'
line 1>
send {text = "green"}\r
expect \e[32m"green"\e[0m
line 2>
send nil, "red"\r
expect \e[31merror: red\e[0m
line 3>
send exit\r
status 0
STEPS

begin "output above a line longer than the terminal, with the cursor inside it"
play <<'STEPS'
line 1>
send spawn(function() sleep(0.3) print "above" end)\r
line 2>
send "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
send \e[D\e[D\e[D
row above
row 2> "0123456789012345678901234567890123456789012345678901234567890123456789012345
row 678901234567890123456789"
column 22
send \e[H#\r
row 100
STEPS

begin "Ctrl-C closes the connection of a request that hangs, and the prompt and its state are there"
curl_stats() { "$LEAT" -e 'print(request(os.getenv "URL" .. "/stats"):json().aborted)'; }
before=$(curl_stats)
export BEFORE=$before
cat >aborted.sh <<'SH'
[ "$("$LEAT" -e 'print(request(os.getenv "URL" .. "/stats"):json().aborted)')" -gt "$BEFORE" ]
SH
cat >held.sh <<'SH'
[ "$("$LEAT" -e 'print(request(os.getenv "URL" .. "/stats"):json().in_flight)')" -gt 0 ]
SH
export LEAT
play <<'STEPS'
line 1>
send kept = "still here"\r
line 2>
send request(os.getenv "URL" .. "/never")\r
until bash held.sh
send \x03
row interrupted
line 3>
until bash aborted.sh
send kept\r
row "still here"
line 4>
send request(os.getenv "URL" .. "/ok").status\r
row 200
STEPS

begin "Ctrl-C runs the clean-ups of the line, and cancels nothing else"
play <<'STEPS'
line 1>
send other = spawn(sleep, 1000)\r
line 2>
send leat.finally(function() print "waits" sleep(1000) end, function() print "cleaned" end)\r
row waits
send \x03
row cleaned
row interrupted
line 3>
send other:status()\r
row "waiting"
STEPS

begin "Ctrl-C stops loops that never wait: bare, in compiled code, behind pcall, in a coroutine"
if sanitized_by thread; then
    echo "  skipped: ThreadSanitizer keeps signals back while a script computes"
else
    play <<'STEPS'
line 1>
send print "on" while true do end\r
row on
send \x03
row interrupted
line 2>
send local x = 0 print "two" for i = 1, 1e12 do x = x + i % 7 end\r
row two
send \x03
line 3>
send print "three" while true do pcall(function() while true do end end) end\r
row three
send \x03
row interrupted (it did not stop and was abandoned)
line 4>
send print "four" coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()\r
row four
send \x03
line 5>
send spawn(function() print "five" while true do end end)\r
row five
send \x03
expect was interrupted
send \r
send "alive"\r
row "alive"
STEPS
fi

begin "Ctrl-C ends a command that a line runs"
play <<'STEPS'
line 1>
send os.execute "echo it be''gins; exec sleep 100"\r
expect it begins
send \x03
line 2>
STEPS

begin "Ctrl-C on an empty line and on a half-typed one only gives a new line"
play <<'STEPS'
line 1>
send \x03
row 1> ^C
line 1>
send error "never run"
line 1> error "never run"
send \x03
row 1> error "never run"^C
line 1>
send 3\r
row 3
STEPS

begin "Ctrl-D asks while tasks run, and the second one cancels them and leaves"
play <<'STEPS'
line 1>
send spawn(function() leat.finally(function() sleep(1000) end, function() print "cleaned up" end) end)\r
line 2>
send \x04
row 1 task is still running (see tasks()). Ctrl-D again cancels and leaves.
line 2>
send 1\r
line 3>
send \x04
line 3>
send \x04
expect cleaned up
status 0
STEPS

begin "what runs is listed with what it waits for, and can be cancelled by its number"
play <<'STEPS'
line 1>
send t = spawn(sleep, 1000)\r
line 2>
send sleep(0.01)\r
line 3>
send tasks()\r
expect waiting in sleep
line 4>
send cancel(t.id) sleep(0.01)\r
line 5>
send t:status()\r
row "cancelled"
line 6>
send tasks()\r
row no task is running
line 7>
send cancel(12345)\r
expect error: invalid: no task has the id 12345
STEPS

begin "letters of any script can be typed, walked over, erased, and shown"
play <<'STEPS'
line 1>
send "\xe6\xbc\xa2\xe5\xad\x97"
column 9
send \e[D\e[D
column 6
send \xe4\xb8\xad
line 1> "漢中字"
column 8
send \r
row "漢中字"
line 2>
send #"\xc3\xbc\xe2\x82\xac"
line 2> #"ü€"
send \x7f\x7f\x7f\xc3\xa4"\r
row 2
line 3>
send "\xf0\x9f\x98\x80"
line 3> "😀"
send \r
row "😀"
STEPS

begin "the history is kept for the next start, can be walked and searched"
rm -rf "$XDG_STATE_HOME"
play <<'STEPS'
line 1>
send first_thing = 11\r
line 2>
send for i = 1, 2 do\r
send print("loop", i)\r
send end\r
row loop    2
line 3>
send second_thing = 22\r
line 4>
send \x04
status 0
STEPS
expect_equal "$(stat -c %a "$history")" 600
expect_equal "$(stat -c %a "$XDG_STATE_HOME/leat")" 700
expect_equal "$(cat "$history")" 'first_thing = 11
for i = 1, 2 do\nprint("loop", i)\nend
second_thing = 22'
play <<'STEPS'
line 1>
send \e[A
line 1> second_thing = 22
send \e[A\e[A
line 1> first_thing = 11
send \e[B
line end
send \r
row loop    2
line 2>
send \x12first
expect bck
row 2> first_thing = 11
send \e
line 2> first_thing = 11
send \r
line 3>
send first_thing\r
row 11
STEPS

begin "no line with a secret in it is written to the history; one can be fetched back all the same"
rm -rf "$XDG_STATE_HOME"
play <<'STEPS'
line 1>
send key = "sk-abcdefgh12345678"\r
line 2>
send h = {Authorization = "Bearer abcdef.ghij"}\r
line 3>
send api_key = "hunter2"\r
line 4>
send t = {["x-api-key"] = "hunter2"}\r
line 5>
send d = "d41d8cd98f00b204e9800998ecf8427e"\r
line 6>
send plain = "kept"\r
line 7>
send \e[A\e[A
line 7> d = "d41d8cd98f00b204e9800998ecf8427e"
send \x03
line 7>
send \x04
status 0
STEPS
expect_equal "$(cat "$history")" 'plain = "kept"'

begin "a history that others could read is closed to them; one that cannot be written is no hindrance"
chmod 644 "$history"
play <<'STEPS'
line 1>
send \x04
status 0
STEPS
expect_equal "$(stat -c %a "$history")" 600
: >blocked
XDG_STATE_HOME=$scratch/blocked play <<'STEPS'
line 1>
send 1 + 1\r
row 2
STEPS

begin "a table of 100 MB is shown at once, and a string of 50 MB by its head"
play <<'STEPS'
line 1>
send big = {} for i = 1, 3000000 do big[i] = {} end for i = 1, 100000 do big["k" .. i] = i end\r
line 2>
send big\r
expect more
line 3>
send ("x"):rep(50 * 1024 * 1024)\r
expect (52428800 bytes)
line 4>
STEPS

begin "help tells about everything, a function, a method, a word"
play <<'STEPS'
line 1>
send help()\r
expect tasks()
expect wait_for
line 2>
send help(request)\r
expect request(target)
expect timeout
expect example:
line 3>
send help "semaphore:acquire"\r
expect acquire(
line 4>
send help "no-such-thing"\r
expect nothing is known about
line 5>
send help "smaphore"\r
expect did you mean 'semaphore'?
line 6>
send help(smaphore)\r
expect that is nil; write a name in quotes
line 7>
send help "response:lines"\r
expect Iterates over the lines of the body
line 8>
send help(leat.pipeline {})\r
expect pipeline:run
line 9>
send help(wait_for)\r
expect wait_for(seconds, fn, ...)
line 10>
send help(json)\r
expect json.decode
expect json.encode
line 11>
send help "client"\r
expect client(options)
line 12>
send help(request(os.getenv "URL" .. "/ok"))\r
expect The result of a request
expect response:json
line 13>
STEPS

begin "another size of the window, and a stop with Ctrl-Z and its end, leave the line as it was"
play <<'STEPS'
line 1>
send "abc
line 1> "abc
size 30 100
send def
line 1> "abcdef
signal 18
send "\r
row "abcdef"
STEPS

begin "os.exit leaves with its status; SIGTERM leaves the terminal as it was"
play <<'STEPS'
line 1>
send os.exit(7)\r
status 7
STEPS
play <<'STEPS'
line 1>
send half
line 1> half
signal 15
status 143
STEPS
cat >sane.sh <<'SH'
before=$(stty -g)
"$LEAT" repl
[ "$(stty -g)" = "$before" ] && echo SAME
SH
cat >steps <<'STEPS'
line 1>
send half
line 1> half
send \x03
line 1>
send \x04
expect SAME
status 0
STEPS
"$pty" steps bash sane.sh >played 2>&1 || { fail "the steps"; cat played; }

begin "-i runs a script, then the prompt has its globals, even if it failed"
cat >first.lua <<'LUA'
made = { ..., arg[0] }
print "script ran"
LUA
play -i first.lua one <<'STEPS'
row script ran
line 1>
send made\r
row { "one", "first.lua" }
STEPS
echo 'partly = 1 error "script broke"' >broken.lua
play -i broken.lua <<'STEPS'
row error: broken.lua:1: script broke
line 1>
send partly\r
row 1
STEPS
play -i -e 'x = 12' <<'STEPS'
line 1>
send x\r
row 12
STEPS
try "$LEAT" -i
expect_status 2
expect_lines err 1

begin "on a dumb terminal there are plain lines, and Ctrl-C works there too"
TERM=dumb play <<'STEPS'
line 1>
send 6 * 7\r
row 42
line 2>
send for i = 1, 2 do\r
line  |
send print(i) end\r
row 2
line 3>
send print "in" sleep(1000)\r
row in
send \x03
row interrupted
line 4>
send half
line 4> half
send \x03
row 4> half^C
line 4>
send "after"\r
row "after"
line 5>
send \x04
status 0
STEPS

begin "behind a pipe there is no prompt; values go to standard output, errors to the other, status 1"
printf '1 + 1\nlocal a = 20\na + 1\nfor i = 1, 2 do\nprint(i)\nend\n' >lines
try "$LEAT" repl <lines
expect_status 0
expect_equal "$(cat out)" '2
21
1
2'
expect_lines err 0
printf 'x = = 1\nnil, "failed"\nerror "bug"\n"went on"' >lines
try "$LEAT" repl < <(cat lines)
expect_status 1
expect_equal "$(cat out)" '"went on"'
expect_err "[1]:1: unexpected symbol near '='"
expect_err "error: failed"
expect_err "[3]:1: bug"
try "$LEAT" repl < <(printf 'for i = 1, 2 do')
expect_status 1
expect_err "'end' expected"
try "$LEAT" repl </dev/null
expect_status 0
expect_lines out 0

begin "behind a pipe, tasks still come to their end, and a stuck one is reported"
try "$LEAT" repl < <(echo 'x = spawn(function() sleep(0.05) print "late" end)')
expect_status 0
expect_out late
try "$LEAT" repl < <(echo 'leat.event():wait()')
expect_status 1
expect_err "stuck"

begin "without a terminal a script from a pipe is still a script"
try "$LEAT" < <(echo 'print("script", ...)')
expect_equal "$(cat out)" script

finish
