-- Shows any value as text for people. The text has a bounded length, whatever the size of the value.
local check = require "leat.internal.check"
local json_null = require("leat.json").null

local getinfo, next, rawget, type, tostring = debug.getinfo, next, rawget, type, tostring

local COLORS = {
    string = "\27[32m", number = "\27[33m", boolean = "\27[33m", ["nil"] = "\27[2m", key = "\27[36m",
    other = "\27[35m", cut = "\27[2m", failed = "\27[31m",
}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
    true until while]]):gmatch "%S+" do
    KEYWORDS[word] = true
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escape_byte(c)
    return ESCAPES[c] or ("\\x%02x"):format(c:byte())
end

-- Returns the number of bytes of the UTF-8 character at `i`; nil if there is no valid character, or one
-- that must not reach a terminal.
local function character(s, i)
    local a, b, c, d = s:byte(i, i + 3)
    local function tail(x)
        return x and x >= 0x80 and x < 0xC0
    end
    if a < 0x80 then
        return 1
    elseif a >= 0xC2 and a < 0xE0 then
        -- U+0080 to U+009F are control characters to a terminal
        return tail(b) and not (a == 0xC2 and b < 0xA0) and 2 or nil
    elseif a >= 0xE0 and a < 0xF0 then
        local surrogate_or_long = a == 0xE0 and b and b < 0xA0 or a == 0xED and b and b >= 0xA0
        return tail(b) and tail(c) and not surrogate_or_long and 3 or nil
    elseif a >= 0xF0 and a < 0xF5 then
        local outside = a == 0xF0 and b and b < 0x90 or a == 0xF4 and b and b >= 0x90
        return tail(b) and tail(c) and tail(d) and not outside and 4 or nil
    end
end

-- Returns the first bytes of `s`, at most `max`, without cutting a character in two; and whether this is
-- all of `s`.
local function head(s, max)
    if #s <= max then
        return s, true
    end
    local cut = max
    while cut > 0 and cut > max - 4 do
        local byte = s:byte(cut + 1)
        if byte < 0x80 or byte >= 0xC0 then
            break
        end
        cut = cut - 1
    end
    return s:sub(1, cut), false
end

-- Makes text that any terminal can print: other bytes are escaped. `multiline` keeps line ends and tabs.
local function printable(s, multiline)
    s = s:gsub(multiline and "[%z\1-\8\11-\31\127]" or '[%z\1-\31"\\\127]', escape_byte)
    if not s:find "[\128-\255]" then
        return s
    end
    local out, i, n = {}, 1, 0
    while i <= #s do
        local from, to = s:find("^[%z\1-\127]+", i)
        if not from then
            local bytes = character(s, i)
            from, to = i, i + (bytes or 1) - 1
            n = n + 1
            out[n] = bytes and s:sub(from, to) or escape_byte(s:sub(i, i))
        else
            n = n + 1
            out[n] = s:sub(from, to)
        end
        i = to + 1
    end
    return table.concat(out)
end

local function columns(text)
    local _, continued = text:gsub("[\128-\191]", "")
    return #text - continued
end

-- ---- one value: each function returns its text, and the width without colours (nil: several lines)

local show

local function paint(st, color, text)
    return st.colors and COLORS[color] .. text .. "\27[0m" or text, columns(text)
end

