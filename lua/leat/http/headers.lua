-- The headers of a response as scripts see them.
local check = require "leat.internal.check"

local header = require("leat.native.request").header
local redact = require("leat.native.util").redact

local M = {}

-- Rows are "name\0value\0" in order of arrival. The table has lower-case names and joined values.
local Headers = check.class({ __shown_whole = true }, "headers")
local foreign_header = check.foreign("headers", "the table of headers")
local HEADER_METHODS = { get = true, get_all = true, has = true }

function Headers.__index(t, name)
    if type(name) == "string" then
        local lower = name:lower()
        if lower ~= name then
            return rawget(t, lower)
        elseif HEADER_METHODS[name] then
            foreign_header(t, name)
        end
    end
end

function Headers.__tostring(t)
    local lines = {}
    for name, value in pairs(t) do
        lines[#lines + 1] = name .. ": " .. redact(name, value)
    end
    table.sort(lines)
    return table.concat(lines, "\n")
end

-- Makes the table from such rows.
function M.from(rows)
    local t = {}
    for name, value in (rows or ""):gmatch "([^%z]*)%z([^%z]*)%z" do
        name = name:lower()
        local first = t[name]
        if first == nil then
            t[name] = value
        elseif name ~= "set-cookie" then -- a comma may be part of a cookie
            t[name] = first .. ", " .. value
        end
    end
    return setmetatable(t, Headers)
end

-- The value of one header of a response, by its lower-case name. It does not make the table of all of them.
function M.one(res, name)
    local all = rawget(res, "headers")
    if all then
        return all[name]
    end
    local rows = rawget(res, "_head")
    return rows and header(rows, name)
end

return M
