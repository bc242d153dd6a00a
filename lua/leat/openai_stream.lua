-- The streamed answers of leat.openai: events put together, and what may go wrong in them. Internal.
local errors = require "leat.error"
local json = require "leat.json"
local upload = require "leat.upload"

local redact = require("leat.core.util").redact

local M = {}

local Stream = {}
Stream.__index = Stream

local function broken(self, fields)
    fields.url, fields.status = redact("url", self.res.url), fields.status or self.res.status
    return errors.new(fields)
end

-- ---- the answer as a whole, put together from its pieces

-- Some servers give a list of parts, as a prompt may be one: the text of those that have any.
function M.text_of(content)
    local texts = { type(content) == "string" and content or nil }
    for _, part in ipairs(type(content) == "table" and content or {}) do
        texts[#texts + 1] = type(part) == "table" and type(part.text) == "string" and part.text or nil
    end
    return table.concat(texts)
end

-- The entry of a list of which `part`, the i-th of an event, has more. They stand by their index, whichever
-- came first and where they begin; nothing is between them.
local function entry_of(list, part, i)
    local index = tonumber(part.index) or i - 1
    local at = 1
    while list[at] and list[at].index < index do
        at = at + 1
    end
    if not list[at] or list[at].index ~= index then
        table.insert(list, at, { index = index })
    end
    return list[at], index
end

-- Text is added to text, whatever else is new replaces.
local function add(into, piece)
    for name, value in pairs(piece) do
        local old = into[name]
        if name == "content" and type(value) == "table" then
            value = M.text_of(value)
        end
        if name == "tool_calls" and type(value) == "table" then
            into.tool_calls = type(old) == "table" and old or json.array()
            for i, part in ipairs(value) do
                if type(part) == "table" then
                    local entry, index = entry_of(into.tool_calls, part, i)
                    add(entry, part)
                    entry.index = index
                end
            end
        elseif type(value) == "table" and type(old) == "table" then
            add(old, value)
        elseif type(value) == "string" and type(old) == "string" and name ~= "role" and name ~= "type"
            and name ~= "id" then
            into[name] = old .. value
        elseif value ~= json.null or old == nil then
            into[name] = value
        end
    end
end

-- Takes up one decoded event; returns the text that it adds to the first choice, "" if none.
local function take(self, event)
    local reply, delta = self.reply, ""
    for name, value in pairs(event) do
        if name ~= "choices" and name ~= "usage" then
            reply[name] = value
        end
    end
    if type(event.usage) == "table" then
        self.usage, reply.usage = event.usage, event.usage
    end
    for i, given in ipairs(type(event.choices) == "table" and event.choices or {}) do
        local piece = type(given) == "table" and given or {}
        local choice, index = entry_of(reply.choices, piece, i)
        choice.message = choice.message or {}
        local part = type(piece.delta) == "table" and piece.delta
            or type(piece.message) == "table" and piece.message or {}
        add(choice.message, part)
        if type(piece.finish_reason) == "string" then
            choice.finish_reason = piece.finish_reason
            if index == 0 then
                self.finish_reason = piece.finish_reason
            end
        end
        if index == 0 then
            delta = delta .. M.text_of(part.content)
        end
    end
    return delta
end

-- ---- reading

local function finish(self)
    self.done = true
    self.reply.object = "chat.completion"
    if self.res._stream then
        self.res:close()
    end
    self.tell(self.res.headers, self.usage)
end

-- The next piece of text; nil at the end, or nil, err.
local function next_delta(self)
    while true do
        local event, err = self.res:next_event()
        if event == nil then
            if self.finish_reason then -- all of the text was there, whatever came then
                finish(self)
                return nil
            end
            return nil, err or broken(self, { kind = "closed", reason = "truncated", retryable = true,
                message = "openai: the stream ended before the answer did" })
        elseif event.data == "[DONE]" then
            finish(self)
            return nil
        end
        local data, bad = json.decode(event.data)
        if event.event == "error" or type(data) == "table" and data.error ~= nil and data.error ~= json.null
        then
            local body = type(data) == "table" and (data.error ~= nil and data or { error = data })
                or { error = event.data }
            return nil, self.provider_error(self.ai, self.res, body)
        elseif type(data) ~= "table" then
            return nil, broken(self, { kind = "protocol", retryable = false,
                message = bad and "openai: an event of the stream is not JSON: " .. bad.message
                    or "openai: an event of the stream is no JSON object" })
        end
        local delta = take(self, data)
        if delta ~= "" then
            return delta
        end
    end
end

local function advance(self)
    local delta, err = next_delta(self)
    if err then
        self.error, self.done = err, true
        self.res:close()
    end
    return delta, err
end

function Stream:__call()
    local first = self.first
    if first then
        self.first = nil
        return first
    elseif self.error then
        error(self.error, 0)
    elseif self.done then
        return nil
    end
    local delta, err = advance(self)
    if err then
        error(err, 0)
    end
    return delta
end

function Stream:__tostring()
    return "stream of a chat completion (" .. (self.done and "ended" or "under way") .. ")"
end

-- Internal: ends the transfer. Harmless when it has ended.
function Stream:close()
    self.first = nil
    if not self.done then
        self.done = true
        self.res:close()
    end
end

-- A server that does not stream: the whole answer is one piece.
local function whole(self)
    local res, err = upload.whole(self.res)
    if not res then
        return nil, err
    end
    self.res = res
    local body, bad = json.decode(res.body)
    if not res.ok or type(body) == "table" and body.error ~= nil and body.error ~= json.null then
        return nil, self.provider_error(self.ai, res, body)
    elseif type(body) ~= "table" or type(body.choices) ~= "table" then
        return nil, bad or broken(self, { kind = "protocol", retryable = false,
            message = "openai: the answer is not a chat completion" })
    end
    local delta = take(self, body)
    self.first = delta ~= "" and delta or nil
    finish(self)
    return self
end

-- Opens a stream and reads up to its first piece, or nil, err.
function M.open(ai, spec, provider_error, tell)
    local res, err = ai._client:request(spec)
    if not res then
        return nil, err
    end
    local self = setmetatable({ ai = ai, res = res, provider_error = provider_error, tell = tell,
        done = false, reply = { choices = json.array() } }, Stream)
    local kind = (res.headers["content-type"] or ""):lower()
    if not res.ok then
        tell(res.headers)
    end
    if not res.ok or not kind:find("event-stream", 1, true) and kind:find("json", 1, true) then
        return whole(self)
    end
    self.first, err = advance(self)
    if err then
        return nil, err
    end
    return self
end

return M
