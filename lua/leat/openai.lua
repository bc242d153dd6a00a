-- Client of the OpenAI API and compatible servers: chat completions (whole or streamed), embeddings,
-- models.
local answers = require "leat.openai.reply"
local check = require "leat.internal.check"
local errors = require "leat.error"
local http = require "leat.http"
local json = require "leat.json"
local policy = require "leat.policy.common"
local redactor = require "leat.internal.redactor"
local native = require "leat.native.runtime"
local util = require "leat.util"

local redact = require("leat.native.util").redact

local M = {}

-- ---- settings

local function env(name)
    local value = not native.restricted and os.getenv(name) -- a sandboxed script gets no secrets
    return value ~= "" and value or nil
end

-- Returns a setting from the environment: the variable NAME, or the content of the file that NAME_FILE
-- names. Returns nil if neither is set; nil, err if the file cannot be read.
local function setting(name)
    local value, path = env(name), env(name .. "_FILE")
    if value or not path then
        return value
    end
    local file, why = io.open(path, "rb")
    if file then
        value, why = file:read "*a"
        file:close()
    end
    if not value then
        return nil, errors.new { kind = "io",
            message = ("openai: cannot read the file that %s_FILE names: %s"):format(name, tostring(why)) }
    end
    return (value:match "^%s*(.-)%s*$")
end

-- ---- calls

-- Tells the policies around this call the response (its headers have the rate limits) and the tokens used.
local function tell(res, usage)
    local scope = policy.scope()
    while scope and not scope.tell do
        scope = scope.outer
    end
    if scope then
        scope:tell(res, type(usage) == "table" and usage or nil)
    end
end

-- Returns one key for a call and all its attempts. If a policy outside the call retries, the n-th call with
-- the same body gets the same key in each attempt.
local function idempotency_key(scope, body)
    if not scope then
        return util.uuid()
    end
    scope.keys, scope.seen = scope.keys or {}, scope.seen or {}
    local digest = util.sha256(body)
    local n = (scope.seen[digest] or 0) + 1
    scope.seen[digest] = n
    local name = digest .. n
    scope.keys[name] = scope.keys[name] or util.uuid()
    return scope.keys[name]
end

local function retrying_scope()
    local scope = policy.scope()
    while scope and not scope.retries do
        scope = scope.outer
    end
    return scope
end

-- Sends a request. Returns the decoded answer and the response; or nil, err.
local function exchange(self, spec, judge, asked)
    local res, err = self._client:request(spec)
    if not res then
        return nil, err
    end
    local body, failed, value = answers.open(self, spec, res, judge, asked)
    value = body or value
    tell(res, value and value.usage)
    if not body then
        return nil, failed
    end
    return body, res
end

-- The headers of a call, as a table that may be changed, and whether they have an idempotency key.
local function headers_of(options)
    local given, headers = options.headers, {}
    if given == nil then
        return headers, false
    elseif type(given) ~= "table" then
        check.fail("openai: option 'headers' of a call must be a table, got "
            .. check.picture(given, "headers"))
    end
    for name, value in pairs(given) do
        headers[name] = value
    end
    return headers, policy.header(given, "idempotency-key") ~= nil
end

local SORTED = { sorted = true }

-- Calls step(self, spec, judge, body). Retries it, unless a policy around this call retries. A body is a
-- table, or a JSON text that is sent unchanged.
local function call(self, step, path, body, options, judge)
    if self._query then
        path = path .. (path:find("?", 1, true) and "&" or "?") .. self._query
    end
    local headers, has_key = headers_of(options)
    local scope, text = retrying_scope(), body
    if body and type(body) ~= "string" then
        local err
        text, err = json.encode(body, SORTED)
        if not text then
            return nil, err
        end
    end
    if body then
        headers["Content-Type"] = "application/json"
        if not has_key then
            headers["Idempotency-Key"] = idempotency_key(scope, text)
        end
    end
    local spec = { url = path, method = body and "POST" or "GET", timeout = options.timeout,
        headers = headers, body = text }
    if scope or not self.retry then
        return step(self, spec, judge, body)
    end
    return self.retry:call(step, self, spec, judge, body)
