-- Judges the answers of OpenAI-compatible servers: whether one holds what was asked for, and the failure that
-- any other one is. A status of 200 proves nothing: some servers send their failures with it. Internal.
local errors = require "leat.error"
local json = require "leat.json"
local policy = require "leat.policy.common"
local redactor = require "leat.internal.redactor"
local reply_error = require "leat.http.reply_error"
local rules = require "leat.policy.retry_rules"

local redact = require("leat.native.util").redact

local null = json.null

local M = {}

-- ---- failures

-- The wait that the server asks for. Headers go before the body.
local function wait_of(res, said)
    local hint = rules.hint(res)
    return hint and hint > 0 and hint or said.retry_after or hint
end

-- The failure that an answer is. `said`: what reply_error found in it; `fields`: kind, message, and others.
local function failure(res, said, fields)
    local status = res.ok and said.status or res.status
    fields.status, fields.retry_after = status, wait_of(res, said)
    fields.retryable = not said.final and rules.asked(res, status) -- no wait helps against a spent quota
    fields.type, fields.code, fields.param, fields.body = said.type, said.code, said.param, said.body
    fields.request_id, fields.url = policy.header(res.headers, "x-request-id"), redact("url", res.url)
    return errors.new(fields)
end

-- Whether a text, such as `error: {...}` or `{"error": ...}`, is an error. Of other text nobody knows.
function M.is_error_text(text)
    return reply_error.read(text).names_error
end

-- Takes the secrets of the client and of this request out of a text.
local function redactor_of(self, spec)
    local of_request = redactor.new("", { spec }, 1)
    return function(text)
        return of_request(self._redact(text))
    end
end

-- The failure that a response to the request `spec` is whose status is not 2xx.
function M.refused(self, spec, res)
    local said = reply_error.read(res.body, { redact = redactor_of(self, spec), url = res.url })
    local message = said.message or ("the server answered with status %d%s"):format(res.status,
        res.reason ~= "" and " " .. res.reason or "")
    message = ("%s (status %d)"):format(message, res.status)
    return failure(res, said, { kind = "http", message = message })
end

-- The failure that an answer with a good status is. `text` is the answer, `value` the part of it that says
-- what failed, `what` says in our words what is wrong with it. The whole answer was paid for: it is in
-- err.partial.
function M.failed(self, spec, res, text, value, what)
    local redacted = redactor_of(self, spec)
    local said = reply_error.read(text, { value = value, redact = redacted, url = res.url })
    local fields = { kind = "http", reason = "error_in_answer", partial = redacted(text) }
    if said.status then
        fields.message = ("%s (status %d)"):format(said.message or what, said.status)
    elseif said.names_error then
        fields.message = said.message or what
    else
        fields.kind = "protocol"
        fields.reason = said.html and "html_page" or said.value == nil and "not_json" or "bad_answer"
        fields.message = "openai: " .. (said.html and "the answer is an HTML page" or what)
            .. (said.message and ": " .. said.message or "")
    end
    return failure(res, said, fields)
end

-- ---- judges: each returns nothing if an answer is what was asked for; or what is wrong, and the part of the
-- answer that says so

-- Whether a field "error" says something. Some servers send it empty with each good answer.
local function is_error(v)
    return v ~= nil and v ~= null and v ~= false and v ~= "" and (type(v) ~= "table" or next(v) ~= nil)
end

-- Of an answer without what was asked for: whether it is an error in one of the forms without "error".
local function is_failure(t)
    local code = tonumber(t.code) or tonumber(t.status) or tonumber(t.status_code)
    return is_error(t.error) or t.object == "error" or t.type == "error" or is_error(t.errors)
        or is_error(t.detail) or t.success == false or code ~= nil and code >= 400 and code < 600
end
M.is_failure = is_failure

-- Of one choice.
local function judge_choice(choice)
    if type(choice) ~= "table" then
        return "a choice of the answer is no object"
    elseif is_error(choice.error) then
        return "a choice of the answer holds an error", { error = choice.error }
    elseif choice.finish_reason == "error" then
        local message = type(choice.message) == "table" and choice.message or choice.delta
        local content = type(message) == "table" and message.content
        return "the answer ended with finish_reason \"error\"", { error = {
            message = "the answer ended with finish_reason \"error\""
                .. (type(content) == "string" and content ~= "" and ": " .. content or ""),
        } }
    end
end
M.judge_choice = judge_choice

