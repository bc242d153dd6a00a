-- The chunks of a REPL. Decides whether a text is complete, and keeps its top-level locals for later lines.
--
-- `local n = 0` is a variable of its own chunk only. So that later lines can use it, a statement is added at
-- the end of the chunk. It stores a function that has access to the chunk's locals. A later chunk that
-- mentions `n` is compiled with an outer `local n`, and debug.upvaluejoin makes both the same variable. So
-- closures of both lines share it. Locals are not kept if a chunk does not run to its end: because of an
-- error, or of a `return` inside a block.
local M = {}

local loadstring = loadstring

-- An iterator over the tokens of a text that compiles. It returns "name", "string" or the character itself;
-- its position; and the name.
local function tokens(text)
    local at = 1
    return function()
        while true do
            at = text:find("%S", at)
            if not at then
                return nil
            end
            local from = at
            local level = text:match("^%-%-%[(=*)%[", at)
            if level then
                at = (select(2, text:find("]" .. level .. "]", at, true)) or #text) + 1
            elseif text:find("^%-%-", at) then
                at = text:find("\n", at, true) or #text + 1
            else
                level = text:match("^%[(=*)%[", at)
                local name = text:match("^[%a_\128-\255][%w_\128-\255]*", at)
                local number = text:match("^%.?%d[%w.]*", at)
                local quote = text:match("^[\"']", at)
                if level then
                    at = (select(2, text:find("]" .. level .. "]", at, true)) or #text) + 1
                    return "string", from
                elseif name then
                    at = at + #name
                    return "name", from, name
                elseif number then
                    at = at + #number
                    return "number", from
                elseif quote then
                    at = at + 1
                    while at <= #text and text:sub(at, at) ~= quote do
                        -- \z skips all white space, and quotes stay quotes
                        at = at + (text:sub(at, at) == "\\" and 2 or 1)
                    end
                    at = at + 1
                    return "string", from
                end
                at = text:find("[^.]", at) or #text + 1
                at = math.max(at, from + 1) -- "..", "..." or one character
                return text:sub(from, at - 1), from
            end
        end
    end
end

local OPENS = { ["function"] = 1, ["do"] = 1, ["if"] = 1, ["repeat"] = 1, ["end"] = -1, ["until"] = -1 }

-- Returns the names of the top-level locals in order, every name that occurs, and the position of a top-level
-- `return`.
local function scan(text)
    local found = { locals = {}, names = {} }
    local depth, state, previous = 0, nil, nil
    for kind, from, name in tokens(text) do
        local is_field = previous == "." or previous == ":"
        if state == "local" and name == "function" then
            state, depth = "one", depth + 1
        elseif (state == "local" or state == "one") and name then
            found.locals[#found.locals + 1] = name
            state = state == "local" and "more" or nil
        elseif state == "more" and kind == "," then
            state = "local"
        else
            state = nil
            if name and not is_field then
                depth = depth + (OPENS[name] or 0)
                if depth == 0 and name == "local" then
                    state = "local"
                elseif depth == 0 and name == "return" then
                    found.return_at = from
                end
            end
        end
        if name and not is_field then
            found.names[name] = true
        end
        previous = kind
    end
    return found
end

-- The statement that stores the chunk's locals. Its assignment never runs, but it is necessary: LuaJIT treats
-- a local without any assignment as a constant, although a later line may change it.
local function keeping(locals)
    local seen, names = {}, {}
    for i = #locals, 1, -1 do
        if not seen[locals[i]] and #names < 50 then
            seen[locals[i]] = true
            names[#names + 1] = locals[i]
        end
    end
    local list = table.concat(names, ", ")
    return (" __leat_keep(function(__set, ...) if __set then %s = ... end return %s end) "):format(list, list)
end

local function all(...)
    return ...
end

local function build(text, name, found, kept, keep)
    local shared = {}
    for word in pairs(found.names) do
        if kept[word] and #shared < 50 then
            shared[#shared + 1] = word
        end
    end
    local source = { "local __leat_keep, __leat_all = ... " }
    if shared[1] then
        source[2] = "local " .. table.concat(shared, ", ") .. " "
    end
    source[#source + 1] = "return function(...) "
    if keep and found.locals[1] then
        local at = found.return_at or #text + 1
        source[#source + 1] = text:sub(1, at - 1)
        source[#source + 1] = (found.return_at and "" or "\n") .. keeping(found.locals)
        source[#source + 1] = text:sub(at)
    else
        source[#source + 1] = text
    end
    source[#source + 1] = "\nend"
    local outer, err = loadstring(table.concat(source), name)
    if not outer then
        return nil, err
    end
    local fn = outer(function(cells)
        for i = 1, math.huge do
            local word = debug.getupvalue(cells, i)
            if not word then
                break
            end
            kept[word] = { cells = cells, index = i }
        end
    end, all)
    for i = 1, math.huge do
        local word = debug.getupvalue(fn, i)
        if not word then
            return fn
        elseif kept[word] and found.names[word] then
            debug.upvaluejoin(fn, i, kept[word].cells, kept[word].index)
        end
    end
end

-- Compiles a text whose last lines are an expression, such as the pasted text "x = 1\nx + 1".
local function split_expression(text)
    local lines, ends = 0, #text
    while lines < 20 do
        local eol
        for i = ends, 1, -1 do
            if text:byte(i) == 10 then
                eol = i
                break
            end
        end
        if not eol then
            return nil
        end
        local tail = text:sub(eol + 1)
        if tail:find "%S" and loadstring(text:sub(1, eol)) and loadstring("return " .. tail) then
            local called = "return __leat_all(" .. tail .. "\n)"
            return text:sub(1, eol) .. (loadstring(called) and called or "return " .. tail)
        end
        ends, lines = eol - 1, lines + 1
    end
end

-- Compiles a text. If it is an expression, the function returns its values. `kept` is the table of earlier
-- locals; the chunk may add to it. On failure it returns nil, the message, and true if the text is only
-- incomplete.
function M.compile(text, name, kept)
    local source = "return " .. text
    if loadstring(source, name) then
        -- No tail call here: it would remove the line from tracebacks.
        local called = "return __leat_all(" .. text .. "\n)"
        source = loadstring(called) and called or source
    else
        local whole, err = loadstring(text, name)
        source = whole and text or split_expression(text)
        if not source then
            -- A short string ends at the end of its line, unless the line end is escaped.
            local closed = err:find("unfinished string", 1, true) and not text:find "\\$"
            return nil, err, err:find("near '<eof>'", 1, true) ~= nil and not closed
        end
    end
    local found = scan(source)
    return build(source, name, found, kept, true) or build(source, name, found, kept, false)
        or loadstring(source, name)
end

-- The value of a kept local, for completion.
function M.value(kept, name)
    local cell = kept[name]
    return select(2, debug.getupvalue(cell.cells, cell.index))
end

return M
