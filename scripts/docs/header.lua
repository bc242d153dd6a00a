-- The C interface as Markdown: the declarations of leat.h, each with the comment above it.
local M = {}

-- The text of a comment, its `*` and names made Markdown.
local function prose(comment)
    local text = comment:gsub("^/%*%s?", ""):gsub("%s*%*/$", ""):gsub("\n[ \t]*%*[ \t]?", "\n")
    local out = {}
    for plain, code in (text .. "``"):gmatch "([^`]*)(`[^`]*`)" do
        plain = plain:gsub("[*<]", "\\%0"):gsub("%f[%w_]leat_[%l%d_]+", "`%0`")
        out[#out + 1] = plain .. (code ~= "``" and code or "")
    end
    return table.concat(out)
end

-- What a declaration declares: "leat_new", "struct leat_config".
local function name_of(code)
    return code:match "%(%*(leat_[%w_]+)%)" or code:match "^struct (leat_[%w_]+) {"
        or code:match "^enum (leat_[%w_]+) {" or code:match "^#define (%u[%w_]+)"
        or code:match "(leat_[%w_]+)%(" or code:match "^typedef .-(leat_[%w_]+);"
end

-- The end of the declaration that begins at `at`: a `;` outside of braces, or the body of a function.
local function declaration(text, at)
    if text:find("^#define", at) then
        return text:find("\n", at, true) - 1
    end
    local brace, semicolon = text:find("{", at, true), text:find(";", at, true)
    if brace and brace < semicolon then
        local _, to = text:find("^%b{}", brace)
        return text:match("^;()", to + 1) and to + 1 or to, brace
    end
    return semicolon
end

local function put_section(out, comment)
    local title, rest = prose((comment:gsub("%-%-%-%- ", "", 1))):match "^([^.:]*)[.:]%s*(.*)$"
    out[#out + 1] = ("## %s\n\n%s\n"):format(title:sub(1, 1):upper() .. title:sub(2),
        rest:sub(1, 1):upper() .. rest:sub(2))
end

-- The members of a struct or an enum: its code without comments, and a list of what these say.
local function members(code)
    local head, body, tail = code:match "^([^{]*{)(.*)(}[^}]*)$"
    if not body or not body:find("/*", 1, true) then
        return code, ""
    end
    local lines, list, at = { head }, {}, 1
    local before
    while true do
        at = body:match("^%s*()", at)
        if at > #body then
            break
        end
        if body:find("^/%*", at) then
            local to = select(2, body:find("*/", at, true))
            before, at = body:sub(at, to), to + 1
        else
            local to = body:match("^[^;{}/]*;()", at) or body:match("^[%w_]+,?()", at)
            local member = body:sub(at, to - 1)
            local comment, behind = body:match("^[ \t]*(/%*.-%*/)()", to)
            lines[#lines + 1] = "    " .. member
            local name = member:match "%(%*([%w_]+)%)" or member:match "([%w_]+)[%[%]%d]*[;,]?$"
            if comment or before then
                local text = prose(comment or before):gsub("\n%s*", "\n  ")
                list[#list + 1] = ("- `%s`: %s"):format(name, text)
            end
            before, at = nil, behind or to
        end
    end
    lines[#lines + 1] = tail
    return table.concat(lines, "\n"), table.concat(list, "\n") .. "\n"
end

local function put_declaration(out, text, at, comment)
    local to, body = declaration(text, at)
    local code = text:sub(at, to)
    local name = name_of(code)
    if name then
        if code:find "^static inline" then
            code = text:sub(at, body - 1):gsub("%s+$", "") .. ";"
        end
        local shown, list = members(code)
        out[#out + 1] = ("### `%s`\n\n```c\n%s\n```\n\n%s\n\n%s"):format(name, shown:gsub("LEAT_API ", ""),
            comment and prose(comment) or "", list)
    end
    return to
end

-- The page of a header's text.
function M.page(text)
    local out, at, comment = { "# The C interface\n" }, 1, nil
    while true do
        at = text:match("^%s*()", at)
        local rest = text:sub(at, at + 20)
        local to
        if at > #text then
            return table.concat(out, "\n")
        elseif rest:find "^/%*" then
            to = select(2, text:find("*/", at, true))
            comment = text:sub(at, to)
            if at == 1 then
                out[#out + 1] = prose(comment) .. "\n"
                comment = nil
            elseif comment:find "^/%* %-%-%-%- " then
                put_section(out, comment)
                comment = nil
            end
        elseif rest:find "^#ifdef __cplusplus" then
            to = select(2, text:find("#endif", at, true))
        elseif rest:find "^#" and not (comment and rest:find "^#define") then
            to = text:find("\n", at, true) or #text
        else
            to = put_declaration(out, text, at, comment)
            comment = nil
        end
        at = to + 1
    end
end

return M
