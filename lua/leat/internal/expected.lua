-- Decides which responses count as a success: the values of `expect` (requests, clients) and `accept`
-- (pipelines). Also makes the error for every other response.
local check = require "leat.internal.check"
local errors = require "leat.error"
local policy = require "leat.policy.common"
local reply_error = require "leat.http.reply_error"
local rules = require "leat.policy.retry_rules"
local unseen = require "leat.internal.unseen"

local redact = require("leat.native.util").redact

local M = {}

-- ---- which responses are accepted

local FORMS = "\"2xx\", a status such as 404, a list of these or a function of the response"

-- Adds the statuses that one value means to `statuses`. Returns false if the value is not valid.
local function add(statuses, value)
    local from, to
    if type(value) == "string" then
        local class = value:match "^([1-9])[xX][xX]$"
        from = class and 100 * tonumber(class)
        to = from and from + 99
    elseif type(value) == "number" and value % 1 == 0 and value >= 100 and value <= 999 then
        from, to = value, value
    end
    for status = from or 1, to or 0 do
        statuses[status] = true
    end
    return from ~= nil
end

local function wrong(who, option, value)
    local number = type(value) == "string" and value:find "^%d%d%d$" and ": write it without the quotes" or ""
    check.fail(("%s: option '%s' must be %s, got %s%s"):format(who, option, FORMS,
        check.picture(value, option), number))
end

local function callable(value)
    local mt = getmetatable(value)
    return type(value) == "function" or type(value) == "table" and type(mt) == "table" and mt.__call ~= nil
end

-- Returns a function that takes a response and returns whether `value` allows it. A response that it allows
-- counts as checked by the script. Raises an error if `value` has a wrong form. `who` is the public function,
-- `option` the name of the option.
function M.compile(value, who, option)
    if callable(value) then
        return function(res)
            local good = value(res)
            if good then
                unseen.looked(res)
            end
            return good and true or false
        end
    end
    local statuses = {}
    if type(value) == "table" then
        check.list(("%s: option '%s'"):format(who, option), value)
        if #value == 0 then
            check.fail(("%s: option '%s' must not be an empty list"):format(who, option))
        end
        for _, entry in ipairs(value) do
            if not add(statuses, entry) then
                wrong(who, option, entry)
            end
        end
    elseif not add(statuses, value) then
        wrong(who, option, value)
    end
    return function(res)
        local good = statuses[policy.status(res)] or false
        if good then
            unseen.looked(res)
        end
        return good
    end
end

-- ---- the error

-- Whether the body is binary data. Messages show nothing of such a body.
local function is_binary(res, body)
    local kind = policy.header(res.headers, "content-type") or ""
    return res.encoded or body:sub(1, 512):find "%z" or kind:find "^image/" or kind:find "^audio/"
        or kind:find "^video/"
end

local function said_of(res, body, redact_text)
    if type(body) ~= "string" or body == "" then
        return {}
    elseif is_binary(res, body) then
        return { message = ("%d bytes that are not text"):format(#body) }
    end
    return reply_error.read(body, { redact = redact_text })
end

-- The error of kind "http" for a response. `body` is the beginning of the body, if that is not in res.body.
-- `redact_text` is a function that removes the caller's secrets from a text, or nil if no secrets are known.
function M.failure(res, body, redact_text)
    local status = policy.status(res)
    unseen.looked(res)
    local said = said_of(res, body or res.body, redact_text)
    local reason = type(res.reason) == "string" and res.reason ~= "" and " " .. res.reason or ""
    local hint, asked = rules.hint(res), policy.header(res.headers, "x-should-retry")
    local idempotent = res.idempotent
    if asked == "true" then
        idempotent = nil -- the server itself says that it may be sent again
    end
    return errors.new {
        kind = "http", status = status, response = res, body = said.body,
        type = said.type, code = said.code, param = said.param,
        url = type(res.url) == "string" and redact("url", res.url) or nil,
        retryable = not said.final and rules.asked(res, status),
        retry_after = hint and hint > 0 and hint or said.retry_after or hint,
        idempotent = idempotent, attempts = res.attempts, gave_up = res.gave_up,
        not_retried = res.not_retried,
        message = ("the server answered with status %d%s%s%s"):format(status, reason,
            said.message and ": " .. said.message or "",
            res.not_retried and " (not retried: " .. res.not_retried .. ")" or ""),
    }
end

-- For each response: the function that removes the secrets of its request from a text.
local redactors = setmetatable({}, { __mode = "k" })

-- Remembers the secrets of a request for its response. `url` is the request's URL; `a` and `b` are tables of
-- its options (each may be nil).
function M.note_secrets(res, url, a, b)
    redactors[res] = require("leat.internal.redactor").new(url, { a, b }, 2)
end

-- If nobody will read a stream, at most this many bytes of it are read, for at most this many seconds.
local HEAD_BYTES, HEAD_SECONDS = 64 * 1024, 5

-- The error for a response that the caller does not accept. A streamed response is closed. Before that its
-- beginning is read, unless `at_once`.
function M.refusal(res, at_once)
    local body = rawget(res, "body")
    if rawget(res, "_stream") and at_once then
        res:close()
    elseif rawget(res, "_stream") then
        local whole
        body, whole = require("leat.http.stream").head(res, HEAD_BYTES, HEAD_SECONDS)
        res.body, res.complete, res._stream = body, whole, nil
    end
    return M.failure(res, body, redactors[res])
end

-- Whether a value is a response that is neither ok nor accepted by accept(response).
function M.refuses(accept, value)
    local status = policy.status(value)
    return status ~= nil and (status < 200 or status > 299) and not (accept and accept(value))
end

-- Passes on the values of a function. If the first value is a response that is not accepted, it returns nil,
-- err instead. job.calls is how often the function was called for this item.
function M.judged(accept, job, value, ...)
    if M.refuses(accept, value) then
        local err = M.refusal(value)
        err.attempts = err.gave_up and err.attempts or job.calls -- a retry inside counted exactly
        return nil, err
    end
    return value, ...
end

return M
