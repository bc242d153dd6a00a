#!/bin/bash
# leat batch: the exit status, OUT, OUT.errors, the summary and what the server has counted agree, over servers that
# fail at random in many ways. Each seed is another server, another file of rows and other options. A seed is run to
# its end: the same command again until nothing is left to do. LEAT_FULL=1: 1,000 seeds; SEEDS="3 7": those.
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=sk-canary-1234567890 OPENAI_MODEL=m
seeds=${SEEDS-$(seq 5)}
[ "${LEAT_FULL-}" = 1 ] && seeds=${SEEDS-$(seq 1000)}

# server.lua SEED: answers by what the prompt draws; counts what was asked for and what it gave, by row.
cat >server.lua <<'LUA'
local seed = tonumber(arg[1])
math.randomseed(seed)
local good = '{"choices":[{"message":{"role":"assistant","content":"answer to %s"},"finish_reason":"stop"}],'
    .. '"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
local function json_of(status, text, headers)
    headers = headers or {}
    headers["Content-Type"] = "application/json"
    return { status = status, headers = headers, body = text }
end
-- Failures that may pass, and those that do not; each with its weight.
local passing = {
    function() return json_of(500, '{"error":{"message":"oops"}}') end,
    function() return json_of(503, "<html><title>away</title></html>", { ["Retry-After"] = "0" }) end,
    function() return json_of(429, '{"error":{"message":"slow down"}}', { ["retry-after-ms"] = "1" }) end,
    function() return json_of(429, '{"message":"please try again in 2ms"}') end,
    function() return json_of(200, '{"error":{"code":503,"message":"inside"}}') end,
    function() return json_of(200, '{"choices":[{"error":{"code":502,"message":"within"}}]}') end,
}
local final = {
    function() return json_of(400, '{"detail":"no such thing"}') end,
    function() return json_of(422, '[{"error":{"message":"a list"}}]') end,
    function() return json_of(200, '{"choices":null}') end,
    function() return json_of(200, '<html>a proxy</html>') end,
    function() return json_of(200, '{"choices":[{"message":{"content":"x"}}],"logprob":-Infinity}') end,
    function() return json_of(429, '{"error":{"type":"insufficient_quota","message":"pay"}}') end,
}
local share = math.random() * 0.5
local calls, answered, refused = 0, {}, {}
local server = assert(leat.serve { handler = function(req)
    if req.path == "/counts" then
        local a, r = 0, 0
        for _, n in pairs(answered) do a = a + n end
        for _ in pairs(refused) do r = r + 1 end
        return { json = { calls = calls, answered = a, rows = r } }
    end
    calls = calls + 1
    local prompt = req:json().messages[1].content
    sleep(math.random() * 0.004)
    local n = tonumber(prompt:match "%d+")
    local roll = math.random()
    if n % 9 == 0 and not os.getenv "HEALED" and answered[prompt] == nil then
        refused[prompt] = true
        return final[n / 9 % #final + 1]()
    elseif roll < share then
        return passing[math.random(#passing)]()
    end
    answered[prompt] = (answered[prompt] or 0) + 1
    return json_of(200, good:format(prompt))
end })
print(server.url)
io.stdout:flush()
leat.stopping:wait()
LUA

# facts OUT: its rows, OUT.errors' rows, those in both, answers that are not their row's; as Lua says it.
cat >facts.lua <<'LUA'
local out = arg[1]
local function rows_of(path)
    local rows, n = {}, 0
    local f = io.open(path)
    if not f then return rows, 0, 0 end
    f:close()
    local twice = 0
    for r in assert(leat.jsonl.read(path)) do
        local name = r.custom_id ~= json.null and r.custom_id or "line " .. r.line
        twice = twice + (rows[name] and 1 or 0)
        rows[name], n = r, n + 1
    end
    return rows, n, twice
end
local good, n_good, twice_good = rows_of(out)
local bad, n_bad, twice_bad = rows_of(out .. ".errors")
local both, wrong, bad_rows = 0, 0, 0
for name, r in pairs(good) do
    both = both + (bad[name] and 1 or 0)
    if r.response.body.choices[1].message.content ~= "answer to row " .. name:match "%d+" then wrong = wrong + 1 end
end
for _, r in pairs(bad) do bad_rows = bad_rows + (r.id == json.null and 1 or 0) end
print(n_good, n_bad, twice_good + twice_bad, both, wrong, bad_rows)
LUA
counts() { "$LEAT" -e "local c = request('$url/counts'):json() print(c.$1)"; }

begin "status, OUT, OUT.errors, the summary and the server's own counters agree, whatever fails"
for seed in $seeds; do
    RANDOM=$seed
    rows=$((RANDOM % 60 + 20)) wrong_rows=$((RANDOM % 4))
    {
        for ((i = 1; i <= rows; i++)); do echo "{\"custom_id\":\"id-$i\",\"prompt\":\"row $i\"}"; done
        for ((i = 0; i < wrong_rows; i++)); do echo '{"no":"prompt"}'; done
    } | shuf --random-source=<(yes "$seed") >in
    options="--concurrency $((RANDOM % 12 + 1)) --retries $((RANDOM % 3))"
    [ $((RANDOM % 3)) = 0 ] && options+=" --ordered"
    [ $((RANDOM % 3)) = 0 ] && options="${options/--concurrency [0-9]*([0-9])/}"
    rm -f out.* url_of
    mkfifo url_of
    "$LEAT" server.lua "$seed" >url_of 2>server.err &
    server=$!
    read -r url <url_of
    calls=0 done_before=0
    for try in 1 2 3; do
        # shellcheck disable=SC2086 # a list of words
        try "$LEAT" batch in out.jsonl --base-url "$url/v1" $options
        read -r good bad twice both wrong bad_rows < <("$LEAT" facts.lua out.jsonl)
        what="seed $seed, run $try ($rows rows, $wrong_rows bad, $options)"
        # Nothing twice, nothing in both, no answer of another row, none lost.
        expect_equal "$what: $twice twice, $both both, $wrong wrong, $bad_rows bad" \
            "$what: 0 twice, 0 both, 0 wrong, $wrong_rows bad"
        expect_equal "$what: $((good + bad)) in all" "$what: $((rows + wrong_rows)) in all"
        expect_equal "$what: answered $good" "$what: answered $(counts answered)"
        # The status says whether any failed.
        expect_equal "$what: status $status" "$what: status $([ "$bad" = 0 ] && echo 0 || echo 4)"
        # The summary says the same numbers, and the reasons add up.
        said="$((good - done_before)) rows answered"
        [ $((good - done_before)) = 1 ] && said="1 row answered"
        [ $done_before -gt 0 ] && said+=", $done_before done before"
        failed=$((bad - bad_rows))
        [ $failed -gt 0 ] && said+=", $failed failed"
        [ "$bad_rows" -gt 0 ] && said+=", $bad_rows bad"
        grep -qE "leat: $said(,|$)" err || fail "$what: not said: $said: $(grep 'rows\? answered' err)"
        if [ $failed -gt 0 ]; then
            sum=0
            for n in $(sed -n "s/^$failed failed: //p" err | grep -o '[0-9]* ×' | tr -d ' ×'); do sum=$((sum + n)); done
            expect_equal "$what: reasons of $sum" "$what: reasons of $failed"
        fi
        # Each call was one of the server's.
        sent=$("$LEAT" -e 'local n = 0 for line in io.lines "err" do n = tonumber(line:match "(%d+) retr[iy]") or n end print(n)')
        expect_equal "$what: $((good - done_before + failed + sent)) calls" "$what: $(($(counts calls) - calls)) calls"
        calls=$(counts calls) done_before=$good
    done
    kill -s INT $server
    wait $server
    [ -z "$lib_bad" ] || break
done

finish
