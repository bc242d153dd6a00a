-- Messages for people: they go to standard error, or to the host's log function. Data goes to standard
-- output.
local check = require "leat.internal.check"
local native = require "leat.native.util"
local errors = require "leat.error"
local secrets = require "leat.repl.secrets"

local M = {}

-- Makes one line of any text. A line end in a server's text must not start a line that looks like our
-- message.
local function flat(text)
    return (text:gsub("[%z\1-\8\10-\31\127]", function(c)
        if c == "\n" then
            return "\\n"
        elseif c == "\r" then
            return "\\r"
        end
        return ("\\x%02x"):format(c:byte())
    end))
end

local function field(name, value)
    local text = secrets.scrubbed(native.redact(name, errors.text(value)))
    name = secrets.scrubbed(name)
    if text == "" or text:find '[%s"=]' then
        text = '"' .. text:gsub('[\\"]', "\\%0") .. '"'
    end
    return name .. "=" .. text
end

local function write(who, level, message, fields)
    if fields ~= nil and type(fields) ~= "table" then
        check.fail(("log.%s: fields must be a table, got %s"):format(who, check.picture(fields, "fields")))
    end
    if not native.log_enabled(level) then
        return
    end
    local line, names, values = { secrets.scrubbed(errors.text(message)) }, {}, {}
    for name, value in pairs(fields or {}) do
        local text = errors.text(name)
        names[#names + 1], values[text] = text, value
    end
    table.sort(names)
    for i, name in ipairs(names) do
        line[i + 1] = field(name, values[name])
    end
    native.log(level, flat(table.concat(line, " ")))
end

--- Logs a message that helps to find a fault. It is shown only with -v.
---@param message any converted by tostring; words that look like a token or a key become ***
---@param fields? table shown as name=value; secret values (authorization, api_key ...) become ***, and so
---do the secrets in URLs
--- ```lua
--- leat.log.debug("cache missed", { key = "a", size = 12 }) -- cache missed key=a size=12
--- ```
function M.debug(message, fields)
    write("debug", 0, message, fields)
end

--- Logs a message about normal operation.
---@param message any
---@param fields? table as for log.debug
--- ```lua
--- leat.log.info("sent", { api_key = "sk-123", n = 3 }) -- sent api_key=*** n=3
--- ```
function M.info(message, fields)
    write("info", 1, message, fields)
end

--- Logs a message about something unusual that did no harm yet.
---@param message any
---@param fields? table as for log.debug
--- ```lua
--- leat.log.warn("slow answer", { seconds = 4.2 })
--- ```
function M.warn(message, fields)
    write("warn", 2, message, fields)
end

--- Logs a message about a failure.
---@param message any
---@param fields? table as for log.debug
--- ```lua
--- leat.log.error("cannot write the results", { path = "/tmp/out.jsonl" })
--- ```
function M.error(message, fields)
    write("error", 3, message, fields)
end

setmetatable(M, { __name = "leat.module", __index = check.foreign("log", "leat.log") })

return M
