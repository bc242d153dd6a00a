-- Pages of Markdown made one folder of HTML: cmark-gfm converts, and what is here adds anchors, links from
-- names to where they are described, the frame of the page, and the index for searching.
local json = require("leat").json
local sources = require "sources"

local M = {}

local ENTITY = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escaped(text)
    return (text:gsub('[&<>"]', ENTITY))
end

local function plain(html)
    local text = html:gsub("<[^>]*>", "")
    return (text:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&quot;", '"'):gsub("&amp;", "&"))
end

-- cmark-gfm's HTML of a Markdown file.
local function converted(cmark, path)
    local pipe = assert(io.popen(("'%s' -e table '%s'"):format(cmark, path)))
    local html = pipe:read "*a"
    pipe:close()
    assert(html ~= "", cmark .. " made nothing of " .. path)
    assert(not html:find("raw HTML omitted", 1, true), path .. " has HTML in it: write `<` in backticks")
    return html
end

-- ---- colours of Lua

local WORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
    true until while]]):gmatch "%S+" do
    WORDS[word] = true
end

local function span(class, html)
    return ('<span class="%s">%s</span>'):format(class, html)
end

-- What a piece of Lua begins with: its end and its class. (The text is HTML: a quote is &quot;.)
local function token(text, at)
    local to = text:match("^%-%-%[%[.-%]%]()", at) or text:match("^%-%-[^\n]*()", at)
    if to then
        return to, "comment"
    end
    to = text:match("^%[%[.-%]%]()", at) or text:match("^'[^'\n]*'()", at)
    if to then
        return to, "string"
    elseif text:find("^&quot;", at) then
        to = at + 6
        while to <= #text and not text:find("^&quot;", to) do
            to = to + (text:find("^\\&quot;", to) and 7 or text:find("^\\", to) and 2 or 1)
        end
        return to + 6, "string"
    end
    local word = text:match("^[%a_][%w_]*", at)
    if word then
        return at + #word, WORDS[word] and "word" or nil
    end
    to = text:match("^%d[%w.]*()", at)
    return to or text:match("^&%a+;()", at) or at + 1, to and "number" or nil
end

