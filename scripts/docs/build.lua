-- usage: leat scripts/docs/build.lua LEAT OUT CMARK: writes the reference: OUT/md has its pages as Markdown,
-- OUT/html as HTML. They are the pages in docs/, and those that are made from the comments above the public
-- functions and from leat.h. CMARK is the program cmark-gfm. `cmake --build build --target docs` runs this.
local leat = require "leat"
local header = require "header"
local html = require "html"
local reference = require "reference"
local sources = require "sources"

local LEAT, OUT, CMARK = arg[1], arg[2], arg[3]
if not CMARK then
    print "usage: leat scripts/docs/build.lua LEAT OUT CMARK"
    os.exit(2)
end
local folder = arg[0]:match "^(.*)/[^/]*$" or "."
local root = folder .. "/../.."

-- The pages that are written by hand, in their order: files in docs/.
local RECIPES = {
    "recipes/fetch-many", "recipes/try-again", "recipes/limits", "recipes/merge-streams",
    "recipes/two-stages", "recipes/resume", "recipes/fallback", "recipes/serve-requests", "recipes/embed-c",
    "recipes/love",
}
local GUIDES = {
    "primitives", "errors", "stopping", "command-line", "embedding", "lua-hosts", "editor", "install",
    "benchmarks",
}

local function run(command)
    local pipe = assert(io.popen(command))
    local text = pipe:read "*a"
    pipe:close()
    return (text:gsub("%s+$", ""))
end

-- A line {{leat ...}} becomes what that command prints.
local function with_help(text)
    return (text:gsub("{{leat ([^}\n]*)}}", function(arguments)
        local help = run(("'%s' %s"):format(LEAT, arguments))
        return "```text\n" .. (help ~= "" and help or "not in this build") .. "\n```"
    end))
end

local names = {}

local function page(name, text)
    assert(not names[name], "two pages are called " .. name)
    names[name] = true
    sources.write(("%s/md/%s.md"):format(OUT, name), text)
    return { name = name, title = (text:match "^# ([^\n]*)":gsub("`", "")), text = text }
end

local function written(files, title)
    local section = { title = title }
    for _, file in ipairs(files) do
        local text = sources.read(root .. "/scripts/docs/pages/" .. file .. ".md")
        section[#section + 1] = page(file:match "[^/]*$", with_help(text))
    end
    return section
end

local function made()
    local section = { title = "Modules" }
    for _, p in ipairs(reference.pages(folder)) do
        page(p.name, p.text)
        section[#section + 1] = p
    end
    section[#section + 1] = page("c", header.page(sources.read(root .. "/src/leat.h")))
    return section
end

-- The first sentence of a page, behind headings and blocks of code.
local function first_sentence(text)
    text = text:gsub("```.-\n```", ""):gsub("\n#+ [^\n]*", "\n"):gsub("^# [^\n]*", "")
    return (text:match "^%s*(.-%.)%f[%s%z]":gsub("\n", " "))
end

-- The first page lists all others with the first sentence of each.
local function overview(sections)
    local out = { (sources.read(root .. "/scripts/docs/pages/index.md")) }
    for _, section in ipairs(sections) do
        out[#out + 1] = "## " .. section.title .. "\n"
        for _, p in ipairs(section) do
            out[#out + 1] = ("- [%s](%s.md): %s"):format(p.title, p.name, p.about or first_sentence(p.text))
        end
        out[#out + 1] = ""
    end
    return page("index", table.concat(out, "\n"))
end

assert(os.execute(("mkdir -p '%s/md' '%s/html'"):format(OUT, OUT)) == 0)
local sections = { written(RECIPES, "Recipes"), written(GUIDES, "Guides"), made() }
html.write {
    out = OUT, first = overview(sections), sections = sections, cmark = CMARK,
    template = sources.read(folder .. "/template.html"), version = leat.version.leat,
}
