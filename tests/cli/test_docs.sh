#!/bin/bash
# The reference: every public name has a place in it, its links lead somewhere, and it needs no network.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
BUILD=${BUILD:-$root/build}

begin "without cmark-gfm the build says what to install, and builds the rest"
try cmake -S "$root" -B none -DLEAT_CMARK=OFF -DLEAT_TESTS=OFF
expect_status 0
try cmake --build none --target docs
[ "$status" != 0 ] || fail "it was made"
expect_out "scripts/deps.sh docs"

if ! command -v cmark-gfm >/dev/null; then
    echo "  skipped: cmark-gfm is not installed (scripts/deps.sh docs)"
    finish
fi

begin "the target docs writes the pages"
try "$LEAT" "$root/scripts/docs/build.lua" "$LEAT" "$scratch/docs" "$(command -v cmark-gfm)"
expect_status 0
pages=$scratch/docs/html
[ -s "$pages/index.html" ] || fail "there is no first page"

# look FOLDER: complains about what is wrong with the pages in it.
cat >look.lua <<'LUA'
local folder = arg[1]
local anchors, texts, places = {}, {}, {}
local list = io.popen("cd '" .. folder .. "' && ls *.html")
for file in list:lines() do
    local f = assert(io.open(folder .. "/" .. file))
    local text = f:read "*a"
    f:close()
    texts[file], anchors[file] = text, {}
    for id in text:gmatch 'id="([^"]*)"' do
        if anchors[file][id] then print(file .. ": two anchors are called " .. id) end
        anchors[file][id] = true
        places[id] = true
    end
end
local names = require("leat.repl.help").names()
for _, name in ipairs { "version", "stdin", "json", "jsonl", "log", "base64" } do
    names[#names + 1] = name
end
for name in (select(2, require("leat.repl.complete").complete("leat.", {}, 1))):gmatch "[%w_]+" do
    names[#names + 1] = name
end
if #names < 150 then print("only " .. #names .. " names") end
for _, name in ipairs(names) do
    local found = places[name] or places["leat." .. name]
    for place in pairs(places) do -- leat.json is described by its functions
        found = found or place:find("^" .. name .. "[.:]%w")
    end
    if not found then print("no place for " .. name) end
end
for file, text in pairs(texts) do
    local page = text:gsub("<script>.-</script>", "")
    for address in page:gmatch 'href="([^"]*)"' do
        local to, anchor = address:match "^([^#]*)#?(.*)$"
        to = to == "" and file or to
        if not address:find "^https?:" and (not anchors[to] or anchor ~= "" and not anchors[to][anchor]) then
            print(file .. ": a link leads nowhere: " .. address)
        end
    end
    for _, row in ipairs(assert(json.decode(text:match "var index = (%b[]);"))) do
        local to, anchor = row[2]:match "^([^#]*)#?(.*)$"
        if not anchors[to] or anchor ~= "" and not anchors[to][anchor] then
            print(file .. ": the index leads nowhere: " .. row[2])
        end
    end
    for _, what in ipairs { "<link", "<img", "<iframe", "<script [^>]*src", "@import", "url%(", "fetch%(",
        "XMLHttpRequest", "import%(", "omitted", "{{%l+}}" } do
        local bad = (what == "omitted" and page or text):match(what)
        if bad then print(file .. ": has " .. bad) end
    end
    if page:find("<p>[^<]*```") then print(file .. ": a block of code is not one") end
end
LUA
look() { try "$LEAT" look.lua "$1"; }

begin "every public name has a page and an anchor, every link leads somewhere, nothing is loaded from elsewhere"
look "$pages"
expect_status 0
expect_equal "$(cat out)" ""

begin "a name without a place, a dead link and a font from elsewhere would be noticed"
cp -r "$pages" broken
sed -i -e 's/id="gather"/id="gathered"/' -e 's/href="gather.html#map"/href="gather.html#mop"/' broken/*.html
echo '<link rel="stylesheet" href="https://fonts.example/x.css">' >>broken/http.html
look broken
expect_out "no place for gather"
expect_out "leads nowhere: gather.html#mop"
expect_out "http.html: has <link"

begin "recipes come first"
grep -o '<a href="[a-z-]*\.html"' "$pages/index.html" | sed -n 1,2p >out
expect_equal "$(cat out)" '<a href="fetch-many.html"
<a href="try-again.html"'

begin "every page in scripts/docs/pages/ is in the table of contents, and every function of leat.h has a place"
for file in "$root"/scripts/docs/pages/*.md "$root"/scripts/docs/pages/recipes/*.md; do
    name=$(basename "$file" .md)
    grep -q "href=\"$name.html\"" "$pages/index.html" || fail "$name is not in it"
done
for name in $(grep -oE '\bleat_[a-z_]+\(' "$root/src/leat.h" | tr -d '(' | sort -u); do
    grep -q "id=\"$name\"" "$pages/c.html" || fail "no place for $name"
done

begin "links between the pages in scripts/docs/pages/ lead somewhere on the disk, too"
for file in "$root"/scripts/docs/pages/*.md "$root"/scripts/docs/pages/recipes/*.md; do
    for to in $(grep -oE '\]\([^):# ]+\.md' "$file" | cut -c3-); do
        [ -e "$(dirname "$file")/$to" ] || fail "$file: $to"
    done
done

begin "the search finds a function by its name, an option, and a recipe"
if command -v chromium >/dev/null && [ "$(id -u)" = 0 ]; then
    for words in gather max_redirects "resume crash"; do
        sed 's|^})();$|find.value = "'"$words"'"; show(); })();|' "$pages/index.html" >"$pages/searched.html"
        try chromium --headless --no-sandbox --disable-gpu --user-data-dir="$scratch/chromium" --dump-dom \
            "file://$pages/searched.html"
        grep -o '<ul class="hits">.*</ul>' out | sed 's/<\/a>.*//' >first
        case $words in
        gather) grep -q 'href="gather.html#gather"' first || fail "$words: $(cat first)" ;;
        max_redirects) grep -q 'href="http.html#' first || fail "$words: $(cat first)" ;;
        *) grep -q 'href="resume.html' first || fail "$words: $(cat first)" ;;
        esac
    done
else
    echo "  skipped: Chromium is not installed, or would need its sandbox"
fi

begin "cmake --install puts the pages into share/doc/leat"
if [ -e "$BUILD/docs/html/index.html" ]; then
    try cmake --install "$BUILD" --prefix "$scratch/prefix" --component docs
    expect_status 0
    [ -s "$scratch/prefix/share/doc/leat/index.html" ] || fail "no first page"
    [ -s "$scratch/prefix/share/doc/leat/http.html" ] || fail "no page of a module"
    [ -s "$scratch/prefix/share/leat/library/leat.lua" ] || fail "no definitions for editors"
else
    fail "the build has not made them: cmake --build $BUILD"
fi
finish
