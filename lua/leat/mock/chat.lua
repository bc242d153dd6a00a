-- The chat completions of the mock: which requests it refuses, and how it answers the others.
local json = require "leat.json"
local tasks = require "leat.task"
local util = require "leat.util"

local encode = json.encode
local floor, max, ceil = math.floor, math.max, math.ceil

local M = {}

function M.failure(status, message, kind, param, code, headers)
    return {
        status = status,
        headers = headers,
        json = {
            error = {
                message = message,
                type = kind or "invalid_request_error",
                param = param or json.null,
                code = code or json.null,
            },
        },
    }
end

local function invalid(param, message, code)
    return M.failure(400, message, nil, param, code)
end

local function is_list(v)
    return type(v) == "table" and (#v > 0 or next(v) == nil)
end

-- The text of a message's content, which is a string or a list of parts. Only some parts are text.
local function text_of(content)
    if type(content) ~= "table" then
        return type(content) == "string" and content or ""
    end
    local parts = {}
    for _, part in ipairs(content) do
        if type(part) == "table" and part.type == "text" and type(part.text) == "string" then
            parts[#parts + 1] = part.text
        end
    end
    return table.concat(parts, " ")
end

local ROLES = {
    system = true, developer = true, user = true, assistant = true, tool = true, ["function"] = true,
}

local function check_message(m, i)
    local at = ("messages[%d]"):format(i - 1)
    if type(m) ~= "table" then
        return invalid(at, ("Invalid type for '%s': expected an object."):format(at), "invalid_type")
    elseif m.role == nil then
        return invalid(at .. ".role", ("Missing required parameter: '%s.role'."):format(at),
            "missing_required_parameter")
    elseif type(m.role) ~= "string" then
        return invalid(at .. ".role", ("Invalid type for '%s.role': expected a string."):format(at),
            "invalid_type")
    elseif not ROLES[m.role] then
        return invalid(at .. ".role", ("Invalid value: '%s'. Supported values are: 'system', 'developer', "
            .. "'user', 'assistant', 'tool', and 'function'."):format(m.role), "invalid_value")
    elseif type(m.content) ~= "string" and not is_list(m.content)
        and not (m.role == "assistant" and (m.content == nil or m.content == json.null)) then
        return invalid(at .. ".content", ("Invalid type for '%s.content': expected a string or an array of "
            .. "objects."):format(at), "invalid_type")
    end
end

local function whole(v)
    return type(v) == "number" and v % 1 == 0 and v >= 1
end

-- Returns the response that refuses the request, or nil if the request is valid.
function M.check(body)
    if type(body) ~= "table" or #body > 0 then
        return invalid(nil, "We could not parse the JSON body of your request. (HINT: This likely means you "
            .. "aren't using your HTTP library correctly. The API expects a JSON payload, but what was sent "
            .. "was not valid JSON.)")
    elseif body.model == nil then
        return invalid(nil, "you must provide a model parameter")
    elseif type(body.model) ~= "string" then
        return invalid("model", "Invalid type for 'model': expected a string.", "invalid_type")
    elseif body.messages == nil then
        return invalid("messages", "Missing required parameter: 'messages'.", "missing_required_parameter")
    elseif not is_list(body.messages) then
        return invalid("messages", "Invalid type for 'messages': expected an array of objects.",
            "invalid_type")
    elseif #body.messages == 0 then
        return invalid("messages", "Invalid 'messages': empty array. Expected an array with minimum length "
            .. "1, but got an empty array instead.", "empty_array")
    elseif body.stream ~= nil and body.stream ~= json.null and type(body.stream) ~= "boolean" then
        return invalid("stream", "Invalid type for 'stream': expected a boolean.", "invalid_type")
    elseif body.stream_options ~= nil and body.stream_options ~= json.null and body.stream ~= true then
        return invalid("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is "
            .. "enabled.")
    elseif type(body.temperature) == "number" and (body.temperature < 0 or body.temperature > 2) then
        return invalid("temperature", ("Invalid 'temperature': expected a value from 0 to 2, but got %g "
            .. "instead."):format(body.temperature), "decimal_above_max_value")
    end
    for _, name in ipairs { "max_tokens", "max_completion_tokens" } do
        local n = body[name]
        if n ~= nil and n ~= json.null and not whole(n) then
            return invalid(name, ("Invalid '%s': expected an integer of at least 1."):format(name),
                "integer_below_min_value")
        end
    end
    for i, m in ipairs(body.messages) do
        local refused = check_message(m, i)
        if refused then
            return refused
        end
    end
end

local FILLER = { "water", "runs", "down", "the", "leat", "and", "turns", "the", "wheel" }

-- The answer as a list of tokens. It repeats the prompt, so that a test can see which request it answers.
local function answer_tokens(prompt, wanted, limit)
    local tokens = {}
    local text = "Answer to: " .. prompt
    for piece in text:gmatch "%s*%S+" do
        tokens[#tokens + 1] = piece
    end
    tokens[#tokens] = tokens[#tokens] .. text:match "%s*$"
    while wanted and #tokens < wanted do
        tokens[#tokens + 1] = " " .. FILLER[#tokens % #FILLER + 1]
    end
    if wanted then
        limit = limit and math.min(limit, wanted) or wanted
    end
    local cut = limit and #tokens > limit
    while limit and #tokens > limit do
        tokens[#tokens] = nil
    end
    return tokens, cut and "length" or "stop"
end

-- Estimates tokens as the API does: about one for four bytes of English.
local function estimate(bytes)
    return max(1, ceil(bytes / 4))
end

-- Reads a request that `check` has accepted. Returns model, prompt, prompt_tokens, limit (the maximum of
-- answer tokens, or nil) and cost (the tokens that the token limit charges).
function M.read(body)
    local prompt, bytes = "", 0
    for _, m in ipairs(body.messages) do
        local text = text_of(m.content)
        bytes = bytes + #text
        if m.role == "user" then
            prompt = text
        end
    end
    local n = estimate(bytes)
    local limit = whole(body.max_completion_tokens) and body.max_completion_tokens
        or whole(body.max_tokens) and body.max_tokens or nil
    return { model = body.model, prompt = prompt, prompt_tokens = n, limit = limit, cost = n + (limit or 0) }
end

-- Collects everything that is needed to send the answer.
function M.answer(self, asked, streamed)
    self.answers = self.answers + 1
    local tokens, reason = answer_tokens(asked.prompt, self.tokens, asked.limit)
    local n = asked.prompt_tokens
    return {
        tokens = tokens,
        reason = reason,
        head = ('{"id":"chatcmpl-mock%08d","object":"chat.completion%s","created":%d,"model":%s'):format(
            self.answers, streamed and ".chunk" or "", floor(tasks.time()), encode(asked.model)),
        usage = ('{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'):format(n, #tokens,
            n + #tokens),
    }
end

-- ---- embeddings: the same text always gets the same vector, of length 1

local DIMENSIONS = 8

local function vector_of(text)
    local digest, v, sum = util.sha256(text, { raw = true }), {}, 0
    for i = 1, DIMENSIONS do
        v[i] = digest:byte(i) - 127.5
        sum = sum + v[i] * v[i]
    end
    for i = 1, DIMENSIONS do
        v[i] = v[i] / math.sqrt(sum)
    end
    return v
end

-- Reads a request for embeddings. Returns model, texts and cost (in tokens); or nil and the refusal.
function M.read_embeddings(body)
    if type(body) ~= "table" or type(body.model) ~= "string" then
        return nil, invalid(nil, "you must provide a model parameter")
    end
    local texts = type(body.input) == "string" and { body.input } or body.input
    if type(texts) ~= "table" or #texts == 0 then
        return nil, invalid("input", "'input' must be a text or a list of texts.")
    end
    local bytes = 0
    for _, text in ipairs(texts) do
        if type(text) ~= "string" then
            return nil, invalid("input", "'input' must be a text or a list of texts.")
        end
        bytes = bytes + #text
    end
    return { model = body.model, texts = texts, cost = estimate(bytes) }
end

-- Makes the response to a request for embeddings.
function M.embeddings(asked, headers)
    local data = {}
    for i, text in ipairs(asked.texts) do
        data[i] = { object = "embedding", index = i - 1, embedding = vector_of(text) }
    end
    return {
        headers = headers,
        json = {
            object = "list", data = data, model = asked.model,
            usage = { prompt_tokens = asked.cost, total_tokens = asked.cost },
        },
    }
end

return M
