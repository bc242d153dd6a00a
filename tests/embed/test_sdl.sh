#!/bin/bash
# The example of a game: what is streamed is on its screen, token by token, while its frames go on.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
export SDL_VIDEODRIVER=dummy OPENAI_API_KEY=test OPENAI_MODEL=m

if [ ! -x "$BUILD/tests/sdl_game" ]; then
    echo "  skipped: the game: no SDL2 (libsdl2-dev)"
    begin "without SDL2 the build leaves the game out"
    pkg-config --exists sdl2 && fail "SDL2 is there, but $BUILD/tests/sdl_game is not"
    finish
fi
# shellcheck disable=SC2046 # a list of words
gcc -shared -fPIC -D_GNU_SOURCE -o watch.so "$root/tests/embed/sdl_watch.c" $(pkg-config --cflags sdl2) -ldl || exit 1
# LD_PRELOAD is for the game alone. What SDL's libraries keep is not ours to tell of.
game() {
    try env LD_PRELOAD="$scratch/watch.so" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0:detect_leaks=0" \
        "$BUILD/tests/sdl_game" "$@"
}

begin "each token is on the screen in a frame of its own"
start_mock --latency 0.2 --token-delay 0.1 --tokens 6
export OPENAI_BASE_URL=$mock_url/v1
game 'a?'
expect_status 0
expect_out "Answer to: a?"
grep -qE '^[0-9]+ frames, the slowest took [0-9.]+ ms$' out || fail "no figures: $(cat out)"
# The more text, the more dots; the last frame shows what the mock says for this prompt.
grep -oE 'shows [0-9]+ dots' err | grep -oE '[0-9]+' >dots
sort -n -u dots | cmp -s - dots || fail "the text shrank: $(tr '\n' ' ' <dots)"
[ "$(wc -l <dots)" -ge 2 ] || fail "it came all at once: $(cat err)"

begin "an answer that fails is told on the screen, and the game goes on"
export OPENAI_BASE_URL=http://127.0.0.1:1/v1
game 'a?'
expect_status 0
expect_out "cannot connect"
expect_err "dots"
frames=$(sed -n 's/ frames,.*//p' out)
[ "${frames:-0}" -ge 60 ] || fail "$frames frames, then it ended"

finish
