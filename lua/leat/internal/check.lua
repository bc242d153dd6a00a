-- Checks of arguments. Wrong use raises an error at the script's own line. The message says what was given
-- and what is accepted.
local native = require "leat.native.util"

local M = {}

--- picture(value, name): a short description of a value for a message. `name` is the argument's name, or a
--- sentence that contains it. The value is not shown if the name is that of a possible secret (auth, headers,
--- key ...), or if the text looks like a secret.
M.picture = native.picture

-- path(text): the path of a file in the form in which messages may show it.
M.path = native.path

-- hidden(text): the text, or "***" if it holds a secret; for names in messages.
M.hidden = native.hidden

-- where(): "file:line" of the script's own line, or "?".
M.where = native.where

function M.fail(message)
    local where = native.where()
    error(where == "?" and message or where .. ": " .. message, 0)
end

-- Levenshtein distance, for "did you mean".
local function distance(a, b)
    local row = {}
    for j = 0, #b do
        row[j] = j
    end
    for i = 1, #a do
        local diagonal = row[0]
        row[0] = i
        for j = 1, #b do
            local up = row[j]
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            row[j] = math.min(up + 1, row[j - 1] + 1, diagonal + cost)
            diagonal = up
        end
    end
    return row[#b]
end

local function plain(name)
    return (name:lower():gsub("[_%-]", ""))
end

function M.suggest(word, candidates)
    local best, least = nil, 3
    for candidate in pairs(candidates) do
        local d = distance(word, candidate)
        if d < least or d == least and best and candidate < best then
            best, least = candidate, d
        end
    end
    return best
end

local function letters(word)
    local list = { word:byte(1, -1) }
    table.sort(list)
    return table.concat(list, " ")
end

-- The distance between two names: 0 means the same name in another spelling, 3 means not similar.
local function farness(word, candidate)
    local a, b = plain(word), plain(candidate)
    if a == b then
        return 0
    elseif letters(a) == letters(b) then
        return 1
    end
    local d = distance(word, candidate)
    if d > 2 and #a > 3 and #b > 3 and (a:find(b, 1, true) or b:find(a, 1, true)) then
        return 2
    end
    return (d < 2 and #word > 1 or d == 2 and #word > 5) and d or 3
end

-- The most similar candidates, at most three, as text.
local function near_ones(word, candidates)
    local least, found = 3, {}
    for candidate in pairs(candidates) do
        local d = farness(word, candidate)
        if d < least then
            least, found = d, {}
        end
        if d == least and d < 3 then
            found[#found + 1] = "'" .. candidate .. "'"
        end
    end
    table.sort(found)
    return table.concat(found, " or ", 1, math.min(#found, 3)), least
end

M.near = near_ones

local function sorted(candidates)
    local names = {}
    for name in pairs(candidates) do
        names[#names + 1] = name
    end
    table.sort(names)
    return table.concat(names, ", ")
end

-- A suggestion for an error text of Lua. For "attempt to call global 'map' (a nil value)" it returns " (it is
-- leat.map)"; "" if there is no suggestion.
function M.hint(text)
    if not text:find("attempt to ", 1, true) then
        return ""
    end
    local meant = require("leat.internal.foreign").bug(text:match "^[^\n]*")
    return meant and " (" .. meant .. ")" or ""
end

-- Raises an error for an option that `who` does not have. `rows` are the options that it has, as keys of a
-- table or as words in a text. The message lists all options. It also names similar ones; or, if another
-- library uses the name, it says what to write instead.
function M.unknown(who, name, rows)
    if type(rows) == "string" then
        local words = rows
        rows = {}
        for word in words:gmatch "%S+" do
            rows[word] = true
        end
    end
    local near, instead = "", nil
    if type(name) == "string" and #name <= 40 then
        local far
        near, far = near_ones(name, rows)
        instead = far > 1 and require("leat.internal.foreign").option(name, rows)
    end
    local list = sorted(rows)
    if instead then
        M.fail(("%s: unknown option %s: write %s. Options: %s"):format(who, M.picture(name), instead, list))
    elseif near ~= "" then
        M.fail(("%s: unknown option %s (did you mean %s?). Options: %s"):format(who, M.picture(name), near,
            list))
    end
    M.fail(("%s: unknown option %s (options: %s)%s"):format(who, M.picture(name, who), list,
        who == "request" and "; to send data, write json={...}, form={...} or body=\"...\"" or ""))
end

-- An __index for fields that a class does not have. It raises an error for names that other libraries use,
-- and returns nil for all other names.
function M.foreign(class, shown)
    return function(_, name)
        local instead = type(name) == "string" and name:byte() ~= 95 -- "_"
            and require("leat.internal.foreign").member(class, name)
        if instead then
            M.fail(("%s has no '%s': %s"):format(shown or "a " .. class, name, instead))
        end
    end
end

-- Gives the objects of a metatable a name for messages ("a client"), and a __tostring unless they have one.
-- `methods` are their methods; see leat.internal.foreign for the names that other libraries use.
function M.class(metatable, name, methods)
    metatable.__name = "leat." .. name
    metatable.__tostring = function()
        return name
    end
    if methods then
        setmetatable(methods, { __index = M.foreign(name) })
    end
    return metatable
end

-- Raises an error unless `self` is an object of `class`. `who` is the method as scripts write it:
-- "retry:call".
function M.own(self, class, who)
    if getmetatable(self) ~= class then
        M.fail(("%s: call it with a colon, as in %s(...)"):format(who, who))
    end
end

-- Users often pass the key itself to these functions instead of a table that contains the key.
local GIVEN_KEYS = { openai = true, client = true, request = true, ["request: auth"] = true }

local EXAMPLES = {
    adaptive = "leat.adaptive{max=20}", breaker = "leat.breaker{threshold=5}",
    client = "leat.client{base_url=\"https://...\"}", limiter = "leat.limiter{rpm=60}",
    openai = "leat.openai{api_key=\"...\", model=\"...\"}", pipeline = "leat.pipeline{concurrency=5}",
    retry = "leat.retry{attempts=3}", gather = "gather({ f, g }, {limit=5})",
    map = "leat.map(items, function, {limit=5})", each = "leat.each(items, function, {limit=5})",
    as_completed = "leat.as_completed(items, function, {limit=5})",
    merge = "leat.merge(items, open, {limit=5})", batch = "leat.batch(items, {size=20}, function)",
    ["json.encode"] = "json.encode(value, {indent=2})", reserve = "limit:reserve{tokens=500}",
}

function M.table(who, what, value)
    if type(value) ~= "table" then
        local place = GIVEN_KEYS[who] and "auth" or what
        local example = EXAMPLES[who]
        M.fail(("%s: %s must be a table, got %s%s"):format(who, what, M.picture(value, place),
            example and what == "options" and " (as in " .. example .. ")" or ""))
    end
    return value
end

-- Raises an error for an option that `rows` does not list, or whose type is wrong. `rows` maps each name to
-- the name of a type, or to true for any type. `who` is the name of the public function.
function M.options(who, opts, rows)
    if opts == nil then
        return {}
    end
    M.table(who, "options", opts)
    for name, value in pairs(opts) do
        local want = rows[name]
        if not want then
            M.unknown(who, name, rows)
        elseif want ~= true and type(value) ~= want then
            M.fail(("%s: option '%s' must be a %s, got %s"):format(who, name, want, M.picture(value,
                who .. " " .. name)))
        end
    end
    return opts
end

-- Raises an error if iterating over `list` would miss a value: one after a hole, or one whose key is a name.
function M.list(what, list)
    local n = #list
    for key in pairs(list) do
        if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
            M.fail(("%s must be a list without holes, got one with the key %s"):format(what,
                M.picture(key, what)))
        end
    end
end

-- A whole number of at least `min`, or infinity.
function M.count(who, name, value, min)
    if type(value) ~= "number" or value ~= value or value < min or value % 1 ~= 0
        and value ~= math.huge then
        M.fail(("%s: %s must be a whole number of at least %d, got %s"):format(who, name, min,
            M.picture(value, name)))
    end
    return value
end

-- In gather { request(url) } the request has already run, and gather gets its result instead of a function.
local RESULT = " (pass the function itself, not what a call of it has returned: function() return f(x) end)"

function M.callable(who, what, f)
    local mt = type(f) ~= "function" and getmetatable(f)
    if type(f) ~= "function" and not (type(mt) == "table" and mt.__call) then
        local result = f == nil or f == true or type(f) == "table"
        M.fail(("%s: %s must be a function, got %s%s"):format(who, what, M.picture(f, what),
            result and RESULT or ""))
    end
    return f
end

-- Raises an error unless `list` is a list of functions. Common mistakes are gather(f, g) and
-- gather(request(a), request(b)).
function M.functions(who, list)
    if type(list) == "table" and (getmetatable(list) == nil or M.picture(list) == "a table") then
        local key = #list == 0 and next(list) or nil
        if key ~= nil and key ~= "n" then
            M.fail(("%s: the functions must be a list, got a table with the key %s"):format(who,
                M.picture(key)))
        end
        return
    end
    local called = list == nil or list == true or type(list) == "table"
    M.fail(("%s takes one list of functions: %s{ f, g }; got %s%s"):format(who, who, M.picture(list),
        called and (" (write the functions, not what calls of them have returned: "
        .. "%s{ function() return f(x) end, ... })"):format(who) or ""))
end

local function is_function(f)
    local mt = getmetatable(f)
    return type(f) == "function" or type(mt) == "table" and mt.__call ~= nil
end

local IPAIRS = ipairs {}

-- Returns true if the items are a list, and false if they are an iterator function. Raises an error for a
-- table that is not a list, and for the functions that ipairs and pairs return: those are not iterators of
-- items.
function M.is_list(who, items)
    if type(items) == "table" and not (getmetatable(items) or {}).__call then
        local key = #items == 0 and next(items) or nil
        if key ~= nil and key ~= "n" then
            local what = M.picture(items)
            M.fail(("%s: the items must be a list or an iterator function, got %s"):format(who,
                what == "a table" and "a table with the key " .. M.picture(key) or what))
        end
        return true
    end
    M.callable(who, "the items, unless a list,", items)
    if items == IPAIRS or items == next then
        M.fail(("%s: give the list itself, not what ipairs or pairs returns: %s(list, function)"):format(who,
            who))
    end
    return false
end

-- Raises an error unless `fn`, the argument after the items, is a function.
function M.items(who, items, fn)
    if type(fn) == "function" then
        return
    elseif M.picture(items):find "^the module" then
        M.fail(("%s: the items must be a list or an iterator function, got %s"):format(who, M.picture(items)))
    elseif is_function(items) and type(fn) == "table" then
        M.fail(("%s takes the items first: %s(items, function)"):format(who, who))
    elseif fn == nil and type(items) == "table" and is_function(items[1]) then
        M.fail(("%s takes the items and one function for all of them: %s(items, function(item) ... end); "
            .. "gather{ f, g } runs a list of functions"):format(who, who))
    end
    M.callable(who, "the second argument", fn)
end

return M
