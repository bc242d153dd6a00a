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
echo 'for _, name in ipairs(require("leat.repl.help").names()) do print(name) end' | "$LEAT" repl | grep -v '^nil$' >names
[ "$(wc -l <names)" -gt 60 ] || fail "only $(wc -l <names) names"
sed 's/\\-/-/g' man/leat.3 >plain
while read -r name; do
    grep -qE "^\.SS ${name//./\\.}(\(|$|:? )" plain || fail "not there: $name"
done <names
[ "$(grep -c '^  example:' plain)" -gt 60 ] || fail "examples are missing"

begin "what Tab offers of leat's objects has a help, and nothing else is offered"
cat >offered.lua <<'LUA'
local complete, known = require "leat.repl.complete", {}
for _, name in ipairs(require("leat.repl.help").names()) do
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

begin "Tab offers exactly the options that are accepted, and fields and methods that are there"
cat >exact.lua <<'LUA'
local complete = require "leat.repl.complete"
local function offers(text)
    local inserted, listed = complete.complete(text, {}, 1)
    local names = {}
    for name in (listed ~= "" and listed or inserted):gmatch "[%w_]+" do names[#names + 1] = name end
    return names
end
local function say(...) print("wrong", ...) end
leat_client, leat_limiter = leat.client { base_url = "http://127.0.0.1:1" }, leat.limiter { rpm = 1 }
local id = function(x) return x end
-- The text before the cursor, and the call with one option.
local calls = {
    ["request { "] = function(o) o.url = o.url or "http://127.0.0.1:1/" return request(o) end,
    ["leat.request { "] = function(o) o.url = o.url or "http://127.0.0.1:1/" return request(o) end,
    ["leat_client:get('/', { "] = function(o) return leat_client:get("/", o) end,
    ["leat_client:post('/', { "] = function(o) return leat_client:post("/", o) end,
    ["leat_limiter:reserve { "] = function(o) return leat_limiter:reserve(o) end,
    ["gather(t, { "] = function(o) return gather({}, o) end,
    ["leat.map(t, f, { "] = function(o) return leat.map({}, id, o) end,
    ["leat.each(t, f, { "] = function(o) return leat.each({}, id, o) end,
    ["leat.as_completed(t, f, { "] = function(o) return leat.as_completed({}, id, o) end,
    ["leat.merge(t, { "] = function(o) return leat.merge({}, o) end,
    ["leat.batch(t, { "] = function(o) return leat.batch({}, o, id) end,
    ["leat.simulate(url, { "] = function(o) return leat.simulate("http://x.test", o) end,
    ["leat.inspect(v, { "] = function(o) return leat.inspect({}, o) end,
    ["json.encode(v, { "] = function(o) return json.encode({}, o) end,
    ["json.decode(s, { "] = function(o) return json.decode("1", o) end,
    ["leat.jsonl.read(p, { "] = function(o) return leat.jsonl.read("nowhere", o) end,
    ["leat.jsonl.writer(p, { "] = function(o) return leat.jsonl.writer("rows", o) end,
    ["leat.sha256(s, { "] = function(o) return leat.sha256("s", o) end,
    ["leat.hmac(k, s, { "] = function(o) return leat.hmac("k", "s", o) end,
    ["leat.base64.encode(s, { "] = function(o) return leat.base64.encode("s", o) end,
    ["leat.base64.decode(s, { "] = function(o) return leat.base64.decode("aa", o) end,
}
for name in ("client openai pipeline retry breaker limiter adaptive serve"):gmatch "%w+" do
    calls["leat." .. name .. " { "] = function(o) return leat[name](o) end
end
for text, call in pairs(calls) do
    local offered = {}
    for _, option in ipairs(offers(text)) do
        offered[option] = true
        -- A value that no option takes: what is said must be about the value.
        local _, err = pcall(call, { [option] = setmetatable({}, { __metatable = false }) })
        if tostring(err):lower():find "unknown option" then say(text, option, err) end
    end
    local _, err = pcall(call, { no_such_option = 1 })
    local list = tostring(err):match "[oO]ptions: ([%l%d_, ]+)"
    if not list then say(text, "takes any option?", err) end
    for option in (list or ""):gmatch "[%w_]+" do
        local of_client = text:find "leat_client" and (option == "url" or option == "method")
        if not offered[option] and not of_client then say(text, option, "is not offered") end
    end
end
local server = assert(leat.serve { handler = function() return "ok" end })
local objects = {
    leat = leat, json = json, log = leat.log, jsonl = leat.jsonl, stdin = leat.stdin, base64 = leat.base64,
    version = leat.version, semaphore = semaphore(1), queue = leat.queue(), event = leat.event(),
    task = spawn(sleep, 0), client = leat.client {}, openai = leat.openai { api_key = "x" },
    pipeline = leat.pipeline {}, retry = leat.retry {}, breaker = leat.breaker {},
    limiter = leat.limiter { rpm = 1 }, adaptive = leat.adaptive {}, server = server, merge = leat.merge {},
    response = request(server.url), stream = request { url = server.url, stream = true },
    failure = select(2, request "http://127.0.0.1:1/"), globals = _G, tasks = leat.tasks(),
}
for class, object in pairs(objects) do
    subject = object
    for _, mark in ipairs { ".", ":" } do
        for _, name in ipairs(offers("subject" .. mark)) do
            local ok, value = pcall(function() return object[name] end)
            if not ok or value == nil or mark == ":" and type(value) ~= "function" then say(class, mark, name) end
        end
    end
end
for _, start in ipairs { "leat.", "cjson", "l" } do
    for module in (select(2, complete.complete("require '" .. start, {}, 1))):gmatch "[%w_.]+" do
        local ok, err = pcall(require, module)
        if not ok then say("module", module, err) end
    end
end
for _, start in ipairs { "queu", "openai", "lazy" } do -- fields of leat are no globals
    if complete.complete(start, {}, 1) ~= "" then say("global", start) end
end
server:close()
LUA
echo 'dofile "exact.lua"' | "$LEAT" repl 2>&1 | grep -v '^nil$' >out
expect_equal "$(cat out)" ""

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

begin "bash offers the commands and options that are there, and no others"
complete_words "$LEAT" '' | grep -v -e '\.' -e '^man$' -e '^names$' -e '^out$' -e '^err$' -e '^plain$' -e '^missing$' >out
for command in batch help mock repl run version; do
    grep -qx $command out || fail "$command is not offered"
done
expect_equal "$(grep -cxE 'batch|help|mock|repl|run|version' out)" 6
for command in "" batch mock; do
    # shellcheck disable=SC2086 # no word where it is empty
    complete_words "$LEAT" $command - >offered
    [ "$(wc -l <offered)" -ge 10 ] || fail "only $(wc -l <offered) options of leat $command"
    while read -r option <&9; do
        # An option is looked at before the next one, which there is none of.
        # shellcheck disable=SC2086
        try "$LEAT" $command "$option" --no-such-option
        case $option in
        -h | --help | --version) ;;
        *) grep -q -- "unknown option '$option'" err && fail "leat $command does not know $option" ;;
        esac
    done 9<offered
    # What the help has at the beginning of a line, or behind another one.
    # shellcheck disable=SC2086
    "$LEAT" $command --help | sed -n 's/^  *\(--*[a-z].*\)/\1/p' | grep -oE -- '(^|, |N )--?[a-z][a-z-]*' |
        sed 's/^[^-]*//' | sort -u >known
    [ -n "$command" ] || printf '%s\n' -e -i >>known # of its usage
    sort -u -o known known
    expect_equal "$(sort offered)" "$(cat known)"
done
complete_words "$LEAT" help gath >out
expect_equal "$(cat out)" "gather"
complete_words "$LEAT" help '' >offered
# shellcheck disable=SC2046 # a list of words
try "$LEAT" help $(cat offered)
expect_status 0
[ "$(wc -l <offered)" -gt 60 ] || fail "only $(wc -l <offered) names"
for words in "script.lua -" "-e code -" "run script.lua --v" "repl -" "version -" "--seed 1 script.lua --s"; do
    # shellcheck disable=SC2086 # a list of words
    complete_words "$LEAT" $words >out
    expect_equal "$(cat out)" ""
done
complete_words "$LEAT" --seed 1 --virt >out
expect_equal "$(cat out)" "--virtual-time"
complete_words "$LEAT" --seed '' >out
expect_equal "$(cat out)" ""
complete_words "$LEAT" --time-limit 5 ba >out
expect_out "batch"

if command -v zsh >/dev/null; then
    begin "zsh reads its completion"
    try zsh -n "$root/scripts/completion/_leat"
    expect_status 0
fi

finish