local function judge_choices(reply, what)
    if is_error(reply.error) then
        return "the answer holds an error", reply
    end
    local choices = reply.choices
    if type(choices) ~= "table" or choices[1] == nil then
        return ("the answer is not %s: it has no choices"):format(what), reply
    end
    for i = 1, #choices do
        local wrong, part = judge_choice(choices[i])
        if wrong then
            return wrong, part or reply
        end
    end
end

function M.chat(reply)
    local wrong, part = judge_choices(reply, "a chat completion")
    if not wrong and type(reply.choices[1].message) ~= "table" then
        wrong, part = "the answer is not a chat completion: its first choice has no message", reply
    end
    return wrong, part
end

local function completion(reply)
    return judge_choices(reply, "a completion")
end

-- The number of texts in the input of a request for embeddings. A list of numbers is one text, in tokens.
local function texts_in(input)
    return type(input) == "table" and type(input[1]) ~= "number" and #input or 1
end

local function embeddings(reply, asked)
    if is_error(reply.error) then
        return "the answer holds an error", reply
    end
    local input = (type(asked) == "string" and json.decode(asked) or asked).input
    local rows, wanted, seen = reply.data, texts_in(input), {}
    if type(rows) ~= "table" then
        return "the answer has no embeddings", reply
    elseif #rows ~= wanted then
        return ("the answer does not have one embedding for each text (%d for %d)"):format(#rows,
            wanted), reply
    end
    for i = 1, wanted do
        local row = rows[i]
        local index = type(row) == "table" and (row.index == nil and i - 1 or row.index)
        local kind = type(row) == "table" and type(row.embedding)
        if type(index) ~= "number" or index < 0 or index >= wanted or index % 1 ~= 0 or seen[index] then
            return "the answer does not have one embedding for each text", reply
        elseif kind ~= "table" and kind ~= "string" then -- a text: base64, where that was asked for
            return ("the answer has no embedding of text %d"):format(index + 1), reply
        end
        seen[index] = true
    end
end

function M.models(reply)
    if is_error(reply.error) then
        return "the answer holds an error", reply
    elseif type(reply.data) ~= "table" then
        return "the answer is not a list of models", reply
    end
    for _, row in ipairs(reply.data) do
        if type(row) ~= "table" or type(row.id) ~= "string" then
            return "the answer is not a list of models", reply
        end
    end
end

-- Of an endpoint whose answers are not known here.
local function any(reply)
    if is_error(reply.error) or reply.object == nil and reply.id == nil and is_failure(reply)
        or reply.object == "error" or reply.type == "error" then
        return "the answer holds an error", reply
    end
end

-- Of the Responses API: "failed" comes with an error, "incomplete" is an answer.
local function responses(reply)
    if reply.status == "failed" or reply.status == "cancelled" then
        return ("the response has the status \"%s\""):format(reply.status), reply
    end
    return any(reply)
end

local JUDGES = {
    ["chat/completions"] = M.chat, completions = completion, embeddings = embeddings, responses = responses,
}

-- The judge of the answers of an endpoint, by its path.
function M.judge_of(path)
    path = path:gsub("[?#].*$", ""):gsub("/+$", "")
    return JUDGES[path:match "[^/]+/[^/]+$"] or JUDGES[path:match "[^/]*$"] or any
end

-- ---- the whole

local LENIENT = { surrogates = "replace", big = "string" }

-- The value of an answer's text; nil, err if it is not JSON. A half of a surrogate pair that stands alone
-- becomes U+FFFD; beside one, or a number beyond a double's range, large numbers are text. The rest of the
-- answer is worth having.
function M.decode(text)
    local value, bad = json.decode(text)
    if value == nil then
        local lenient = json.decode(text, LENIENT)
        if lenient ~= nil then
            return lenient
        end
    end
    return value, bad
end

-- The decoded answer, or nil, err; and what was decoded in both cases. `judge` may be left out.
function M.open(self, spec, res, judge, asked)
    if not res.ok then
        return nil, M.refused(self, spec, res)
    elseif res.encoded then
        return res:json() -- nil, err: the body cannot be read
    end
    local text = res.body
    local value, bad = M.decode(text)
    if type(value) ~= "table" then
        local wrong = bad and "the answer is not JSON (" .. bad.message .. ")"
            or "the answer is not a JSON object"
        return nil, M.failed(self, spec, res, text, nil, wrong)
    end
    local wrong, part = judge(value, asked)
    if wrong then
        return nil, M.failed(self, spec, res, text, part, wrong), value
    end
    return value
end

return M
