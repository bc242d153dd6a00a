#!/bin/bash
# leat batch: rows in, answers out, each once, whatever happens. LEAT_FULL=1: 100,000 rows killed 20 times.
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=sk-canary-1234567890 OPENAI_MODEL=mock

# ids FILE: the names in it, one a line, in its order.
ids() { sed 's/^{"id":"[^"]*","custom_id":"\([^"]*\)".*/\1/' "$1"; }
# answers FILE: what was answered, in its order.
answers() { sed 's/.*"content":"\([^"]*\)".*/\1/' "$1"; }
served() { "$LEAT" -e "print(request('$mock_url/mock/stats'):json().by_status['$1'] or 0)"; }
# lines_of FILE N PID: waits until the file has at least N lines, or the process has ended.
lines_of() {
    while { [ ! -e "$1" ] || [ "$(wc -l <"$1")" -lt "$2" ]; } && kill -0 "$3" 2>/dev/null; do
        read -rt 0.005 <> <(:) || :
    done
}

start_mock --seed 1
export OPENAI_BASE_URL=$mock_url/v1

begin "each form of row is understood, and OUT has the lines of OpenAI's batch output"
cat >in <<'ROWS'
plain text
{"prompt": "a prompt", "temperature": 0, "mine": 1}
{"messages": [{"role": "user", "content": "messages"}], "max_tokens": 9}
"a JSON string"
{"custom_id": "own", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "whole"}]}}
ROWS
try "$LEAT" batch in out.jsonl -q --ordered
expect_status 0
expect_lines out 0
expect_lines err 0
expect_equal "$(answers out.jsonl | paste -sd,)" "Answer to: plain text,Answer to: a prompt,Answer to: messages,Answer to: a JSON string,Answer to: whole"
expect_equal "$(ids out.jsonl | paste -sd,)" "row-1,row-2,row-3,row-4,own"
expect_equal "$("$LEAT" -e 'for r in leat.jsonl.read "out.jsonl" do
    assert(r.id:find "^batch_req_%x+$" and r.error == json.null and r.response.request_id ~= "")
    io.write(r.response.status_code, r.response.body.object, " ") end')" \
    "200chat.completion 200chat.completion 200chat.completion 200chat.completion 200chat.completion "

begin "the same command again does nothing more, and says so"
before=$(served 200)
cp out.jsonl copy
try "$LEAT" batch in out.jsonl
expect_status 0
expect_err "0 rows answered, 5 done before"
expect_equal "$(served 200)" "$before"
cmp -s out.jsonl copy || fail "OUT has changed"

begin "rows that were added are done; a row that has changed under its name stops the run"
echo "one more" >>in
try "$LEAT" batch in out.jsonl -q
expect_status 0
expect_equal "$(wc -l <out.jsonl)" 6
try "$LEAT" batch in out.jsonl -q --system "Be brief."
expect_status 1
expect_err "line 1: 'row-1' has an answer in OUT, but to a different request"
expect_equal "$(wc -l <out.jsonl)" 6

begin "a bad row is reported by its line, and the rest goes on; status 4"
printf '\357\273\277good one\r\n{"prompt": \n\n{"custom_id":"a","prompt":"x"}\n{"custom_id":"a","prompt":"y"}\n{"no":"prompt"}\n{"body":{},"url":"http://elsewhere/x"}\n{"body":{},"url":"/v1/../admin"}\n{"prompt":"\377"}\nlast' >bad
try "$LEAT" batch bad bad.out
expect_status 4
expect_equal "$(ids bad.out | sort | paste -sd,)" "a,row-1,row-10"
for line in 2 5 6 7 8 9; do expect_err "line $line: "; done
expect_equal "$(grep -c '"code":"invalid"' bad.out.errors)" 6
expect_err "3 rows answered, 6 bad, see bad.out.errors"

