#!/bin/bash
# A secret in a header, the address, the environment or an error is shown nowhere.
. "$(dirname "$0")/../lib.sh"
start_mock --errors 0.5 --seed 2
address=${mock_url#http://}
canary=sk-canary-0123456789abcdef

cat >leaky.lua <<LUA
local bad = "http://user:$canary@$address/v1/models?api_key=$canary&token=$canary"
local list = {}
for i = 1, 12 do list[i] = i end
local function call(i)
    local res, err = request { url = i % 2 == 0 and bad or "http://user:$canary@127.0.0.1:1/?key=$canary",
        headers = { Authorization = "Bearer $canary", ["X-Api-Key"] = "$canary", Cookie = "s=$canary" } }
    if not res then
        return nil, err
    end
    leat.log.info("got", { url = bad, authorization = "Bearer $canary", status = res.status })
    if not res.ok then
        return nil, leat.error { kind = "http", message = "from " .. res.url, url = res.url }
    end
    return res.status
end
local counts = leat.each(list, call, { journal = "run.jsonl" })
print(counts.first_error, leat.inspect(counts.first_error))
local pipe = leat.pipeline { retry = { attempts = 2, base = 0.001 }, progress = true, journal = "pipe.jsonl" }
local results, stats = pipe:run(list, call)
print(stats, leat.inspect(results.errors), leat.tasks())
local ai = leat.openai { model = "m", retry = false }
for i = 1, 6 do print(ai:chat("prompt " .. i)) end
return ai:chat "the last words"
LUA

begin "a secret in headers, the address, the environment and errors is in no output and no journal"
export OPENAI_BASE_URL="http://key:$canary@$address/v1?key=$canary" OPENAI_API_KEY=$canary OPENAI_MODEL=m
try "$LEAT" -v --trace trace.json --report report.html --stats=stats.json leaky.lua
for file in trace.json report.html stats.json; do
    [ -s $file ] || fail "no $file"
    grep -l canary $file
done >shown
[ ! -s shown ] || fail "shown in: $(cat shown)"
[ -s out ] && [ -s err ] && [ -s run.jsonl ] && [ -s pipe.jsonl ] || fail "nothing was written"
grep -q '"ok":false' run.jsonl || fail "no error in the journal"
grep -l canary out err run.jsonl pipe.jsonl >shown && fail "shown in: $(cat shown): $(grep -h canary out err run.jsonl pipe.jsonl | head -n 3)"

begin "a secret is in nothing that leat batch writes"
seq -f "prompt %g" 20 >rows
try "$LEAT" batch rows rows.out --retries 0
expect_status 4
grep -l canary out err rows.out rows.out.errors >shown && fail "shown in: $(cat shown)"
try "$LEAT" batch rows - --dry-run
expect_err "20 rows to send"
grep -l canary out err && fail "a dry run shows it"

begin "a secret from a file, or one that the provider repeats, is in no output"
echo "$canary" >key_file
cat >echo.lua <<'LUA'
local server = leat.serve { handler = function(req)
    return { status = req.path:find "401" and 401 or 400, json = { error = { code = "no",
        message = "you sent " .. req.headers.authorization .. " and " .. tostring(req.query.key) } } }
end }
print(server.url)
io.stdout:flush()
leat.stopping:wait()
LUA
mkfifo echoed
"$LEAT" echo.lua >echoed 2>/dev/null &
lib_pids+=($!)
read -r echo_url <echoed
cat >asks.lua <<'LUA'
local ai = leat.openai { retry = false }
leat.map({ 1, 2, 3 }, function(i) return (ai:chat("prompt " .. i)) end, { journal = "asked.jsonl", settle = true })
leat.each({ 1, 2, 3 }, function(i) return ai:chat("prompt " .. i) end, { journal = "each.jsonl" })
print(ai, ai:chat "x")
print(leat.inspect { ai:chat "x" })
return ai:chat "x"
LUA
for path in v1 401; do
    for form in "asks.lua" "batch rows echo.out"; do
        # shellcheck disable=SC2086 # a list of words
        try env -u OPENAI_API_KEY OPENAI_API_KEY_FILE=key_file OPENAI_BASE_URL="$echo_url/$path?key=$canary" \
            "$LEAT" -v --trace echo.json --report echo.html --stats=echo.stats $form
        grep -q 'you sent Bearer \*\*\*' out err echo.out.errors 2>/dev/null || fail "nothing came back: $(cat out err)"
        grep -l canary out err *.jsonl echo.* | grep -v lua >shown && fail "shown in: $(cat shown)"
    done
done

begin "a secret in a script's name, an argument, a bad line or an error of the script's own is in no output"
unset OPENAI_BASE_URL OPENAI_API_KEY
printf 'local key = "%s\n' "$canary" >broken.lua
echo "error('the key $canary is bad')" >raises.lua
echo "return nil, 'Bearer $canary was refused'" >fails.lua
echo "leat.map({ 1 }, function() return nil, 'no $canary' end, { journal = 'own.jsonl', settle = true })" >journal.lua
for arguments in broken.lua raises.lua fails.lua "$canary.lua" "--$canary" "--seed $canary -e 1" "batch a b $canary" \
    "batch a b --$canary" "batch a b --concurrency $canary" "mock --port $canary" "mock --$canary" \
    "--allow-connect $canary -e 1" "--memory-limit $canary -e 1" journal.lua "help $canary"; do
    # shellcheck disable=SC2086 # a list of words
    try "$LEAT" $arguments
    grep -l "${canary#sk-}" out err ./*.jsonl >shown && fail "$arguments: shown in $(cat shown): $(grep -h "${canary#sk-}" out err ./*.jsonl | head -n 3)"
done
grep -q 'no \*\*\*' own.jsonl || fail "the journal has: $(cat own.jsonl)"
printf 'error("the key %s is bad")\nx = "%s\nleat.retry("%s")\n' $canary $canary $canary >lines
try "$LEAT" repl <lines
grep -q "${canary#sk-}" out err && fail "the prompt shows it: $(cat out err)"

begin "a secret in any argument or option of any public function, of a right type or a wrong one, is in no output"
mkdir every
cd every || exit 2
export SHAPED=sk-shaped-0123456789abcdef PLAIN=plaincanary
try "$LEAT" -v --virtual-time --seed 1 --trace trace.json --report report.html --stats=stats.json \
    "$root/tests/cli/everything.lua" "$root" </dev/null
mv "$scratch/out" "$scratch/err" .
grep -a -n -e "${SHAPED#sk-}" -e $PLAIN out err trace.json report.html stats.json | head -n 20 >../shown
[ ! -s ../shown ] || fail "shown: $(cat ../shown)"
[ "$(grep -ac ^DONE out)" -gt 90 ] || fail "few functions were called: $(grep -ac ^DONE out)"
[ "$(awk '/^DONE/ { n += $3 } END { print n }' out)" -gt 200 ] || fail "few options were found"

begin "what these functions raise names the script's line, and nothing inside leat"
grep -aq "^COMPLAINTS	0$" out || fail "$(grep COMPLAINT err | sort -u | head -n 20; tail -n 3 err)"
cd "$scratch" || exit 2

finish
