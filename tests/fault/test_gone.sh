#!/bin/bash
# Peers that go away while a host writes to them, a host that has no handler for SIGPIPE.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}
export BUILD
for threads in 0 2; do
    for form in FAULT_URL FAULT_TLS_URL; do
        begin "a host lives on where a peer is gone while it writes ($form, $threads network threads): a failure of kind closed"
        # shellcheck disable=SC2016 # expanded by the inner shell
        try "$root/tests/with_faultd.sh" bash -c 'exec "$BUILD/tests/gone_host" "${!1}" "$FAULT_CA" "$2"' gone $form $threads
        expect_status 0
        expect_lines out 0
    done
done
finish
