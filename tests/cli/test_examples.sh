#!/bin/bash
# Runs every example in the comments of lua/leat as a script of its own: it must end well. In examples
# `url` is where a server answers /ok and /echo.
[ -n "${FAULT_URL:-}" ] || exec "$(dirname "$0")/../with_faultd.sh" bash "$0" "$@"
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

# Each example becomes leat/FILE.LINE.lua, with as many empty lines before it as it has in its file, so
# that messages name the line. The first line sets `url`.
extract() { # extract FILE NAME
    awk -v name="$2" -v dir="$scratch" '
        { text = $0; is_doc = sub(/^[ \t]*--- ?/, "", text) }
        open && (!is_doc || text ~ /^[ \t]*```[ \t]*$/) { close(out); open = 0; next }
        open { print text >out }
        !open && is_doc && text ~ /^[ \t]*```lua[ \t]*$/ {
            open = 1
            out = dir "/" name ":" (NR + 1) ".lua"
            printf "url = os.getenv \"FAULT_URL\"" >out
            for (i = 0; i < NR; i++) print "" >out
        }' "$1"
}

while read -r file; do
    mkdir -p "$scratch/$(dirname "$file")"
    extract "$root/lua/leat/$file.lua" "$file"
done < <(cd "$root/lua/leat" && find . -name "*.lua" | sed 's|^\./||; s|\.lua$||' | sort)

begin "there are examples"
find "$scratch" -name "*:*.lua" | grep -q . || fail "none found"

while read -r line_of; do
    begin "the example at lua/leat/${line_of/:/.lua:}"
    try "$LEAT" "$line_of.lua" </dev/null
    expect_status 0
done < <(cd "$scratch" && find . -name "*:*.lua" | sed 's|^\./||; s/\.lua$//' | sort -t: -k1,1 -k2,2n)

finish
