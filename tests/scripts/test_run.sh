#!/bin/bash
# The pool that runs the test programs (tests/pool.sh): it counts what dies, hangs or says nothing, and ends all that
# it has started.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

# pool OPTIONS <PROGRAMS: runs them in a pool of their own.
pool() {
    { echo "grace=1 $1"
        echo ". '$root/tests/pool.sh'"
        cat
        echo pool_end; } >pool.sh
    try bash pool.sh
}

# gone PID: it is not there, or waits for no more than being forgotten.
gone() {
    ! grep -qs . "/proc/$1/cmdline"
}

# shows TEXT: a line of the output begins with it.
shows() {
    grep -q "^$1" out || fail "no line begins with '$1' in: $(cat out)"
}

begin "all verdicts are added up, and the last line is the sum"
pool "jobs=2" <<'PROGRAMS'
run one echo "3 passed, 0 failed"
run two echo "40 passed, 0 failed"
check three true
PROGRAMS
expect_status 0
shows "one  *3 passed  *[0-9.]* s, [0-9.]* s of CPU$"
shows "two  *40 passed "
expect_equal "$(tail -n 1 out)" "44 passed, 0 failed"

begin "what says that it failed, fails without a word, dies or hangs is a failure each, and is shown"
pool "jobs=3" <<'PROGRAMS'
run says bash -c 'echo "  why"; echo "1 passed, 2 failed"; exit 1'
run mute bash -c 'echo "something"'
run wrong_status bash -c 'echo "5 passed, 0 failed"; exit 9'
run dies bash -c 'echo "1 passed, 0 failed"; kill -SEGV $$'
limit=1
run hangs bash -c 'trap "" TERM; timeout 60 sleep 60; sleep 60'
limit=60
check lint false
PROGRAMS
expect_status 1
shows "says  *1 passed, 2 FAILED"
shows "    |   why"
shows "mute  *0 passed, 1 FAILED"
shows "    |   ended without a verdict"
shows "wrong_status  *5 passed, 1 FAILED"
shows "    |   ended with status 9"
shows "dies  *1 passed, 1 FAILED"
shows "    |   ended with status 139"
shows "hangs  *0 passed, 1 FAILED"
shows "    |   killed: its limit is 1 s"
shows "lint  *0 passed, 1 FAILED"
expect_equal "$(tail -n 1 out)" "7 passed, 7 failed"

begin "as many run at once as are allowed, and no more"
for jobs in 1 2 3; do
    rm -f -- in.*
    # They stay until so many are there.
    # shellcheck disable=SC2016 # the programs'
    pool "jobs=$jobs" <<'PROGRAMS'
program='touch in.$1
while n=$(ls in.* | wc -l); [ "$n" -lt "$2" ] && [ ! -e full ]; do sleep 0.01; done
touch full
echo "$n" >>seen
rm in.$1
echo "1 passed, 0 failed"'
for i in 1 2 3 4 5 6; do run $i bash -c "$program" program $i "$jobs"; done
PROGRAMS
    expect_equal "$(tail -n 1 out)" "6 passed, 0 failed"
    expect_equal "$(sort -n seen | tail -n 1)" "$jobs"
    rm seen full
done

begin "what two programs print at the same time is not mixed"
pool "jobs=2" <<'PROGRAMS'
for i in 1 2 3 4; do
    run $i bash -c 'for _ in {1..50}; do echo "line of $1"; done; echo "0 passed, 1 failed"; exit 1' program $i
done
PROGRAMS
expect_equal "$(grep -c '^    | line of ' out)" 200
expect_equal "$(grep 'FAILED\|line of' out | sed 's/.*line of //; s/ .*//' | uniq | wc -l)" 4

begin "a program that leaves a process behind has failed, and the process ends"
pool "jobs=1" <<'PROGRAMS'
run untidy bash -c 'setsid sleep 1000 & echo $! >left; echo "1 passed, 0 failed"'
PROGRAMS
expect_status 1
shows "untidy left a process behind: [0-9]* sleep 1000"
expect_equal "$(tail -n 1 out)" "1 passed, 1 failed"
gone "$(cat left)" || fail "it is still there"

begin "what a process reports is a failure, though its program passes"
# shellcheck disable=SC2016 # the program's
pool "jobs=1" <<'PROGRAMS'
run racy bash -c 'echo "WARNING: data race" >"${LEAT_TEST_RUN%/*}/report.77"; echo "1 passed, 0 failed"'
run silent bash -c ': >"${LEAT_TEST_RUN%/*}/report.78"; echo "1 passed, 0 failed"'
PROGRAMS
expect_status 1
shows "process 77 reported:"
shows "    | WARNING: data race"
expect_equal "$(tail -n 1 out)" "2 passed, 1 failed"

begin "what is no test has its status and is not counted"
# shellcheck disable=SC2016 # the pool's
pool "jobs=2" <<'PROGRAMS'
pool_start build bash -c 'echo built; exit 4'
run one echo "1 passed, 0 failed"
n=$((pool_started - 1))
pool_await $n
echo "status $?: $(cat "$pool_scratch/$n")"
PROGRAMS
expect_status 0
shows "status 4: built"
expect_equal "$(tail -n 1 out)" "1 passed, 0 failed"

begin "nothing that ran is a failure"
pool "jobs=2 filter=nowhere" <<'PROGRAMS'
run one echo "1 passed, 0 failed"
PROGRAMS
expect_status 1
expect_equal "$(tail -n 1 out)" "0 passed, 1 failed"

begin "a program may be interrupted, as it is at a terminal"
pool "jobs=1" <<'PROGRAMS'
run interrupts bash -c 'trap "echo 1 passed, 0 failed; exit 0" INT; kill -INT $$; sleep 1'
PROGRAMS
expect_status 0

for signal in INT:130 TERM:143 HUP:143; do
    begin "SIG${signal%:*} ends everything that it started, even what does not want to"
    mkfifo ready
    cat >pool.sh <<PROGRAMS
grace=1 jobs=2
. '$root/tests/pool.sh'
run nested bash -c 'timeout 60 setsid sleep 1000 & echo \$! >one; echo >ready; wait'
run stubborn bash -c 'trap "" INT TERM HUP; sleep 1000 & echo \$! \$\$ >two; echo >ready; while :; do wait; done'
pool_end
PROGRAMS
    env --default-signal=INT,TERM,HUP bash pool.sh >out 2>&1 &
    pid=$!
    exec 7<>ready
    read -r _ <&7
    read -r _ <&7
    kill -s "${signal%:*}" "$pid"
    wait "$pid"
    expect_equal $? "${signal#*:}"
    read -r first <one
    read -r second third <two
    for left in "$first" "$second" "$third"; do
        gone "$left" || fail "process $left is still there"
    done
    exec 7<&-
    rm ready
done

finish
