-- Searches a script's source for leat.stopping used as a condition. leat.stopping is an event, which always
-- counts as true, so a loop `while not leat.stopping do` would never run.
local M = {}

local CALLS = { ["."] = true, [":"] = true, ["["] = true, ["("] = true, ["{"] = true }
local BEGINS = { ["if"] = true, ["elseif"] = true, ["while"] = true, ["until"] = true }
local ENDS = { ["then"] = true, ["do"] = true }
local JOINS = { ["and"] = true, ["or"] = true }
local EQUALS = { ["=="] = true, ["~="] = true }
local TRUTH = { ["true"] = true, ["false"] = true }

-- Returns the words of the text and the line of each. Comments are left out. Of strings only "leat" is kept.
local function tokens(text)
    local words, lines, i, line = {}, {}, 1, 1
    local function add(word)
        words[#words + 1], lines[#words + 1] = word, line
    end
    local function pass(last) -- counts the lines up to `last`
        for _ in text:sub(i, last):gmatch "\n" do
            line = line + 1
        end
        i = last + 1
    end
    local function long(from, level)
        local _, last = text:find("]" .. level .. "]", from, true)
        return last or #text
    end
    while i <= #text do
        local word = text:match("^[%a_][%w_]*", i) or text:match("^[=~]=", i)
        local comment, quote = text:match("^%-%-%[(=*)%[", i), text:match("^[\"']", i)
        local level = text:match("^%[(=*)%[", i)
        if word then
            add(word)
            i = i + #word
        elseif comment then
            pass(long(i, comment))
        elseif text:find("^%-%-", i) then
            i = text:find("\n", i, true) or #text + 1
        elseif level then
            local last = long(i, level)
            add(text:sub(i, last) == "[[leat]]" and '"leat"' or '""')
            pass(last)
        elseif quote then
            local last = i + 1
            while last < #text and text:sub(last, last) ~= quote do
                last = last + (text:sub(last, last) == "\\" and 2 or 1)
            end
            add(text:sub(i + 1, last - 1) == "leat" and '"leat"' or '""')
            pass(math.min(last, #text))
        else
            local c = text:sub(i, i)
            if c == "\n" then
                line = line + 1
            elseif not c:find "%s" then
                add(c)
            end
            i = i + 1
        end
    end
    return words, lines
end

-- Replaces require "leat" by one word: leat.
local function without_requires(words, lines)
    local out, at, i = {}, {}, 1
    while words[i] do
        local word, length = words[i], 1
        if word == "require" and words[i + 1] == '"leat"' then
            word, length = "leat", 2
        elseif word == "require" and words[i + 1] == "(" and words[i + 2] == '"leat"'
            and words[i + 3] == ")" then
            word, length = "leat", 4
        end
        out[#out + 1], at[#out + 1] = word, lines[i]
        i = i + length
    end
    return out, at
end

local NO_CALLS = { ["not"] = true, ["return"] = true }

-- Whether a "(" after the word begins the arguments of a call.
local function is_called(word)
    return word ~= nil and word:find "^[%w_%)%]\"]" ~= nil
        and not (BEGINS[word] or ENDS[word] or JOINS[word] or NO_CALLS[word])
end

-- Whether the words from `first` to `last`, which mean leat.stopping, are used as a condition.
local function is_condition(words, first, last)
    while words[first - 1] == "(" and words[last + 1] == ")" and not is_called(words[first - 2]) do
        first, last = first - 1, last + 1
    end
    local before, behind = words[first - 1], words[last + 1]
    if CALLS[behind] then
        return false
    end
    return before == "not" or behind == "and"
        or EQUALS[behind] and TRUTH[words[last + 2]]
        or EQUALS[before] and TRUTH[words[first - 2]]
        or BEGINS[before] and (before == "until" or ENDS[behind] or JOINS[behind])
        or JOINS[before] and ENDS[behind]
end

-- The lines of the text in which leat.stopping is used as a condition.
function M.conditions(text)
    local words, lines = without_requires(tokens(text))
    local leats, aliases, found = { leat = true }, {}, {}
    for i, word in ipairs(words) do
        local before = words[i - 1]
        local first
        if word == "stopping" and before == "." and leats[words[i - 2]] then
            first = i - 2
        elseif aliases[word] and before ~= "." and before ~= ":" then
            first = i
        end
        local name = first and words[first - 1] == "=" and words[first - 2]
        if name and first == i - 2 and not CALLS[words[i + 1]] then
            aliases[name] = true
        elseif word == "leat" and before == "=" and words[i + 1] ~= "." then
            leats[words[i - 2]] = true
        end
        if first and is_condition(words, first, i) then
            found[#found + 1] = lines[i]
        end
    end
    return found
end

-- Warns about each of them. `name` is the name of the file for messages.
function M.look(text, name)
    for _, line in ipairs(M.conditions(text)) do
        require("leat.log").warn(("%s:%d: leat.stopping is an event and always counts as true: "
            .. "write leat.is_stopping()"):format(name, line))
    end
end

return M