local function coloured(text)
    local out, at = {}, 1
    while at <= #text do
        local to, class = token(text, at)
        local piece = text:sub(at, to - 1)
        out[#out + 1] = class and span(class, piece) or piece
        at = to
    end
    return table.concat(out)
end

-- ---- anchors and links

-- The anchor of a heading: a name stays as it is, "Fetch many" is fetch-many.
local function anchor_of(html)
    local name = html:match "^<code>([^<]*)</code>$"
    if name then
        return plain(name)
    end
    return (plain(html):lower():gsub("[^%w]+", "-"):gsub("^%-+", ""):gsub("%-+$", ""))
end

-- What objects are mostly called in texts.
local OBJECTS = {
    ai = "openai", api = "client", g = "group", limit = "limiter", pipe = "pipeline", place = "reservation",
    q = "queue", res = "response", sem = "semaphore", slots = "adaptive", t = "task",
}
local GLOBALS = {
    gather = true, request = true, semaphore = true, sleep = true, spawn = true, wait_for = true,
}

-- Where a name in a text is described: "leat.map(items, fn)", "res:json()", "leat.map_options"; or nil.
local function place_of(text, places)
    local name = text:match "^[%w_.:]+"
    if not name or name == "leat" then
        return nil
    end
    local bare = name:match "^leat%.(.+)$"
    local object, method = name:match "^([%w_]+):([%w_]+)$"
    if name:find "^leat_" or places[name] and name:find "[.:]" then
        return places[name]
    elseif bare then
        return places[bare] or places[bare:gsub("%.", ":")]
    elseif object then
        return places[(OBJECTS[object] or object) .. ":" .. method]
    end
    return GLOBALS[name] and places[name]
end

-- Links the names in texts and in code, except those that lead to the heading that they stand in.
local function linked(html, page, places)
    local at_heading
    local inside = { pre = 0, a = 0, h1 = 0, h2 = 0, h3 = 0 }
    return (html:gsub("(<[^>]*>)([^<]*)", function(tag, text)
        local id = tag:match '^<h%d id="([^"]*)"'
        at_heading = id or at_heading
        local closing, element = tag:match "^<(/?)(%w+)"
        if inside[element] then
            inside[element] = closing == "" and 1 or 0
        end
        for _, n in pairs(inside) do
            if n > 0 then
                return nil
            end
        end
        local function link(name)
            local to = place_of(plain(name), places)
            if not to or to == page .. ".html#" .. (at_heading or "") then
                return nil
            end
            return ('<a href="%s">%s</a>'):format(escaped(to), name)
        end
        -- A type may name several: "number|leat.timeouts", "leat.task[]".
        local types = text:find("leat.", 1, true) and text:find "|" or text:find "^leat%.[%w_]+[%[%]?]"
            or text:find "[%(<]leat%."
        if tag ~= "<code>" or types then
            return tag .. text:gsub("%f[%w]leat%.[%w_]+", link)
        end
        return tag .. (link(text) or text)
    end))
end

-- Gives the headings anchors. Returns the HTML and the headings: {level, id, html}.
local function anchored(html)
    local headings, used = {}, {}
    html = html:gsub("<h([123])>(.-)</h%1>", function(level, text)
        local id = anchor_of(text)
        while used[id] do
            id = id .. "-"
        end
        used[id] = true
        headings[#headings + 1] = { level = tonumber(level), id = id, html = text }
        local mark = level ~= "1" and (' <a class="here" href="#%s" aria-label="link to this">#</a>')
            :format(escaped(id)) or ""
        return ('<h%s id="%s">%s%s</h%s>'):format(level, escaped(id), text, mark, level)
    end)
    return html, headings
end

local function contents(headings)
    local items = {}
    for _, h in ipairs(headings) do
        if h.level == 2 then
            items[#items + 1] = ('<li><a href="#%s">%s</a></li>'):format(escaped(h.id), h.html)
        end
    end
    if #items < 4 then
        return ""
    end
    return '<div class="contents"><ul>\n' .. table.concat(items, "\n") .. "\n</ul></div>\n"
end

-- ---- the index for searching

-- The first sentence behind a heading, and the names of the options that stand below it.
local function index_rows(page, html, headings)
    local rows = {}
    for i, h in ipairs(headings) do
        local from = html:find(('id="%s"'):format(escaped(h.id)), 1, true)
        local to = headings[i + 1] and html:find(('id="%s"'):format(escaped(headings[i + 1].id)), 1, true)
            or #html + 1
        local part = html:sub(from, to - 1)
        local text = plain(part:match "<p>(.-)</p>" or ""):gsub("%s+", " ")
        if text:find "^Takes" or text:find "^Returns" or text:find "^Example" then
            text = ""
        end
        local words, seen = {}, {}
        for code in part:gsub("<h%d.-</h%d>", ""):gmatch "<code>([%l_]+)</code>" do
            if not seen[code] and #code > 2 and not h.html:find(code, 1, true) then
                seen[code] = true
                words[#words + 1] = code
            end
        end
        rows[#rows + 1] = json.array {
            plain(h.html), page .. ".html" .. (h.level > 1 and "#" .. h.id or ""),
            #text > 90 and text:sub(1, 87):gsub("%s+%S*$", "") .. "..." or text, table.concat(words, " "),
        }
    end
    return rows
end

-- ---- pages

local function navigation(sections, current)
    local out = {} -- (to the first page leads the name above)
    for _, section in ipairs(sections) do
        out[#out + 1] = "<h4>" .. escaped(section.title) .. "</h4>\n<ul>"
        for _, page in ipairs(section) do
            out[#out + 1] = ('<li><a href="%s.html"%s>%s</a></li>'):format(page.name,
                page.name == current and ' aria-current="page"' or "", escaped(page.title))
        end
        out[#out + 1] = "</ul>"
    end
    return table.concat(out, "\n")
end

local function filled(template, values)
    return (template:gsub("{{(%l+)}}", function(name)
        return assert(values[name], name)
    end))
end

-- The pages with their anchors; where each name is described; and the rows of the index.
local function gathered(site)
    local pages, places, index = {}, {}, json.array {}
    for _, section in ipairs { { site.first }, unpack(site.sections) } do
        for _, page in ipairs(section) do
            local html, headings = anchored(converted(site.cmark, site.out .. "/md/" .. page.name .. ".md"))
            pages[#pages + 1] = { name = page.name, title = page.title, html = html, headings = headings }
            for _, h in ipairs(headings) do
                if h.html:find "^<code>" then
                    places[h.id] = places[h.id] or page.name .. ".html#" .. h.id
                end
            end
            for _, row in ipairs(index_rows(page.name, html, headings)) do
                index[#index + 1] = row
            end
        end
    end
    return pages, places, index
end

-- What stands in the frame of a page.
local function body_of(page, places)
    local html = page.html:gsub('(<pre><code class="language%-lua">)(.-)(</code></pre>)', function(a, code, b)
        return a .. coloured(code) .. b
    end)
    html = linked(html, page.name, places)
    -- (On a narrow screen the rows of these are stacked.)
    html = html:gsub("<table>(%s*<thead>%s*<tr>%s*<th>field</th>)", '<table class="fields">%1')
    -- Pages lie in one folder, whatever folder their Markdown lies in.
    html = html:gsub('href="([^":]*)%.md(#?[^"]*)"', function(path, anchor)
        return ('href="%s.html%s"'):format(path:match "[^/]*$", anchor)
    end)
    return (html:gsub("</h1>\n<p>.-</p>\n", function(tag)
        return tag .. contents(page.headings)
    end, 1))
end

-- Makes out/html/NAME.html of out/md/NAME.md for the first page and for each page of the sections, which are
-- lists of {name, title} with a `title` of their own. `site` has these, out, cmark, template, version.
function M.write(site)
    local pages, places, index = gathered(site)
    -- No "</script>" may stand in a script.
    local index_text = assert(json.encode(index)):gsub("<", "\\u003c")
    local version = escaped(site.version)
    for _, page in ipairs(pages) do
        local title = escaped(page.title) .. (page.name == site.first.name and "" or " · Leat")
        sources.write(("%s/html/%s.html"):format(site.out, page.name), filled(site.template, {
            title = title, version = version, nav = navigation(site.sections, page.name),
            body = body_of(page, places), index = index_text, footer = "Leat " .. version,
        }))
    end
end

return M