begin "bad rows keep their names, and many of them do not fill the screen"
{
    echo '{"custom_id":"named","prompt":1}'
    echo '{"custom_id":"list","body":[1]}'
    for i in {3..40}; do echo '{"no":"prompt"}'; done
} >wrong
try "$LEAT" batch wrong wrong.out -q
expect_status 4
expect_lines err 21
expect_err "line 2: the body must be an object"
expect_err "line 21 and others: see wrong.out.errors"
expect_equal "$(wc -l <wrong.out.errors)" 40
head -n 1 wrong.out.errors | grep -q '"custom_id":"named","line":1' || fail "$(head -n 1 wrong.out.errors)"
try "$LEAT" batch wrong - -q
expect_lines err 40

begin "names that are large numbers are kept apart"
printf '{"n":9007199254740992,"prompt":"a"}\n{"n":9007199254740993,"prompt":"b"}\n{"n":7,"prompt":"c"}\n' >large
try "$LEAT" batch large large.out -q --key n
expect_status 0
expect_equal "$(ids large.out | sort | paste -sd,)" "7,9007199254740992,9007199254740993"

begin "a prompt without a model is a bad row, not a request"
before=$(served 200)
printf 'text\n{"prompt":"x","model":"own"}\n{"body":{"messages":[{"role":"user","content":"x"}]}}\n' >modelless
try env -u OPENAI_MODEL "$LEAT" batch modelless modelless.out -q
expect_status 4
expect_err "line 1: no model: set it in the row, with --model or in OPENAI_MODEL"
expect_equal "$(wc -l <modelless.out)" 1
expect_equal "$(served 200)" $((before + 1))

begin "a line of 100 MB is one bad row"
{ echo first; head -c 100000000 /dev/zero | tr '\0' x; echo; echo third; } >long
try "$LEAT" batch long long.out -q
expect_status 4
expect_equal "$(ids long.out | sort | paste -sd,)" "row-1,row-3"
rm -f long

begin "an empty IN is no error; one that is not there leaves no OUT"
: >empty
try "$LEAT" batch empty empty.out -q
expect_status 0
try "$LEAT" batch nothing nothing.out
expect_status 1
expect_err "cannot open nothing"
[ ! -e nothing.out ] || fail "there is an OUT"

begin "whatever a row holds, it is sent, or reported by its line; never both, and nothing ends the run"
cat >odd.lua <<'LUA'
local ODD = { json.null, 5, -1, 0.5, 1e9, "x", "", true, json.array {}, json.object {}, { { 1 } } }
local function each_mutation(value, use, replace)
    replace = replace or function(v) return v end
    for _, odd in ipairs(ODD) do use(replace(odd)) end
    for key, part in pairs(type(value) == "table" and value or {}) do
        each_mutation(part, use, function(new)
            local copy = {}
            for k, v in pairs(value) do copy[k] = v end
            copy[key] = new
            return replace(copy)
        end)
    end
end
local n = 0
local function write(row)
    n = n + 1
    if type(row) == "table" and row.custom_id == "id" then row.custom_id = "id" .. n end
    print(json.encode(row))
end
local messages = { { role = "user", content = "hi" } }
each_mutation({ custom_id = "id", method = "POST", url = "/v1/chat/completions",
    body = { model = "m", messages = messages } }, write)
each_mutation({ custom_id = "id", prompt = "p", model = "x" }, write)
each_mutation({ messages = messages, temperature = 1 }, write)
LUA
"$LEAT" odd.lua >odd
try "$LEAT" batch odd odd.out -q --retries 0 --model m
expect_status 4
expect_equal "$(cat odd.out odd.out.errors | wc -l)" "$(wc -l <odd)"
[ "$(wc -l <odd.out)" -gt 40 ] || fail "only $(wc -l <odd.out) were answered"
grep -q "the method must be POST, got a table" odd.out.errors || fail "a wrong method is not told"
expect_equal "$(grep -cE '0x[0-9a-f]{8}|traceback' err odd.out.errors | cut -d: -f2 | tr '\n' ' ')" "0 0 "

begin "wrong use is one line and status 2"
for words in "" "in" "in o x" "in o --rmp 3" "in o --rpm" "in o --rpm 0" "in o --rpm nan" "in o --concurrency few" \
    "in o --limit 1.5" "in o --dry-run=no" "in -- --rpm 3" "in in" "in o --errors in" "in o --errors o"; do
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" batch $words
    expect_status 2
    expect_lines err 1
