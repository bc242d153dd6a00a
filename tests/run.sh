#!/bin/bash
# tests/run.sh [--asan | --all | --tsan | --valgrind | --coverage] [--quick] [--filter TEXT]
#
# Installs what is missing, builds and runs every test; the last line is `N passed, N failed`.
#
#   (none)       the build that users get, in build/
#   --asan       under AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --all        both, with the programs that host leat.so: what CI runs
#   --tsan       under ThreadSanitizer, in build-tsan/
#   --valgrind   the build in build/ under valgrind (not the scripts of tests/fault and tests/embed)
#   --coverage   a build that counts, in build-coverage/; then the lines of src/ that were never reached, by file
#   --quick      no installing, no linters
#   --filter T   only programs with T in their name
#
# As many programs run beside each other as there are processors, four at most; LEAT_JOBS=N is another number.
set -u
cd "$(dirname "$0")/.." || exit 2

modes=plain quick='' filter=''
while [ $# -gt 0 ]; do
    case $1 in
    --asan) modes=asan ;;
    --all) modes="plain asan" ;;
    --tsan) modes=tsan ;;
    --valgrind) modes=valgrind ;;
    --coverage) modes=coverage ;;
    --quick) quick=yes ;;
    --filter)
        filter=${2-}
        shift
        ;;
    *)
        sed -n '2,15s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
    esac
    shift
done

processors=$(nproc)
jobs=${LEAT_JOBS:-$((processors < 4 ? processors : 4))}
# shellcheck source=tests/pool.sh
. tests/pool.sh

start_build() { # start_build PARALLEL FOLDER CMAKE-OPTION...: in the background
    local parallel=$1 folder=$2
    shift 2
    echo "building $folder ..."
    # shellcheck disable=SC2016 # expanded by the inner shell
    pool_start "$folder" bash -c 'folder=$1 parallel=$2
        shift 2
        cmake -B "$folder" -DLEAT_TESTS=ON -DLEAT_WERROR=ON "$@" && cmake --build "$folder" --parallel "$parallel"' \
        build "$folder" "$parallel" "$@"
    building=$pool_started
}

built() { # waits for that; false if it failed
    pool_await "$building" && return
    local log=$pool_scratch/$building
    grep -aE -A 4 'error:|CMake Error|undefined reference' "$log" | head -n 80 | grep . || tail -n 40 "$log"
    failed=$((failed + 1))
    echo "the build of ${pool_names[building]} failed"
    return 1
}

left_out='^$' # the names of programs that cannot run in the mode

program() { # program NAME COMMAND...
    [[ $1 =~ $left_out ]] || run "$@"
}

