#!/bin/bash
# tests/volume.sh [NAME...]
#
# The long forms of the tests that prove the HTTP engine in volume (all, or those whose names are given), each
# inline and with network threads. tests/run.sh runs their short forms.
set -u
cd "$(dirname "$0")/.." || exit 2
export BUILD=${BUILD:-$PWD/build} LEAT_FULL=1
status=0
[ $# -gt 0 ] || set -- h2_volume http_idle h2_idle http_cancel http_cancels h2_cancels
for name in "$@"; do
    [[ $name == h2* ]] && servers=tests/with_h2.sh || servers=tests/with_faultd.sh
    for threads in 0 2; do
        echo "$name, $threads network threads"
        "$servers" "$BUILD/leat" --network-threads $threads "tests/lua/test_$name.lua" || status=1
    done
done
exit $status