done
[ ! -e o ] || fail "there is an OUT"
try "$LEAT" batch --help
expect_status 0
expect_out "usage: leat batch IN OUT"

begin "IN is never written, nor removed, by whatever name it is called"
printf 'one\ntwo\n' >precious
cp precious copy
mkdir -p folder
ln -s precious link
ln precious hard
for words in "./precious" "$scratch/precious" link hard folder/../precious "o --errors ./precious" "o --errors link" \
    "o --errors ./o" "new --errors ./new"; do
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" batch precious $words
    expect_status 2
    expect_err "must be different files"
    cmp -s precious copy || fail "IN is another after $words"
done
status=0
"$LEAT" batch - - <precious >>precious 2>err || status=$?
expect_status 2
cmp -s precious copy || fail "IN is another after >>"
rm -f o new link hard

begin "a device for the errors is written, not removed; a folder is no IN"
mkfifo device
timeout 200 cat device >got &
reader=$!
try "$LEAT" batch bad dev.out -q --errors device
expect_status 4
wait $reader
expect_equal "$(wc -l <got)" 6
[ -p device ] || fail "the device is gone"
try "$LEAT" batch folder folder.out
expect_status 1
expect_err "cannot open folder: Is a directory"
[ ! -e folder.out ] || fail "there is an OUT"

begin "standard input and output: answers only there"
status=0
printf 'one\ntwo\nthree\n' | "$LEAT" batch - - --ordered --concurrency 1 >out 2>err || status=$?
expect_status 0
expect_equal "$(answers out | paste -sd,)" "Answer to: one,Answer to: two,Answer to: three"

begin "rows from a pipe that has a name are not lost to the progress line"
try "$LEAT" batch <(printf 'one\ntwo\n') piped.out
expect_status 0
expect_err "2 rows answered"

begin "the names of rows may stand in another field; --limit and --dry-run send no more than asked"
printf '{"n":7,"prompt":"x","q":"first"}\n{"n":8,"q":"second"}\n' >keyed
before=$(served 200)
try "$LEAT" batch keyed keyed.out --key n --prompt-field q --limit 1 --dry-run
expect_status 0
expect_err "1 row to send"
expect_out '"custom_id":"7"'
[ ! -e keyed.out ] || fail "a dry run has written"
expect_equal "$(served 200)" "$before"
try "$LEAT" batch keyed keyed.out --key n --prompt-field q --limit 1 -q
expect_equal "$(ids keyed.out)" "7"
expect_equal "$(answers keyed.out)" "Answer to: first"
try "$LEAT" batch keyed keyed.out --key m -q
expect_err "no text in 'm'"
cp keyed ./--keyed
try "$LEAT" batch --key=n --prompt-field=q --limit=2 -q --base-url "$OPENAI_BASE_URL" -- --keyed --keyed.out
expect_status 0
expect_equal "$(ids ./--keyed.out)" "7
8"

begin "a dry run leaves nothing behind, and takes nothing away, whatever stands in IN"
mkdir dry
(cd dry && printf 'one\n{"no":"prompt"}\n42\n' >in && echo '{"of":"before"}' >o.errors)
before=$(cd dry && md5sum -- *)
try bash -c 'cd dry && exec "$LEAT" batch in o --dry-run'
expect_status 0
expect_err "1 row to send"
expect_err "2 bad"
expect_equal "$(cd dry && md5sum -- *)" "$before"
try bash -c 'cd dry && rm o.errors && for i in {1..40}; do echo 42; done >in && exec "$LEAT" batch in o --dry-run -q'
expect_equal "$(ls dry)" in
expect_err "line 21 and others"
rm -rf dry

