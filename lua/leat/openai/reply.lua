-- Checks the answers of OpenAI-compatible servers: whether an answer contains what the request asked for. If
-- not, it makes the error. A status of 200 is not enough, because some servers send their errors with it.
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

-- The wait that the server asks for. Headers take precedence over the body.
local function wait_of(res, said)
    local hint = rules.hint(res)
    return hint and hint > 0 and hint or said.retry_after or hint
end

-- Makes the error for an answer. `said` is what reply_error found in it; `fields` has kind, message and
-- others.
local function failure(res, said, fields)
    local status = res.ok and said.status or res.status
    fields.status, fields.retry_after = status, wait_of(res, said)
    fields.retryable = not said.final and rules.asked(res, status) -- waiting does not refill a quota
    fields.type, fields.code, fields.param, fields.body = said.type, said.code, said.param, said.body
    fields.request_id, fields.url = policy.header(res.headers, "x-request-id"), redact("url", res.url)
    return errors.new(fields)
end

-- Whether a text is an error, such as `error: {...}` or `{"error": ...}`. For any other text it is unknown.
function M.is_error_text(text)
    return reply_error.read(text).names_error
end

-- A function that removes the secrets of the client and of this request from a text.
local function redactor_of(self, spec)
    local of_request = redactor.new("", { spec }, 1)
    return function(text)
        return of_request(self._redact(text))
    end
end

-- The error for a response to the request `spec` whose status is not 2xx.
function M.refused(self, spec, res)
    local said = reply_error.read(res.body, { redact = redactor_of(self, spec), url = res.url })
    local message = said.message or ("the server answered with status %d%s"):format(res.status,
        res.reason ~= "" and " " .. res.reason or "")
    message = ("%s (status %d)"):format(message, res.status)
    return failure(res, said, { kind = "http", message = message })
end

-- The error for an answer whose status is good. `text` is the answer, `value` is the part that says what
-- failed, and `what` is our description of the problem. The user has paid for the answer, so err.partial has
-- all of it.
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

-- ---- judges: each returns nothing if the answer contains what the request asked for. Otherwise it returns
-- what is wrong, and the part of the answer that shows it.

-- Whether a field "error" means an error. Some servers send an empty one with each good answer.
local function is_error(v)
    return v ~= nil and v ~= null and v ~= false and v ~= "" and (type(v) ~= "table" or next(v) ~= nil)
end

-- For an answer without the expected content: whether it is an error in one of the forms without "error".
local function is_failure(t)
    local code = tonumber(t.code) or tonumber(t.status) or tonumber(t.status_code)
    return is_error(t.error) or t.object == "error" or t.type == "error" or is_error(t.errors)
        or is_error(t.detail) or t.success == false or code ~= nil and code >= 400 and code < 600
end
M.is_failure = is_failure

-- Judges one choice.
local function judge_choice(choice)
    if type(choice) ~= "table" then
        return "a choice of the answer is not an object"
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

-- The number of texts in the input of an embeddings request. A list of numbers is one text, as tokens.
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
        elseif kind ~= "table" and kind ~= "string" then -- a text is base64, if the request asked for that
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

-- Judges answers of an endpoint that this module does not know.
local function any(reply)
    if is_error(reply.error) or reply.object == nil and reply.id == nil and is_failure(reply)
        or reply.object == "error" or reply.type == "error" then
        return "the answer holds an error", reply
    end
end

-- Judges answers of the Responses API: "failed" comes with an error; "incomplete" is an answer.
local function responses(reply)
    if reply.status == "failed" or reply.status == "cancelled" then
        return ("the response has the status \"%s\""):format(reply.status), reply
    end
    return any(reply)
end

local JUDGES = {
    ["chat/completions"] = M.chat, completions = completion, embeddings = embeddings, responses = responses,
}

-- The judge for the answers of an endpoint, by its path.
function M.judge_of(path)
    if JUDGES[path] then
        return JUDGES[path]
    end
    path = path:gsub("[?#].*$", ""):gsub("/+$", "")
    return JUDGES[path:match "[^/]+/[^/]+$"] or JUDGES[path:match "[^/]*$"] or any
end

-- ---- the whole answer

local LENIENT = { surrogates = "replace", big = "string" }

-- Decodes the text of an answer; nil, err if it is not JSON. Half of a surrogate pair that stands alone
-- becomes U+FFFD. If the text has one, or has a number beyond the range of a double, large numbers are
-- decoded as text. So the rest of the answer can still be used.
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

-- Returns the decoded answer; or nil, err, and the decoded value if there is one.
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
