-- Merges the pieces of a streamed answer into the answer that a request without streaming returns.
--
-- RULES says for each field how a new piece is merged with the value so far. No rule lets "" or null replace
-- a value.
--
-- A text that grows piece by piece is joined at the end (`texts`), because each join copies all of it.
local json = require "leat.json"

local null = json.null
local concat, insert = table.concat, table.insert

local M = {}

local function is_empty(v)
    return v == nil or v == null or v == ""
end

-- ---- rules: each takes the value so far (or nil) and a piece, and returns the new value

-- Keeps the first meaningful value: ids, names, roles. A `created` of 0 is not meaningful.
local function first(old, new)
    if not is_empty(old) and old ~= 0 or is_empty(new) and old ~= nil then
        return old
    end
    return new
end

local function last(old, new)
    if is_empty(new) and old ~= nil then
        return old
    end
    return new
end

-- Appends text to text.
local function append(old, new)
    if type(old) == "string" and type(new) == "string" then
        return old .. new
    end
    return last(old, new)
end

-- The entries of a list are complete, so they are appended to the list.
local function entries(old, new)
    if type(old) ~= "table" or type(new) ~= "table" or new[1] == nil then
        return type(new) == "table" and old or last(old, new)
    end
    for i = 1, #new do
        insert(old, new[i])
    end
    return old
end

-- The same, but it makes a new list first, so that the list of the caller is not changed.
local function list_of(old, new)
    if type(new) == "table" and type(old) ~= "table" then
        return entries(json.array(), new)
    end
    return entries(old, new)
end

-- ---- texts: texts[into][name] are the pieces of that field, the first of which it holds itself