end

-- ---- chat

local Client = check.class({}, "openai")
Client.__index = Client
setmetatable(Client, { __index = check.foreign("openai", "a client of leat.openai") })

function Client:__tostring()
    return ("openai (%s%s)"):format(self.base_url, self.model and ", " .. check.hidden(self.model) or "")
end

local function check_self(self, name)
    if getmetatable(self) ~= Client then
        check.fail(name .. ": call it with a colon, as in ai:" .. name .. "(...)")
    end
end

local OURS = { timeout = true, headers = true }
local NO_OPTIONS = {}

-- Returns the body of a request, and the options that are for this client. Without `opts` the body may be the
-- input itself, and must not be changed.
local function compose(self, who, input, opts)
    if opts == nil and input.model and input.timeout == nil and input.headers == nil then
        return input, NO_OPTIONS
    end
    local body, options = {}, {}
    for _, t in ipairs { input, opts or {} } do
        for name, value in pairs(t) do
            (OURS[name] and options or body)[name] = value
        end
    end
    body.model = body.model or self.model
    if body.model == nil then
        check.fail(who .. ": no model: give it to leat.openai, to the call, or in OPENAI_MODEL")
    end
    return body, options
end

local function chat_body(self, who, prompt, opts)
    if opts ~= nil and type(opts) ~= "table" then
        opts = nil -- the index that map and similar functions pass
    end
    local input = prompt
    if type(prompt) == "string" then
        input = { model = self.model, messages = { { role = "user", content = prompt } } }
    elseif type(prompt) == "table" and prompt.messages == nil and prompt[1] ~= nil then
        input = { model = self.model, messages = prompt }
    elseif type(prompt) ~= "table" or type(prompt.messages) ~= "table" then
        check.fail(("%s: expected a prompt or {messages={...}}, got %s"):format(who,
            check.picture(prompt, "prompt")))
    end
    return compose(self, who, input, opts)
end

local function text_of(message)
    local content = message.content
    if type(content) == "table" then
        return require("leat.openai.merge").text_of(content)
    end
    return type(content) == "string" and content or ""
end

local function chat_once(self, spec, judge)
    local reply, err = exchange(self, spec, judge)
    if not reply then
        return nil, err
    end
    return text_of(reply.choices[1].message), reply
end

