-- help() at the prompt and `leat help`. They show the comments above leat's public functions, which are read
-- from leat's own sources.
local annotations = require "leat.repl.annotations"
local check = require "leat.internal.check"
local native = require "leat.native.runtime"
local leat = require "leat"

local M = {}

local sources, entries, public

-- The name of a class in help, if it differs from the name in its module.
local SHOWN = {
    ["leat.http methods"] = "response", ["leat.http.stream M"] = "response",
    ["leat.openai Client"] = "openai",
    ["leat.gather Arrivals"] = "as_completed", ["leat.gather Nursery"] = "group",
    ["leat.serve Request"] = "req", ["leat.jsonl Writer"] = "writer",
}

-- "M.request" becomes request, and "Client:get" becomes client:get.
local function shown_name(name, module)
    local class, method = name:match "^(.*)[:.]([%w_]+)$"
    class = class and SHOWN[module .. " " .. class]
    name = class and class .. ":" .. method or name:gsub("^M[.:]", "")
    return (name:gsub("^%u", string.lower))
end

-- Fills `entries` with {name, module, doc (lines), first and last line of the definition}.
local function read_module(module, text)
    local block, number = {}, 0
    for line in (text .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        local doc = line:match "^%-%-%- ?(.*)" or line:match "^%-%-%-(.*)"
        if doc then
            block[#block + 1] = doc
        else
            local name = line:match "^local function ([%w_]+)" or line:match "^function ([%w_.:]+)%s*%("
                or line:match "^([%w_.]+)%s*="
            local elsewhere = line:match "^%-%- ([%w_.]+:[%w_]+) is in C%.$"
                or line:match "^%-%- ([%w_.]+:[%w_]+) is made above%.$"
            name = name or elsewhere
            local class = table.concat(block, "\n"):match "@class leat%.(%w+)"
            if (class or name) and #block > 0 then
                entries[#entries + 1] = {
                    name = class or shown_name(name, module), module = module, doc = block,
                    source = class and "class " .. class or name, line = number,
                }
            end
            block = elsewhere and block or {} -- one text may apply to several such lines
        end
    end
end

local function entry_at(module, name)
    for _, entry in ipairs(entries) do
        if entry.module == module and entry.source:gsub("^M[.:]", "") == name then
            return entry
        end
    end
end

local function load_all()
    if entries then
        return
    end
    sources, entries, public = native.sources(), {}, {}
    local modules = {}
    for module in pairs(sources) do
        modules[#modules + 1] = module
    end
    table.sort(modules)
    for _, module in ipairs(modules) do
        read_module(module, sources[module])
    end
    local init = sources.leat
    local function add(name, module, field)
        local entry = entry_at("leat." .. module, field)
        if entry then
            public[name], entry.public = entry, name
        end
    end
    for name, module, field in init:gmatch '([%w_]+) = { "leat%.([%w_]+)", "([%w_]+)" }' do
        add(name, module, field)
    end
    for name, module, field in init:gmatch "\n%s+([%w_]+) = ([%w_]+)%.([%w_]+)," do
        add(name, module, field)
    end
    for name, module in init:gmatch '\n%s+([%w_]+) = { "leat%.([%w_]+)" }' do
        for _, entry in ipairs(entries) do
            if entry.module == "leat." .. module and entry.name:find "^writer:" then
                entry.public = entry.name
            elseif entry.module == "leat." .. module and not entry.source:find "^class" then
                entry.public = name .. (entry.source:find ":" and ":" or ".")
                    .. entry.source:gsub("^M[.:]", "")
                public[entry.public] = entry
            end
        end
    end
    add("mock.start", "mock", "start") -- scripts require this module
    for _, entry in ipairs(entries) do
        entry.public = entry.public or entry.name:find ":" and entry.name
            or entry.source:find "^M%.[%w_]+%." and entry.name or nil
        if entry.public and not public[entry.public] then
            public[entry.public] = entry
        end
    end
    public.response = public.response or entry_at("leat.http", "class response")
end

local function parts_of(entry)
    entry.parts = entry.parts or annotations.parts(entry.doc)
    return entry.parts
end

-- Shows a type of options as "table": the text describes the options.
local function shown_kind(part)
    return (part.kind:gsub("leat%.[%l%d_]+_options", "table"))
end

local function text_of(entry, name)
    local out = { annotations.signature(name, parts_of(entry)), "" }
    for _, part in ipairs(parts_of(entry)) do
        local first = part.lines[1] or ""
        if part.what == "param" then
            out[#out + 1] = ("  %s%s (%s)%s"):format(part.name, part.optional and "?" or "",
                shown_kind(part),
                first ~= "" and ": " .. first or "")
        elseif part.what == "return" then
            out[#out + 1] = "  returns " .. part.kind .. (first ~= "" and " " .. first or "")
        elseif part.what == "example" then
            out[#out + 1] = "  example:"
        end
        for i = (part.what == "param" or part.what == "return") and 2 or 1, #part.lines do
            out[#out + 1] = "  " .. part.lines[i]
        end
    end
    return (table.concat(out, "\n"):gsub("[ \n]+$", "") .. "\n")
end

local function first_sentence(entry)
    local first = parts_of(entry)[1]
    local text = first.what == "text" and table.concat(first.lines, " "):gsub("%s+$", "") or ""
    local sentence = text:match "^(.-[^%d]%.) " or text
    return #sentence > 84 and sentence:sub(1, 81):gsub("%s+%S*$", "") .. "..." or sentence
end

local function listing(names)
    table.sort(names)
    local out = {}
    for _, name in ipairs(names) do
        out[#out + 1] = ("  %-22s %s"):format(name, first_sentence(public[name]))
    end
    return table.concat(out, "\n") .. "\n"
end

local function all_names()
    local names, members = {}, {}
    for name in pairs(public) do
        local list = name:find "[.:]" and members or names
        list[#list + 1] = name
    end
    table.sort(members)
    local more = ("  " .. table.concat(members, " ")):gsub("(" .. ("."):rep(70) .. "[^ ]*) ", "%1\n  ")
    return "leat. (request, gather, semaphore, wait_for, sleep, spawn and json without it too):\n"
        .. listing(names) .. "and, each with a help of its own:\n" .. more .. "\n"
end

local function overview()
    return "At the prompt: an expression is waited for and shown; _ is the last value, _1 that of line 1.\n"
        .. "  help(request), help \"json\"   what one thing does      tasks()      who waits for what\n"
        .. "  inspect(v, options)          a value, as text         cancel(id)   ends one of them\n"
        .. "Tab completes, Ctrl-R searches the history, Ctrl-C cancels a line, Ctrl-D leaves.\n\n"
        .. all_names()
end

-- Usual variable names for these objects.
local ALIASES = {
    res = "response", sem = "semaphore", q = "queue", t = "task", ai = "openai", pipe = "pipeline",
}

-- Returns the text about a name, and whether the name is known.
local function by_name(word)
    local name = word:lower():gsub("^leat[.:]", ""):gsub("^%w+", ALIASES)
    local entry = public[name] or public[name:gsub("%.", ":")]
    local members, namesakes, mentions = {}, {}, {}
    for other, e in pairs(public) do
        if other:sub(1, #name) == name and other:find("^[.:]", #name + 1) then
            members[#members + 1] = other
        elseif other:match "[.:](.*)$" == name then
            namesakes[#namesakes + 1] = other
        elseif table.concat(e.doc, " "):find(name, 1, true) then
            mentions[#mentions + 1] = other
        end
    end
    if not entry and #members == 0 and #namesakes == 1 then
        name, namesakes = namesakes[1], {}
        entry = public[name]
    end
    for _, other in ipairs(namesakes) do
        members[#members + 1] = other
    end
    if entry then
        return text_of(entry, name) .. (#members > 0 and "\n" .. listing(members) or ""), true
    elseif #members > 0 then
        return listing(members), true
    end
    local near = check.near(name, public)
    if near == "" and #mentions > 0 then
        return "no '" .. check.hidden(word) .. "', but it is mentioned by:\n" .. listing(mentions), false
    end
    near = near ~= "" and " (did you mean " .. near .. "?)" or ""
    return "nothing is known about '" .. check.hidden(word) .. "'" .. near
        .. "; help() lists what there is\n", false
end

local function entry_of(fn)
    local info = debug.getinfo(fn, "S")
    local module = info.source:match "^@(leat/.*)%.lua$"
    module = module and module:gsub("/init$", ""):gsub("/", ".")
    for _, entry in ipairs(entries) do
        if entry.module == module and entry.line == info.linedefined then
            return entry
        end
    end
end

local function by_function(fn)
    for name, entry in pairs(public) do
        local value = leat
        for part in name:gmatch "[^.:]+" do
            value = type(value) == "table" and value[part] or nil
        end
        if rawequal(value, fn) then
            return text_of(entry, name)
        end
    end
    local entry = entry_of(fn)
    return entry and text_of(entry, entry.public or entry.name)
end

local function by_table(t)
    for name, value in pairs(leat) do
        if rawequal(value, t) then
            return by_name(name)
        end
    end
    local mt = debug.getmetatable(t)
    local class = type(mt) == "table" and mt.__name or ""
    local words = { [tostring(t):match "^%w+" or ""] = true, [class] = true }
    for word in pairs(words) do
        word = word:gsub("^leat%.", "")
        if word ~= "" and word ~= "table" and (public[word] or word == "task") then
            return by_name(word)
        end
    end
    -- The class has no name of its own: one of its methods identifies it.
    local methods = type(mt) == "table" and rawget(mt, "__index")
    for _, method in pairs(type(methods) == "table" and methods or {}) do
        local entry = type(method) == "function" and entry_of(method)
        if entry and entry.name:find ":" then
            return by_name((entry.name:match "^(.*):"))
        end
    end
end

--- Shows what is known about a function, a name or a value of leat.
---@param ... any a function, a name such as "request" or "response:json", a response, a task ...
function M.help(...)
    load_all()
    local what, text = (...)
    if select("#", ...) == 0 then
        text = overview()
    elseif what == nil then
        text = "that is nil; write a name in quotes: help \"gather\"; help() lists what there is\n"
    elseif type(what) == "string" then
        text = by_name(what)
    elseif type(what) == "function" then
        text = by_function(what) or "no description: a function of Lua's own, or of the script\n"
    else
        text = by_table(what) or "a " .. type(what) .. "; help() lists what there is\n"
    end
    io.stdout:write(text)
end

-- For `leat help`: returns the text about a name, and whether the name is known. Without a name, it returns
-- the list of names.
function M.about(name)
    load_all()
    if name then
        return by_name(name)
    end
    return all_names(), true
end

-- The names of all public functions, sorted.
function M.names()
    load_all()
    local names = {}
    for name in pairs(public) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- The text about one function. Its first line is the signature.
function M.describe(name)
    return text_of(public[name], name)
end

-- The entry of one function: {module, doc, parts}.
function M.entry(name)
    load_all()
    local entry = public[name]
    return entry and { module = entry.module, doc = entry.doc, parts = parts_of(entry) }
end

-- The names in backticks in the comment of a public function. These are its options; completion uses them.
function M.option_names(name)
    load_all()
    local names = {}
    local entry = public[name]
    for _, line in ipairs(entry and entry.doc or {}) do
        if line:find "^@return" then
            break
        end
        for option in line:gmatch "`([%l_]+)`" do
            names[option] = true
        end
    end
    return names
end

return M