local function show_string(st, s)
    local text, whole = head(s, math.min(st.max_string, math.max(st.bytes, 20)))
    text = printable(text)
    st.bytes = st.bytes - #text
    if whole then
        return paint(st, "string", '"' .. text .. '"')
    end
    return paint(st, "string", ('"%s…" (%d bytes)'):format(text, #s))
end

local function show_function(st, f)
    local info = getinfo(f, "S")
    local where = info.what == "C" and "built in" or info.short_src .. ":" .. info.linedefined
    return paint(st, "other", "function <" .. printable(where) .. ">")
end

-- Returns the text of the metatable's __tostring, on one line and cut to `max_string`.
local function show_by_tostring(st, value)
    local ok, text = pcall(tostring, value)
    if not ok or type(text) ~= "string" then
        text = "a " .. type(value) .. " whose __tostring fails"
    end
    local whole
    text, whole = head(text, st.max_string)
    text = printable(text, true):gsub("\n", st.depth_now == 0 and "\n" or " ")
    st.bytes = st.bytes - #text
    local painted, width = paint(st, "other", text .. (whole and "" or "…"))
    return painted, not text:find("\n", 1, true) and width or nil
end

local function is_response(v)
    return (rawget(v, "status") or rawget(v, "_status")) and rawget(v, "_head")
        and rawget(v, "_times") ~= nil
end

local function show_response(st, res)
    local body, headers, timing = rawget(res, "body"), res.headers or {}, res.timing or {}
    local parts = { ("response %d%s"):format(res.status, res.reason ~= "" and " " .. res.reason or "") }
    parts[#parts + 1] = headers["content-type"]
    parts[#parts + 1] = type(body) == "string" and #body .. " bytes" or "a stream"
    parts[#parts + 1] = timing.total and ("%.3f s"):format(timing.total)
    local line, width = paint(st, res.ok and "other" or "failed", printable(table.concat(parts, ", "), true))
    st.bytes = st.bytes - width
    if st.depth_now > 0 or type(body) ~= "string" or body == "" then
        return line, width
    end
    local text, whole = head(body, 400)
    local kind = body:find "[%z\1-\8\14-\31]" and "(not text)" or printable(text, true):gsub("%s+$", "")
    return line .. "\n" .. kind .. (whole and "" or paint(st, "cut", "…"))
end

local function key_text(st, key)
    if type(key) == "string" and key:find "^[%a_][%w_]*$" and not KEYWORDS[key] and #key <= 80 then
        return paint(st, "key", key)
    end
    local text, width = show(st, key)
    return "[" .. text .. "]", (width or 0) + 2
end

local RANK = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
    local ta, tb = type(a), type(b)
    if ta == tb and (ta == "number" or ta == "string") then
        return a < b
    elseif ta ~= tb then
        return (RANK[ta] or 4) < (RANK[tb] or 4)
    end
    return tostring(a) < tostring(b)
end

-- Returns the sorted keys outside 1 to n, and whether these are all. `next` starts after the array part, so
-- a long list costs nothing. Of a large map only the first `limit` keys are taken.
local function other_keys(t, n, limit)
    local keys, k = {}, nil
    if n > 0 then
        k = n
    end
    k = next(t, k)
    while k ~= nil and #keys < limit do
        if not (type(k) == "number" and k >= 1 and k <= n and k % 1 == 0) then
            keys[#keys + 1] = k
        end
        k = next(t, k)
    end
    local sortable = keys
    pcall(table.sort, sortable, before)
    return sortable, k == nil
end

local function join(items, widths, indent, room)
    local total, flat = 4, true
    for i = 1, #items do
        flat = flat and widths[i] ~= nil
        total = total + (widths[i] or 0) + 2
    end
    if flat and total <= room then
        return "{ " .. table.concat(items, ", ") .. " }", total
    end
    local pad = "\n" .. (" "):rep(indent + 2)
    return "{" .. pad .. table.concat(items, "," .. pad) .. "\n" .. (" "):rep(indent) .. "}"
end

local function show_table(st, t)
    if st.path[t] then
        return paint(st, "cut", "<cycle>")
    elseif next(t) == nil then
        return "{}", 2
    elseif st.depth_now >= st.depth then
        return paint(st, "cut", "{…}")
    end
    st.path[t] = true
    st.depth_now, st.indent = st.depth_now + 1, st.indent + 2
    local items, widths = {}, {}
    local function add(text, width)
        items[#items + 1] = text
        widths[#items] = width
        st.items = st.items - 1
        st.bytes = st.bytes - 4
    end
    local function room_left()
        return #items < st.max_items and st.items > 0 and st.bytes > 0
    end
    local n, i = #t, 1
    while i <= n and room_left() do
        add(show(st, rawget(t, i)))
        i = i + 1
    end
    if i <= n then
        add(paint(st, "cut", ("… %d more"):format(n - i + 1)))
    end
    local keys, all = other_keys(t, n, st.max_items * 10)
    local shown = 0
    for _, key in ipairs(keys) do
        if not room_left() then
            break
        end
        local name, name_width = key_text(st, key)
        local text, width = show(st, rawget(t, key))
        add(name .. " = " .. text, width and name_width + 3 + width)
        st.bytes = st.bytes - name_width
        shown = shown + 1
    end
    if shown < #keys or not all then
        add(paint(st, "cut", all and ("… %d more"):format(#keys - shown) or "… more"))
    end
    st.depth_now, st.indent = st.depth_now - 1, st.indent - 2
    st.path[t] = nil
    return join(items, widths, st.indent, st.width - st.indent)
end

function show(st, v)
    local kind = type(v)
    if kind == "string" then
        return show_string(st, v)
    elseif kind == "number" then
        local text = v % 1 == 0 and v > -2 ^ 53 and v < 2 ^ 53 and ("%.0f"):format(v) or ("%.14g"):format(v)
        if v == v and tonumber(text) ~= v then
            text = ("%.17g"):format(v)
        end
        return paint(st, kind, v == 0 and 1 / v < 0 and "-0" or text)
    elseif kind == "boolean" or kind == "nil" then
        return paint(st, kind, tostring(v))
    elseif v == json_null then
        return paint(st, "nil", "json.null")
    elseif kind == "function" then
        return show_function(st, v)
    elseif kind == "table" then
        local mt = debug.getmetatable(v)
        if is_response(v) then
            local ok, text, width = pcall(show_response, st, v)
            if ok then
                return text, width
            end
        elseif type(mt) == "table" and rawget(mt, "__tostring") ~= nil
            and not rawget(mt, "__shown_whole") then
            return show_by_tostring(st, v)
        end
        return show_table(st, v)
    end
    return show_by_tostring(st, v)
end

local OPTIONS = { depth = 6, width = 80, max_items = 100, max_string = 400, max_bytes = 20000 }
local ROWS = { colors = "boolean" }
for name in pairs(OPTIONS) do
    ROWS[name] = "number"
end

--- Returns a text that shows any value. Keys are sorted, cycles are marked, long strings are cut and
--- their length is shown, and large values are shortened. A table with __tostring is shown by that. A
--- response is shown by its status, type, size, time and the beginning of its body.
---@param value any
---@param opts? leat.inspect_options depth (6), width in columns (80), max_items per level (100),
---max_string in bytes (400), max_bytes of the whole text, roughly (20,000); colors=true for a terminal
---@return string text
---
--- Raises for an unknown option.
--- ```lua
--- assert(leat.inspect { 1, 2, name = "leat" } == '{ 1, 2, name = "leat" }')
--- assert(leat.inspect(("x"):rep(1000), { max_string = 3 }) == '"xxx…" (1000 bytes)')
--- ```
local function inspect(value, opts)
    opts = check.options("inspect", opts, ROWS)
    local st = { colors = opts.colors, path = {}, depth_now = 0, indent = 0 }
    for name, default in pairs(OPTIONS) do
        st[name] = opts[name] == nil and default or check.count("inspect", name, opts[name], 0)
    end
    st.bytes, st.items = st.max_bytes, 5000
    return (show(st, value))
end

return { inspect = inspect, character = character }