local function hold(texts, into, name, piece)
    local fields = texts[into]
    if not fields then
        fields = {}
        texts[into] = fields
    end
    local pieces = fields[name]
    if not pieces then
        pieces = { into[name] }
        fields[name] = pieces
    end
    pieces[#pieces + 1] = piece
end

local function join(texts, into, name)
    local fields = texts[into]
    if fields and fields[name] then
        into[name] = concat(fields[name])
        fields[name] = nil
    end
end

local function join_all(texts)
    for into, fields in pairs(texts) do
        for name, pieces in pairs(fields) do
            into[name] = concat(pieces)
        end
        texts[into] = nil
    end
end

-- The rules that join two strings.
local joins = { [append] = true }

-- Merges each field of `piece` into `into` by its rule; rules.other applies to all other fields.
local function add(rules, into, piece, texts)
    for name, value in pairs(piece) do
        local rule = rules[name] or rules.other
        if type(value) == "string" and joins[rule] and type(into[name]) == "string" then
            if value ~= "" then
                hold(texts, into, name, value)
            end
        else
            join(texts, into, name)
            into[name] = rule(into[name], value, texts)
        end
    end
    return into
end

local function object(rules)
    return function(old, new, texts)
        if type(new) ~= "table" then
            return last(old, new)
        end
        return add(rules, type(old) == "table" and old or {}, new, texts)
    end
end

-- A message field that only some providers use. Its text or its list comes in pieces.
local function unknown(old, new)
    if type(new) == "table" and (new[1] ~= nil or type(old) == "table" and old[1] ~= nil) then
        return list_of(old, new)
    end
    return append(old, new)
end
joins[unknown] = true

-- ---- content: a text, or a list of parts

-- The text of all parts that have text.
function M.text_of(content)
    local texts = { type(content) == "string" and content or nil }
    for _, part in ipairs(type(content) == "table" and content or {}) do
        texts[#texts + 1] = type(part) == "table" and type(part.text) == "string" and part.text or nil
    end
    return concat(texts)
end

-- Whether a part has something besides text, such as reasoning.
local function holds_more(part)
    if type(part) ~= "table" or type(part.text) == "string" then
        return false
    end
    for name, value in pairs(part) do
        if name ~= "type" and not is_empty(value) and (type(value) ~= "table" or next(value) ~= nil) then
            return true
        end
    end
    return false
end

local function all_text(parts)
    for i = 1, #parts do
        if holds_more(parts[i]) then
            return false
        end
    end
    return true
end

local add_parts

-- A part continues the part before it if both have the same type.
local PART = { type = first, text = append, thinking = function(old, new, texts)
    if type(new) == "table" then
        return add_parts(type(old) == "table" and old or json.array(), new, texts)
    end
    return append(old, new)
end, other = last }

function add_parts(list, parts, texts)
    for i = 1, #parts do
        local part, before = parts[i], list[#list]
        if type(part) == "table" and type(before) == "table" and part.type == before.type
            and (part.type == "text" or part.type == "thinking") then
            add(PART, before, part, texts)
        elseif type(part) == "table" then
            insert(list, add(PART, {}, part, texts))
        else
            insert(list, part)
        end
    end
    return list
end

local function as_parts(v)
    if type(v) == "table" then
        return v
    end
    return is_empty(v) and {} or { { type = "text", text = v } }
end

local function content(old, new, texts)
    if type(new) == "string" and type(old) ~= "table" then
        return append(old, new)
    elseif type(new) ~= "table" and type(new) ~= "string" then
        return last(old, new)
    elseif type(old) ~= "table" and all_text(new) then
        return append(is_empty(old) and "" or old, M.text_of(new))
    end
    local list = type(old) == "table" and old or add_parts(json.array(), as_parts(old), texts)
    return add_parts(list, as_parts(new), texts)
end
joins[content] = true

-- ---- tool calls

local CALLED = { name = first, arguments = append, other = last }
local CALL = { id = first, type = first, index = first, ["function"] = object(CALLED), other = last }

-- The id of a call. Some servers write "null" if there is none.
local function id_of(call)
    return type(call.id) == "string" and call.id ~= "" and call.id ~= "null" and call.id or nil
end

local function called(call)
    return type(call["function"]) == "table" and call["function"] or {}
end

local function is_whole(arguments)
    return type(arguments) == "table"
        or type(arguments) == "string" and type(json.decode(arguments)) == "table"
end

-- Whether a piece that has the same index as `call`, or no index, begins another call.
local function begins_another(call, piece, texts)
    local id, old_id = id_of(piece), id_of(call)
    if id and old_id then
        return id ~= old_id
    end
    local name, was = called(piece).name, called(call)
    if is_empty(name) or is_empty(was.name) then
        return false
    end
    join(texts, was, "arguments")
    return name ~= was.name or is_whole(was.arguments)
end

-- Opens a call. Calls are sorted by index, in whatever order they arrive.
local function open(calls, index)
    local at = #calls + 1
    while at > 1 and calls[at - 1].index > index do
        at = at - 1
    end
    insert(calls, at, { index = index })
    return calls[at]
end

local function with_index(calls, index, piece, texts)
    for i = #calls, 1, -1 do
        if calls[i].index == index then
            return begins_another(calls[i], piece, texts) and open(calls, index) or calls[i]
        end
    end
    return open(calls, index)
end

local function without_index(calls, piece, texts)
    local id, latest = id_of(piece), calls[#calls]
    if id then
        for i = #calls, 1, -1 do
            if id_of(calls[i]) == id then
                return calls[i]
            end
        end
    end
    if id or not latest or begins_another(latest, piece, texts) then
        return open(calls, latest and latest.index + 1 or 0)
    end
    return latest
end

local function tool_calls(old, new, texts)
    if type(new) ~= "table" then
        return last(old, new)
    end
    local calls = type(old) == "table" and old or json.array()
    for i = 1, #new do
        local piece = new[i]
        if type(piece) == "table" then
            local index = tonumber(piece.index)
            local call = index and with_index(calls, index, piece, texts)
                or without_index(calls, piece, texts)
            index = call.index
            add(CALL, call, piece, texts)
            call.index = index
        end
    end
    return calls
end

-- ---- the rules

local MESSAGE = {
    role = first, name = first, id = first, content = content, refusal = append, reasoning = append,
    reasoning_content = append, tool_calls = tool_calls, function_call = object(CALLED),
    annotations = list_of, reasoning_details = list_of, images = list_of,
    audio = object { id = first, data = append, transcript = append, other = last },
    other = unknown,
}

local CHOICE = {
    index = first, finish_reason = last, message = object(MESSAGE), delta = object(MESSAGE),
    logprobs = object { content = list_of, refusal = list_of, other = last },
    other = last,
}

local function is_complete(usage)
    return type(usage.prompt_tokens) == "number" and type(usage.completion_tokens) == "number"
end

-- The last complete usage counts: some servers send one with each piece.
local function usage_of(old, new)
    if type(new) ~= "table" or next(new) == nil
        or type(old) == "table" and is_complete(old) and not is_complete(new) then
        return old
    end
    return new
end

local REPLY = {
    id = first, object = first, model = first, created = first, system_fingerprint = first,
    usage = usage_of, other = last,
}

M.RULES = {
    reply = REPLY, choice = CHOICE, message = MESSAGE, call = CALL, called = CALLED, part = PART,
}

-- ---- the answer

-- The choice that `piece` belongs to. `piece` is the i-th choice of an event.
local function choice_of(choices, piece, i)
    local index = tonumber(piece.index) or i - 1
    local at = #choices + 1
    while at > 1 and choices[at - 1].index >= index do
        at = at - 1
    end
    if not choices[at] or choices[at].index ~= index then
        insert(choices, at, { index = index, message = {} })
    end
    return choices[at]
end

local function take_choice(choice, piece, texts)
    for name, value in pairs(piece) do
        if name == "delta" or name == "message" then
            if type(value) == "table" then
                add(MESSAGE, choice.message, value, texts)
            end
        elseif name ~= "index" and name ~= "usage" then
            choice[name] = (CHOICE[name] or last)(choice[name], value, texts)
        end
    end
end

-- An answer that is being merged. `reply` is complete after `finish`.
function M.new()
    return { reply = { choices = json.array() }, texts = {} }
end

-- Merges a decoded event into the answer. Returns the text that it appends to the first choice; "" if none.
function M.take(merging, event)
    local reply, delta = merging.reply, ""
    for name, value in pairs(event) do
        if name ~= "choices" then
            reply[name] = (REPLY[name] or last)(reply[name], value)
        end
    end
    local choices = type(event.choices) == "table" and event.choices or {}
    for i = 1, #choices do
        local piece = choices[i]
        if type(piece) == "table" then
            local choice = choice_of(reply.choices, piece, i)
            take_choice(choice, piece, merging.texts)
            if choice.index == 0 then
                local part = type(piece.delta) == "table" and piece.delta
                    or type(piece.message) == "table" and piece.message or {}
                local text = part.content
                if type(text) == "string" then
                    delta = delta == "" and text or delta .. text
                elseif type(text) == "table" then
                    delta = delta .. M.text_of(text)
                end
            end
            if piece.usage ~= nil then -- Moonshot puts it here
                reply.usage = usage_of(reply.usage, piece.usage)
            end
        end
    end
    local groq = event.x_groq
    if type(groq) == "table" then
        reply.usage = usage_of(reply.usage, groq.usage)
    end
    return delta
end

-- Whether every choice that has begun is complete.
function M.is_finished(merging)
    local choices = merging.reply.choices
    for i = 1, #choices do
        if is_empty(choices[i].finish_reason) then
            return false
        end
    end
    return #choices > 0
end

-- The complete answer, in the form of an answer without streaming.
function M.finish(merging)
    local reply = merging.reply
    join_all(merging.texts)
    reply.object = "chat.completion"
    for _, choice in ipairs(reply.choices) do
        local message = choice.message
        if is_empty(message.role) then
            message.role = "assistant"
        end
        for _, call in ipairs(type(message.tool_calls) == "table" and message.tool_calls or {}) do
            call.index = nil -- only pieces need the index; a complete answer has none
        end
    end
    return reply
end

return M
