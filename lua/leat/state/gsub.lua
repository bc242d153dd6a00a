-- string.gsub for a replacement that may run Lua code: a function, or a table with a metatable. LuaJIT calls
-- such a replacement from C, where nothing can wait. Also, nested calls of gsub in a replacement overflow the
-- C stack, which pcall cannot catch. Here the replacement is called from Lua.
local check = require "leat.internal.check"

local byte, find, raw_gsub, sub = string.byte, string.find, string.gsub, string.sub
local concat, floor = table.concat, math.floor

local CARET = byte "^"

-- Replaces %0 to %9 in a replacement text.
local function expand(repl, whole, ...)
    local captures = { ... }
    return (raw_gsub(repl, "%%(.)", function(c)
        if c == "0" or c == "1" and #captures == 0 then
            return whole
        elseif find(c, "%d") then
            return captures[tonumber(c)] or check.fail "invalid capture index"
        end
        return c
    end))
end

local function value_of(repl, is_function, whole, capture, ...)
    if type(repl) == "string" then
        return expand(repl, whole, capture, ...)
    elseif capture == nil then
        capture = whole
    end
    local value
    if is_function then
        value = repl(capture, ...)
    else
        value = repl[capture]
    end
    if not value then
        return whole
    end
    if type(value) ~= "string" and type(value) ~= "number" then
        check.fail("gsub: the replacement must be a string, a number, nil or false, got "
            .. check.picture(value, "replacement"))
    end
    return value
end

-- Checks an argument as Lua does: a number is accepted as a string, and a numeric text as a number.
local function check_argument(i, v, want, convert)
    local kind = type(v)
    if kind ~= "string" and kind ~= "number" or convert(v) == nil then
        check.fail(("bad argument #%d to 'gsub' (%s expected, got %s)"):format(i, want, kind))
    end
end

local function found(ok, message, ...)
    if not ok and type(message) ~= "string" then
        error(message, 0)
    elseif not ok then -- a malformed pattern, or an argument of the wrong type
        check.fail((raw_gsub(message, "to '%?'", "to 'gsub'")))
    end
    return message, ...
end

-- The loop of gsub in Lua 5.1: an empty match is replaced too, and then the loop skips one character.
local function replace(find_in, s, pattern, repl, limit)
    local is_function = type(repl) == "function"
    local parts, n = {}, 0
    local count, from = 0, 1

    local function add(part)
        n = n + 1
        parts[n] = part
    end

    -- Takes the results of `find`. Returns false if there are no more matches.
    local function step(first, last, ...)
        if not first then
            return false
        end
        count = count + 1
        add(sub(s, from, first - 1))
        add(value_of(repl, is_function, sub(s, first, last), ...))
        from = last + 1
        if last < first then
            add(sub(s, first, first))
            from = first + 1
        end
        return from <= #s + 1
    end

    -- The first search is protected, so that its errors are raised at the script's line.
    if limit > 0 and step(found(pcall(find_in, s, pattern, 1))) and byte(pattern) ~= CARET then
        while count < limit and step(find_in(s, pattern, from)) do
        end
    end
    add(sub(s, from))
    return concat(parts), count
end

local M = {}

-- Makes a gsub for replacements that run code. `find_in` is a function such as string.find.
function M.of(find_in)
    return function(s, pattern, repl, limit)
        check_argument(1, s, "string", tostring)
        check_argument(2, pattern, "string", tostring)
        check_argument(4, limit or 0, "number", tonumber)
        return replace(find_in, tostring(s), tostring(pattern), repl, limit and floor(limit) or math.huge)
    end
end

M.gsub = M.of(string.find)

-- Makes a complete string.gsub from such a `find`.
function M.with(find_in)
    local gsub = M.of(find_in)
    return function(s, pattern, repl, limit)
        if type(repl) == "number" then
            repl = tostring(repl)
        elseif type(repl) ~= "function" and type(repl) ~= "table" and type(repl) ~= "string" then
            check.fail("bad argument #3 to 'gsub' (string/function/table expected)")
        end
        return gsub(s, pattern, repl, limit)
    end
end

return M
