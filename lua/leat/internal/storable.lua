-- Explains, in terms of the user's script, why a value cannot be stored as JSON. It is called only on
-- failure.
local check = require "leat.internal.check"
local json = require "leat.json"
local policy = require "leat.policy.common"

local M = {}

local MOST_DEPTH = 20

-- If the value can never be stored: its name, and what to do instead. Otherwise nil.
local function culprit(value)
    local kind = type(value)
    if kind == "function" then
        return "a function", "leave it out, or call it"
    elseif kind == "thread" then
        return "a coroutine", "leave it out"
    elseif kind == "userdata" and value ~= json.null then
        local name = check.picture(value)
        if name:find "task" then
            return name, "wait for it: task:await()"
        end
        return name, "leave it out, or take its parts"
    elseif kind == "table" and policy.status(value) and getmetatable(value) then
        return "a response", "%s res.body or res:json()"
    end
end

-- The first such value inside `value`: its name, what to do instead, and where it is.
local function find(value, where, depth, seen)
    local name, instead = culprit(value)
    if name or type(value) ~= "table" or seen[value] or depth > MOST_DEPTH then
        return name, instead, where
    end
    seen[value] = true
    for key, part in next, value do
        local at = type(key) == "string" and where .. "." .. check.hidden(key)
            or ("%s[%s]"):format(where, tostring(key))
        local found, advice, place = find(part, at, depth + 1, seen)
        if found then
            return found, advice, place
        end
    end
end

-- why(value, bad, verb): "a response, which %s cannot store: return res.body or res:json()". `bad` is the
-- error of json.encode; `verb` is how the script passes such a value on ("return").
function M.why(value, bad, verb, store)
    local name, instead, where = find(value, "", 0, {})
    if not name then
        local what = bad.message:gsub("^json: ", ""):gsub(", which JSON cannot hold,?", "")
        what = what:gsub(",? at %.value", " at ", 1):gsub(" at $", "")
        local text = what:find "not UTF%-8" and ": " .. verb .. " leat.base64.encode(text) instead" or ""
        return ("%s, which %s cannot store%s"):format(what, store, text)
    end
    if where ~= "" then
        name = ("a table with %s at %s"):format(name, where)
    end
    return ("%s, which %s cannot store: %s"):format(name, store, instead:format(verb))
end

return M
