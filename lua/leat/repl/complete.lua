-- Completion at the prompt: finds what may follow at the cursor. It runs no code of the user.
local chunk = require "leat.repl.chunk"
local native = require "leat.native.request"

local M = {}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
    true until while]]):gmatch "%S+" do
    KEYWORDS[#KEYWORDS + 1] = word
end

-- Options that Lua does not check: C checks them, or nothing does. All other options are read from the tables
-- of the checks.
local OPTIONS = {
    request = native.options(false),
    client = native.options(true),
    error = "attempts cause code kind message reason retry_after retryable status",
    ["json.encode"] = "indent max_depth sorted",
    ["json.decode"] = "big builder max_depth surrogates",
    sha256 = "raw",
    hmac = "algorithm raw",
    ["base64.encode"] = "pad url",
    ["base64.decode"] = "url",
}
-- The options of client:get(path, options) and similar methods.
OPTIONS.verb = OPTIONS.request:gsub("%f[%w_]url%f[^%w_]", ""):gsub("%f[%w_]method%f[^%w_]", "")

local VERBS = { get = true, post = true, put = true, patch = true, delete = true, head = true }
-- Tables whose names look like tables of options, but that contain something else.
local NO_OPTIONS = { KINDS = true, ALGORITHMS = true }

local function words_of(text)
    local words = {}
    for word in text:gmatch "%S+" do
        words[word] = true
    end
    return words
end

-- An __index function of leat may be called: it creates a field on first use, and it never waits.
local function is_ours(fn)
    local info = debug.getinfo(fn, "S")
    return info.what == "C" or info.source:find "^@leat/" ~= nil
end

local function index_of(value)
    local mt = debug.getmetatable(value)
    return type(mt) == "table" and rawget(mt, "__index") or nil
end

local function field(value, key)
    for _ = 1, 20 do
        local found = type(value) == "table" and rawget(value, key) or nil
        if found ~= nil then
            return found
        end
        local index = index_of(value)
        if type(index) == "function" then
            local ok, made = pcall(function()
                return is_ours(index) and index(value, key) or nil
            end)
            return ok and made or nil
        elseif index == nil then
            return nil
        end
        value = index
    end
end

-- Adds the names of the value's fields and methods. `of` is the value whose fields are asked for.
local function collect(value, names, depth, of)
    if type(value) == "table" then
        local n = 0
        for key in next, value do
            n = n + 1
            if n > 20000 then
                break
            elseif type(key) == "string" and key:find "^[%a_][%w_]*$" then
                names[key] = true
            end
        end
    end
    local index = depth < 10 and index_of(value) or nil
    if type(index) == "table" then
        collect(index, names, depth + 1, of)
    elseif type(index) == "function" and is_ours(index) then
        local likely = {} -- names in the tables where it may look them up
        for i = 1, 20 do
            local name, up = debug.getupvalue(index, i)
            if not name then
                break
            elseif type(up) == "table" and up ~= package.loaded and up ~= _G then
                collect(up, likely, depth + 1, up)
            end
        end
        for name in pairs(likely) do
            if names[name] == nil and field(of, name) ~= nil then
                names[name] = true
            end
        end
    end
end

-- Evaluates "a.b[1].c" without calling any function. Returns found, value.
local function evaluate(path, kept)
    local first, rest = path:match "^([%a_][%w_]*)(.*)$"
    if not first then
        return false
    end
    local value
    if kept[first] then
        value = chunk.value(kept, first)
    else
        value = field(_G, first)
    end
    while rest ~= "" and value ~= nil do
        local key, more = rest:match "^[.:]([%a_][%w_]*)(.*)$"
        if not key then
            key, more = rest:match "^%[(%d+)%](.*)$"
            key = tonumber(key)
        end
        if not key then
            key, more = rest:match "^%[[\"']([^\"'\\]*)[\"']%](.*)$"
        end
        if not key then
            return false
        end
        value, rest = field(value, key), more
    end
    return value ~= nil, value
end

-- The function that is called with the brace that is open at the end of the text: name{ or name(..., {
local function called(text)
    local depth = 0
    local path = text:match "([%a_][%w_.:]*)%s*$"
    for i = #text, 1, path and #text + 1 or -1 do
        local c = text:sub(i, i)
        if c:find "[%)%]}]" then
            depth = depth + 1
        elseif c:find "[%(%[{]" then
            depth = depth - 1
        end
        if depth < 0 then
            return c == "(" and text:sub(1, i - 1):match "([%a_][%w_.:]*)%s*$" or nil
        end
    end
    return path
end

-- The options of the function whose table of options is open at the end of the text, or nil.
local function options_for(text, kept)
    local depth = 0
    for i = #text, 1, -1 do
        local c = text:sub(i, i)
        if c == "}" or c == ")" then
            depth = depth + 1
        elseif (c == "{" or c == "(") and depth > 0 then
            depth = depth - 1
        elseif c == "{" then
            local path = called(text:sub(1, i - 1))
            if not path then
                return nil
            end
            local found, fn = evaluate(path, kept)
            local last = path:match "[%a_][%w_]*$"
            local names = words_of(VERBS[last] and path:find ":" and OPTIONS.verb
                or OPTIONS[path:gsub("^leat%.", "")] or "")
            for up = 1, found and type(fn) == "function" and is_ours(fn) and 60 or 0 do
                local upvalue, rows = debug.getupvalue(fn, up)
                if not upvalue then
                    break
                elseif upvalue:find "^%u+$" and not NO_OPTIONS[upvalue] and type(rows) == "table" then
                    -- such as GATHER: name -> type
                    for name, kind in pairs(rows) do
                        if type(name) == "string" and (kind == true or type(kind) == "string") then
                            names[name] = true
                        end
                    end
                end
            end
            return next(names) and names
        end
    end
end

local function module_names(names)
    for name in pairs(package.preload) do
        if name == "leat" or name:find "^leat%.[%w_]+$" then
            names[name] = true
        end
    end
    for name in pairs(package.loaded) do
        if not name:find "^leat%.[%w_]+%." and not name:find "^_" then
            names[name] = true
        end
    end
    names.cjson, names["cjson.safe"] = true, true
end

local function columns(list, width)
    local widest = 0
    for _, name in ipairs(list) do
        widest = math.max(widest, #name + 2)
    end
    local per_row = math.max(1, math.floor(width / widest))
    local rows = math.ceil(#list / per_row)
    local out = {}
    for row = 1, rows do
        local cells = {}
        for i = row, #list, rows do
            cells[#cells + 1] = list[i] .. (" "):rep(widest - #list[i])
        end
        out[row] = (table.concat(cells):gsub("%s+$", ""))
    end
    return table.concat(out, "\n") .. "\n"
end

-- From `names` (a set), takes those that begin with `start`. Returns the text to insert, and the list to
-- show.
local function choose(names, start, ending, width)
    local fit = {}
    for name in pairs(names) do
        if name:sub(1, #start) == start and (name:sub(1, 1) ~= "_" or start:sub(1, 1) == "_") then
            fit[#fit + 1] = name
        end
    end
    if #fit == 0 then
        return "", ""
    elseif #fit == 1 then
        return fit[1]:sub(#start + 1) .. ending(fit[1]), ""
    end
    table.sort(fit)
    local common = fit[1]
    for _, name in ipairs(fit) do
        while name:sub(1, #common) ~= common do
            common = common:sub(1, -2)
        end
    end
    if #common > #start then
        return common:sub(#start + 1), ""
    end
    if #fit > 200 then
        return "", #fit .. " names\n"
    end
    return "", columns(fit, width)
end

-- `text` is the text before the cursor. Returns the text to insert, and the lines to show above the prompt.
function M.complete(text, kept, width)
    if not text:match "[^\n]*$":find "%S" then
        return "    ", ""
    end
    local quote, module = text:match "require%s*%(?%s*([\"'])([%w_.%-/]*)$"
    local names = {}
    if module then
        module_names(names)
        return choose(names, module, function()
            return quote
        end, width)
    end
    local path, mark, start = text:match "([%a_][%w_.:%[%]\"']*)([.:])([%w_]*)$"
    if path then
        local found, value = evaluate(path, kept)
        if not found then
            return "", ""
        end
        collect(value, names, 0, value)
        if mark == ":" then
            for name in pairs(names) do
                if type(field(value, name)) ~= "function" then
                    names[name] = nil
                end
            end
        end
        return choose(names, start, function(name)
            return type(field(value, name)) == "function" and "(" or ""
        end, width)
    end
    start = text:match "[%a_][%w_]*$" or ""
    local before = text:sub(1, #text - #start)
    if before:find "[{,]%s*$" then
        local options = options_for(before, kept)
        if options then
            return choose(options, start, function()
                return " = "
            end, width)
        end
    end
    if start == "" then
        return "", ""
    end
    collect(_G, names, 0, _G)
    for name in pairs(kept) do
        names[name] = true
    end
    for _, word in ipairs(KEYWORDS) do
        names[word] = true
    end
    return choose(names, start, function(name)
        local found, value = evaluate(name, kept)
        return found and type(value) == "function" and "(" or ""
    end, width)
end

return M
