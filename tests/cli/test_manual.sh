#!/bin/bash
# The manual pages and the shells' completions: they come from the program's own help.
. "$(dirname "$0")/../lib.sh"

mkdir man
begin "the manual pages are well formed"
try "$root/scripts/manual.sh" "$LEAT" man
expect_status 0
grep -q '"leat 0\.' man/leat.1 || fail "no version in the title: $(head -n 1 man/leat.1)"
if command -v groff >/dev/null; then
    for page in man/leat.1 man/leat.3; do
        groff -k -man -Tutf8 -ww -z "$page" >out 2>&1
        expect_lines out 0
    done
else
    echo "  skipped: no groff here"
fi

begin "each public function is in leat(3) with its example"
echo 'for _, name in ipairs(require("leat.help").names()) do print(name) end' | "$LEAT" repl | grep -v '^nil$' >names
[ "$(wc -l <names)" -gt 60 ] || fail "only $(wc -l <names) names"
sed 's/\\-/-/g' man/leat.3 >plain
while read -r name; do
    grep -qE "^\.SS ${name//./\\.}(\(|$|:? )" plain || fail "not there: $name"
done <names
[ "$(grep -c '^  example:' plain)" -gt 60 ] || fail "examples are missing"

begin "what Tab offers of leat's objects has a help, and nothing else is offered"
cat >offered.lua <<'LUA'
local complete, known = require "leat.complete", {}
for _, name in ipairs(require("leat.help").names()) do
    known[name] = true
end
local server = assert(leat.serve { handler = function() return "ok" end })
local objects = {
    semaphore = semaphore(1), queue = leat.queue(), event = leat.event(), task = spawn(sleep, 0),
    client = leat.client {}, openai = leat.openai { api_key = "x" }, pipeline = leat.pipeline {},
    retry = leat.retry {}, breaker = leat.breaker {}, limiter = leat.limiter {}, adaptive = leat.adaptive {},
    response = request { url = server.url, stream = true }, reservation = leat.limiter():reserve(),
    server = server, writer = leat.jsonl.writer "rows.jsonl", merge = leat.merge {},
}
for class, object in pairs(objects) do
    subject = object
    local inserted, listed = complete.complete("subject:", {}, 1)
    local n = 0
    for name in (listed ~= "" and listed or inserted):gmatch "[%w_]+" do
        n = n + 1
        if not known[class .. ":" .. name] and name ~= "handler" then print("no help for", class .. ":" .. name) end
    end
    if n == 0 then print("nothing is offered of", class) end
end
objects.writer:close()
server:close()
LUA
echo 'dofile "offered.lua"' | "$LEAT" repl 2>&1 | grep -v '^nil$' >out
expect_lines out 0

begin "each option of the help is in leat(1)"
sed 's/\\-/-/g' man/leat.1 >plain
for command in "" batch mock; do
    # shellcheck disable=SC2086 # no word where it is empty
    "$LEAT" $command --help | grep -oE -- '--[a-z-]+' | while read -r option; do
        grep -qF -- "$option" plain || echo "$option"
    done >missing
    [ ! -s missing ] || fail "missing: $(cat missing)"
done

begin "bash completes options, commands and files"
complete_words() { # complete_words WORD...: what the last one may become
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _leat
    printf '%s\n' "${COMPREPLY[@]}"
}
# shellcheck source=scripts/completion/leat.bash
. "$root/scripts/completion/leat.bash"
: >batch.lua
complete_words "$LEAT" b >out
expect_out "batch"
expect_out "batch.lua"
complete_words "$LEAT" --virt >out
expect_equal "$(cat out)" "--virtual-time"
complete_words "$LEAT" batch --rp >out
expect_equal "$(cat out)" "--rpm"
complete_words "$LEAT" mock --lat >out
expect_equal "$(cat out)" "--latency"
complete_words "$LEAT" mock --tp >out
expect_equal "$(cat out)" "--tpm"

finish
