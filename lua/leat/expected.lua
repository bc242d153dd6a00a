-- Which responses a caller takes for a success: the values of `expect` (requests, clients) and `accept`
-- (pipelines). And the failure that any other response is. Internal.
local check = require "leat.check"
local errors = require "leat.error"
local policy = require "leat.policy"
local rules = require "leat.retry_rules"
local unseen = require "leat.unseen"

local redact = require("leat.core.util").redact

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
    local number = type(value) == "string" and value:find "^%d%d%d$" and " (write it as a number)" or ""
    check.fail(("%s: option '%s' must be %s, got %s%s"):format(who, option, FORMS, check.picture(value),
        number))
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

local MOST_BODY = 2048 -- bytes of err.body
local MOST_WORDS = 200 -- bytes of the body in a message

-- The beginning of the text, cut between two characters.
local function head(text, most)
    if #text <= most then
        return text
    end
    return (text:sub(1, most):gsub("[\192-\255][\128-\191]*$", ""))
end

local function words(body)
    local text = head(body, MOST_WORDS):gsub("[%s%c]+", " "):gsub("^ ", ""):gsub(" $", "")
    return #body > MOST_WORDS and text .. "..." or text
end

-- The failure of kind "http" that a response stands for. `body`: its beginning, if that is not in res.body.
function M.failure(res, body)
    local status = policy.status(res)
    unseen.looked(res)
    body = body or res.body
    body = type(body) == "string" and head(body, MOST_BODY) or nil
    local reason = type(res.reason) == "string" and res.reason ~= "" and " " .. res.reason or ""
    local said = body and words(body) or ""
    return errors.new {
        kind = "http", status = status, response = res, body = body,
        url = type(res.url) == "string" and redact("url", res.url) or nil,
        retryable = rules.asked(res, status), retry_after = rules.hint(res),
        idempotent = res.idempotent, attempts = res.attempts, gave_up = res.gave_up,
        not_retried = res.not_retried,
        message = ("the server answered with status %d%s%s"):format(status, reason,
            said ~= "" and ": " .. said or ""),
    }
end

return M
