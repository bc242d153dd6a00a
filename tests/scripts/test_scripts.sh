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

begin "serial: ten calls, never two at once"
reset_mock
try "$LEAT" "$root/scripts/serial.lua"
expect_status 0
expect_out "10	Answer to: Explain in one sentence what 10 is"
expect_equal "$(witness peak_in_flight)" 1

begin "gather: ten calls at once, the answers in the order of the prompts"
reset_mock
try "$LEAT" "$root/scripts/gather.lua"
expect_status 0
expect_equal "$(grep -o 'what [0-9]* is' out | tr -dc '0-9\n' | tr '\n' ' ')" "1 2 3 4 5 6 7 8 9 10 "
expect_equal "$(witness peak_in_flight)" 10

begin "gather_by_name: all start, then all finish, in about one second"
try "$LEAT" --virtual-time "$root/scripts/gather_by_name.lua"
expect_status 0
expect_equal "$(tr '\n' ';' <out)" "fetching 1;fetching 2;fetching 3;finished 1;finished 2;finished 3;[data-1, data-2, data-3] in 1.0 s;"

begin "semaphore: a hundred calls, the server never sees more than five at once"
reset_mock
try "$LEAT" "$root/scripts/semaphore.lua"
expect_status 0
expect_out "100 calls, at most 5 at a time"
expect_equal "$(witness peak_in_flight)" 5
expect_equal "$(witness 'by_status["200"]')" 100

begin "main_job: every prompt is answered, at most five at once, and the figures are printed"
reset_mock
try "$LEAT" "$root/scripts/main_job.lua"
expect_status 0
expect_out "ok 100   failed 0   retried 0"
expect_err "100 of 100 done"
expect_equal "$(witness peak_in_flight)" 5

begin "timeout_each: a call over its limit says so in its place, the others are untouched"
start_mock --latency 30
try env OPENAI_BASE_URL="$mock_url/v1" "$LEAT" "$root/scripts/timeout_each.lua" 0.3
expect_status 0
expect_equal "$(grep -c '\[timeout\] Explain' out)" 10

begin "main_job: what fails for good is counted, said, and ends with status 1"
start_mock --latency 0.01 --errors 1 --seed 1
cat >quick.lua <<'LUA'
-- The same job with its waits skipped.
local real = sleep
sleep = function(s) return real(s / 1000) end
return dofile(arg[1])
LUA
try env OPENAI_BASE_URL="$mock_url/v1" LUA_PATH="$root/scripts/?.lua;;" "$LEAT" quick.lua "$root/scripts/main_job.lua"
expect_status 1
expect_out "ok 0   failed 100   retried 200"
expect_err "100 prompts without an answer"

finish
