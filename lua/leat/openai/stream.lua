-- The streamed answers of leat.openai. This module reads their events, skips noise and finds errors.
local answers = require "leat.openai.reply"
local errors = require "leat.error"
local json = require "leat.json"
local merge = require "leat.openai.merge"
local policy = require "leat.policy.common"
local streams = require "leat.http.stream"
local upload = require "leat.http.upload"

local redact = require("leat.native.util").redact

local null = json.null
local OPEN_BRACE = 123

local M = {}

local Stream = {}
Stream.__index = Stream

-- ---- what an event is

-- Events with these names only keep the connection open. Their data is ignored.
local NOISE = { ping = true, heartbeat = true, keepalive = true, ["keep-alive"] = true }

-- Half of a surrogate pair is kept, because the other half may come with the next piece.
local KEEP = { surrogates = "keep" }

local function decode(self, text)
    local value, bad = json.decode(text)
    if value == nil then
        local kept = json.decode(text, KEEP)
        if kept ~= nil then
            self.halves = true
            return kept
        end
    end
    return value, bad
end

local function failed(self, text, value, what)
    if merge.is_finished(self.merging) then
        return nil -- the answer was complete, so what comes later does not matter
    end
    return answers.failed(self.ai, self.spec, self.res, text, value, what)
end

-- For an event that is not a piece of an answer: the error that it reports, or nil. Other text is kept: if no
-- piece comes at all, it explains what was wrong.
local function other_event(self, event, value)
    if event.event == "error" then
        local said = type(value) == "table" and (value.error ~= nil and value or { error = value })
            or { error = event.data }
        return failed(self, event.data, said, "an event of the stream is an error")
    elseif type(value) ~= "table" then
        return nil
    end
    local inner = type(value[1]) == "table" and value[1] or value
    if answers.is_failure(inner) then
        return failed(self, event.data, value, "an event of the stream is an error")
    end
    self.words = self.words or type(value.message) == "string" and event.data or nil
    return nil
end

-- For a piece of an answer: the error that one of its choices reports, or nil.
local function failed_choice(self, event, choices)
    for i = 1, #choices do
        local choice = choices[i]
        if type(choice) == "table" and (choice.error ~= nil or choice.finish_reason == "error") then
            local wrong, part = answers.judge_choice(choice)
            if wrong then
                return failed(self, event.data, part, wrong)
            end
        end
    end
end

-- Reads an event. Returns a piece of the answer; or nil and "done"; or nil and the error that the event
-- reports. nil alone means that the event is noise.
local function piece_of(self, event)
    local data, name = event.data, event.event
    if NOISE[name] then
        return nil
    elseif data:byte() ~= OPEN_BRACE then
        if data:find "^%s*\"?%[DONE%]\"?%s*$" then
            return nil, "done"
        elseif not data:find "^%s*[{[]" then
            return nil, name == "error" and other_event(self, event) or nil
        end
    end
    local value, bad = decode(self, data)
    if value == nil and name ~= "error" then
        return nil, failed(self, data, nil, "an event of the stream is not JSON (" .. bad.message .. ")")
    end
    local choices = type(value) == "table" and value.choices
    if name == "error" or type(choices) ~= "table" or value.error ~= nil and value.error ~= null then
        local err = other_event(self, event, value)
        if err or type(value) ~= "table" or value.usage == nil and type(choices) ~= "table" then
            return nil, err
        end
    end
    if type(choices) ~= "table" then
        return { usage = value.usage }
    end
    local err = failed_choice(self, event, choices)
    if err then
        return nil, err
    end
    return value
end

-- ---- texts that were cut inside a surrogate pair

