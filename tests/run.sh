#!/bin/bash
# tests/run.sh [--asan | --all | --valgrind | --coverage] [--quick] [--filter TEXT]
#
# Installs what is missing, builds and runs every test; the last line is `N passed, N failed`.
#
#   (none)       the build that users get, in build/
#   --asan       under AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --all        both, one after the other, with the programs that host leat.so: what CI runs
#   --valgrind   the build in build/ under valgrind
#   --coverage   a build that counts, in build-coverage/; then the lines of src/ that were never reached, by file
#   --quick      no installing, no linters
#   --filter T   only programs with T in their name
set -u
cd "$(dirname "$0")/.." || exit 2

modes=plain quick='' filter=''
while [ $# -gt 0 ]; do
    case $1 in
    --asan) modes=asan ;;
    --all) modes="plain asan" ;;
    --valgrind) modes=valgrind ;;
    --coverage) modes=coverage ;;
    --quick) quick=yes ;;
    --filter)
        filter=${2-}
        shift
        ;;
    *)
        sed -n '2,12s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
    esac
    shift
done

passed=0 failed=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-tests.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND...: runs one test program and counts its verdict. A program that dies, hangs or ends
# without a verdict is one failure; whatever fails is shown whole.
run() {
    local name=$1 log=$scratch/log verdict code=0 p=0 f=0
    shift
    [[ $name == *"$filter"* ]] || return 0
    timeout --kill-after=10 "$limit" "$@" </dev/null >"$log" 2>&1 || code=$?
    verdict=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -n "$verdict" ]; then
        p=${verdict%% *}
        f=${verdict#*, }
        f=${f%% *}
    fi
    if [ -z "$verdict" ] || { [ "$code" != 0 ] && [ "$f" = 0 ]; }; then
        f=$((f + 1))
        case $code in
        0) echo "  ended without a verdict" >>"$log" ;;
        124 | 137) echo "  killed after $limit s" >>"$log" ;;
        *) echo "  ended with status $code" >>"$log" ;;
        esac
    fi
    passed=$((passed + p)) failed=$((failed + f))
    if [ "$f" = 0 ]; then
        printf '%-44s %4d passed\n' "$name" "$p"
        grep -a '^ *skipped: ' "$log" | sed 's/^ */    | /'
    else
        printf '%-44s %4d passed, %d FAILED\n' "$name" "$p" "$f"
        grep -av '^ok ' "$log" | tail -n 200 | sed 's/^/    | /'
    fi
}

# check NAME COMMAND...: a command that passes by ending with 0 (a linter) is one test.
check() {
    local name=$1
    shift
    run "$name" bash -c '"$@" && echo "1 passed, 0 failed" || echo "0 passed, 1 failed"' check "$@"
}

build() { # build FOLDER CMAKE-OPTION...
    local folder=$1 log=$scratch/build
    shift
    echo "building $folder ..."
    if ! { cmake -B "$folder" -DLEAT_TESTS=ON -DLEAT_WERROR=ON "$@" &&
        cmake --build "$folder" --parallel "$(nproc)"; } >"$log" 2>&1; then
        grep -aE -A 4 'error:|CMake Error|undefined reference' "$log" | head -n 80 | grep . ||
            tail -n 40 "$log"
        failed=$((failed + 1))
        echo "the build failed"
        return 1
    fi
}

programs() { # programs MODE FOLDER [WRAPPER...]: every test program of one build
    local mode=$1 folder=$2 file name servers
    shift 2
    export BUILD=$PWD/$folder LEAT=$PWD/$folder/leat
    for file in "$folder"/tests/unit/test_*; do
        if [ ! -f "$file" ] || [ ! -x "$file" ]; then continue; fi
        run "$mode/unit/${file##*/test_}" "$@" "$file"
    done
    [ -x "$LEAT" ] || return 0
    for file in tests/lua/test_*.lua tests/fault/test_*.lua; do
        [ -e "$file" ] || continue
        name=${file%.lua}
        local options=()
        [[ $name == */test_virtual_* ]] && options=(--virtual-time --seed 1)
        [[ $name == */test_h2* ]] && servers=tests/with_h2.sh || servers=tests/with_faultd.sh
        run "$mode/lua/${name##*/test_}" "$servers" "$@" "$LEAT" "${options[@]}" "$file"
        # What waits for the network does the same where threads of its own have it.
        case ${name##*/test_} in
        h2 | http* | stream | task | upload | openai | policy_http | routes | rows_* | soak)
            run "$mode/threads/${name##*/test_}" "$servers" "$@" "$LEAT" --network-threads 2 "$file"
            ;;
        esac
    done
    for file in tests/{cli,fault,scripts,embed}/test_*.sh; do
        [ -e "$file" ] || continue
        name=${file%.sh}
        run "$mode/${name#tests/}" bash "$file"
    done
}

clang_format() {
    # Versions disagree about layout: only Debian 12's is asked.
    command -v clang-format >/dev/null && [[ $(clang-format --version) == *"version 14."* ]] ||
        return 0
    # shellcheck disable=SC2016 # expanded by the inner shell
    check house/clang-format bash -c 'code=0
        for file in $(find src tests -name "*.[ch]" | sort); do
            clang-format --dry-run --Werror "$file" 2>/dev/null ||
                { echo "  $file: run clang-format -i on it"; code=1; }
        done
        exit $code'
}

limit=120
if [ -z "$quick" ]; then
    packages='test'
    [ "$modes" = "plain asan" ] && packages="test servers hosts"
    [ "$modes" = valgrind ] && packages="test valgrind"
    [ "$modes" = coverage ] && packages="test coverage"
    # shellcheck disable=SC2086 # a list of words
    scripts/deps.sh $packages || exit 1
    run house/layers luajit tests/house_test.lua .
    check house/luacheck luacheck -q lua scripts tests
    clang_format
    check fuzz bash tests/fuzz/run.sh 10
fi
for mode in $modes; do
    case $mode in
    plain)
        build build && programs plain build
        ;;
    asan)
        # A sanitized program is several times slower, so it gets more time.
        limit=300
        export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
        export UBSAN_OPTIONS=print_stacktrace=1
        build build-asan -DLEAT_SANITIZE=address,undefined && programs asan build-asan
        unset ASAN_OPTIONS UBSAN_OPTIONS
        ;;
    valgrind)
        limit=900
        export LEAT_POINTS=10
        build build && programs valgrind build valgrind -q --error-exitcode=99 --leak-check=full \
            --errors-for-leak-kinds=definite --fair-sched=yes
        ;;
    coverage)
        # Lower bounds: what ends by a signal takes its counts with it.
        limit=300
        find build-coverage -name '*.gcda' -delete 2>/dev/null
        build build-coverage -DCMAKE_BUILD_TYPE=Debug \
            "-DCMAKE_C_FLAGS=--coverage -fprofile-update=atomic" && programs coverage build-coverage
        gcovr -r . --object-directory build-coverage -f 'src/.*' --gcov-ignore-parse-errors -s 2>/dev/null
        ;;
    esac
done

if [ $((passed + failed)) = 0 ]; then
    echo "no test ran"
    failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
