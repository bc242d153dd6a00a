-- Parses the comment above a public function (LuaCATS). help(), the manual pages, the reference and the
-- definitions for editors are all made from the result.
local M = {}

local type_end

-- The end of the alternative of a type that begins at `at`, or nil.
local function atom_end(text, at)
    local to = select(2, text:find("^fun%s*%b()", at))
    if to then
        local result = text:match("^%s*:%s*()", to + 1)
        while result do
            to = type_end(text, result) or to
            result = text:match("^,%s*()", to + 1)
        end
        return to
    end
    return select(2, text:find("^\"[^\"]*\"", at)) or select(2, text:find("^%b{}", at))
        or select(2, text:find("^%b()", at)) or select(2, text:find("^[%w_.]+%b<>", at))
        or select(2, text:find("^[%w_.]+", at))
end

-- The end of the type that begins at `at`, such as "fun(err: string): true|nil" or "leat.task[]|nil".
function type_end(text, at)
    local to = atom_end(text, at)
    while to do
        local suffix = select(2, text:find("^%[%]", to + 1)) or select(2, text:find("^%?", to + 1))
        local more = not suffix and text:match("^|()", to + 1)
        if not suffix and not more then
            break
        end
        to = suffix or atom_end(text, more)
    end
    return to
end

-- Splits "string|nil what is left" into the type and the rest.
local function typed(text)
    local to = type_end(text, 1) or 0
    return text:sub(1, to), (text:sub(to + 1):gsub("^%s+", ""))
end

local TAGS = {}

function TAGS.param(rest)
    local name, optional, more = rest:match "^([%w_.]+)(%??)%s*(.*)$"
    if not name then
        name, optional, more = rest:match "^(%b[])(%??)%s*(.*)$" -- a field for each integer
    end
    local kind, text = typed(more or "")
    return { what = "param", name = name, optional = optional == "?", kind = kind, lines = { text } }
end
TAGS["return"] = function(rest)
    local kind, text = typed(rest)
    local label = text:match "^[%w_.]+"
    return { what = "return", kind = kind, label = label, lines = { text } }
end
function TAGS.field(rest)
    local part = TAGS.param(rest)
    part.what = "field"
    return part
end
function TAGS.class(rest)
    local name, parent = rest:match "^([%w_.]+)%s*:?%s*([%w_.]*)"
    return { what = "class", name = name, parent = parent ~= "" and parent or nil, lines = {} }
end

-- The parts of a comment (a list of lines), in order. Each has `what`: "text", "param" (name, optional,
-- kind), "return" (kind, label: its first word), "field" (as param), "class" (name, parent) or "example".
-- Each also has `lines`; for a parameter and a result these are the text after the type.
function M.parts(doc)
    local parts, part, code = {}, nil, false
    local function open(new)
        parts[#parts + 1] = new
        part = new
    end
    for _, line in ipairs(doc) do
        local tag, rest = line:match "^@(%l+)%s*(.*)$"
        if code then
            code = not line:find "^```"
            if code then
                part.lines[#part.lines + 1] = line
            else
                part = nil
            end
        elseif line:find "^```" then
            code = true
            open { what = "example", lines = {} }
        elseif tag then
            open(TAGS[tag] and TAGS[tag](rest) or { what = tag, rest = rest, lines = {} })
        elseif not part or line == "" and part.what ~= "text" then
            open { what = "text", lines = { line } }
        else
            part.lines[#part.lines + 1] = line
        end
    end
    return parts
end

-- Makes "request(target) -> res, err" from the parts of the comment above `name`.
function M.signature(name, parts)
    local params, returns = {}, {}
    for _, part in ipairs(parts) do
        if part.what == "param" then
            params[#params + 1] = part.optional and "[" .. part.name .. "]" or part.name
        elseif part.what == "return" then
            local label = part.label and #part.label > 1 and part.label or part.kind
            returns[#returns + 1] = part.kind:find "^fun" and "function" or label
        end
    end
    local call = #params > 0 or #returns > 0 or name:find ":"
    return name .. (call and "(" .. table.concat(params, ", ") .. ")" or "")
        .. (#returns > 0 and " -> " .. table.concat(returns, ", ") or "")
end

return M