-- Joins halves that meet. A half at the end of a piece is kept for the next piece.
local function mended(self, delta)
    local surrogates = require "leat.internal.surrogates"
    delta = (self.half or "") .. delta
    local half = surrogates.tail(delta)
    self.half = half
    return surrogates.join(half and delta:sub(1, -#half - 1) or delta)
end

local function mend_all(value)
    local join = require("leat.internal.surrogates").join
    for name, v in pairs(value) do
        if type(v) == "string" then
            value[name] = join(v)
        elseif type(v) == "table" then
            mend_all(v)
        end
    end
end

-- ---- reading

-- Ends the stream. Returns the rest of its text, or nil.
local function finish(self)
    self.done = true
    self.reply = merge.finish(self.merging)
    self.usage = self.reply.usage
    local rest
    if self.halves then
        mend_all(self.reply)
        rest = self.half and require("leat.internal.surrogates").join(self.half)
    end
    if self.res._stream then
        self.res:close()
    end
    self.tell(self.res, self.usage)
    return rest
end

-- The error that the server reported outside its events, or nil.
local function reported_outside(self)
    local stray = rawget(self.res, "_stream") and self.res._stray
    local alone = #self.merging.reply.choices == 0
    if stray and (answers.is_error_text(stray) or alone and stray:find "^%s*<") then
        return answers.failed(self.ai, self.spec, self.res, stray, nil, "the stream ended with an error")
    elseif self.words and alone then
        return answers.failed(self.ai, self.spec, self.res, self.words, nil,
            "the stream ended without an answer")
    end
end

-- Handles the end of the events. Returns a last piece; or nil and "done"; or nil and an error.
local function ended(self, err)
    if merge.is_finished(self.merging) then -- all of the text has come: what comes later does not matter
        return nil, "done"
    elseif err then
        return nil, err
    end
    -- The line end after the last event may be missing.
    local event = rawget(self.res, "_stream") and self.res.incomplete
    if event and not self.last then
        self.last = true
        local piece, outcome = piece_of(self, event)
        if piece or outcome == "done" or outcome and outcome.kind == "http" then
            return piece, outcome
        end
    end
    return nil, reported_outside(self) or errors.new {
        kind = "closed", reason = "truncated", retryable = true,
        url = redact("url", self.res.url), status = self.res.status,
        message = "openai: the stream ended before the answer did" }
end

-- The next piece of text; nil at the end, or nil, err.
local function next_delta(self)
    while true do
        local event, err = self.next_event(self.res)
        local piece, outcome
        if event == nil then
            piece, outcome = ended(self, err)
        else
            piece, outcome = piece_of(self, event)
        end
        if piece then
            local delta = merge.take(self.merging, piece)
            local first = self.merging.reply.choices[1]
            if first and first.index == 0 and first.finish_reason ~= "" and first.finish_reason ~= null then
                self.finish_reason = first.finish_reason
            end
            if self.halves then
                delta = mended(self, delta)
            end
            if delta ~= "" then
                return delta
            end
        elseif outcome == "done" and #self.merging.reply.choices > 0 then
            return finish(self)
        elseif outcome == "done" then
            return nil, answers.failed(self.ai, self.spec, self.res, self.words or "", nil,
                "the stream ended without an answer: it had no choices")
        elseif outcome then
            return nil, outcome
        end
    end
end

local function advance(self)
    local delta, err = next_delta(self)
    if err then
        self.error, self.done = err, true
        if self.res._stream then
            self.res:close()
        end
        self.tell(self.res, self.merging.reply.usage)
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

-- Ends the transfer. Does nothing if it has ended already.
function Stream:close()
    self.first = nil
    if not self.done then
        self.done = true
        if self.res._stream then
            self.res:close()
        end
    end
end

-- ---- answers whose content-type does not say that they are event streams

local MOST_OTHER = 64 * 1024 * 1024 -- bytes of lines that belong to no event

-- An iterator over the events in lines. Lines that belong to no event are added to `other`.
local function events_in(next_line, other)
    local bytes = 0
    return function()
        local data, name = nil, "message"
        while true do
            local line, err = next_line()
            if line == nil then
                return nil, err
            elseif line == "" and data then
                return { data = data, event = name }
            end
            local field, value = line:match "^(%a+):%s?(.*)$"
            if field == "data" then
                data = data and data .. "\n" .. value or value
            elseif field == "event" then
                name = value
            elseif field ~= "id" and field ~= "retry" and line:byte() ~= 58 and bytes < MOST_OTHER then
                bytes = bytes + #line
                other[#other + 1] = line
            end
        end
    end
end

local function lines_of(text)
    local next_line = (text .. "\n"):gmatch "([^\n]*)\n"
    return function()
        local line = next_line()
        return line and (line:gsub("\r$", ""))
    end
end

-- Handles a complete answer from a server that does not stream.
local function whole(self, text)
    local res = self.res
    local body, bad = answers.decode(text)
    local wrong, part
    if type(body) == "table" then
        wrong, part = answers.chat(body)
    else
        wrong = bad and "the answer is not JSON (" .. bad.message .. ")" or "the answer is not a JSON object"
    end
    if wrong then
        self.tell(res, type(body) == "table" and body.usage or nil)
        return nil, answers.failed(self.ai, self.spec, res, text, part, wrong)
    end
    self.reply, self.usage, self.done = body, body.usage, true
    local reason = body.choices[1].finish_reason
    self.finish_reason = type(reason) == "string" and reason or nil
    local delta = merge.text_of(body.choices[1].message.content)
    self.first = delta ~= "" and delta or nil
    self.tell(res, self.usage)
    return self
end

local function open_events(self)
    local err
    self.first, err = advance(self)
    if err then
        return nil, err
    end
    return self
end

-- Handles an answer with another content-type: a complete answer, or events under another name.
local function open_other(self, kind)
    local other = {}
    if kind:find("json", 1, true) or kind:find("html", 1, true) then
        local res, err = upload.whole(self.res)
        if not res then
            return nil, err
        elseif not res.body:find "^%s*%a*:" then
            return whole(self, res.body)
        end
        self.next_event = events_in(lines_of(res.body), other)
        return open_events(self)
    end
    local next_line = self.res:lines()
    self.next_event = events_in(function()
        return policy.try(next_line)
    end, other)
    local stream, err = open_events(self)
    if stream or #other == 0 or err.reason ~= "truncated" then
        return stream, err
    end
    local again = setmetatable({ ai = self.ai, spec = self.spec, res = self.res, tell = self.tell }, Stream)
    return whole(again, table.concat(other, "\n"))
end

-- If the status is not 2xx, at most this many bytes of the answer are read, for at most this many seconds.
local HEAD_BYTES, HEAD_SECONDS = 64 * 1024, 5

-- Opens a stream and reads until its first piece. Returns nil, err on failure.
function M.open(ai, spec, tell)
    local res, err = ai._client:request(spec)
    if not res then
        return nil, err
    elseif not res.ok then
        tell(res, nil)
        res.body = streams.head(res, HEAD_BYTES, HEAD_SECONDS)
        return nil, answers.refused(ai, spec, res)
    end
    local self = setmetatable({ ai = ai, spec = spec, res = res, tell = tell, done = false,
        merging = merge.new(), next_event = res.next_event }, Stream)
    local kind = (res.headers["content-type"] or ""):lower()
    if kind:find("event-stream", 1, true) then
        return open_events(self)
    end
    return open_other(self, kind)
end

return M
