#!/bin/bash
# scripts/format.sh [FILE...]: formats C files in place; without names, all of src/ and tests/.
#
# `tests/run.sh` checks the same with version 14 of clang-format, which is Debian 12's: other versions lay out some
# lines in another way, so they are refused here.
set -eu
cd "$(dirname "$0")/.."
format=$(command -v clang-format-14 || command -v clang-format) || {
    echo "format: clang-format is missing. On Debian 12: apt-get install clang-format" >&2
    exit 1
}
version=$("$format" --version)
if [[ $version != *"version 14."* ]]; then
    echo "format: clang-format 14 is needed, and this is: $version" >&2
    exit 1
fi
if [ $# -gt 0 ]; then
    exec "$format" -i -- "$@"
fi
find src tests -name '*.[ch]' -exec "$format" -i -- {} +
