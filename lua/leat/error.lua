-- Error values: the second result of an operation that has failed (nil, err).
local check = require "leat.internal.check"
local meta = check.class(require("leat.native.task").error_meta, "error")

local M = {}

local KINDS = {}
for kind in ([[timeout connect dns tls closed protocol http too_large cancelled circuit_open rate_limited
    budget invalid io memory denied script raised internal]]):gmatch "%S+" do
    KINDS[kind] = true
end

--- Returns the text of `v`, any value that a script gave as an error.
---@param v any
---@return string
function M.text(v)
    local ok, text = pcall(tostring, v)
    return ok and type(text) == "string" and text or "a " .. type(v) .. " whose __tostring fails"
end

local text_of = M.text

meta.__leat_json = "error" -- json.encode writes an error as an object of its fields, without `response`

function meta.__tostring(e)
    local text = text_of(e.kind) .. ": " .. text_of(e.message)
    if e.cleanup ~= nil then
        text = text .. " (its clean-up failed too: " .. text_of(e.cleanup) .. ")"
    end
    return text
end

meta.__concat = function(a, b)
    return tostring(a) .. tostring(b)
end

--- Makes an error value, so that a script can return its own failures as Leat does: `nil, err`. Raising it
--- with `error(err)` means the same: where the task ends, it becomes `nil, err` again.
---@param fields leat.error_fields kind (one of leat's kinds; default "script"), message, and any other fields
---@return leat.error err
---
--- Raises if `fields` is not a table or names an unknown kind.
--- ```lua
--- local function pick(t)
---     if #t == 0 then return nil, leat.error { kind = "invalid", message = "nothing to pick from" } end
---     return t[1]
--- end
--- local v, err = pick {}
--- assert(v == nil and err.kind == "invalid" and tostring(err) == "invalid: nothing to pick from")
--- ```
function M.new(fields)
    if type(fields) ~= "table" then
        check.fail("error: expected a table such as {kind=\"invalid\", message=\"...\"}, got "
            .. check.picture(fields))
    end
    local kind = fields.kind or "script"
    if not KINDS[kind] then
        check.fail("error: unknown kind " .. check.picture(kind) .. " (kinds: timeout connect dns tls closed "
            .. "protocol http too_large cancelled circuit_open rate_limited budget invalid io memory "
            .. "denied script raised internal)")
    end
    local e = {}
    for k, v in pairs(fields) do
        e[k] = v
    end
    e.kind = kind
    e.message = e.message or kind
    return setmetatable(e, meta)
end

--- Returns true if `v` is an error value.
---@param v any
---@return boolean
function M.is(v)
    return getmetatable(v) == meta
end

--- Turns any value that a script gave as an error into an error value.
---@param v any
---@return leat.error err `v` itself if it is an error value, else one of kind "script" with `cause`
function M.wrap(v)
    if M.is(v) then
        return v
    end
    return M.new { kind = "script", message = text_of(v), cause = v }
end

-- Internal: sets the results that had finished as the `partial` of an error, for gather, map and batch.
function M.with_partial(err, results)
    if err.partial ~= nil then -- a part of a body, or the results of an inner gather: keep it in err.cause
        local copy = M.new(err)
        copy.cause = err
        err = copy
    end
    err.partial = results
    return err
end

--- Makes the error value for a raised value, where a bug becomes a value (settle=true).
---@param value any what was raised
---@param trace? string its traceback
---@return leat.error err of kind "raised"
function M.raised(value, trace)
    return M.new { kind = "raised", message = text_of(value), cause = value, traceback = trace }
end

return M
