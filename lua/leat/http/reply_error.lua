-- Finds the error message in a failed answer, in any of the forms that servers commonly use.
--
-- The forms: {"error":{"message":...}}, {"error":"..."}, {"message":"..."}, {"detail":"..."} or a list of
-- {"loc":...,"msg":...}, {"errors":[...]}, [{"error":...}], JSON text inside JSON, lines of JSON, an event
-- ("data: {...}"), the title of an HTML page, plain text. Only the head of a body is read.
local character = require("leat.inspect").character
local json = require "leat.json"
local outside = require "leat.internal.outside"

local floor = math.floor

local M = {}

-- Maximum bytes: read of a body, kept of it in err.body, and kept of the message.
local MOST_READ, MOST_KEPT, MOST_WORDS = 64 * 1024, 2048, 600
-- How many levels of wrapping are read, where one error contains another.
local MOST_DEPTH = 6

-- ---- text that is safe to show

local REPLACEMENT = "\239\191\189" -- U+FFFD

-- Makes text valid UTF-8 without control characters, which could control the user's terminal.
local function clean(text)
    text = text:gsub("[%z\1-\8\11\12\14-\31\127]", " ")
    if not text:find "[\128-\255]" then
        return text
    end
    local out, i = {}, 1
    while i <= #text do
        local _, to = text:find("^[%z\1-\127]+", i)
        local bytes = not to and character(text, i)
        to = to or bytes and i + bytes - 1
        out[#out + 1] = to and text:sub(i, to) or REPLACEMENT
        i = (to or i) + 1
    end
    return table.concat(out)
end

-- The first bytes of a text, at most `max`. No character is cut in two.
local function head(text, max)
    if #text <= max then
        return text
    end
    while max > 0 and text:byte(max + 1) >= 0x80 and text:byte(max + 1) < 0xC0 do
        max = max - 1
    end
    return text:sub(1, max)
end

-- The text on one line, shortened; nil if nothing is left.
local function words(text)
    text = clean(head(text, 4 * MOST_WORDS)):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    if #text > MOST_WORDS then
        text = head(text, MOST_WORDS) .. "..."
    end
    return text ~= "" and text or nil
end

local function is_text(v)
    return type(v) == "string" and v:find "%S" ~= nil
end

-- The first of these fields whose value is a text.
local function first_text(t, names)
    for _, name in ipairs(names) do
        if is_text(t[name]) then
            return t[name]
        end
    end
end

-- ---- waits

local UNITS = {
    ms = 0.001, msec = 0.001, msecs = 0.001, millisecond = 0.001, milliseconds = 0.001,
    s = 1, sec = 1, secs = 1, second = 1, seconds = 1,
    m = 60, min = 60, mins = 60, minute = 60, minutes = 60,
    h = 3600, hr = 3600, hrs = 3600, hour = 3600, hours = 3600,
    d = 86400, day = 86400, days = 86400,
}

-- The seconds of a duration at the beginning of `text`: 20s, 1m30.5s, 120ms, 2 minutes. nil if there is none.
local function duration(text)
    local seconds, at = nil, 1
    while true do
        local _, to, number, unit = text:find("^%s*(%d+%.?%d*)%s*(%a+)", at)
        local factor = unit and UNITS[unit]
        if not factor then
            return seconds
        end
        seconds, at = (seconds or 0) + tonumber(number) * factor, to + 1
    end
end

-- Words that come before a duration in a sentence such as "Please try again in 20s."
local BEFORE_TIMES = { "again in ", "again after ", "retry in ", "retry after ", "retrying in ",
    "request in ", "request after ", "wait for ", "wait ", "available in ", "resets in ", "reset in ",
    "resets after ", "reset after ", "back in " }

local function wait_in(text)
    text = text:lower():gsub("%s+", " "):gsub(" and ", " ")
    text = text:gsub("at least ", ""):gsub("another ", "")
    for _, before in ipairs(BEFORE_TIMES) do
        local at = 1
        while true do
            local _, to = text:find(before, at, true)
            if not to then
                break
            end
            local seconds = duration(text:sub(to + 1, to + 60))
            if seconds then
                return seconds
            end
            at = to + 1
        end
    end
end

-- A duration in a field: 20, "20", "20s", {"seconds": 20}. `unit`: how many seconds a plain 1 means.
local function wait_of(v, unit, name)
    if type(v) == "table" then
        v, unit = v.seconds, 1
    end
    if type(v) == "string" and v ~= "" then
        return outside.wait(v, name, { unit = unit })
    end
    return type(v) == "number" and v >= 0 and v * unit or nil
end

local WAIT_FIELDS = {
    retry_after = 1, retryAfter = 1, ["retry-after"] = 1, ["Retry-After"] = 1, retryDelay = 1,
    retry_delay = 1, retry_after_seconds = 1, retryAfterSeconds = 1, retry_after_ms = 0.001,
    retryAfterMs = 0.001, ["retry-after-ms"] = 0.001,
    estimated_time = 1, -- of a model that is being loaded (Hugging Face)
}

-- ---- JSON

local WORDS = { "message", "Message", "detail", "msg", "error_message", "error_msg", "errorMessage",
    "error_description", "status_msg", "faultstring", "description", "reason", "title", "statusText" }
local NUMBERS = { "status", "status_code", "statusCode", "http_status", "code", "error_code" }

-- The statuses that names mean: gRPC codes, and the error types of providers.
local STATUS_OF = {
    RESOURCE_EXHAUSTED = 429, UNAVAILABLE = 503, INTERNAL = 500, DEADLINE_EXCEEDED = 504, UNKNOWN = 500,
    INVALID_ARGUMENT = 400, FAILED_PRECONDITION = 400, UNAUTHENTICATED = 401, PERMISSION_DENIED = 403,
    NOT_FOUND = 404, ABORTED = 409,
    rate_limit_exceeded = 429, rate_limit_error = 429, rate_limited = 429, tokens = 429, requests = 429,
    too_many_requests = 429, TooManyRequests = 429, insufficient_quota = 429,
    server_error = 500, api_error = 500, internal_error = 500, internal_server_error = 500,
    InternalServerError = 500, overloaded_error = 529, overloaded = 503,
    engine_overloaded_error = 529, service_unavailable = 503,
    timeout = 504, timeout_error = 504,
}

-- Errors that waiting does not cure.
local FINAL = {
    insufficient_quota = true, exceeded_current_quota_error = true, billing_hard_limit_reached = true,
    billing_not_active = true,
}

local function status_in(v)
    local number = tonumber(v)
    return number and number >= 400 and number < 600 and floor(number) == number and number or nil
end

local function note_words(said, text)
    if not said.message and is_text(text) then
        said.message = text
    end
end

local function note_name(said, field, v)
    if type(v) ~= "string" or v == "" then
        return
    end
    if field ~= "param" then
        said.final = said.final or FINAL[v]
        said.named = said.named or STATUS_OF[v]
    end
    said[field] = said[field] or v
end

local read_value

-- Reads JSON text inside JSON. Gateways pass on the answer of another server this way.
local function read_text(said, text, depth)
    if text:find "^%s*[{[]" then
        local inner = json.decode(text)
        if type(inner) == "table" then
            read_value(said, inner, depth + 1)
        end
    end
    note_words(said, text)
end

-- {"loc": ["body", "messages", 0], "msg": "Field required"}
local function read_place(said, entry)
    local parts = {}
    for _, part in ipairs(type(entry.loc) == "table" and entry.loc or {}) do
        if type(part) == "string" or type(part) == "number" then
            parts[#parts + 1] = tostring(part)
        end
    end
    local place = table.concat(parts, ".")
    note_words(said, place ~= "" and place .. ": " .. entry.msg or entry.msg)
    said.param = said.param or place ~= "" and place or nil
end

local function read_list(said, list, depth)
    for i = 1, math.min(#list, 20) do
        local entry = list[i]
        if type(entry) == "table" and is_text(entry.msg) and entry.loc ~= nil then
            read_place(said, entry)
            said.entry_type = said.entry_type or type(entry.type) == "string" and entry.type or nil
        else
            read_value(said, entry, depth)
        end
    end
end

local function read_waits(said, t)
    for name, factor in pairs(WAIT_FIELDS) do
        if not said.wait and t[name] ~= nil then
            said.wait = wait_of(t[name], factor, name)
        end
    end
end

-- Reads an object. An error wrapped in it is read first, because it is nearer to the cause.
local function read_object(said, t, depth)
    read_waits(said, t)
    said.names_error = said.names_error or t.object == "error" or t.type == "error" or t.success == false
        or is_text(t.detail)
    for _, name in ipairs { "error", "errors", "detail", "message", "fault", "base_resp", "Error" } do
        local v = t[name]
        if type(v) == "table" then
            said.names_error = said.names_error or name ~= "message"
            read_value(said, v, depth + 1)
        end
    end
    local raw = type(t.metadata) == "table" and t.metadata.raw -- OpenRouter's: what its provider said
    if is_text(raw) then
        local inner = {}
        read_text(inner, raw, depth)
        said.message = said.message or ((is_text(t.message) and t.message .. ": " or "") .. inner.message)
    end
    local text = first_text(t, WORDS)
    if text then -- {"error": "Not Found", "message": "no such model"}: the message is better
        read_text(said, text, depth)
    end
    if is_text(t.error) then
        said.names_error = true
        said.final = said.final or FINAL[t.error]
        read_text(said, t.error, depth)
    end
    for _, field in ipairs { "type", "code", "param" } do
        note_name(said, field, t[field])
    end
    note_name(said, "type", t.error_type)
    note_name(said, type(t.type) == "string" and "code" or "type", type(t.status) == "string"
        and not tonumber(t.status) and t.status or nil)
    for _, field in ipairs(NUMBERS) do
        said.status = said.status or status_in(t[field])
    end
    for _, field in ipairs { "details", "innererror", "metadata", "extensions", "retryInfo", "cause" } do
        if type(t[field]) == "table" then
            local inner = {}
            read_value(inner, t[field], depth + 1)
            said.wait, said.final = said.wait or inner.wait, said.final or inner.final
            said.status, said.named = said.status or inner.status, said.named or inner.named
        end
    end
end

function read_value(said, v, depth)
    if depth > MOST_DEPTH then
        return
    elseif type(v) == "string" then
        read_text(said, v, depth)
    elseif type(v) ~= "table" then
        return
    elseif #v > 0 then
        read_list(said, v, depth + 1)
    else
        read_object(said, v, depth)
    end
end

-- ---- text

local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"', ["#39"] = "'", nbsp = " ", ["#x27"] = "'" }

-- The title of an HTML page, or the nearest to a title; the text of XML.
local function of_html(text)
    local lower = text:lower()
    for _, name in ipairs { "title", "h1", "message", "body" } do
        local _, from = lower:find("<" .. name .. "[^>]*>")
        local to = from and (lower:find("</" .. name .. "%s*>", from + 1) or #text + 1)
        local inner = from and text:sub(from + 1, to - 1):gsub("<[^>]*>", " ")
            :gsub("&(#?%w+);", ENTITIES)
        if inner and inner:find "%S" then
            return inner
        end
    end
    return (text:gsub("<[^>]*>", " "))
end

-- Phrases in error pages of gateways.
local PHRASES = { "bad gateway", "unavailable", "gateway time", "internal server error", "too many requests",
    "bad request", "not found", "forbidden", "unauthorized", "overloaded", "timed out" }

-- The status in a title such as "502 Bad Gateway", or nil.
local function status_of_title(title)
    local number, lower = title:match "%f[%w]([45]%d%d)%f[%W]", title:lower()
    for _, phrase in ipairs(PHRASES) do
        if number and lower:find(phrase, 1, true) then
            return tonumber(number)
        end
    end
end

-- The data of the first event of a stream, or nil.
local function of_events(text)
    local data = {}
    for line in (text .. "\n"):gmatch "([^\r\n]*)\r?\n" do
        local value = line:match "^data:%s?(.*)" or line:match "^error:%s*(.*)"
        if value then
            data[#data + 1] = value
        elseif line == "" and #data > 0 then
            break
        end
    end
    return #data > 0 and table.concat(data, "\n") or nil
end

local function looks_like_events(text)
    return text:find "^%s*data:" or text:find "^%s*event:" or text:find "^%s*error:%s*{" or text:find "^:"
end

-- The value of a JSON text; the first value of JSON lines. nil if it is not JSON.
local function json_of(text)
    local value = json.decode(text)
    if value == nil then
        value = json.decode((text:match "^%s*([^\r\n]+)") or "")
    end
    return value
end

-- The text of the first message in JSON that is cut off or not quite valid.
local function of_broken_json(text)
    local message = text:match '"[Mm]essage"%s*:%s*("[^"\\]*")' or text:match '"error"%s*:%s*("[^"\\]*")'
        or text:match '"detail"%s*:%s*("[^"\\]*")'
    return message and json.decode(message) or nil
end

local function read_body(said, text)
    if text:find "^%s*<" then
        said.html = not text:find "^%s*<%?xml" or nil
        local title = of_html(text)
        said.status = said.html and status_of_title(title)
        note_words(said, title)
        return
    elseif looks_like_events(text) then
        said.names_error = (text:find "^%s*error:" or text:find "^%s*event:%s*error") and true
        text = of_events(text) or ""
    end
    local value = text:find "^%s*[{[\"]" and json_of(text)
    if type(value) == "table" or type(value) == "string" then
        said.value = value
        read_value(said, value, 1)
    else
        note_words(said, text:find "^%s*[{[]" and of_broken_json(text) or text)
    end
end

-- ---- the entry point

-- Reads what a server said in a failed answer. `text` is the body, or nil; only its first 64 KiB are read.
-- opts: `value` is the JSON of the body, if it is decoded already; `redact` is a function that removes the
-- caller's secrets from a text; `url` is used in warnings. Returns a table in which every field may be nil:
--   message       what it said, on one line
--   type, code, param   texts
--   status        400 to 599: the body's own number, or what its words stand for ("overloaded_error",
--                 the title "502 Bad Gateway")
--   retry_after   the seconds that the body asks to wait, bounded
--   final         true: no wait helps (a spent quota)
--   body          the head of the body: at most 2 KiB of UTF-8 without control characters
--   value         the body's JSON
--   html          true: the body is a page
--   names_error   true: it has a field "error" or the like
function M.read(text, opts)
    local said = {}
    local redact = opts and opts.redact or function(v) return v end
    text = (text or ""):sub(1, MOST_READ)
    if opts and type(opts.value) == "table" then
        said.value = opts.value
        read_value(said, opts.value, 1)
    else
        read_body(said, text)
    end
    if not said.wait then
        said.wait = wait_in(said.message or "") or wait_in(text)
    end
    said.message = said.message and words(redact(said.message))
    said.type, said.entry_type = said.type or said.entry_type, nil
    for _, field in ipairs { "type", "code", "param" } do
        said[field] = said[field] and words(redact(said[field]))
    end
    said.retry_after = outside.bounded(said.wait, "the wait that an answer asks for", opts and opts.url)
    said.wait = nil
    said.status, said.named = said.status or said.named, nil
    if text:find "%S" then
        said.body = head(clean(redact(text:gsub("\\/", "/"))), MOST_KEPT)
    end
    return said
end

return M
