-- Detects lines of code that seem to contain a secret. Such a line must not be written to a file.
local native = require "leat.native.util"

local M = {}

local function secret_name(name)
    return native.redact(name, "x") ~= "x"
end

function M.found(text)
    if native.looks_secret(text) or text:find "[Bb]asic%s*=%s*[\"'{]" then
        return true
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
    return false
end

-- Replaces each word that looks like a secret by ***. Control characters are not changed.
function M.scrubbed(text)
    return (text:gsub("[^%z\1-\8\10-\31\127]+", native.scrubbed))
end

return M
