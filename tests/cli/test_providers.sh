#!/bin/bash
# The answers of eight families of servers (tests/providers) through leat batch: what is an answer is in OUT as it
# was sent, what is a failure is in OUT.errors with the server's words, and a refusal is waited for.
. "$(dirname "$0")/../lib.sh"
export OPENAI_API_KEY=sk-canary-1234567890
unset OPENAI_MODEL

mkfifo url
"$LEAT" "$root/tests/providers/replay.lua" >url &
lib_pids+=($!)
read -r server_url <url

# The body of an answer as it stands in its file.
body_of() { sed '1,/^$/d' "$root/tests/providers/$1/$2.http" | tr -d '\r\n'; }

# rows URL NAME...: a file of rows, one for each answer.
rows() {
    local url=$1 name
    shift
    for name in "$@"; do
        printf '{"custom_id":"%s","method":"POST","url":"%s","body":{"model":"%s","messages":[]}}\n' \
            "$name" "$url" "$name"
    done >rows
    rm -f out.jsonl out.jsonl.errors
}

# answered FAMILY NAME FILE: the row's answer is in OUT as the file has it.
answered() {
    grep -F "\"custom_id\":\"$2\"" out.jsonl >line || fail "$1: no answer of $2: $(cat err)"
    grep -qF "\"body\":$(body_of "$1" "$3")}" line || fail "$1: another answer of $2: $(cat line)"
}

# failed FAMILY NAME STATUS WORDS: the row is in OUT.errors only.
failed() {
    grep -F "\"custom_id\":\"$2\"" out.jsonl && fail "$1: $2 counts as answered"
    grep -F "\"custom_id\":\"$2\"" out.jsonl.errors >line || fail "$1: no failure of $2: $(cat err)"
    grep -qF "\"status_code\":$3," line || fail "$1: another status of $2: $(cat line)"
    grep -qF "$4" line || fail "$1: not the words of $2: $(cat line)"
    grep -q '"body":"' line || fail "$1: no head of the body: $(cat line)"
}

# family NAME PATH STATUS WORDS [URL]
family() {
    begin "$1: an answer and tool calls are in OUT, an error is in OUT.errors, a refusal is waited for"
    rows "${5:-/v1/chat/completions}" plain tools error limit
    try "$LEAT" batch rows out.jsonl -q --concurrency 1 --retries 2 --base-url "$server_url/$1$2"
    expect_status 4
    answered "$1" plain plain
    answered "$1" tools tools
    answered "$1" limit plain
    failed "$1" error "$3" "$4"
}

family openai /v1 404 'The model `gpt-9` does not exist'
family azure '/openai/deployments/d?api-version=2024-10-21' 400 "content management policy"
family mistral /v1 422 "body.messages: Field required"
family gemini /v1beta/openai 400 "number of function response parts"
family ollama /v1 404 'model \"llama9\" not found'
family vllm /v1 400 "maximum context length is 4096 tokens"
family llamacpp /v1 400 "exceeds the available context size"
family anthropic /v1 400 "max_tokens: Field required" /v1/messages

begin "openai: a spent quota is asked for once"
rows /v1/chat/completions quota
try "$LEAT" batch rows out.jsonl -q --retries 4 --base-url "$server_url/openai/v1"
expect_status 4
failed openai quota 429 insufficient_quota
grep -q '"attempts":1' out.jsonl.errors || fail "$(cat out.jsonl.errors)"

begin "a gateway: a 200 that is a failure is not written as answered, and nothing that was paid for is lost"
rows /v1/chat/completions finish_error choices_null no_choices page not_json detail
try "$LEAT" batch rows out.jsonl -q --retries 2 --base-url "$server_url/gateway/v1"
expect_status 4
failed gateway finish_error 400 "Upstream: context length exceeded"
failed gateway choices_null 200 "it has no choices"
failed gateway no_choices 200 "it has no choices"
failed gateway page 200 "the answer is an HTML page: Sign in to the network"
failed gateway not_json 200 "not JSON"
grep -q '"answer":".*paid for.*-Infinity' line || fail "the answer is lost: $(cat line)"
failed gateway detail 200 "Model is warming up"
[ ! -s out.jsonl ] || fail "answered: $(cat out.jsonl)"

begin "a gateway: embeddings that are not one for each text are not written as answered"
printf '%s\n' '{"custom_id":"two","method":"POST","url":"/v1/embeddings","body":{"model":"embeddings","input":["a","b"]}}' \
    '{"custom_id":"one","method":"POST","url":"/v1/embeddings","body":{"model":"embeddings","input":"a"}}' >rows
rm -f out.jsonl out.jsonl.errors
try "$LEAT" batch rows out.jsonl -q --retries 2 --base-url "$server_url/gateway/v1"
expect_status 4
answered gateway one embeddings
failed gateway two 200 "one embedding for each text (1 for 2)"

finish
