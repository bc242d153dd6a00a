#!/bin/bash
# What a script's end says of its items: failures, responses that nobody looked at, results that are nil.
. "$(dirname "$0")/../lib.sh"

# run NAME [OPTION...]: a script from standard input, on virtual time, in front of a service.
run() {
    local name=$1
    shift
    {
        echo 'leat.simulate("http://s.test", function(req)'
        echo '    return { status = tonumber(req.path:match "^/(%d+)") or 200, body = "words" }'
        echo 'end)'
        cat
    } >"$name"
    try "$LEAT" --virtual-time "$@" "$name"
}

expect_lines() { # expect_lines N TEXT: so many lines of standard error hold it
    local n
    n=$(grep -cF -- "$2" err)
    [ "$n" = "$1" ] || { fail "$n lines of standard error, expected $1, hold: $2"; sed 's/^/    | /' err; }
}

begin "50 URLs that all answer 404: the run, its check, the end and the status say so"
run all.lua <<'LUA'
local urls = {}
for i = 1, 50 do urls[i] = "http://s.test/404" end
local pages, stats = leat.pipeline():run(urls, request)
print(stats, #pages)
if arg[1] then stats:check { success_rate = 0.99, failed = 0 } end
LUA
expect_status 4
expect_out "50 items: 0 ok, 50 failed, 0 skipped; 50 calls"
expect_out "50 failed: 50 × status 404"
expect_lines 1 "no item of the pipeline at all.lua:6 succeeded: 50 failed: 50 × status 404"
try "$LEAT" --virtual-time all.lua check
expect_status 3
expect_lines 2 "threshold missed: "

begin "some items failed: the summary says why, and the status is the script's own to choose"
run some.lua <<'LUA'
print(select(2, leat.pipeline { retry = false }:run({ "200", "404", "503", "404" }, function(path)
    return request("http://s.test/" .. path)
end)))
LUA
expect_status 0
expect_out "3 failed: 2 × status 404, 1 × status 503"
expect_lines 0 "succeeded"

begin "a script that calls os.exit has chosen its status; -q is quiet; the prompt says nothing at its end"
run chosen.lua <<'LUA'
leat.pipeline { retry = false }:each({ 1, 2 }, function() return nil, "no" end)
os.exit(0)
LUA
expect_status 0
expect_lines 1 "no item of the pipeline at chosen.lua:4 succeeded: 2 failed: 2 × script (no)"
try "$LEAT" --virtual-time -q chosen.lua
expect_status 0
expect_lines 0 "succeeded"
echo 'leat.pipeline():each({ 1 }, function() return nil, "no" end)' | try "$LEAT" -i -e 'x = 1'
expect_lines 0 "succeeded"

begin "a later run that went well, an accepted status, a call and a resumed run are no total failure"
run later.lua <<'LUA'
local pipe = leat.pipeline { retry = false, journal = "later.jsonl" }
for _, path in ipairs { "404", "200" } do
    pipe:each({ path }, function() return request("http://s.test/" .. path).ok or nil, "no" end)
end
leat.pipeline { accept = 404 }:each({ 1 }, function() return request "http://s.test/404" end)
leat.pipeline { retry = false }:call(request, "http://s.test/404")
leat.pipeline { retry = false, journal = "later.jsonl" }:each({ "200", "404" }, function() return nil, "no" end)
LUA
expect_status 0
expect_lines 0 "succeeded"

begin "a response that is not ok and that nobody looked at: one warning for each place in the script"
run unseen.lua <<'LUA'
local pipe = leat.pipeline { retry = false }
local function body(path)
    return request("http://s.test/" .. path).body
end
print(pipe:each({ "404", "200", "404", "500" }, body))
pipe:each({ "403" }, body)
pipe:each({ "404" }, function(path) return leat.json.decode('{"a":' .. #request("http://s.test/" .. path).body .. "}") end)
LUA
expect_status 0
expect_out "4 items: 4 ok, 0 failed"
expect_lines 1 "unseen.lua:6: 4 responses received here were not ok (2 × status 404, 1 × status 403, 1 × status 500), and nothing looked at their ok or status, so their items may count as ok. Check res.ok, or give the request expect=\"2xx\""
expect_lines 1 "unseen.lua:10: a response received here was not ok (1 × status 404), and nothing looked at its ok or status"
expect_lines 2 "nothing looked"

begin "the same in tasks of an item, of a client, with a sink, in leat.each, and where a bug ends the run"
run tasks.lua <<'LUA'
local api = leat.client { base_url = "http://s.test" }
leat.pipeline { retry = false }:each({ 1 }, function()
    gather { function() return api:get("404").body end, function() return api:post("500").body end }
    request { url = "http://s.test/403", sink = "never" }
    return true
end)
leat.each({ 1 }, function()
    local res = request "http://s.test/410"
    return res.body
end)
leat.pipeline { retry = false }:each({ 1 }, function()
    return request "http://s.test/409":json().choices[1]
end)
LUA
expect_status 1
expect_lines 1 "tasks.lua:6: 2 responses"
expect_lines 1 "tasks.lua:7: a response received here was not ok (1 × status 403)"
expect_lines 1 "tasks.lua:11: a response received here was not ok (1 × status 410)"
expect_lines 3 "nothing looked"

begin "no warning where something looked: the script, now or later, the pipeline, retry, accept; nor outside of items"
run seen.lua <<'LUA'
local pipe, later = leat.pipeline { retry = false }, {}
local n = 0
leat.simulate("http://shaky.test", function()
    n = n + 1
    return { status = n % 3 == 0 and 200 or 503 }
end)
pipe:each({ 1 }, function() return request "http://s.test/404".ok end)
pipe:each({ 1 }, function() return request "http://s.test/404".status end)
pipe:each({ 1 }, function() return request "http://s.test/404" end)
pipe:each({ 1 }, function() return tostring(request "http://s.test/404") end)
pipe:each({ 1 }, function() later[1] = request "http://s.test/404" return "kept" end)
pipe:each({ 1 }, function() return { res = request "http://s.test/404" } end)
leat.pipeline():each({ 1 }, function() return request "http://shaky.test/" end)
pipe:each({ 1 }, function()
    return leat.retry():call(request, "http://shaky.test/").body
end)
pipe:each({ 1 }, function() return leat.json.encode { ok = not request "http://s.test/404".ok } end)
leat.pipeline { accept = 404 }:each({ 1 }, function() return request "http://s.test/404" end)
leat.each({ "http://s.test/404" }, request, { accept = 404 })
leat.each({ "http://s.test/404" }, request)
local _ = request "http://s.test/404".body
leat.map({ 1 }, function() return request "http://s.test/404".body end)
local results = pipe:run({ 1 }, function() return { res = request "http://s.test/404" } end)
print(later[1].ok, results[1].res.ok)
LUA
expect_out "false	false"
expect_lines 1 "nothing looked"
expect_lines 1 "seen.lua:15: "

begin "all results of a run are nil: one warning with the function's place"
run nils.lua <<'LUA'
local pipe = leat.pipeline()
for _ = 1, 3 do
    local _, stats = pipe:run({ 1, 2 }, function(x)
        local square = x * x
    end)
    print(stats)
end
leat.map({ 1, 2, 3 }, function(x) local square = x * x end)
leat.map({ 1, 2 }, function(x) if x == 1 then return nil, "no" end end, { settle = true })
leat.batch({ 1, 2 }, { interval = 0 }, function(x) local square = x * x end)
LUA
expect_status 0
expect_out "2 items: 2 ok"
expect_lines 1 "pipeline:run: all 2 results are nil: the function at nils.lua:6 returned no value for any item. Is its return missing?"
expect_lines 1 "map: all 3 results are nil: the function at nils.lua:11 returned no value"
expect_lines 1 "map: the result is nil: the function at nils.lua:12 returned no value"
expect_lines 1 "batch: all 2 results are nil: the function at nils.lua:13 returned no value"

begin "no such warning for each, on_result, on_batch, one value among many, failures, and no items"
run values.lua <<'LUA'
local function none() end
local pipe = leat.pipeline { retry = false }
pipe:each({ 1, 2 }, none)
leat.each({ 1, 2 }, none)
leat.pipeline { on_result = none }:run({ 1, 2 }, none)
leat.map({ 1, 2 }, none, { on_result = none })
leat.batch({ 1, 2 }, { interval = 0, on_batch = none }, none)
pipe:run({ 1, 2 }, function(x) if x == 2 then return false end end)
leat.map({ 1, 2 }, function(x) if x == 2 then return false end end)
leat.batch({ 1, 2 }, { interval = 0 }, function(x) if x == 2 then return false end end)
pipe:run({ 1 }, function() return nil, "no" end)
pipe:run({}, none)
leat.map({}, none)
gather { none, none }
LUA
expect_status 0
expect_lines 0 "nil"

finish