programs() { # programs MODE FOLDER [WRAPPER...]: every test program of one build
    local mode=$1 folder=$2 file name servers
    shift 2
    export BUILD=$PWD/$folder LEAT=$PWD/$folder/leat
    for file in "$folder"/tests/unit/test_*; do
        if [ ! -f "$file" ] || [ ! -x "$file" ]; then continue; fi
        program "$mode/unit/${file##*/test_}" "$@" "$file"
    done
    [ -x "$LEAT" ] || return 0
    for file in tests/lua/test_*.lua tests/fault/test_*.lua; do
        [ -e "$file" ] || continue
        name=${file%.lua}
        local options=()
        [[ $name == */test_virtual_* ]] && options=(--virtual-time --seed 1)
        [[ $name == */test_h2* ]] && servers=tests/with_h2.sh || servers=tests/with_faultd.sh
        program "$mode/lua/${name##*/test_}" "$servers" "$@" "$LEAT" "${options[@]}" "$file"
        # What waits for the network does the same where threads of its own have it.
        case ${name##*/test_} in
        h2* | http* | stream | task | upload | openai* | policy_http | resends | routes | broken_* | soak | \
            load | serve | mock | providers | reply_error | inspect | usage)
            program "$mode/threads/${name##*/test_}" "$servers" "$@" "$LEAT" --network-threads 2 "$file"
            ;;
        esac
    done
    local threaded=$pool_scratch/leat-threads-$mode
    printf '#!/bin/sh\nexec %s "%s" --network-threads 2 "$@"\n' "$*" "$LEAT" >"$threaded"
    chmod +x "$threaded"
    for name in targets trust restarts; do
        LEAT=$threaded program "$mode/threads/test_$name" bash "tests/cli/test_$name.sh"
    done
    local folders="cli fault scripts embed"
    if [ $# -gt 0 ]; then # these two have no programs and no preloaded libraries beside the binary
        folders="cli scripts"
        printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$*" "$LEAT" >"$pool_scratch/leat"
        chmod +x "$pool_scratch/leat"
        LEAT=$pool_scratch/leat
    fi
    for name in $folders; do
        for file in tests/"$name"/test_*.sh; do
            program "$mode/$name/$(basename "$file" .sh)" bash "$file"
        done
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
                { echo "  $file: run scripts/format.sh on it"; code=1; }
        done
        exit $code'
}

prepare() { # prepare MODE PARALLEL: begins to build what it needs
    case $1 in
    plain | valgrind) start_build "$2" build ;;
    asan) start_build "$2" build-asan -DLEAT_SANITIZE=address,undefined ;;
    tsan) start_build "$2" build-tsan -DLEAT_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo ;;
    coverage)
        find build-coverage -name '*.gcda' -delete 2>/dev/null
        start_build "$2" build-coverage -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_C_FLAGS=--coverage -fprofile-update=atomic"
        ;;
    esac
}

# perform MODE: runs its programs. Only one that hangs reaches its limit, however busy the machine is; what slows a
# program down gives it more time.
perform() {
    case $1 in
    plain)
        limit=600
        # Where the sanitized programs fail each point of memory after it, these need not try as many.
        [[ $modes != *asan ]] || export LEAT_POINTS=50
        programs plain build
        unset LEAT_POINTS
        ;;
    asan)
        limit=1200
        export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
        export UBSAN_OPTIONS=print_stacktrace=1
        programs asan build-asan
        ;;
    tsan)
        limit=1800
        # It keeps signals back until a call of C: they cannot end a loop that computes.
        left_out='unit/(limit|profiler|runaway_scripts)$|cli/test_(ends|held)$'
        # libuv joins its own threads when the process ends. Another signal may end it before.
        echo thread:uv_thread_create_ex >"$pool_scratch/suppressions"
        export TSAN_OPTIONS="log_path=$pool_scratch/report suppressions=$pool_scratch/suppressions"
        export LEAT_POINTS=60 LEAT_PATIENCE=5
        programs tsan build-tsan
        ;;
    valgrind)
        limit=3600
        export LEAT_POINTS=10 LEAT_PATIENCE=10
        programs valgrind build valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
            --show-leak-kinds=definite --fair-sched=yes
        ;;
    coverage)
        # Lower bounds: what ends by a signal takes its counts with it.
        programs coverage build-coverage
        pool_wait
        gcovr -r . --object-directory build-coverage -f 'src/.*' --gcov-ignore-parse-errors -s 2>/dev/null
        ;;
    esac
}

if [ -z "$quick" ]; then
    packages='test'
    [ "$modes" = "plain asan" ] && packages="test servers hosts"
    [ "$modes" = valgrind ] && packages="test valgrind"
    [ "$modes" = coverage ] && packages="test coverage"
    # shellcheck disable=SC2086 # a list of words
    scripts/deps.sh $packages || exit 1
fi
# What is built next is built while the programs of the mode before run.
# shellcheck disable=SC2086 # a list of words
set -- $modes
prepare "$1" "$processors"
if [ -z "$quick" ]; then
    run house/layers luajit tests/house_test.lua .
    check house/luacheck luacheck -q lua scripts tests
    clang_format
    check fuzz bash tests/fuzz/run.sh 10
fi
while [ $# -gt 0 ]; do
    ready=yes
    built || ready=
    [ $# = 1 ] || prepare "$2" $(((processors + 1) / 2))
    [ -z "$ready" ] || perform "$1"
    shift
done
pool_end