begin "the summary has the tokens, and with a price the cost"
printf 'one two three\nfour\n' >priced
try "$LEAT" batch priced priced.out --price 1000000,2000000
expect_status 0
tokens=$("$LEAT" -e 'local p, c = 0, 0 for r in leat.jsonl.read "priced.out" do
    local u = r.response.body.usage p, c = p + u.prompt_tokens, c + u.completion_tokens end
    print(("tokens: %d (prompts %d, answers %d); cost: %d"):format(p + c, p, c, p + 2 * c))')
expect_err "$tokens"
for price in 1 1,x -1,1 1,2,3 nan,1; do
    try "$LEAT" batch priced never.out --price "$price"
    expect_status 2
    expect_err "--price takes two prices, such as 0.15,0.60, got '$price'"
done

begin "a second process on the same OUT is refused"
"$LEAT" -e 'local f = assert(require("leat.internal.file").open("locked.out", "a")) assert(f:lock()) print "held" io.stdout:flush() sleep(60)' >held &
lib_pids+=($!)
lines_of held 1 $!
try "$LEAT" batch in locked.out
expect_status 1
expect_err "another process is writing it"
kill "${lib_pids[-1]}"

begin "a torn last line is done again; foreign lines stay"
for i in 1 2 3 4; do echo "q $i"; done >four
"$LEAT" batch four four.out -q --ordered || fail "status $?"
{ head -n 2 four.out; echo "a note"; sed -n 3p four.out | head -c 60; } >torn.out
try "$LEAT" batch four torn.out -q
expect_status 0
expect_err "1 lines are not answers"
expect_equal "$(grep -v note torn.out | "$LEAT" -e 'local n = 0 for line in leat.stdin:lines() do assert(json.decode(line)) n = n + 1 end print(n)')" 4
expect_equal "$(grep -c 'a note' torn.out)" 1
printf %s "$(cat four.out)" >unended.out # whole, but without its line end
before=$(served 200)
try "$LEAT" batch four unended.out -q
expect_status 0
expect_equal "$(served 200)" "$before"
cmp -s unended.out four.out || fail "the line end is not back"

begin "a disk that is full ends the run with its reason, and with whole lines"
seq 200 | sed 's/^/row number /' >many
status=0
(
    trap '' XFSZ
    ulimit -f 16
    exec "$LEAT" batch many full.out -q
) >out 2>err || status=$?
expect_status 1
expect_err "cannot write full.out"
expect_err "run the same command again to continue"
try "$LEAT" batch many full.out -q
expect_status 0
expect_equal "$(ids full.out | sort -u | wc -l)" 200
expect_equal "$(wc -l <full.out)" 200

begin "rows that failed are beside OUT, and the next run does them alone"
first_url=$OPENAI_BASE_URL
start_mock --errors 0.5 --seed 3
export OPENAI_BASE_URL=$mock_url/v1
try "$LEAT" batch many some.out -q --retries 0
expect_status 4
done_first=$(wc -l <some.out) failed_first=$(wc -l <some.out.errors)
expect_equal $((done_first + failed_first)) 200
[ "$failed_first" -gt 20 ] || fail "only $failed_first failed"
head -n 1 some.out.errors | grep -q '"response":{"status_code":500,' || fail "$(head -n 1 some.out.errors)"
export OPENAI_BASE_URL=$first_url
try "$LEAT" batch many some.out
expect_status 0
expect_equal $((done_first + failed_first)) 200
expect_err "$failed_first rows answered, $done_first done before"
[ ! -e some.out.errors ] || fail "errors of a run without any"
expect_equal "$(ids some.out | sort -u | wc -l)" 200

begin "a key that is refused ends the run at once, and is shown nowhere"
start_mock --key another
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" batch many refused.out
expect_status 1
expect_err "401"
[ "$(wc -l <refused.out.errors)" -lt 50 ] || fail "it went on"
grep -q canary out err refused.out refused.out.errors && fail "the key is shown"

begin "a service that has never answered ends the run at once, with a few attempts"
seq 500 | sed 's/^/row /' >away
for options in "" "--retries 0" "--concurrency 1" "--concurrency 100 --rpm 6000" --ordered; do
    rm -f away.out*
    # shellcheck disable=SC2086 # a list of words
    try env OPENAI_BASE_URL=http://127.0.0.1:1/v1 "$LEAT" batch away away.out -q $options
    expect_status 1
    expect_err "http://127.0.0.1:1/v1 has never answered, in "
    n=$(sed -n 's/.* in \([0-9]*\) attempts.*/\1/p' err)
    [ "$n" -ge 2 ] && [ "$n" -le 5 ] || fail "$options: $n attempts"
    # The rows that were tried, and no others.
    [ "$(wc -l <away.out.errors)" -le 100 ] || fail "$options: it went on: $(wc -l <away.out.errors)"
done
try "$LEAT" batch away dns.out -q --base-url http://nowhere.invalid/v1
expect_status 1
expect_err "http://nowhere.invalid/v1 has never answered"
grep -q '"code":"dns"' dns.out.errors || fail "$(head -n 1 dns.out.errors)"

begin "a service that hangs up on each call, or never speaks HTTP, ends the run, too"
for says in "" "SSH-2.0-OpenSSH_9.2 and nothing else"; do
    cat >mute.lua <<'LUA'
local text = arg[1]
local ffi = require "ffi"
ffi.cdef [[
int socket(int, int, int); int bind(int, const void *, unsigned); int listen(int, int);
int accept(int, void *, void *); long write(int, const char *, unsigned long); int close(int);
int getsockname(int, void *, unsigned *);
]]
local fd = ffi.C.socket(2, 1, 0)
local at, len = ffi.new("uint8_t[16]", { 2, 0, 0, 0, 127, 0, 0, 1 }), ffi.new("unsigned[1]", 16)
assert(ffi.C.bind(fd, at, 16) == 0 and ffi.C.listen(fd, 64) == 0)
ffi.C.getsockname(fd, at, len)
print(("http://127.0.0.1:%d/v1"):format(at[2] * 256 + at[3]))
io.stdout:flush()
while true do
    local c = ffi.C.accept(fd, nil, nil)
    ffi.C.write(c, text, #text)
    ffi.C.close(c)
end
LUA
    rm -f mute
    mkfifo mute
    luajit mute.lua "$says" >mute 2>/dev/null &
    lib_pids+=($!)
    read -r mute_address <mute
    try "$LEAT" batch away "mute${#says}.out" -q --concurrency 20 --base-url "$mute_address"
    expect_status 1
    expect_err "has never answered, in 20 attempts"
done

begin "an address where something else is: the run ends, though no retry would help"
try "$LEAT" batch away wrong.out -q --retries 0 --concurrency 10 --base-url "$first_url/wrong"
expect_status 1
expect_err "50 rows in a row have failed"
[ "$(wc -l <wrong.out.errors)" -lt 100 ] || fail "it went on"

begin "a service that is restarted during a run costs time, and no row"
cat >restarted.lua <<'LUA'
local ffi = require "ffi"
ffi.cdef "int raise(int);"
local served, port, most = 0, tonumber(arg[1]), tonumber(arg[2])
local server = assert(leat.serve { port = port, handler = function()
    served = served + 1
    if served == most then
        ffi.C.raise(9) -- as a machine that fails: what is under way gets no answer
    end
    return { json = { choices = { { message = { content = "x" } } } } }
end })
print(server.url)
io.stdout:flush()
leat.stopping:wait()
LUA
mkfifo restarted
(
    "$LEAT" restarted.lua 0 60 >restarted 2>/dev/null
    read -r url <url
    exec "$LEAT" restarted.lua "${url##*:}" 0 >/dev/null 2>&1
) &
lib_pids+=($!)
read -r restarted_url <restarted
echo "$restarted_url" >url
try "$LEAT" batch many restarted.out --concurrency 5 --retries 0 --base-url "$restarted_url"
expect_status 0
expect_err "200 rows answered"
expect_equal "$(ids restarted.out | sort -u | wc -l)" 200

begin "a service that goes away for good: the run ends with what it has, and says since when it has waited"
cat >gone.lua <<'LUA'
local served, away = 0, leat.event()
local server = assert(leat.serve { handler = function()
    served = served + 1
    if served == 20 then
        away:set()
    end
    return { json = { choices = { { message = { content = "x" } } } } }
end })
print(server.url)
io.stdout:flush()
away:wait()
server:close(5)
LUA
mkfifo gone
"$LEAT" gone.lua >gone 2>/dev/null &
lib_pids+=($!)
read -r gone_url <gone
try "$LEAT" batch many gone.out -q --concurrency 5 --patience 1 --base-url "$gone_url"
expect_status 1
expect_err "$gone_url has been unreachable since"
expect_err "Connection refused"
expect_err "run the same command again to continue"
[ "$(wc -l <gone.out)" -ge 20 ] || fail "$(wc -l <gone.out) answers are kept"
try "$LEAT" batch many gone.out -q
expect_status 0
expect_equal "$(ids gone.out | sort -u | wc -l)" 200

begin "rows that are refused for what is in them do not end the run"
for i in {1..70}; do echo '{"prompt":"x","temperature":99}'; done >refused
echo "the last" >>refused
try "$LEAT" batch refused refused.out -q
expect_status 4
expect_equal "$(ids refused.out)" row-71
expect_equal "$(grep -c '"status_code":400' refused.out.errors)" 70

start_mock --latency 0.02-0.2 --seed 5
slow_url=$mock_url/v1

begin "Ctrl-C: nothing more is started, what is under way ends, and run the same command again to continue"
for sig in INT TERM; do
    rm -f stopped.out
    OPENAI_BASE_URL=$slow_url "$LEAT" batch many stopped.out -q --concurrency 5 2>err &
    pid=$!
    lines_of stopped.out 20 $pid
    kill -s $sig $pid
    status=0
    wait $pid || status=$?
    expect_status "$([ $sig = INT ] && echo 130 || echo 143)"
    expect_err "stopping: what is under way has 10 s to end"
    expect_err "interrupted: run the same command again to continue"
    n=$(wc -l <stopped.out)
    { [ "$n" -ge 20 ] && [ "$n" -lt 60 ]; } || fail "$n rows after the interrupt"
    [ ! -e stopped.out.errors ] || fail "rows count as failed: $(head -n 2 stopped.out.errors)"
done
start_mock --latency 60
mute_url=$mock_url
: >cut.err
OPENAI_BASE_URL=$mute_url/v1 "$LEAT" batch many cut.out -q --concurrency 5 2>cut.err &
pid=$!
until [ "$("$LEAT" -e "print(request('$mute_url/mock/stats'):json().requests)")" -ge 5 ]; do read -rt 0.01 <> <(:) || :; done
kill -s INT $pid
lines_of cut.err 1 $pid
kill -s INT $pid
status=0
wait $pid || status=$?
expect_status 130
grep -q "run the same command again to continue" cut.err || fail "the second interrupt does not say how to go on"
try "$LEAT" batch many stopped.out -q
expect_equal "$(ids stopped.out | sort -u | wc -l)" 200
expect_equal "$(wc -l <stopped.out)" 200

begin "a journalled pipeline ends in good order at Ctrl-C, too, and goes on"
cat >journalled.lua <<'LUA'
local ai = leat.openai { retry = false }
local list = {}
for i = 1, 200 do list[i] = "item " .. i end
local pipe = leat.pipeline { concurrency = 5, journal = "run.jsonl" }
local results, stats = pipe:run(list, function(p) return (ai:chat(p)) end)
local last = results.errors[200] or {}
print(stats.interrupted, stats.ok, stats.resumed, last.kind, last.reason)
LUA
OPENAI_BASE_URL=$slow_url "$LEAT" journalled.lua >out 2>err &
pid=$!
lines_of run.jsonl 20 $pid
kill -s INT $pid
status=0
wait $pid || status=$?
expect_status 130
grep -qE '^true	[0-9]+	0	cancelled	stopping$' out || fail "$(cat out err)"
n=$(($(wc -l <run.jsonl) - 1))
try "$LEAT" journalled.lua
expect_status 0
expect_equal "$(cat out)" "nil	$((200 - n))	$n	nil	nil"

begin "rows that are still being written: each is answered as it comes, and Ctrl-C ends the wait for the next"
mkfifo live
"$LEAT" batch - live.out -q --concurrency 5 <live 2>err &
pid=$!
exec 8>live
for i in 1 2; do
    echo "row $i" >&8
    lines_of live.out "$i" $pid
done
kill -s INT $pid
status=0
wait $pid || status=$?
exec 8>&-
expect_status 130
expect_err "interrupted"

begin "on a terminal messages have lines of their own, and the line that is redrawn goes on beneath"
pty=${BUILD:-$root/build}/tests/pty
mkfifo typed
exec 7<>typed
echo first >&7
cat >steps <<'STEPS'
row 0 done  0/s  1 in flight
until echo '{"bad":"row"}' >&7
row leat: warning: line 2: neither 'body' nor 'messages' nor a text in 'prompt'
send \x03
expect stopping: what is under way has 10 s to end
send \x03
row leat: interrupted: run the same command again to continue
status 130
STEPS
TERM=xterm OPENAI_BASE_URL=$mute_url/v1 "$pty" steps "$LEAT" batch typed typed.out >played 2>&1 || fail "$(cat played)"
exec 7>&-

begin "Ctrl-C ends a journalled map, each and a pipeline whose next item has not come"
for form in 'leat.map(next_item, work, {journal = path})' 'leat.each(next_item, work, {journal = path})' \
    'leat.pipeline{}:run(next_item, work)'; do
    cat >waits.lua <<LUA
local path, next_item = os.tmpname(), leat.stdin:lines()
local function work(item) print(item) io.flush() return item end
local a, b = $form
os.remove(path)
print("ended", b and b.reason or (b or a).interrupted)
LUA
    rm -f out live
    mkfifo live
    "$LEAT" waits.lua <live >out 2>err &
    pid=$!
    exec 8>live
    echo first >&8
    lines_of out 1 $pid
    kill -s INT $pid
    status=0
    wait $pid || status=$?
    exec 8>&-
    expect_status 130
    grep -qE '^ended	(stopping|true)$' out || fail "$form: $(cat out err)"
done

# kills IN OUT TIMES CONCURRENCY: TIMES times started and killed at a random moment, then left to end.
kills() {
    local rows i pid at
    rows=$(wc -l <"$1")
    RANDOM=7
    for ((i = 0; i < $3; i++)); do
        OPENAI_BASE_URL=$kill_url "$LEAT" batch "$1" "$2" -q --concurrency "$4" 2>>kill.err &
        pid=$!
        at=$(($(grep -c "" "$2" 2>/dev/null) + (RANDOM * 32768 + RANDOM) % (rows / $3) + 1))
        lines_of "$2" $at $pid
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
    done
    status=0
    OPENAI_BASE_URL=$kill_url "$LEAT" batch "$1" "$2" -q --concurrency "$4" 2>>kill.err || status=$?
}

rows=2000 times=10
[ "${LEAT_FULL-}" = 1 ] && rows=100000 times=20
begin "$rows rows, killed with -9 $times times: each is answered once in OUT, and little is asked twice"
start_mock --latency 0.001-0.01 --seed 6
kill_url=$mock_url/v1
seq $rows | sed 's/.*/{"custom_id":"id-&","prompt":"question &"}/' >killed
kills killed killed.out $times 20
expect_status 0
[ -s kill.err ] && fail "$(head -n 3 kill.err)"
expect_equal "$(wc -l <killed.out)" $rows
expect_equal "$(ids killed.out | sort -u | wc -l)" $rows
"$LEAT" -e 'for r in leat.jsonl.read "killed.out" do
    assert(r.response.body.choices[1].message.content == "Answer to: question " .. r.custom_id:match "%d+")
end' || fail "an answer is not its row's"
n=$(served 200)
[ "$n" -le $((rows + times * 20)) ] || fail "$n requests for $rows rows: more than was in flight was asked again"

if [ -n "${ASAN_OPTIONS-}" ]; then
    echo "  skipped: memory (AddressSanitizer keeps what is freed)"
    finish
fi
begin "memory does not grow with the rows"
peak() { # peak FILE: KiB
    OPENAI_BASE_URL=$kill_url /usr/bin/env bash -c '"$0" batch "$1" "$1.mem" -q --concurrency 50 & pid=$!
        peak=0; while [ -e /proc/$pid/status ]; do
            now=$(sed -n "s/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p" /proc/$pid/status 2>/dev/null)
            [ "${now:-0}" -gt $peak ] && peak=$now; done; wait $pid; echo $peak' "$LEAT" "$1"
}
head -n 500 killed | sed 's/"custom_id":"[^"]*",//' >few
sed 's/"custom_id":"[^"]*",//' killed >most
small=$(peak few) large=$(peak most)
[ "$large" -lt $((small + 8192)) ] || fail "$small KiB for 500 rows, $large for $rows"

finish
