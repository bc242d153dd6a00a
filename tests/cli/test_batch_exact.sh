#!/bin/bash
# leat batch: what a row says is sent as it is written, and the answer stands in OUT as it was sent.
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=sk-canary-1234567890 OPENAI_MODEL=m

# A server that appends the bodies that it receives to `sent`, and answers with what is in the file `answer`.
cat >server.lua <<'LUA'
local sent = assert(io.open("sent", "a"))
sent:setvbuf "no"
local server = assert(leat.serve { handler = function(req)
    sent:write(req.body, "\n")
    local f = assert(io.open("answer", "rb"))
    local text = f:read "*a"
    f:close()
    return { status = 200, headers = { ["Content-Type"] = "application/json" }, body = text }
end })
print(server.url)
io.stdout:flush()
leat.stopping:wait()
LUA
mkfifo url
"$LEAT" server.lua >url 2>/dev/null &
lib_pids+=($!)
read -r server_url <url
export OPENAI_BASE_URL=$server_url/v1

good='{"choices":[{"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}'
printf %s "$good" >answer

# sends ROW BODY: one row, and the body that it is to become.
sends() {
    : >sent
    rm -f row.out
    printf '%s\n' "$1" >row
    try "$LEAT" batch row row.out -q --retries 0
    expect_status 0
    expect_equal "$(cat sent)" "$2"
}

begin "a body is sent as it is written: large numbers, long decimals, 1.0, -0, 1e400, escapes, the order of names"
body='{"model":"m", "seed":1618065507111835497,"z":1.0,"a":[ -0, 1e400, 0.1000000000000000055511151231257827, 1E5 ],"messages":[{"role":"user","content":"\u0041\/\ud83d\ude00"}]}'
sends "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":$body}" "$body"

begin "a name that is repeated, and half a surrogate pair, are sent as they stand"
body='{"model":"m","seed":1,"seed":2,"messages":[{"role":"user","content":"cut \ud83d"}]}'
sends "{\"body\":$body}" "$body"

begin "the model is put into a body that has none, and nothing else changes"
sends '{"body": {"seed":9007199254740993 } }' '{"seed":9007199254740993 ,"model":"m"}'
sends '{"body":{}}' '{"model":"m"}'
sends '{"body":{ }}' '{ "model":"m"}'
sends '{"body":{"s":"}"}}' '{"s":"}","model":"m"}'

begin "the settings beside messages and beside a prompt are sent as they are written, and the name is not sent"
sends '{"custom_id":"n","messages":[{"role":"user","content":"hi"}],"seed":1618065507111835497,"top_p":1.0}' \
    '{"messages":[{"role":"user","content":"hi"}],"seed":1618065507111835497,"top_p":1.0,"model":"m"}'
sends '{"prompt":"\u00e9 \ud83d","seed":-9223372036854775808,"temperature":1.0,"mine":[1]}' \
    '{"messages":[{"role":"user","content":"\u00e9 \ud83d"}],"temperature":1.0,"seed":-9223372036854775808,"model":"m"}'
sends '"a \"text\" \u00e9"' '{"messages":[{"role":"user","content":"a \"text\" \u00e9"}],"model":"m"}'
sends 'plain "text"' '{"messages":[{"role":"user","content":"plain \"text\""}],"model":"m"}'
: >sent
echo '{"prompt":"100 %1"}' >row
try "$LEAT" batch row system.out -q --system 'Say "%s".'
expect_equal "$(cat sent)" '{"messages":[{"role":"system","content":"Say \"%s\"."},{"role":"user","content":"100 %1"}],"model":"m"}'

begin "a dry run shows the body as it would be sent"
echo '{"custom_id":"d","body":{"seed":1618065507111835497}}' >row
try "$LEAT" batch row dry.out --dry-run
expect_equal "$(cat out)" '{"body":{"seed":1618065507111835497,"model":"m"},"custom_id":"d","method":"POST","url":"/v1/chat/completions"}'

# kept ANSWER LINE: what the server answers, and how it stands in OUT.
kept() {
    printf %s "$1" >answer
    rm -f kept.out
    echo q >row
    try "$LEAT" batch row kept.out -q --retries 0
    expect_status 0
    expect_equal "$(sed 's/.*"body":\(.*\)},"error":null}$/\1/' kept.out)" "$2"
}

begin "an answer stands in OUT as it was sent: numbers, escapes, repeated names, half a surrogate pair"
for more in '"created":1618065507111835497' '"x":[1.0,-0,1e400,0.10000000000000000555,1E2]' '"x":"\/\u00e9"' \
    '"x":1,"x":2' '"x":"cut \ud83d"' '"z":1, "a" : {}'; do
    text="{${good:1:-1},$more}"
    kept "$text" "$text"
done

begin "an answer of several lines becomes one line, and nothing within it changes"
kept $'{\r\n  "a": "x\\ny  z",\n\t"seed": 9007199254740993,\n'"${good:1:-1}"$'\n}\n' \
    $'{  "a": "x\\ny  z",\t"seed": 9007199254740993,'"${good:1:-1}}"
expect_equal "$(wc -l <kept.out)" 1

begin "an answer that is not JSON was paid for: it is in the file of errors, whatever its bytes"
echo q >row
nan='{"choices":[{"message":{"content":"x"},"logprobs":{"content":[{"logprob":-Infinity}]}}],"seed":9007199254740993}'
printf %s "$nan" >answer
try "$LEAT" batch row nan.out -q --retries 0
expect_status 4
[ ! -s nan.out ] || fail "it counts as answered"
"$LEAT" -e 'local r = leat.jsonl.read "nan.out.errors" () io.write(r.error.answer)' >got
expect_equal "$(cat got)" "$nan"
printf '{"choices":\377 not UTF-8' >answer
try "$LEAT" batch row bytes.out -q --retries 0
expect_status 4
"$LEAT" -e 'local r = leat.jsonl.read "bytes.out.errors" ()
    io.write(r.error.answer or leat.base64.decode(r.error.answer_base64))' >got
