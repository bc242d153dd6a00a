-- Checks of arguments. Wrong use raises at the script's own line, and says what was given and what is
-- accepted. Internal.
local getinfo = debug.getinfo

local M = {}

function M.picture(v)
    if type(v) == "string" then
        return #v > 40 and "'" .. v:sub(1, 40) .. "...'" or "'" .. v .. "'"
    elseif type(v) == "number" or type(v) == "boolean" or v == nil then
        return tostring(v)
    end
    return "a " .. type(v)
end

-- The level of the first frame outside leat's own modules, so that messages point at the script.
local function script_level()
    for level = 3, 20 do
        local info = getinfo(level, "S")
        if not info then
            break
        end
        if info.what ~= "C" and info.source:sub(1, 6) ~= "@leat/" then
            return level - 1
        end
    end
    return 2
end

-- "file:line" of the script's own line, or "?".
function M.where()
    local info = getinfo(script_level(), "Sl")
    return info and info.currentline > 0 and ("%s:%d"):format(info.short_src, info.currentline) or "?"
end

function M.fail(message)
    error(message, script_level())
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

local function sorted(candidates)
    local names = {}
    for name in pairs(candidates) do
        names[#names + 1] = name
    end
    table.sort(names)
    return table.concat(names, ", ")
end

-- Raises for an option that `rows` (name -> type name, or true for any) does not have, or of another
-- type. `who` is the public function's name.
function M.options(who, opts, rows)
    if opts == nil then
        return {}
    end
    if type(opts) ~= "table" then
        M.fail(who .. ": options must be a table, got " .. M.picture(opts))
    end
    for name, value in pairs(opts) do
        local want = rows[name]
        if not want then
            local near = type(name) == "string" and M.suggest(name, rows)
            M.fail(("%s: unknown option %s (%s)"):format(who, M.picture(name),
                near and "did you mean '" .. near .. "'?" or "options: " .. sorted(rows)))
        elseif want ~= true and type(value) ~= want then
            M.fail(("%s: option '%s' must be a %s, got %s"):format(who, name, want, M.picture(value)))
        end
    end
    return opts
end

-- Raises where a part of `list` would be left out: behind a hole, or under a name.
function M.list(what, list)
    local n = #list
    for key in pairs(list) do
        if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
            M.fail(("%s must be a list without holes, got one with the key %s"):format(what, M.picture(key)))
        end
    end
end

-- A whole number of at least `min`, or infinity.
function M.count(who, name, value, min)
    if type(value) ~= "number" or value ~= value or value < min or value % 1 ~= 0
        and value ~= math.huge then
        M.fail(("%s: %s must be a whole number of at least %d, got %s"):format(who, name, min,
            M.picture(value)))
    end
    return value
end

-- gather { request(url) } has made its request already, and hands over what that came to.
local RESULT = " (pass the function itself, not what a call of it has returned: function() return f(x) end)"

function M.callable(who, what, f)
    local mt = type(f) ~= "function" and getmetatable(f)
    if type(f) ~= "function" and not (type(mt) == "table" and mt.__call) then
        local result = f == nil or f == true or type(f) == "table"
        M.fail(("%s: %s must be a function, got %s%s"):format(who, what, M.picture(f),
            result and RESULT or ""))
    end
    return f
end

return M
