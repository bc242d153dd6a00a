-- Text work on URLs: references, queries and forms. C checks which bytes may be sent.
local check = require "leat.internal.check"

local byte, format, gsub, match, sub = string.byte, string.format, string.gsub, string.match, string.sub

local M = {}

-- Splits any text into the five parts of RFC 3986, appendix B. A part that is absent is nil; the path is
-- never nil.
local function split(text)
    local fragment, query, authority, scheme
    local at = text:find("#", 1, true)
    if at then
        text, fragment = sub(text, 1, at - 1), sub(text, at + 1)
    end
    at = text:find("?", 1, true)
    if at then
        text, query = sub(text, 1, at - 1), sub(text, at + 1)
    end
    local rest
    scheme, rest = match(text, "^([%a][%w+.-]*):(.*)$")
    text = rest or text
    authority, rest = match(text, "^//([^/]*)(.*)$")
    return scheme, authority, rest or text, query, fragment
end

local function join(scheme, authority, path, query, fragment)
    return (scheme and scheme .. ":" or "") .. (authority and "//" .. authority or "") .. path
        .. (query and "?" .. query or "") .. (fragment and "#" .. fragment or "")
end

-- Removes dot segments from a list of segments (RFC 3986, 5.2.4): "." is removed, ".." is removed together
-- with the segment before it.
local function remove_dots(path)
    local rooted = sub(path, 1, 1) == "/"
    local out, n, open = {}, 0, false
    for segment in ((rooted and sub(path, 2) or path) .. "/"):gmatch "([^/]*)/" do
        open = segment == "." or segment == ".."
        if segment == ".." then
            if n > 0 then
                out[n] = nil
                n = n - 1
            end
        elseif segment ~= "." then
            n = n + 1
            out[n] = segment
        end
    end
    return (rooted and "/" or "") .. table.concat(out, "/") .. (open and n > 0 and "/" or "")
end

-- Resolves `reference` against the URL `base` (RFC 3986, 5.2.2).
function M.resolve(base, reference)
    local scheme, authority, path, query, fragment = split(reference)
    if scheme then
        return join(scheme, authority, remove_dots(path), query, fragment)
    end
    local base_scheme, base_authority, base_path, base_query = split(base)
    if authority then
        path = remove_dots(path)
    elseif path == "" then
        path, query = base_path, query or base_query
    elseif sub(path, 1, 1) == "/" then
        path = remove_dots(path)
    elseif base_authority and base_path == "" then
        path = remove_dots("/" .. path)
    else
        path = remove_dots((match(base_path, "^(.*/)") or "") .. path)
    end
    return join(base_scheme, authority or base_authority, path, query, fragment)
end

-- The same, but `base` is always a folder, whether or not it ends in a slash.
function M.beneath(base, reference)
    if reference == "" then
        return base
    end
    local scheme, authority, path = split(base)
    if sub(path, -1) ~= "/" then
        path = path .. "/"
    end
    return M.resolve(join(scheme, authority, path), reference)
end

local ports = { http = "80", https = "443" }

-- The origin of a URL, such as "https://example.com:443". nil if it has no host.
function M.origin(url)
    local scheme, authority = split(url)
    if not scheme or not authority then
        return nil
    end
    scheme = scheme:lower()
    local host = match(authority, "([^@]*)$"):lower()
    if not match(host, ":%d+$") then
        host = gsub(host, ":$", "") .. ":" .. (ports[scheme] or "")
    end
    return scheme .. "://" .. host
end

local function percent(c)
    return format("%%%02X", byte(c))
end

local function encode_query(text)
    return (gsub(text, "[^%w%-._~]", percent))
end

-- The WHATWG form encoding: other bytes stay as they are, and a space becomes a plus.
local function encode_form(text)
    return (gsub(gsub(text, "[^%w%-._* ]", percent), " ", "+"))
end

local function text_of(what, name, v)
    local t = type(v)
    if t == "string" then
        return v
    elseif t == "number" then
        return v % 1 == 0 and v > -2 ^ 53 and v < 2 ^ 53 and format("%.0f", v) or tostring(v)
    elseif t == "boolean" then
        return tostring(v)
    end
    check.fail(("request: %s '%s' must be a string, a number, a boolean or a list of them, got %s"):format(
        what, check.hidden(tostring(name)), check.picture(v, what)))
end

-- "a=1&b=2" from {a=1, b=2} (sorted by name; a list repeats its name) or from {{"b", 2}, {"a", 1}} (in that
-- order).
local function pairs_of(what, t, encode)
    local out, n = {}, 0
    local function add(name, value)
        n = n + 1
        out[n] = encode(name) .. "=" .. encode(text_of(what, name, value))
    end
    for i = 1, #t do
        local pair = t[i]
        if type(pair) ~= "table" or type(pair[1]) ~= "string" or pair[2] == nil or pair[3] ~= nil then
            check.fail(("request: %s %d must be a pair such as {\"name\", \"value\"}, got %s"):format(what, i,
                check.picture(pair, what)))
        end
        add(pair[1], pair[2])
    end
    local names = {}
    for name in pairs(t) do
        if type(name) == "string" then
            names[#names + 1] = name
        elseif type(name) ~= "number" or name < 1 or name > #t or name % 1 ~= 0 then
            check.fail(("request: the name of a %s must be a string, got %s"):format(what,
                check.picture(name, what)))
        end
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local value = t[name]
        if type(value) == "table" then
            check.list(("request: %s '%s'"):format(what, check.hidden(name)), value)
            for i = 1, #value do
                add(name, value[i])
            end
        else
            add(name, value)
        end
    end
    return table.concat(out, "&")
end

function M.form(t)
    return pairs_of("form field", t, encode_form)
end

-- `url` with the query appended to the query that it already has.
function M.with_query(url, query)
    local text = pairs_of("query parameter", query, encode_query)
    if text == "" then
        return url
    end
    local head, fragment = match(url, "^([^#]*)(.*)$")
    local mark = not head:find("?", 1, true) and "?" or match(head, "[?&]$") and "" or "&"
    return head .. mark .. text .. fragment
end

return M