cmp -s got answer || fail "$(cat bytes.out.errors)"
printf %s "$good" >answer

begin "a large number that changes is another request; a row that is written otherwise is the same"
printf '{"custom_id":"a","body":{"seed":9007199254740993,"n":1}}\n' >big
try "$LEAT" batch big big.out -q
expect_status 0
: >sent
printf '{"body": {"n":1, "seed":9007199254740993}, "custom_id":"a"}\n' >big
try "$LEAT" batch big big.out -q
expect_status 0
expect_equal "$(cat sent)" ""
printf '{"custom_id":"a","body":{"seed":9007199254740992,"n":1}}\n' >big
try "$LEAT" batch big big.out -q
expect_status 1
expect_err "line 1: 'a' has an answer in OUT, but to a different request"

begin "an OUT that was begun when large numbers were rounded goes on; so do its other rows"
cat >old <<'ROWS'
{"custom_id":"a","body":{"seed":1618065507111835497,"messages":[{"role":"user","content":"x"}]}}
{"custom_id":"b","prompt":"p","seed":7,"temperature":0.5}
plain text
ROWS
cat >old.out <<'OUT'
{"id":"batch_req_@a","custom_id":"a","response":{"status_code":200,"request_id":"","body":{}},"error":null}
{"id":"batch_req_@b","custom_id":"b","response":{"status_code":200,"request_id":"","body":{}},"error":null}
{"id":"batch_req_@c","custom_id":"row-3","response":{"status_code":200,"request_id":"","body":{}},"error":null}
OUT
"$LEAT" -e 'local url = "/v1/chat/completions"
local function id(name, body)
    return leat.sha256(json.encode({ name, url, body }, { sorted = true })):sub(1, 24)
end
local a = { model = "m", seed = 1618065507111835497, messages = { { role = "user", content = "x" } } }
local function chat(text) return { model = "m", messages = { { role = "user", content = text } } } end
local b = chat "p"
b.seed, b.temperature = 7, 0.5
local ids = { a = id("a", a), b = id("b", b), c = id("row-3", chat "plain text") }
local text = io.open("old.out"):read "*a"
io.open("old.out", "w"):write((text:gsub("@(%l)", ids)))'
: >sent
try "$LEAT" batch old old.out
expect_status 0
expect_err "0 rows answered, 3 done before"
expect_equal "$(cat sent)" ""

begin "lines that are JSON, but neither an object nor a text, are bad rows"
for row in 42 -1.5e3 12345678901234567890 true false null '["a"]' '[]' '[{"role":"user","content":"x"}]' '""' '"  "'; do
    : >sent
    printf '%s\n' "$row" >scalar
    rm -f scalar.out
    try "$LEAT" batch scalar scalar.out -q
    expect_status 4
    grep -qE 'line 1: (a number|true or false|null|a list) is not a row|line 1: the text is empty' err || fail "$row: $(cat err)"
    expect_equal "$(cat sent)" ""
done

begin "lines that only begin like JSON are prompts"
for row in '42 is a number' 'null and void' '[INST] hello [/INST]' '"quoted" he said' 'true story' NaN -; do
    sends "$row" "{\"messages\":[{\"role\":\"user\",\"content\":$("$LEAT" -e 'io.write(json.encode(arg[1]))' "$row")}],\"model\":\"m\"}"
done

# What each of these says is a failure, with a status of 200.
begin "an answer that is a failure inside is not written as answered, whatever its status; what it says is kept"
n=0
while IFS= read -r text; do
    printf '%s' "$text" >answer
    n=$((n + 1))
    try "$LEAT" batch row "inside$n.out" -q --retries 0
    expect_status 4
    [ ! -s "inside$n.out" ] || fail "counts as answered: $text"
    "$LEAT" -e 'local r = leat.jsonl.read(arg[1]) () io.write(r.error.answer)' "inside$n.out.errors" >got
    expect_equal "$(cat got)" "$text"
    case $text in *words*) grep -q '"message":"[^"]*words' "inside$n.out.errors" || fail "$(cat "inside$n.out.errors")" ;; esac
done <<'ANSWERS'
{"choices":[{"error":{"code":502,"message":"the words of the server"},"message":{"content":""}}]}
{"choices":[{"finish_reason":"error","message":{"role":"assistant","content":""}}]}
{"choices":null}
{"choices":[]}
{"choices":[{}]}
{"error":{"message":"the words of the server","type":"server_error"}}
{"error":"the words of the server"}
{"detail":"the words of the server"}
<html><head><title>words: 502 Bad Gateway</title></head></html>
[]
null
"text"
{}
ANSWERS
[ "$n" = 13 ] || fail "only $n answers were tried"

begin "embeddings of a batch: as many as there were texts, each once; else the row is not answered"
printf '{"body":{"input":["a","b"],"seed":9007199254740993},"url":"/v1/embeddings"}\n' >row
for rows in '{"index":0,"embedding":[1]}' '{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}'; do
    printf '{"data":[%s]}' "$rows" >answer
    rm -f vectors.out
    try "$LEAT" batch row vectors.out -q --retries 0
    expect_status 4
done
printf '{"data":[{"index":1,"embedding":[0.10]},{"index":0,"embedding":[1.0]}]}' >answer
try "$LEAT" batch row vectors.out -q --retries 0
expect_status 0
grep -qF '[{"index":1,"embedding":[0.10]},{"index":0,"embedding":[1.0]}]' vectors.out || fail "$(cat vectors.out)"

finish
