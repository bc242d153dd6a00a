-- Whether a line of code holds what looks like a secret, and so must not be written to a file. Internal.
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

-- The text with *** for each word that looks like a secret; control characters are left as they are.
function M.scrubbed(text)
    return (text:gsub("[^%z\1-\8\10-\31\127]+", native.scrubbed))
end

return M
