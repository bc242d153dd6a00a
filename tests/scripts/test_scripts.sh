#!/bin/bash
# The example scripts against the mock, which is the witness: it counts what reached it, and how much of
# it at once.
. "$(dirname "$0")/../lib.sh"

start_mock --latency 0.2 --seed 1
export OPENAI_BASE_URL=$mock_url/v1 OPENAI_API_KEY=test

reset_mock() {
    try "$LEAT" -e "assert(request{url='$mock_url/mock/reset', method='POST'}.ok)"
    expect_status 0
}

# witness FIELD: a counter of the mock's since the last reset.
witness() {
    "$LEAT" -e "print(request('$mock_url/mock/stats'):json().$1)"
}

# on_virtual_time SCRIPT [ARGUMENT...]: against an API in the process: a prompt whose number divides by 7 takes 30 s,
# the others one. Beneath the script's own output: the most tasks that there were during a call.
on_virtual_time() {
    cat >virtual.lua <<'LUA'
        local most = 0
        local api = assert(leat.simulate("http://api.test", function(req)
            local prompt = req:json().messages[1].content
            sleep(tonumber(prompt:match "%d+") % 7 == 0 and 30 or 1)
            return { json = { choices = { { message = { content = "Answer to: " .. prompt } } } } }
        end))
        local chat = require "chat"
        package.loaded.chat = function(prompt)
            most = math.max(most, #leat.tasks())
            return chat(prompt)
        end
        assert(loadfile((...)))(select(2, ...))
        api:close()
        print("tasks: " .. most)
LUA
    local script=$root/scripts/$1
    shift
    try env LUA_PATH="$root/scripts/?.lua;;" OPENAI_BASE_URL=http://api.test/v1 \
        "$LEAT" --virtual-time virtual.lua "$script" "$@"
}

begin "the script that README shows is scripts/main_job.lua, to the letter"
"$LEAT" - "$root" <<'LUA' || fail "they differ"
local function read(name) return assert(io.open(arg[1] .. "/" .. name)):read "*a" end
local shown = assert(read("README.md"):match "```lua\n(.-)```")
assert(#shown > 300 and read("scripts/main_job.lua"):find(shown, 1, true))
LUA

begin "the lines that README begins with do what they seem to"
sed -n "/^\`\`\`sh/,/^\`\`\`/s/^leat -e '\(.*\)'\$/\1/p" "$root/README.md" >lines
expect_equal "$(wc -l <lines)" 5
while IFS= read -r line; do
    "$LEAT" --virtual-time -e "leat.simulate('https://example.org', function() return { body = 'one\ntwo' } end) $line" ||
        fail "$line"
done <lines >out 2>err
expect_equal "$(sed 's/: .*//' out | tr '\n\t' ';,')" "200;200;one;two;200;nil,timeout;"

begin "serial: ten calls, never two at once"
reset_mock
try "$LEAT" "$root/scripts/serial.lua"
expect_status 0
grep -qx "10	Answer to: Explain in one sentence what 10 is" out || fail "$(tail -n 2 out)"
expect_equal "$(witness peak_in_flight)" 1

begin "gather: ten calls at once, the answers in the order of the prompts"
reset_mock
try "$LEAT" "$root/scripts/gather.lua"
expect_status 0
expect_equal "$(grep -o 'what [0-9]* is' out | tr -dc '0-9\n' | tr '\n' ' ')" "1 2 3 4 5 6 7 8 9 10 "
expect_equal "$(witness peak_in_flight)" 10

begin "gather: of thirty calls no more than ten are under way"
reset_mock
try "$LEAT" "$root/scripts/gather.lua" 30
expect_status 0
expect_equal "$(grep -o 'what [0-9]* is' out | tr -dc '0-9\n' | tr '\n' ' ')" "$(seq -s ' ' 30) "
expect_equal "$(witness peak_in_flight)" 10

begin "gather_by_name: all start, then all finish, in about one second"
try "$LEAT" --virtual-time "$root/scripts/gather_by_name.lua"
expect_status 0
expect_equal "$(tr '\n' ';' <out)" "fetching 1;fetching 2;fetching 3;finished 1;finished 2;finished 3;[data-1, data-2, data-3] in 1.0 s;"

begin "gather_by_name: where one fails, its siblings do not run on"
try "$LEAT" --virtual-time "$root/scripts/gather_by_name.lua" 2
expect_status 1
expect_err "there is no 2"
expect_equal "$(tr '\n' ';' <out)" "fetching 1;fetching 2;fetching 3;fetch 1: cancelled;fetch 2: failed;fetch 3: cancelled;"

begin "semaphore: a hundred calls, the server never sees more than five at once"
reset_mock
try "$LEAT" "$root/scripts/semaphore.lua"
expect_status 0
expect_out "100 calls, at most 5 at a time"
expect_equal "$(witness peak_in_flight)" 5
expect_equal "$(witness 'by_status["200"]')" 100

begin "semaphore: the hundred tasks are not all made at the start"
on_virtual_time semaphore.lua
expect_status 0
# Ten, the script, what draws the prompts, and in the API one for each of the five calls.
[ "$(sed -n 's/^tasks: //p' out)" -le 17 ] || fail "$(tail -n 1 out)"

begin "main_job: every prompt is answered, at most five at once, and the figures are printed"
reset_mock
try "$LEAT" "$root/scripts/main_job.lua"
expect_status 0
expect_out "100 items: 100 ok, 0 failed, 0 skipped; 100 calls, 0 of them retries; "
expect_out "bottleneck: concurrency"
expect_err "100/100 "
expect_equal "$(witness peak_in_flight)" 5

begin "main_job: the key may be in a file, and a file that is not there is said"
echo " test " >key
start_mock --key test
try env -u OPENAI_API_KEY OPENAI_API_KEY_FILE=key OPENAI_BASE_URL="$mock_url/v1" \
    "$LEAT" "$root/scripts/main_job.lua"
expect_status 0
try env -u OPENAI_API_KEY OPENAI_API_KEY_FILE=nowhere "$LEAT" "$root/scripts/main_job.lua"
expect_status 1
expect_err "OPENAI_API_KEY_FILE"

begin "adaptive: all calls are answered, and the limit grows where nothing is refused"
start_mock --latency 0.1
export OPENAI_BASE_URL=$mock_url/v1
try "$LEAT" "$root/scripts/adaptive.lua"
expect_status 0
expect_out "100 calls, 0 failed"
expect_out "at most 20  (slow start)"
peak=$(witness peak_in_flight)
if [ "$peak" -lt 6 ] || [ "$peak" -gt 20 ]; then fail "$peak at once"; fi # many, and within bounds

begin "adaptive: a 429 halves the limit at once"
start_mock --latency 0.05 --rpm 1800 --burst 8
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/adaptive.lua"
expect_status 0
expect_out "(429)"

begin "batches: ten at a time"
reset_mock
try "$LEAT" "$root/scripts/batches.lua" 0.01
expect_status 0
expect_out "batch 3: 10 calls"
expect_out "30	Answer to: Explain in one sentence what 30 is"

begin "batches: a failure keeps its error in its place"
start_mock --errors 0.3 --seed 2
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/batches.lua" 0.01
expect_status 0
expect_out "failed: http: The server had an error"
expect_equal "$(grep -c '^[0-9]' out)" 30
failures=$(grep -c 'failed: http' out)
expect_equal "$(witness 'by_status["500"]')" "$failures"

begin "merged_streams: the pieces as they come, and each text whole"
start_mock --latency 0.01-0.05 --token-delay 0.002 --seed 1
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/merged_streams.lua"
expect_status 0
expect_out "3: Answer to: What is a weir?"
expect_out "[4]  sluice?"

begin "merged_streams: one that breaks off is reported, and the others go on"
start_mock --broken 0.5 --seed 3
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/merged_streams.lua"
expect_status 0
expect_out "broke off: closed: "
expect_equal "$(grep -c '^[0-9]: Answer' out)" 4

begin "retry: each attempt is reported, and the last error returned"
start_mock --errors 1
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/retry.lua" 0.01
expect_status 1
expect_out "attempt 2 failed (http: The server had an error"
expect_lines out 2
expect_err "The server had an error"
expect_equal "$(witness requests)" 3

begin "breaker: five failures open it, a while later one call is let through"
start_mock --errors 1
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/breaker.lua" 0.2
expect_status 0
expect_equal "$(grep -c 'circuit_open' out)" 5
expect_out "the circuit was open and is half-open"
expect_equal "$(witness requests)" 6

begin "pipeline: every prompt has its answer, whatever fails on the way"
start_mock --latency 0.01 --errors 0.1 --seed 1
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/pipeline.lua" 0.01
expect_status 0
expect_out "40	Answer to: Explain in one sentence what 40 is"
expect_out "40 items: 40 ok, 0 failed, 0 skipped"
expect_err "40/40 "
[ "$(witness peak_in_flight)" -le 5 ] || fail "more than five at once"

begin "two_stages: all that is asked is translated"
start_mock --latency 0.01-0.03 --seed 1
export OPENAI_BASE_URL=$mock_url/v1
try "$LEAT" "$root/scripts/two_stages.lua"
expect_status 0
expect_equal "$(cat out)" "asked: 30, translated: 30"

begin "two_stages: at Ctrl-C the first stage starts nothing new, the second one works off the queue"
start_mock --latency 0.1 --seed 1
export OPENAI_BASE_URL=$mock_url/v1
env --default-signal=INT "$LEAT" "$root/scripts/two_stages.lua" 1000 >out 2>err &
pid=$!
until [ "$(witness requests)" -ge 20 ]; do read -rt 0.01 <> <(:) || :; done
kill -INT $pid
status=0
wait $pid || status=$?
expect_status 130
asked=$(sed -n 's/^asked: \([0-9]*\), .*/\1/p' out)
expect_equal "$(cat out)" "asked: $asked, translated: $asked"
{ [ "$asked" -ge 10 ] && [ "$asked" -lt 1000 ]; } || fail "$asked were asked"
expect_equal "$(witness requests)" $((2 * asked))

begin "outage: an hour takes no time, and a seed gives the same hour again"
try "$LEAT" --virtual-time --seed 1 "$root/scripts/outage.lua"
expect_status 0
expect_out "25 to 30        0 "
expect_out "50 to 55      30"
cp out first
try "$LEAT" --virtual-time --seed 1 "$root/scripts/outage.lua"
expect_equal "$(cat out)" "$(cat first)"
try "$LEAT" --virtual-time --seed 2 "$root/scripts/outage.lua"
cmp -s out first && fail "another seed gave the same hour"
"$LEAT" "$root/scripts/outage.lua" >by_the_clock 2>err &
pid=$!
until grep -q "with --virtual-time it takes none" err 2>/dev/null; do read -rt 0.005 <> <(:) || :; done
kill -INT $pid
wait $pid
grep " to " by_the_clock | grep -v "^ 0 to  5 " >elsewhere && fail "it does not begin at 0: $(cat elsewhere)"

begin "compare: six ways, measured by the server's own count"
try "$LEAT" "$root/scripts/compare.lua" --quick
expect_status 0
expect_lines out 8
for way in "serial" "semaphore(5)" "batches + retry" "adaptive" "rate known"; do
    # shellcheck disable=SC2016 # awk's
    answered=$(grep -F "$way" out | awk '{ print $(NF - 2) }')
    expect_equal "$way $answered" "$way 100"
done
expect_equal "$(awk '/^unlimited/ { print $4 + $5 }' out)" 100

begin "compare: on virtual time each way takes what it should, and adaptive is within 15 % of its ideal"
try "$LEAT" --virtual-time --seed 1 "$root/scripts/compare.lua"
expect_status 0
# Beside the name: seconds, ideal, answered, 429s, retries.
expect_equal "$(awk '/^serial|^semaphore|^batches/ { print $(NF - 4) == $(NF - 3), $NF }' out | sort -u)" "1 0"
expect_equal "$(awk '/^unlimited/ { print $2 == $3, $4 + $5 }' out)" "1 100"
expect_equal "$(awk '/^adaptive/ { print $2 <= 1.15 * $3, $4 }' out)" "1 100"
expect_equal "$(awk '/^rate known/ { print $3 <= 1.1 * $4, $5, $6 }' out)" "1 100 0"

begin "timeout_each: a call over its limit says so in its place, the others are untouched"
on_virtual_time timeout_each.lua
expect_status 0
for i in 1 2 3 4 5 6 8 9 10; do
    expect_out "$i	Answer to: Explain in one sentence what $i is"
done
expect_out "7	[timeout] Explain in one sentence what 7 is"

begin "main_job: what fails for good is counted and reported, and ends with status 1"
start_mock --latency 0.01 --errors 1 --seed 1
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/main_job.lua" 0.001
expect_status 1
expect_out "100 items: 0 ok, 100 failed, 0 skipped"
expect_err "100 prompts without an answer"

finish
