-- Removes a caller's secrets from what a server says, because servers repeat what they were sent.
local redact = require("leat.native.util").redact

local M = {}

-- A shorter secret is a placeholder ("none", "x") and may be part of ordinary words.
local LEAST_KEY = 8

local function add(secrets, value)
    if type(value) == "string" and value ~= "" then
        secrets[#secrets + 1] = value
    end
end

-- Adds the secrets that the `headers` and `auth` of a request contain.
local function of_options(secrets, options)
    local auth = type(options.auth) == "table" and options.auth or {}
    local basic = auth.basic
    add(secrets, auth.bearer)
    add(secrets, type(basic) == "table" and basic[2] or type(basic) == "string" and basic:match ":(.*)$")
    for name, values in pairs(type(options.headers) == "table" and options.headers or {}) do
        if type(name) == "string" and redact(name, "x") ~= "x" then
            for _, value in ipairs(type(values) == "table" and values or { values }) do
                add(secrets, type(value) == "string" and value:match "^%a+ (%S+)$" or value)
            end
        end
    end
end

local function of_url(secrets, url)
    add(secrets, url:match "//[^/@]*:([^/@]*)@")
    for name, value in url:gmatch "[?&]([^=&#]*)=([^&#]*)" do
        add(secrets, redact(name, "x") ~= "x" and value)
    end
end

-- Returns a function that removes the secrets from a text. `options` is a list of `n` tables with headers and
-- auth; each may be nil.
function M.new(url, options, n)
    local secrets, patterns = {}, {}
    of_url(secrets, url)
    for i = 1, n do
        if options[i] then
            of_options(secrets, options[i])
        end
    end
    for i, secret in ipairs(secrets) do
        local pattern = secret:gsub("%W", "%%%0")
        if #secret < LEAST_KEY then
            pattern = (secret:find "^%w" and "%f[%w]" or "") .. pattern
                .. (secret:find "%w$" and "%f[%W]" or "")
        end
        patterns[i] = pattern
    end
    return function(text)
        for _, pattern in ipairs(patterns) do
            text = text:gsub(pattern, "***")
        end
        return text
    end
end

return M