--- Requests a chat completion.
---@param prompt string|table a prompt, a list of messages, or {messages={...}, ...}
---@param opts? leat.chat_options timeout and headers; everything else (tools, response_format,
---temperature ...) is sent to the server unchanged
---@return string|nil text of the first choice; "" if it has no text, for example if the model only calls
---tools
---@return leat.reply|leat.error reply the decoded answer; or the err. Kinds: http (err.message has the
---server's words; err.status, err.code, err.type, err.param, err.retry_after, err.retryable; err.body is
---the beginning of the response), protocol (the answer is not a completion; err.reason is "not_json",
---"html_page" or "bad_answer"), and those of request
---
--- An answer with status 200 may contain an error. Then chat returns an err with err.reason
--- "error_in_answer". Its err.status is the one that the answer states; without one it is not retried.
--- err.partial has the whole text of the answer. Half of a surrogate pair (`\ud83d`) in an answer becomes
--- U+FFFD.
---
--- All attempts of a call have the same Idempotency-Key. Inside leat.retry and leat.pipeline the client
--- does not retry: only the policy does. Raises for wrong arguments.
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "test", model = "mock" }
--- local text, reply = assert(ai:chat "hello")
--- assert(text == "Answer to: hello" and reply.usage.total_tokens > 0)
--- local none, err = ai:chat("hello", { temperature = 99 })
--- assert(none == nil and err.kind == "http" and err.status == 400 and not err.retryable)
--- mock:close()
--- ```
function Client:chat(prompt, opts)
    check_self(self, "chat")
    local body, options = chat_body(self, "chat", prompt, opts)
    if body.stream then
        check.fail "chat: the answer is not streamed here: use ai:stream(...)"
    end
    return call(self, chat_once, "chat/completions", body, options, answers.chat)
end

--- Requests a chat completion that arrives piece by piece. Returns when the first piece has arrived. A
--- failure before that is retried as by `chat`; later ones never.
---@param prompt string|table as for chat
---@param opts? leat.chat_options as for chat
---@return leat.chat_stream|nil stream iterator of strings; has close(). At the end also usage,
---finish_reason and reply (as from `chat`; the pieces are joined field by field, tool calls by index and
---id)
---@return leat.error? err as from chat
---
--- The iterator raises if the stream breaks. err.kind is "http" for an error that the server sends in the
--- stream; "protocol" for data that begins like JSON but is not JSON (err.partial has it); "closed"
--- (reason "truncated") if the stream ends without `[DONE]` and without a finish_reason. It skips what
--- servers send to keep a connection open: comments, empty data, pings, text that is not JSON, and
--- everything after the finish.
---
--- Limits: `timeout.first_byte` (or a plain number as `timeout`) limits the time to the response's
--- headers; no event needs to arrive by then. `timeout.idle` (or the same number) limits the time without
--- any data. Each comment, ping or empty event starts it again, so a model may think for any time while
--- the server sends them. To limit the time to the first piece of text, use `leat.wait_for(s, ai.stream,
--- ai, prompt)`.
---
--- After a `break`, the stream stays open until close(), or until the task that reads it ends. In a
--- pipeline, read the stream to its end inside the function. If the stream breaks, the function fails,
--- and leat.retry or the pipeline calls it again, which requests the whole text again.
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "test", model = "mock" }
--- local stream, text = assert(ai:stream "hello"), ""
--- for delta in stream do text = text .. delta end
--- assert(text == "Answer to: hello" and stream.usage.completion_tokens == 3)
---
--- local open = function(prompt) return ai:stream(prompt) end
--- local got = { "", "" }
--- for delta, i in leat.merge({ "one", "two" }, open) do got[i] = got[i] .. delta end
--- assert(got[1] == "Answer to: one" and got[2] == "Answer to: two")
--- mock:close()
--- ```
function Client:stream(prompt, opts)
    check_self(self, "stream")
    local given = type(opts) == "table" and opts or {} -- with options, even none, the body is a copy
    local body, options = chat_body(self, "stream", prompt, given)
    body.stream = true
    if body.stream_options == nil then
        body.stream_options = { include_usage = true }
    elseif body.stream_options == false then
        body.stream_options = nil
    end
    local open = require("leat.openai.stream").open
    return call(self, function(_, spec)
        spec.stream = true
        return open(self, spec, tell)
    end, "chat/completions", body, options)
end

-- ---- the rest

local function post_once(self, spec, judge, body)
    local reply, res_or_err = exchange(self, spec, judge, body)
    if not reply then
        return nil, res_or_err
    end
    return res_or_err, reply
end

-- Internal: for `leat batch`. Sends a body (table or JSON text) to a path; returns the response and reply.
function M.post(self, path, body, options)
    return call(self, post_once, path, body, options, answers.judge_of(path))
end

