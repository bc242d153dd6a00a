#!/bin/bash
# --trace, --report, --stats, and thresholds: what a run shows of itself.
. "$(dirname "$0")/../lib.sh"
start_mock --errors 0.3 --seed 4

cat >work.lua <<LUA
leat.each({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function(i)
    if i == 3 then
        return request "http://127.0.0.1:1/refused?api_key=sk-canary-42"
    elseif i == 4 then
        return wait_for(60, request, { url = "$mock_url/<script>alert(1)</script>\\"'", timeout = 5 })
    end
    return request { url = "$mock_url/v1/chat/completions", auth = { bearer = "sk-canary-42" }, idempotent = true,
        json = { model = "m", messages = { { role = "user", content = "prompt " .. i } } } }
end, { limit = 3 })
local t = spawn(function() sleep(0.01) end)
t.name = 'a "name"'
t:await()
leat.race { function() return request { url = "$mock_url/v1/models", timeout = 5 } end, function() return true end }
LUA

begin "a trace is JSON that names tasks, waits and requests with their phases"
try "$LEAT" --trace trace.json work.lua
expect_status 0
cat >read.lua <<'LUA'
local f = assert(io.open(arg[1]))
local trace = assert(json.decode(f:read "*a"))
f:close()
local open, kinds, phases, named = 0, {}, {}, false
for _, e in ipairs(trace.traceEvents) do
    if e.ph == "X" then
        kinds[e.cat .. " " .. e.name] = true
        assert(e.dur >= 0 and e.ts >= 0 and e.tid > 0)
    elseif e.ph == "b" then
        open = open + 1
        phases[e.name] = true
    elseif e.ph == "e" then
        open = open - 1
    elseif e.name == "thread_name" then
        named = named or e.args.name == 'a "name"'
    end
end
assert(open == 0 and trace.otherData.dropped_events == 0)
assert(kinds["wait sleep"] and kinds["wait request"] and kinds['task a "name"'] and named)
assert(phases.connect and phases["first byte"])
LUA
try "$LEAT" read.lua trace.json
expect_status 0

begin "a request in a trace has what it sent, how it ended, and no phase that it did not come to"
try "$LEAT" --trace phases.json -e "request '$mock_url/v1/models' request 'http://127.0.0.1:1/refused'"
cat >phases.lua <<'LUA'
local asked = {}
for _, e in ipairs(json.decode(io.open("phases.json"):read "*a").traceEvents) do
    if e.ph == "b" and e.args then
        asked[e.id] = e.args
    elseif e.ph == "b" then
        asked[e.id][e.name] = true
    end
end
local got, refused = asked[1], asked[2]
assert(got.attempts_on_wire == 1 and got.status == 200 and got.error == "" and got.connect and got["first byte"])
assert(refused.attempts_on_wire == 0 and refused.error == "connect" and refused["no answer"])
assert(not refused.body and not refused["first byte"])
LUA
try "$LEAT" phases.lua
expect_status 0

begin "a trace of a script that fails, or is interrupted, is whole"
try "$LEAT" --trace=failed.json -e 'sleep(0.001) spawn(sleep, 5) sleep(0) error "on purpose"'
expect_status 1
"$LEAT" -e 'assert(json.decode(io.open("failed.json"):read "*a"))' || fail "failed.json"
"$LEAT" --trace cut.json -e 'print "ready" io.stdout:flush() sleep(60)' >started 2>err &
pid=$!
until [ -s started ]; do read -rt 0.005 <> <(:) || :; done
kill -INT $pid
status=0
wait $pid || status=$?
expect_status 130
"$LEAT" -e 'assert(#json.decode(io.open("cut.json"):read "*a").traceEvents > 2)' || fail "cut.json"

begin "the report is one page that stands alone, and what it shows is escaped"
try "$LEAT" --report report.html work.lua
expect_status 0
grep -qE '<(link|script|img)|url\(|https?://[^1]' report.html && fail "it wants something from outside: $(grep -oE '<(link|script|img)|url\(|https?://[^1].{20}' report.html | head -n 2)"
grep -q '&lt;script&gt;alert(1)' report.html || fail "the odd address is not there"
for text in Waterfall Latency '<h2>Failed</h2>' p95 Concurrency Outcomes Slowest 'prefers-color-scheme: dark' 'status 500' connect; do
    grep -q "$text" report.html || fail "not there: $text"
done
expect_equal "$(grep -c '</html>' report.html)" 1
expect_equal "$(grep -o '<svg' report.html | wc -l)" "$(grep -o '</svg>' report.html | wc -l)"
if command -v chromium >/dev/null; then # as a browser reads it
    timeout 200 chromium --headless --no-sandbox --disable-gpu --dump-dom "file://$PWD/report.html" >dom 2>/dev/null
    expect_equal "$(grep -o '<svg' dom | wc -l)" "$(grep -o '<svg' report.html | wc -l)"
    grep -q 'alert(1)</script>' dom && fail "an address became part of the page"
fi

begin "the report of a batch is called so, names what all requests share once, and writes large numbers out"
seq -f 'row %g' 3000 >rows
try env OPENAI_BASE_URL="$mock_url/v1" OPENAI_API_KEY=k "$LEAT" --report batch.html batch rows rows.out -q --model m
grep -q '<h1>leat batch</h1>' batch.html || fail "$(grep -o '<h1>.*</h1>' batch.html)"
grep -q "All to $mock_url" batch.html || fail "the origin is not there"
grep -qE '>[0-9.]+e\+' batch.html && fail "$(grep -oE '.{30}[0-9]e\+.{10}' batch.html | head -n 1)"

begin "a report of a run without requests is a page, too"
try "$LEAT" --report empty.html -e 'return true'
expect_status 0
grep -q "No request was answered" empty.html || fail "$(head -c 300 empty.html)"

begin "figures as JSON, in a file or on standard error"
try "$LEAT" --stats=stats.json work.lua
expect_status 0
expect_equal "$("$LEAT" -e 'local s = json.decode(io.open("stats.json"):read "*a")
    local n = 0 for _, c in pairs(s.statuses) do n = n + c end
    assert(s.wall_s > 0 and s.cpu_s > 0 and s.peak_memory_bytes > 1e6 and s.latency_s.p95 >= s.latency_s.p50)
    for _, c in pairs(s.failures) do n = n + c end
    assert(n + s.requests_cancelled == s.requests)
    assert(s.requests_ok + s.requests_failed + s.requests_cancelled == s.requests and s.items == 0)
    n = 0
    for _, why in ipairs(s.requests_why_failed) do n = n + why.count end
    assert(n == s.requests_failed)
    print(s.requests, s.failures.connect, s.requests_cancelled, s.exit_status)')" "11	1	1	0"
try "$LEAT" --stats=quiet.json -e 'return true' # nothing asked for, nothing failed
"$LEAT" -e 'local s = assert(json.decode(io.open("quiet.json"):read "*a"))
    assert(s.requests == 0 and not next(s.failures) and not next(s.statuses))' || fail "$(cat quiet.json)"
try "$LEAT" --stats -e 'print "out" error "no"'
expect_status 1
expect_equal "$(cat out)" "out"
expect_err '"exit_status":1'
try "$LEAT" --stats=none.json -e 'return true' # nothing was sent
expect_equal "$("$LEAT" -e 'local s = assert(json.decode(io.open("none.json"):read "*a"))
    print(next(s.statuses), next(s.failures), s.requests)')" "nil	nil	0"

begin "under virtual time the figures are of that time"
try "$LEAT" --virtual-time --stats -e 'sleep(3600)'
expect_err '"wall_s":3600'

begin "a file that cannot be written, or is not named, is reported before the script begins"
for option in --trace --report --stats; do
    try "$LEAT" "$option=/nowhere/file" -e 'print "began"'
    expect_status 2
    expect_lines out 0
    expect_lines err 1
    expect_err "/nowhere/file: No such file or directory"
done
echo "an older one" >kept.html
try "$LEAT" --report kept.html --stats=/nowhere/file -e 'return true'
expect_equal "$(cat kept.html)" "an older one"
begin "a file that cannot be written to its end is reported, too"
try "$LEAT" --report /dev/full -e 'return true'
expect_status 1
expect_err "/dev/full"
begin "an option without a file is reported"
for words in "--trace" "--report" "--report= x.lua" "--stats= x.lua"; do
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" $words
    expect_status 2
    expect_lines err 1
done

cat >checked.lua <<'LUA'
local pipe = leat.pipeline { retry = false }
local _, stats = pipe:run({ 1, 2, 3, 4 }, function(x)
    if x == 4 then return nil, "no" end
    return x
end)
local met, missed = stats:check(json.decode(arg[1]))
print(met, #missed)
LUA

begin "a threshold that is met changes nothing"
try "$LEAT" checked.lua '{"failed": 1, "success_rate": 0.75, "p95": 60, "ok": 3}'
expect_status 0
expect_equal "$(cat out)" "true	0"

begin "each threshold that is missed is reported, and the status is 3"
try "$LEAT" checked.lua '{"failed": 0, "success_rate": 0.99, "p99": 0, "items": 4}'
expect_status 3
expect_equal "$(cat out)" "false	3"
expect_err "threshold missed: failed is 1, should be at most 0"
expect_err "threshold missed: success_rate is 0.75, should be at least 0.99"
expect_err "threshold missed: p99 is "

begin "a script that fails has its own status, and a wrong name is reported"
try "$LEAT" -e 'leat.pipeline{}:stats():check{ ok = 1 } return nil, "failed"'
expect_status 1
try "$LEAT" -e 'leat.pipeline{}:stats():check{ fialed = 1 }'
expect_status 1
expect_err "did you mean 'failed'"

begin "no secret is in a trace, a report or the figures"
grep -l canary trace.json report.html stats.json >shown && fail "shown in $(cat shown)"

begin "if a script cannot be read or compiled, only that is reported, whatever is to be recorded"
for option in --trace=t.json --report=r.html --stats=s.json; do
    try "$LEAT" $option missing.lua
    expect_status 2
    expect_lines err 1
    expect_err "missing.lua"
    try "$LEAT" $option -e 'x = = 1'
    expect_status 1
    expect_lines err 1
done

finish
