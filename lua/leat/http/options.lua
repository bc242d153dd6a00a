-- Turns the options of a request into the Authorization header and the body.
local check = require "leat.internal.check"
local error_value = require "leat.error"
local json = require "leat.json"
local url_of = require "leat.internal.url"

local M = {}

local AUTH = { bearer = "string", basic = true }

-- The value of the Authorization header for the option `auth`.
function M.authorization(auth)
    if type(auth) ~= "table" then
        check.fail("request: option 'auth' must be a table, got " .. check.picture(auth, "auth"))
    end
    check.options("request: auth", auth, AUTH)
    if (auth.bearer == nil) == (auth.basic == nil) then
        check.fail("request: option 'auth' must have either bearer=\"token\" or "
            .. "basic={\"user\", \"password\"}")
    end
    if auth.bearer then
        return "Bearer " .. auth.bearer
    end
    local user, password = auth.basic, nil
    if type(user) == "table" then
        user, password = user[1], user[2]
    elseif type(user) == "string" then
        user, password = user:match "^([^:]*):(.*)$"
    end
    if type(user) ~= "string" or type(password) ~= "string" then
        check.fail("request: auth.basic must be {\"user\", \"password\"} or \"user:password\"")
    end
    if user:find(":", 1, true) then
        return nil, error_value.new { kind = "invalid",
            message = "auth: the user name must not contain a colon" }
    end
    return "Basic " .. require("leat.native.util").base64_encode(user .. ":" .. password, false, true)
end

local function one_body(spec)
    local n = 0
    for _, name in ipairs { "body", "json", "form", "multipart" } do
        n = n + (spec[name] ~= nil and 1 or 0)
    end
    if n > 1 then
        check.fail "request: only one of the options 'body', 'json', 'form' and 'multipart' may be given"
    end
end

-- Raises an error unless the option `name` is a table.
function M.table(name, value)
    if type(value) ~= "table" then
        check.fail(("request: option '%s' must be a table, got %s"):format(name, check.picture(value, name)))
    end
    return value
end

-- Makes the body from `json`, `form`, `multipart` or a `body` that is not a string. Returns a string or an
-- upload source, and the content-type.
function M.encode(spec)
    one_body(spec)
    if spec.form ~= nil then
        return url_of.form(M.table("form", spec.form)), "application/x-www-form-urlencoded"
    elseif spec.multipart ~= nil then
        return require("leat.http.upload").multipart(M.table("multipart", spec.multipart))
    elseif spec.body ~= nil then
        return require("leat.http.upload").source(spec.body)
    end
    local body, err = json.encode(spec.json)
    if not body then
        return nil, err
    end
    return body, "application/json"
end

return M