--- Requests embeddings.
---@param input string|string[] a text, or a list of texts
---@param opts? leat.chat_options as for chat; embeddings usually need another model
---@return number[]|number[][]|nil vector a list of numbers; for a list of texts a list of vectors, in the
---same order
---@return leat.reply|leat.error reply or the err, as from chat; also kind "protocol" if the answer does
---not have one vector for each text
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "test", model = "mock" }
--- local vectors = assert(ai:embed { "one", "two" })
--- assert(#vectors == 2 and #vectors[1] == #assert(ai:embed "one"))
--- mock:close()
--- ```
function Client:embed(input, opts)
    check_self(self, "embed")
    local list = type(input) == "table"
    if not list and type(input) ~= "string" then
        check.fail("embed: expected a text or a list of texts, got " .. check.picture(input, "input"))
    elseif list and #input == 0 then
        return {}, { data = {} }
    end
    local body, options = compose(self, "embed", { input = input }, type(opts) == "table" and opts or nil)
    local reply, err = call(self, exchange, "embeddings", body, options, answers.judge_of "embeddings")
    if not reply then
        return nil, err
    end
    local vectors = {}
    for i, row in ipairs(reply.data) do
        vectors[(row.index or i - 1) + 1] = row.embedding
    end
    return list and type(input[1]) ~= "number" and vectors or vectors[1], reply
end

--- Returns the models that the server offers.
---@return string[]|nil ids
---@return leat.reply|leat.error reply or the err, as from chat
--- ```lua
--- local mock = assert(require("leat.mock").start())
--- local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "test" }
--- assert(#assert(ai:models()) > 0)
--- mock:close()
--- ```
function Client:models()
    check_self(self, "models")
    local reply, err = call(self, exchange, "models", nil, {}, answers.models)
    if not reply then
        return nil, err
    end
    local ids = {}
    for i, row in ipairs(reply.data) do
        ids[i] = row.id
    end
    return ids, reply
end

local ROWS = {
    base_url = "string", api_key = "string", model = "string", timeout = true, headers = "table",
    retry = true, client = "table",
}

--- Makes a client of the OpenAI API, or of a compatible server.
---@param opts? leat.openai_options
---
--- * `base_url` (default: OPENAI_BASE_URL, or https://api.openai.com/v1); its query is sent with each
---   request. `api_key` (default: OPENAI_API_KEY); without a key none is sent. `model` (default:
---   OPENAI_MODEL). OPENAI_BASE_URL_FILE and OPENAI_API_KEY_FILE may name a file that contains the value.
--- * `timeout`, `headers`; and `client`, a table with any other option of leat.client (proxy, ca_file ...).
---   These, too, override the environment.
--- * `retry`: options of leat.retry, or one of its objects, or false. Default: 3 attempts. Inside
---   leat.retry and leat.pipeline this option has no effect: only the policy retries.
---@return leat.openai|nil ai with chat, stream, embed, models; nil only together with an err
---@return leat.error? err kind "io" (a file that the environment names), "invalid" (base_url)
---
--- No error contains the key. Raises for an unknown option or one of a wrong type.
--- ```lua
--- local ai = leat.openai { base_url = "http://127.0.0.1:8080/v1", api_key = "test", model = "mock" }
--- assert(not tostring(ai):find "test")
--- ```
function M.openai(opts)
    opts = check.options("openai", opts, ROWS)
    local defaults = {}
    for name, value in pairs(opts.client or {}) do
        defaults[name] = value
    end
    local key, base, err = opts.api_key, opts.base_url or defaults.base_url, nil
    if not key and not defaults.auth then
        key, err = setting "OPENAI_API_KEY"
    end
    if not base and not err then
        base, err = setting "OPENAI_BASE_URL"
    end
    if err then
        return nil, err
    end
    base = base or "https://api.openai.com/v1"
    defaults.base_url = base
    defaults.timeout = opts.timeout or defaults.timeout
    defaults.headers = opts.headers or defaults.headers
    if key and key ~= "" then
        defaults.auth = { bearer = key }
    end
    local client, bad = http.client(defaults)
    if not client then
        return nil, bad
    end
    local retry = opts.retry
    if retry == nil or retry == true or type(retry) == "table" and not getmetatable(retry) then
        retry = require("leat.retry").retry(type(retry) == "table" and retry or nil)
    elseif retry and (type(retry) ~= "table" or not retry.call) then
        check.fail("openai: option 'retry' must be a table of options, a retry policy or false, got "
            .. check.picture(retry, "retry"))
    end
    return setmetatable({
        base_url = redact("url", (base:gsub("//[^/]*@", "//"))), model = opts.model or env "OPENAI_MODEL",
        retry = retry, _client = client, _query = base:match "%?([^#]+)",
        _redact = redactor.new(base, { { auth = { bearer = key } }, opts.client, defaults }, 3),
    }, Client)
end

return M
