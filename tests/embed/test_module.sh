#!/bin/bash
# leat.so in hosts that bring their own LuaJIT state: plain luajit, a C program, Neovim, LÖVE.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
module=$BUILD/lua/5.1/leat.so
parts=$root/tests/embed/module
sanitize=$(sed -n 's/^LEAT_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' "$BUILD/CMakeCache.txt")
export LUA_CPATH="$BUILD/lua/5.1/?.so"

begin "leat.so shows luaopen_leat and nothing else, brings no LuaJIT of its own, and stays loaded"
nm -D --defined-only "$module" | awk '{ print $3 }' | grep -v '^__' >shown
expect_equal "$(cat shown)" luaopen_leat
readelf -d "$module" >dynamic
grep -i 'NEEDED.*lua' dynamic | grep -v cjson && fail "a Lua is linked"
grep -q NODELETE dynamic || fail "it may be unloaded under a thread of its own"

start_mock --latency 3600
# shellcheck disable=SC2154 # start_mock's
silent_url=$mock_url
start_mock --latency 0.1 --token-delay 0.01 --seed 1
export LEAT_ROOT=$root LEAT_URL=$mock_url OPENAI_BASE_URL=$mock_url/v1 OPENAI_API_KEY=test OPENAI_MODEL=m

# A program that is not sanitized itself needs the sanitizers' run time before anything else, and it may
# end without closing its state.
preload=()
case $sanitize in
"") ;;
*thread*) preload=(env LD_PRELOAD="$(gcc -print-file-name=libtsan.so)") ;;
*)
    preload=(env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
        ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0")
    ;;
esac
guest() { try "${preload[@]}" "$@"; }

begin "plain luajit: run, start, step, errors, twenty requests at once, and the host's things untouched"
guest luajit "$parts/guest.lua"
expect_status 0
expect_out "guest ok"

begin "plain luajit: lines of a writer that nobody closed are in its file, also where os.exit leaves the state open"
cat >lines.lua <<'LUA'
local leat = require "leat"
local w
leat.run(function()
    w = assert(leat.jsonl.writer "lines.jsonl")
    for i = 1, 5000 do assert(w:write { i = i }) end
end)
if arg[1] then os.exit(0) end
LUA
for how in "" exit; do
    rm -f lines.jsonl
    # shellcheck disable=SC2086 # a word, or none
    guest luajit lines.lua $how
    expect_status 0
    expect_equal "$(wc -l <lines.jsonl)" 5000
done

begin "plain luajit ends with everything in flight"
guest luajit "$parts/in_flight.lua" "$silent_url"
expect_status 0

begin "a C host with its own allocator, signal handlers and panic function: the same"
# shellcheck disable=SC2046,SC2086 # lists of words
try gcc -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror $sanitize -o host "$parts/host.c" \
    $(pkg-config --cflags --libs luajit) -lpthread
expect_status 0
try ./host "$mock_url" "$parts/guest.lua"
expect_status 0
expect_out "host ok"

begin "states closed with everything in flight, one after the other, leave nothing behind"
try ./host "$silent_url" "$parts/in_flight.lua"
expect_status 0
expect_out "host ok"

for how in finalizers first; do
    begin "whatever is finalized first, and what finalizers do: $how"
    LEAT_CLOSE=$how try ./host "$silent_url" "$parts/in_flight.lua"
    expect_status 0
    expect_out "host ok"
done

begin "and four at once, each in its thread"
try ./host --threads "$silent_url" "$parts/in_flight.lua"
expect_status 0
expect_out "host ok"

begin "wherever Lua's memory ends, from the loading to the close, nothing else is lost"
if [[ $sanitize == *thread* ]]; then
    echo "  skipped: memory that ends (ThreadSanitizer sees nothing of it, and takes long)"
else
    try ./host --torture "$mock_url" "$parts/torture.lua"
    expect_status 0
    expect_out "host ok"
fi

begin "it loads where the globals lack require and package, or have others, as a game leaves them to mods"
for how in nothing empty others; do
    guest luajit "$parts/hidden.lua" "$mock_url" $how
    expect_status 0
    expect_equal "$(cat out)" "200	4	[1]	1
a bug
true	true	nil	true"
done

begin "a task that ends the process, and its state first, is the last thing that runs"
cat >exit.lua <<'LUA'
local leat = require "leat"
leat.start(leat.sleep, 60)
leat.start(leat.request, (os.getenv "LEAT_URL") .. "/v1/models")
leat.run(function()
    leat.sleep(0)
    os.exit(7, true)
end)
LUA
guest luajit exit.lua
expect_status 7
expect_equal "$(cat out err)" ""

if [ -z "$sanitize" ]; then
    begin "Ctrl-C in luajit ends what leat.run waits for"
    cat >wait.lua <<'LUA'
local leat = require "leat"
leat.run(function()
    io.write("waiting\n")
    io.flush()
    leat.sleep(3600)
end)
LUA
    mkfifo told
    timeout --foreground 200 luajit wait.lua >told 2>err &
    pid=$!
    read -r line <told
    expect_equal "$line" waiting
    kill -INT "$pid"
    wait "$pid"
    expect_equal $? 1
    expect_err "interrupted!"
fi

begin "a forked child leaves its parent's connections alone"
cat >fork.lua <<'LUA'
local leat = require "leat"
local ffi = require "ffi"
ffi.cdef "int fork(void); int wait(int *status);"
local get = leat.start(leat.request, { url = (os.getenv "LEAT_URL") .. "/v1/chat/completions", method = "POST",
    json = { model = "m", messages = { { role = "user", content = "hello" } } } })
repeat leat.step(0) until leat.stats().engine.active == 1
if ffi.C.fork() == 0 then
    local ok, why = pcall(leat.step)
    io.stderr:write(tostring(why), "\n")
    os.exit(ok and 1 or 0, true)
end
ffi.C.wait(nil)
while leat.step() ~= "done" do end
print(get:result().status)
LUA
guest luajit fork.lua
expect_status 0
expect_err "this process was forked"
expect_equal "$(cat out)" 200

if [ -x "$BUILD/tests/h2d" ]; then
    begin "under leat.step requests share one HTTP/2 connection"
    try "$root/tests/with_h2.sh" "${preload[@]}" luajit "$parts/shared.lua"
    expect_status 0
    expect_out "shared ok"
else
    echo "  skipped: HTTP/2 under leat.step: no h2d (libnghttp2-dev)"
fi

begin "leat's own states have leat already, and run by themselves"
try "$LEAT" -e "assert(package.loadlib('$module', 'luaopen_leat')() == leat)"
expect_status 0
try "$LEAT" -e "leat.run(print)"
expect_status 1
expect_err "run: only for programs that load leat.so; here the event loop runs already: call the function"

# host_program NAME: whether it is to be tried.
host_program() {
    if ! command -v "$1" >/dev/null; then
        echo "  skipped: $1 is not installed"
    elif [ -n "$sanitize" ]; then
        echo "  skipped: $1 does not run under sanitizers"
    else
        return 0
    fi
    return 1
}

if host_program nvim; then
    begin "Neovim: the same, and the example plugin streams into a buffer while the editor goes on"
    try nvim --headless -u NONE -i NONE -c "luafile $parts/nvim.lua"
    expect_status 0
    expect_out "guest ok"
    expect_out "nvim ok"
fi

if host_program love; then
    export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy HOME=$scratch
    begin "LÖVE: the same"
    LEAT_GUEST=1 try love "$parts/love"
    expect_status 0
    expect_out "guest ok"
    begin "LÖVE: the example streams onto the screen while it animates"
    try love "$parts/love" "what is a leat?"
    expect_status 0
    expect_out "love ok"
fi

finish
