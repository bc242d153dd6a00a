-- Which responses a caller takes for a success: the values of `expect` (requests, clients) and `accept`
-- (pipelines). And the failure that any other response is. Internal.
local check = require "leat.internal.check"
local errors = require "leat.error"
local policy = require "leat.policy.common"
local reply_error = require "leat.http.reply_error"
local rules = require "leat.policy.retry_rules"
local unseen = require "leat.internal.unseen"

local redact = require("leat.native.util").redact

local M = {}

-- ---- which

local FORMS = "\"2xx\", a status such as 404, a list of these or a function of the response"

-- Adds what a single value stands for to `statuses`; false if it stands for nothing.
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

-- Whether a response is one that `value` allows, as a function of the response. What it allows counts as
-- looked at. Raises for a value of another form; `who` is the public function, `option` the option's name.
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

-- ---- the failure

-- Bytes that are no text: nothing of them is shown.
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

-- The failure of kind "http" that a response stands for. `body`: its beginning, if that is not in res.body;
-- `redact_text`: a function that takes the caller's secrets out of a text, if any are known.
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

-- By response: what takes the secrets of its request out of a text.
local redactors = setmetatable({}, { __mode = "k" })

-- What was asked for at `url`, with the options `a` and `b` (each may be nil), came to this response.
function M.note_secrets(res, url, a, b)
    redactors[res] = require("leat.internal.redactor").new(url, { a, b }, 2)
end

-- Of a stream that nobody will read so much is read, for at most so long.
local HEAD_BYTES, HEAD_SECONDS = 64 * 1024, 5

-- The failure that a response stands for which the caller does not take for a success. A stream is closed;
-- its beginning is read before that, unless `at_once`.
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

-- Whether a value is a response that is neither ok nor one that accept(response) allows.
function M.refuses(accept, value)
    local status = policy.status(value)
    return status ~= nil and (status < 200 or status > 299) and not (accept and accept(value))
end

-- The values of a function, unless the first is such a response: then nil, err. job.calls: how often the
-- function was called for it.
function M.judged(accept, job, value, ...)
    if M.refuses(accept, value) then
        local err = M.refusal(value)
        err.attempts = err.gave_up and err.attempts or job.calls -- a retry of the function's own knows better
        return nil, err
    end
    return value, ...
end

return M
