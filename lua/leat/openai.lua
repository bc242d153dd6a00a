-- A client for OpenAI-compatible services: chat, streamed chat, embeddings, models.
local check = require "leat.check"
local errors = require "leat.error"
local http = require "leat.http"
local json = require "leat.json"
local retry = require "leat.retry"
local util = require "leat.util"

local M = {}

local Ai = {}
Ai.__index = Ai

local OPTIONS = {
    base_url = "string", api_key = "string", model = "string", timeout = true, retry = true,
    headers = "table",
}

-- NAME, or the content of the file that NAME_FILE names.
local function from_environment(name)
    local path = os.getenv(name .. "_FILE")
    if not path then
        return os.getenv(name)
    end
    local f, why = io.open(path, "rb")
    if not f then
        return nil, errors.new { kind = "io", message = ("%s_FILE: %s"):format(name, why) }
    end
    local text = f:read "*a"
    f:close()
    return (text:gsub("%s+$", ""))
end

--- A client of a service that speaks OpenAI's protocol.
---@param options? table base_url (else OPENAI_BASE_URL, else OpenAI's own), api_key (else OPENAI_API_KEY, or
---the file that OPENAI_API_KEY_FILE names), model, timeout and headers as `request` takes them, retry (a
---policy of `leat.retry`, its options, or false for none; unless said 3 attempts)
---@return table|nil ai with chat, stream, embed, models
---@return table? err kinds invalid (the base_url or the key cannot be sent), io (the key's file)
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = assert(leat.openai { base_url = mock.url .. "/v1", api_key = "none", model = "gpt-4o-mini" })
--- local text, reply = assert(ai:chat "Say hello")
--- assert(#text > 0 and reply.usage.total_tokens > 0)
--- mock:close()
--- ```
function M.openai(options)
    options = check.options("openai", options, OPTIONS)
    local key = options.api_key
    if not key then
        local problem
        key, problem = from_environment "OPENAI_API_KEY"
        if problem then
            return nil, problem
        end
    end
    local api, err = http.client {
        base_url = options.base_url or os.getenv "OPENAI_BASE_URL" or "https://api.openai.com/v1",
        auth = key and { bearer = key } or nil,
        timeout = options.timeout,
        headers = options.headers,
    }
    if not api then
        return nil, err
    end
    local policy = options.retry
    if policy == nil then
        policy = { attempts = 3 }
    end
    if type(policy) == "table" and not policy.call then
        policy = retry.retry(policy)
    end
    return setmetatable({ _api = api, _retry = policy, model = options.model }, Ai)
end

local function check_self(self, name)
    if getmetatable(self) ~= Ai then
        check.fail(("openai: call it with a colon, as in ai:%s(...)"):format(name))
    end
end

-- What the service says went wrong, as an error.
local function refusal(status, told, retry_after)
    local e = type(told) == "table" and told or {}
    local message = type(told) == "string" and told or e.message or "the service gave no reason"
    return errors.new {
        kind = "http", status = status, message = tostring(message),
        reason = type(e.code) == "string" and e.code or type(e.type) == "string" and e.type or nil,
        retryable = status == 408 or status == 429 or status >= 500,
        retry_after = tonumber(retry_after),
    }
end

local function refused(res)
    local told = res:json()
    told = type(told) == "table" and told.error or nil
    return refusal(res.status, told or ("status %d %s"):format(res.status, res.reason),
        res.headers["retry-after"])
end

local function read_reply(res, err)
    if not res then
        return nil, err
    elseif not res.ok then
        return nil, refused(res)
    end
    local reply
    reply, err = res:json()
    if err then
        return nil, err
    elseif type(reply) ~= "table" then
        return nil, errors.new { kind = "protocol", message = "the service's answer is not an object" }
    elseif reply.error and reply.error ~= json.null then -- some say 200 all the same
        return nil, refusal(res.status, reply.error)
    end
    return reply
end

-- One logical call: the same key for all its attempts, so that sending it again does no harm.
local function call(self, path, body)
    local options = { json = body, headers = { ["Idempotency-Key"] = util.uuid() } }
    local res, err
    if self._retry then
        res, err = self._retry:call(self._api.post, self._api, path, options)
    else
        res, err = self._api:post(path, options)
    end
    return read_reply(res, err)
end

local function body_of(self, who, prompt, opts)
    local body = {}
    if type(prompt) == "table" then
        for name, value in pairs(prompt) do
            body[name] = value
        end
    elseif type(prompt) ~= "string" then
        check.fail(("openai:%s: expected a prompt or a table with messages, got %s"):format(who,
            check.picture(prompt)))
    else
        body.messages = { { role = "user", content = prompt } }
    end
    for name, value in pairs(opts or {}) do
        body[name] = value
    end
    body.model = body.model or self.model
    if not body.model then
        check.fail(("openai:%s: no model: give one to leat.openai{model=...} or to the call"):format(who))
    end
    return body
end

--- One chat completion.
---@param prompt string|table the user's message; or a table with `messages` and anything else the service
---takes (tools, response_format ...), passed on as it is
---@param opts? table more of that: model, temperature ...
---@return string|nil text "" if the answer is tool calls alone
---@return table reply the whole answer; or err: kind http (err.status, the service's own message) or what
---`request` fails with
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = assert(leat.openai { base_url = mock.url .. "/v1", model = "gpt-4o-mini" })
--- local text = assert(ai:chat({ messages = { { role = "user", content = "Hi" } } }, { temperature = 0 }))
--- assert(type(text) == "string")
--- mock:close()
--- ```
function Ai:chat(prompt, opts)
    check_self(self, "chat")
    local reply, err = call(self, "chat/completions", body_of(self, "chat", prompt, opts))
    if not reply then
        return nil, err
    end
    local choice = type(reply.choices) == "table" and reply.choices[1]
    local message = type(choice) == "table" and choice.message
    if type(message) ~= "table" then
        return nil, errors.new { kind = "protocol", message = "the service's answer has no message" }
    end
    return type(message.content) == "string" and message.content or "", reply
end

--- The vector of a text, or those of a list of texts in their order.
---@param input string|string[]
---@param opts? table model, dimensions ...
---@return table|nil vectors
---@return table reply the whole answer; or err
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = assert(leat.openai { base_url = mock.url .. "/v1", model = "gpt-4o-mini" })
--- local vector, err = ai:embed "a text"
--- assert(vector or err.status == 404) -- the mock has none
--- mock:close()
--- ```
function Ai:embed(input, opts)
    check_self(self, "embed")
    local body = { input = input }
    for name, value in pairs(opts or {}) do
        body[name] = value
    end
    body.model = body.model or self.model
    local reply, err = call(self, "embeddings", body)
    if not reply then
        return nil, err
    elseif type(reply.data) ~= "table" then
        return nil, errors.new { kind = "protocol", message = "the service's answer has no data" }
    end
    local vectors = {}
    for i, row in ipairs(reply.data) do
        vectors[(tonumber(row.index) or i - 1) + 1] = row.embedding
    end
    return type(input) == "table" and vectors or vectors[1], reply
end

--- The names of the service's models.
---@return string[]|nil names
---@return table? err
function Ai:models()
    check_self(self, "models")
    local reply, err = read_reply(self._api:get "models")
    if not reply then
        return nil, err
    end
    local names = {}
    for i, row in ipairs(type(reply.data) == "table" and reply.data or {}) do
        names[i] = row.id
    end
    return names
end

-- ---- streams

local Deltas = {}
Deltas.__index = Deltas

local function broken(self, err)
    self.res:close()
    self.ended = true
    error(err, 0)
end

-- The text of one event's data, nil if it has none; true as second value at the end.
local function take_chunk(self, data)
    if data == "[DONE]" then
        return nil, true
    end
    local chunk, err = json.decode(data)
    if type(chunk) ~= "table" then
        broken(self, err or errors.new { kind = "protocol", message = "a chunk is not an object" })
    elseif chunk.error and chunk.error ~= json.null then
        broken(self, refusal(self.res.status, chunk.error))
    end
    if type(chunk.usage) == "table" then
        self.usage = chunk.usage
    end
    local choice = type(chunk.choices) == "table" and chunk.choices[1]
    if type(choice) ~= "table" then
        return nil
    end
    if type(choice.finish_reason) == "string" then
        self.finish_reason = choice.finish_reason
    end
    local text = type(choice.delta) == "table" and choice.delta.content
    return type(text) == "string" and text ~= "" and text or nil
end

function Deltas:__call()
    while not self.ended do
        local event, err = self.res:next_event()
        if not event then
            self.ended = true
            if err then
                error(err, 0)
            elseif not self.finish_reason then
                error(errors.new { kind = "closed", reason = "truncated", retryable = true,
                    message = "the stream ended before the answer did" }, 0)
            end
            return nil
        end
        local text, last
        if event.event == "error" then
            local told = json.decode(event.data)
            broken(self, refusal(self.res.status, type(told) == "table" and told.error or event.data))
        end
        text, last = take_chunk(self, event.data)
        if last then
            self.ended = true
            self.res:close()
        elseif text then
            return text
        end
    end
end

--- Closes the stream.
function Deltas:close()
    self.ended = true
    self.res:close()
end

--- A chat completion as it comes.
---@param prompt string|table as for chat
---@param opts? table as for chat
---@return function|nil iterator of pieces of text; fields usage and finish_reason at the end; close(). It
---raises if the stream breaks, ends too early, or tells an error
---@return table? err as for chat: until the stream begins, the call is retried
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = assert(leat.openai { base_url = mock.url .. "/v1", model = "gpt-4o-mini" })
--- local words = {}
--- for delta in assert(ai:stream "Say hello") do words[#words + 1] = delta end
--- assert(#words > 0)
--- mock:close()
--- ```
function Ai:stream(prompt, opts)
    check_self(self, "stream")
    local body = body_of(self, "stream", prompt, opts)
    body.stream = true
    local options = { json = body, stream = true, headers = { ["Idempotency-Key"] = util.uuid() } }
    local function open()
        local res, err = self._api:post("chat/completions", options)
        if res and not res.ok then
            local text = {}
            for bytes in res:chunks() do
                text[#text + 1] = bytes
            end
            local told = json.decode(table.concat(text))
            res:close()
            return nil, refusal(res.status, type(told) == "table" and told.error
                or ("status %d %s"):format(res.status, res.reason), res.headers["retry-after"])
        end
        return res, err
    end
    local res, err
    if self._retry then
        res, err = self._retry:call(open)
    else
        res, err = open()
    end
    if not res then
        return nil, err
    end
    return setmetatable({ res = res, ended = false }, Deltas)
end

return M
