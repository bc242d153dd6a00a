-- Reads the rows of `leat batch`, and makes their requests.
--
-- A row is sent exactly as it is written: the body of the request is copied from the text of the row, piece
-- by piece. If it were decoded and encoded again, some numbers would change (seeds over 2^53), and repeated
-- names and halves of surrogate pairs would be lost. The decoded value is only used to understand the row and
-- to compare it with other rows.
local check = require "leat.internal.check"
local errors = require "leat.error"
local json = require "leat.json"
local keyset = require "leat.internal.fingerprint_set"
local lines = require "leat.internal.lines"
local span = require "leat.native.json_span"
local sha256 = require("leat.util").sha256

local encode = json.encode

local M = {}

local SORTED = { sorted = true }
local EXACT = { big = "string", surrogates = "replace" }
local CHAT = "/v1/chat/completions"
local LONG_NUMBER = 16 -- digits; a number with fewer was never rounded

-- The settings that a row with a prompt may have. All its other fields are the user's own data.
local SETTINGS = {
    "model", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "n", "user",
    "tools", "tool_choice", "response_format", "presence_penalty", "frequency_penalty", "reasoning_effort",
}

local function bad(message, name)
    return nil, message, name
end

local function chat_of(prompt, opts)
    local messages = {}
    if opts.system then
        messages[1] = { role = "system", content = opts.system }
    end
    messages[#messages + 1] = { role = "user", content = prompt }
    return { messages = json.array(messages) }
end

-- The same as text. `prompt` is the text of a JSON string; `settings` are texts such as '"seed":1'.
local function chat_text(prompt, opts, settings)
    local system = opts.system and '{"role":"system","content":' .. encode(opts.system) .. "}," or ""
    local messages = ('"messages":[%s{"role":"user","content":%s}]'):format(system, prompt)
    return "{" .. table.concat({ messages, unpack(settings or {}) }, ",") .. "}"
end

-- The path relative to the base URL, in the form that the client wants; nil if it is not such a path.
local function path_of(url)
    if url == CHAT then
        return url
    elseif type(url) ~= "string" or not url:find "^/[^/]" or url:find "[%z\1-\32\127\\]" then
        return nil
    end
    for part in url:gmatch "[^/?#]+" do
        if part == ".." or part:lower() == "%2e%2e" then
            return nil
        end
    end
    return url
end

local function is_list(t)
    return #t > 0 or json.encode(t) == "[]"
end

-- Returns the texts of an object's values by name (the last one of a repeated name), and its members.
local function texts_of(text)
    local members, err = span.members(text)
    if not members then
        return nil, err
    end
    local values = {}
    for i = 1, #members, 3 do
        values[members[i]] = members[i + 2]
    end
    return values, members
end

-- Returns a list of '"name":value' texts, unchanged, without the two names.
local function all_but(members, a, b)
    local rest = {}
    for i = 1, #members, 3 do
        local name, written, value = members[i], members[i + 1], members[i + 2]
        if name ~= a and name ~= b then
            rest[#rest + 1] = written .. ":" .. value
        end
    end
    return rest
end

-- For a row that is an object, returns the body as a value and as text, and its url; or nil and what is wrong
-- with it.
local function of_object(row, text, opts)
    if type(row.body) == "table" then
        if is_list(row.body) then
            return bad "the body must be an object"
        elseif row.method ~= nil and row.method ~= "POST" then
            return bad(("the method must be POST, got %s"):format(check.picture(row.method, "method")))
        end
        local url = path_of(row.url or CHAT)
        if not url then
            return bad(("the url must be a path such as %s, got %s"):format(CHAT,
                check.picture(row.url, "url")))
        end
        return row.body, span.member(text, "body"), url
    end
    local values, members = texts_of(text)
    if not values then
        return bad(members.message)
    elseif type(row.messages) == "table" then
        local body = {}
        for name, value in pairs(row) do
            if name ~= "custom_id" and name ~= opts.key then
                body[name] = value
            end
        end
        return body, "{" .. table.concat(all_but(members, "custom_id", opts.key), ",") .. "}", CHAT
    end
    local prompt = row[opts.prompt_field]
    if type(prompt) ~= "string" or values[opts.prompt_field]:byte() ~= 34 then -- it may be a large number
        return bad(("neither 'body' nor 'messages' nor a text in '%s'"):format(opts.prompt_field))
    end
    local body, settings = chat_of(prompt, opts), {}
    for _, name in ipairs(SETTINGS) do
        if row[name] ~= nil and row[name] ~= json.null then
            body[name] = row[name]
            settings[#settings + 1] = encode(name) .. ":" .. values[name]
        end
    end
    return body, chat_text(values[opts.prompt_field], opts, settings), CHAT
end

-- The name of a row: its own name if it has one, otherwise its line.
local function name_of(row, opts, line)
    local name = type(row) == "table" and row[opts.key or "custom_id"]
    if type(name) == "number" then
        name = ("%.17g"):format(name)
    end
    if type(name) == "string" and name ~= "" then
        return name, true
    elseif opts.key then
        return nil
    end
    return "row-" .. line, false
end

-- Adds the model as the last member of the object in the text.
local function with_model(text, model)
    local head = text:match "^(.*)}%s*$"
    return ("%s%s\"model\":%s}"):format(head, head:find "^%s*{%s*$" and "" or ",", encode(model))
end

local JSON_KINDS = { number = "a number", boolean = "true or false", table = "a list", userdata = "null" }

-- The value of a line: a table if it is an object, otherwise the text of a prompt; or nil and what is wrong
-- with it. A line that is not JSON is itself the prompt.
local function value_of(text)
    local first = text:match "^%s*(.)"
    if not first:find '[%[{"%-%dtfn]' then
        return text
    end
    local row, why = json.decode(text, EXACT)
    if row == nil then
        if first == "{" then
            return bad((why.message:gsub("^json: line 1, ", "")))
        end
        return text
    elseif first == '"' then
        if not row:find "%S" then
            return bad "the text is empty"
        end
        return row
    elseif first ~= "{" then
        return bad(("%s is not a row: write a prompt like this in quotes")
            :format(JSON_KINDS[first:find "[%-%d]" and "number" or type(row)]))
    end
    return row
end

-- The id of a request. Different requests with the same name have different ids.
local function id_of(name, url, body)
    local packed, why = encode({ name, url, body }, SORTED)
    return packed and "batch_req_" .. sha256(packed):sub(1, 24), why
end

-- The id that older versions gave to such a row, when they still rounded large numbers; nil if it is the
-- same.
local function rounded_id(row, text, opts)
    if not span.has_digits(text, LONG_NUMBER) then
        return nil
    end
    local value = json.decode(text)
    local body = type(value) == "table" and of_object(value, text, opts)
    if type(body) ~= "table" then
        return nil
    elseif body.model == nil then
        body.model = opts.model
    end
    local id = id_of(row.custom_id, row.url, body)
    return id ~= row.id and id or nil
end

-- Makes a row from a line; or returns nil, what is wrong with the line, and its name if it has one.
local function parse(text, line, opts)
    local value, why = value_of(text)
    local name, own = name_of(value, opts, line)
    if value == nil then
        return bad(why)
    elseif not name then
        return bad(("no text in '%s', which --key names"):format(opts.key))
    end
    local body, written, url
    if type(value) == "string" then
        local prompt
        if text:find '^%s*"' and value ~= text then
            prompt = text:match "^%s*(.-)%s*$"
        else
            prompt, why = encode(value)
        end
        if not prompt then
            return bad(why.message, name)
        end
        body, written, url = chat_of(value, opts), chat_text(prompt, opts), CHAT
    else
        body, written, url = of_object(value, text, opts)
    end
    if not body then
        return nil, written, name
    end
    if body.model == nil and opts.model then
        body.model, written = opts.model, with_model(written, opts.model)
    end
    if body.model == nil and (type(value) == "string" or value.body == nil) then
        return bad("no model: set it in the row, with --model or in OPENAI_MODEL", name)
    elseif body.stream == true then
        return bad("batch cannot store a streamed answer: leave 'stream' out", name)
    end
    local id
    id, why = id_of(name, url, body)
    if not id then
        return bad(why.message, name)
    end
    -- place, task and calling: see leat.cli.batch_output.
    local row = { custom_id = name, own_name = own or nil, url = url, body = written, line = line, id = id,
        place = 0, task = false, calling = false }
    local old_id = type(value) == "table" and rounded_id(row, text, opts)
    if old_id then
        row.rounded_id = old_id
    end
    return row
end

-- An iterator over the rows of a file: {custom_id, id, url, body (as text), line}. It calls on_bad(line,
-- message, custom_id) for each line that is not a valid row. Returns nil, err if the file cannot be opened.
function M.read(path, opts, on_bad)
    local name = path == "-" and "standard input" or path
    local next_line, err = lines.read(path, name)
    if not next_line then
        return nil, err
    end
    local rows, names = 0, keyset.new()
    return function()
        while not opts.limit or rows < opts.limit do
            local text, line, too_long = next_line()
            if not line then
                return nil
            elseif not text then
                rows = rows + 1
                on_bad(line, (too_long.message:gsub("^.-:%d+: ", "")))
            elseif text:find "%S" then
                rows = rows + 1
                local row, why, called = parse(text, line, opts)
                if row and row.own_name and not names:add(row.custom_id) then
                    row, why, called = nil, ("an earlier row has the same name, '%s'"):format(row.custom_id),
                        row.custom_id
                end
                if row then
                    return row
                end
                on_bad(line, why, called)
            end
        end
    end
end

-- The error for a row that has the name of an earlier answer but is a different request.
function M.changed(row)
    return errors.new { kind = "invalid", reason = "changed", line = row.line, message = (
        "line %d: '%s' has an answer in OUT, but to a different request: the row, --model or --system has "
        .. "changed. Use another OUT, or delete it to start again"):format(row.line,
            row.custom_id) }
end

return M
