-- Whether a line of code holds what looks like a secret, and so must not be written to a file. Internal.
local util = require "leat.core.util"

local M = {}

local PATTERNS = {
    "%f[%w]sk%-[%w_%-][%w_%-][%w_%-][%w_%-][%w_%-][%w_%-]", -- API keys of several providers
    "%f[%w][sprw]k_[%w_][%w_][%w_][%w_][%w_][%w_]",
    "%f[%w]gh[pousr]_%w%w%w%w",
    "%f[%w]xox[%a]%-%w",
    "%f[%w]AKIA%w%w%w%w%w%w%w%w",
    "%f[%w]eyJ[%w_%-]+%.[%w_%-]+", -- JSON web tokens
    "[Bb][Ee][Aa][Rr][Ee][Rr]%s+[%w%-%._~%+/]",
    "[Bb][Aa][Ss][Ii][Cc]%s+[%w%+/]+=",
    "[Bb]asic%s*=%s*[\"'{]",
    "://[^/%s\"']*:[^/%s\"']*@", -- a password in a URL
    "%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY",
}

local function secret_name(name)
    return util.redact(name, "x") ~= "x"
end

-- A long run of letters and digits mixed is a key or a digest; a word, a path or a number is neither.
local function looks_random(run, least)
    return #run >= least and run:find "%d" and run:find "%a" and true
end

function M.found(text)
    for _, pattern in ipairs(PATTERNS) do
        if text:find(pattern) then
            return true
        end
    end
    -- name = "literal", ["name"] = "literal", name: literal, name=literal in a URL
    for name in text:gmatch "([%w_%-]+)[\"']?%s*%]?%s*[=:]%s*%f[\"'%[]" do
        if secret_name(name) then
            return true
        end
    end
    for name, value in text:gmatch "[?&;]([%w_%-]+)=([^&%s\"']+)" do
        if #value > 0 and secret_name(name) then
            return true
        end
    end
    for run in text:gmatch "[%w_%-]+" do
        if looks_random(run, 32) then
            return true
        end
    end
    for run in text:gmatch "[%w%+/=]+" do
        if looks_random(run, 40) and run:find "%u" and run:find "%l" and not run:find "/%l+/" then
            return true
        end
    end
    return false
end

return M
