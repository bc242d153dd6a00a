-- The rows that `leat batch` reads, and the requests that they stand for. Internal.
local check = require "leat.check"
local errors = require "leat.error"
local json = require "leat.json"
local keyset = require "leat.keyset"
local lines = require "leat.lines"
local sha256 = require("leat.util").sha256

local M = {}

local SORTED = { sorted = true }
local CHAT = "/v1/chat/completions"

-- What a row with a prompt may say beside it; the rest of it is the user's own.
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

-- A path below the base address, as the client wants it; nil if it is none.
local function path_of(url)
    if type(url) ~= "string" or not url:find "^/[^/]" or url:find "[%z\1-\32\127\\]" then
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

local function of_object(row, opts)
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
        return row.body, url
    elseif type(row.messages) == "table" then
        local body = {}
        for name, value in pairs(row) do
            if name ~= "custom_id" and name ~= opts.key then
                body[name] = value
            end
        end
        return body, CHAT
    end
    local prompt = row[opts.prompt_field]
    if type(prompt) ~= "string" then
        return bad(("neither 'body' nor 'messages' nor a text in '%s'"):format(opts.prompt_field))
    end
    local body = chat_of(prompt, opts)
    for _, name in ipairs(SETTINGS) do
        if row[name] ~= nil and row[name] ~= json.null then
            body[name] = row[name]
        end
    end
    return body, CHAT
end

-- What the row is called: its own word for it, or its line.
local function name_of(row, text, opts, line)
    local field = opts.key or "custom_id"
    local name = type(row) == "table" and row[field]
    if type(name) == "number" and math.abs(name) >= 2 ^ 53 then
        name = json.decode(text, { big = "string" })[field] -- two of them must not become one
    end
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

-- The row that a line stands for; or nil, what is wrong with it, and what it is called if it says that.
local function parse(text, line, opts)
    local row, why = text
    if text:find "^%s*[{\"]" then
        row, why = json.decode(text)
        if row == nil and text:find "^%s*{" then
            return bad((why.message:gsub("^json: line 1, ", "")))
        elseif type(row) ~= "table" and type(row) ~= "string" then
            row = text
        end
    end
    local name, own = name_of(row, text, opts, line)
    if not name then
        return bad(("no text in '%s', which --key names"):format(opts.key))
    end
    local body, url
    if type(row) == "string" then
        body, url = chat_of(row, opts), CHAT
    else
        body, url = of_object(row, opts)
    end
    if not body then
        return nil, url, name
    end
    if body.model == nil then
        body.model = opts.model
    end
    if body.model == nil and row.body == nil then
        return bad("no model: say it in the row, by --model or in OPENAI_MODEL", name)
    elseif body.stream == true then
        return bad("an answer that is streamed is no line: leave 'stream' out", name)
    end
    local packed
    packed, why = json.encode({ name, url, body }, SORTED)
    if not packed then
        return bad(why.message, name)
    end
    return { custom_id = name, own_name = own or nil, url = url, body = body, line = line,
        id = "batch_req_" .. sha256(packed):sub(1, 24) }
end

-- An iterator over the rows of a file: {custom_id, id, url, body, line}; on_bad(line, message, custom_id) is
-- told of those that are none. nil, err if the file cannot be opened.
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
                    row, why, called = nil, ("a row before it is called '%s', too"):format(row.custom_id),
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

-- Why a row of a known name is another one than before.
function M.changed(row)
    return errors.new { kind = "invalid", reason = "changed", line = row.line, message = (
        "line %d: '%s' is in OUT, but as the answer to another request: the row, --model or --system has "
        .. "changed. Take another OUT, or delete it to begin anew"):format(row.line,
            row.custom_id) }
end

return M
