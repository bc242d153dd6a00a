# The harness of the shell tests (tests/cli/, tests/scripts/). A test is a `begin`, some commands and
# expectations; the program ends with `finish`.
#
#     . "$(dirname "$0")/../lib.sh"
#     begin "a script that is not there is one clear line and status 1"
#     try "$LEAT" missing.lua
#     expect_status 1
#     expect_err "missing.lua"
#     finish
#
# $LEAT is the binary, $root the source tree, $scratch a folder of the test's own (and the working
# folder); it is gone at the end. try's output is in $scratch/out and $scratch/err.
# shellcheck shell=bash
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LEAT=${LEAT:-$root/build/leat}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-test.XXXXXX")
cd "$scratch" || exit 2

lib_passed=0 lib_failed=0 lib_name='' lib_bad='' lib_pids=()
status=0

lib_clean_up() {
    local pid
    for pid in "${lib_pids[@]}"; do kill "$pid" 2>/dev/null; done
    rm -rf "$scratch"
}
trap lib_clean_up EXIT
trap 'exit 130' INT TERM

lib_end_test() {
    [ -n "$lib_name" ] || return 0
    if [ -z "$lib_bad" ]; then
        lib_passed=$((lib_passed + 1))
        echo "ok $lib_name"
    else
        lib_failed=$((lib_failed + 1))
        echo "FAIL $lib_name"
    fi
    lib_name=''
}

# begin NAME: ends the test before, if any, and starts the next.
begin() {
    lib_end_test
    lib_name=$1 lib_bad=''
}

# finish: the verdict. The last line of a program.
finish() {
    lib_end_test
    echo "$lib_passed passed, $lib_failed failed"
    [ "$lib_failed" = 0 ]
    exit
}

# fail TEXT: the test that runs now has failed; it goes on.
fail() {
    lib_bad=yes
    echo "  ${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}: $*"
}

# try COMMAND...: runs it (200 s at most; LEAT_PATIENCE times that); sets $status.
try() {
    status=0
    timeout --kill-after=5 $((200 * ${LEAT_PATIENCE:-1})) "$@" >"$scratch/out" 2>"$scratch/err" || status=$?
}

expect_status() { # expect_status N
    [ "$status" = "$1" ] && return
    fail "status $status, expected $1"
    sed 's/^/    | /' "$scratch/err"
}

lib_expect() {
    grep -qF -- "$2" "$scratch/$1" && return
    fail "not in std$1: $2"
    sed 's/^/    | /' "$scratch/$1"
}
expect_out() { lib_expect out "$1"; } # expect_out TEXT: somewhere on standard output
expect_err() { lib_expect err "$1"; } # expect_err TEXT: somewhere on standard error

# sanitized_by [thread|address]: true if the build that is tested is, or is by any.
sanitized_by() {
    grep -q "^LEAT_SANITIZE:STRING=.*${1:-.}" "${BUILD:-$root/build}/CMakeCache.txt"
}

# expect_lines out|err N: exactly N lines there.
expect_lines() {
    local n
    n=$(wc -l <"$scratch/$1")
    [ "$n" = "$2" ] && return
    fail "$n lines on std$1, expected $2"
    sed 's/^/    | /' "$scratch/$1"
}

expect_equal() { # expect_equal GOT WANTED
    [ "$1" = "$2" ] || fail "got '$1', expected '$2'"
}

# start_mock OPTION...: a mock server until the end of the program; sets $mock_url.
start_mock() {
    local line fifo=$scratch/mock.${#lib_pids[@]}
    mkfifo "$fifo"
    "$LEAT" mock --port 0 "$@" >"$fifo" &
    exec 9<"$fifo"
    lib_pids+=($!)
    read -r line <&9 || fail "the mock server did not start"
    # shellcheck disable=SC2034 # the test's
    mock_url=${line##* }
}
