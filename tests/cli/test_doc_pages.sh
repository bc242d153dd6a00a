#!/bin/bash
# Runs every example of the pages in scripts/docs/pages/, and compares what it prints with the block "output" behind it.
# Blocks: lua (a script), lua luajit (a program with leat.so), lua love (a main.lua), sh, c (a program); json and
# text are not run. In examples https://example.com is simulated, and the AI service is `leat mock`.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
sanitize=$(sed -n -e 's/^LEAT_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' \
    -e 's/^CMAKE_C_FLAGS:STRING=\(--coverage\).*/\1/p' "$BUILD/CMakeCache.txt")

# Each block becomes pages/PAGE.LINE.KIND, and the block "output" behind it PAGE.LINE.KIND.out.
mkdir pages bin
extract() { # extract FILE NAME
    awk -v name="$2" '
        !open && /^```./ {
            kind = substr($0, 4); gsub(/ /, "-", kind); open = 1
            out = kind == "output" ? last ".out" : "pages/" name "." (NR + 1) "." kind
            if (kind != "output") last = out
            printf "" >out
            next
        }
        open && /^```$/ { close(out); open = 0; next }
        open { print >out }' "$1"
}
for file in "$root"/scripts/docs/pages/*.md "$root"/scripts/docs/pages/recipes/*.md; do
    extract "$file" "$(basename "$file" .md)"
done

# The first line of a script: where https://example.com leads.
cat >prelude <<'LUA'
do leat.simulate("https://example.com", function(req) if req.path == "/missing" then return { status = 404 } end return { headers = { ["x-ratelimit-limit-requests"] = "600", ["x-ratelimit-reset-requests"] = "60s" }, body = "page " .. req.target } end) end
LUA
start_mock --seed 1
# shellcheck disable=SC2154 # start_mock's
export OPENAI_BASE_URL=$mock_url/v1 OPENAI_API_KEY=test OPENAI_MODEL=mock
ln -s "$LEAT" bin/leat
export PATH=$PWD/bin:$PATH LUA_CPATH="$BUILD/lua/5.1/?.so"

# A screen for LÖVE that ends the program when the answer is there.
screen() { # screen FILE
    mkdir -p screen
    cp "$root/tests/embed/module/love/conf.lua" screen/
    cat >screen/main.lua <<LUA
local shown = ""
local function nothing() end
love.graphics = {
    isActive = function() return true end, getBackgroundColor = function() return 0, 0, 0, 1 end,
    origin = nothing, clear = nothing, circle = nothing, printf = function(text) shown = text end,
    present = function() if shown:find "Answer to: Tell me" then os.exit(0, true) end end,
}
dofile "$PWD/$1"
LUA
}

run_example() { # run_example FILE
    case $1 in
    *.lua)
        { tr '\n' ' ' <prelude && cat "$1"; } >script.lua
        try leat script.lua </dev/null
        ;;
    *.lua-luajit) try luajit "$1" ;;
    *.lua-love)
        screen "$1"
        try love screen
        ;;
    *.sh)
        mkdir work
        (cd work && timeout 60 bash -eu "../$1" </dev/null >../out 2>../err) && status=0 || status=$?
        rm -rf work
        ;;
    *.c)
        # shellcheck disable=SC2086 # a list of words
        try gcc -std=c11 -Wall -Wextra -Werror $sanitize -I"$root/src" -o program -x c "$1" -L"$BUILD" -lleat \
            -Wl,-rpath,"$BUILD"
        expect_status 0
        try ./program
        ;;
    *.json) try leat -e 'assert(json.decode(io.read "*a"))' <"$1" ;;
    esac
}

begin "there are examples of each kind"
for kind in lua lua-luajit lua-love sh c; do
    ls pages/*."$kind" >/dev/null 2>&1 || fail "none of $kind"
done

for file in $(printf '%s\n' pages/* | grep -v -e '\.out$' -e '\.text$' | sort -t. -k1,1 -k2,2n); do
    name=${file#pages/} kind=${file##*.}
    begin "the example at scripts/docs/pages/${name%.*}, $kind"
    case $kind in
    lua-luajit | lua-love)
        [ -z "$sanitize" ] || { echo "  skipped: the plain build shows it" && continue; }
        ;;
    esac
    if [ "$kind" = lua-love ] && ! command -v love >/dev/null; then
        echo "  skipped: LÖVE is not installed"
        continue
    fi
    run_example "$file"
    expect_status 0
    [ ! -e "$file.out" ] || expect_equal "$(cat out)" "$(cat "$file.out")"
done

finish
