-- Parses the options of a command. A table describes the options.
local check = require "leat.internal.check"

local M = {}

-- The values that a row accepts, for a message.
local function accepted(row)
    local least, most = row.least or 0, row.most or math.huge
    local range = row.above and (" above %g"):format(row.above)
        or most < math.huge and (" from %g to %g"):format(least, most) or (" of at least %g"):format(least)
    return row.says or (row.whole and "whole number" or "number") .. range
end

local function number_of(flag, row, text)
    local n = tonumber(text)
    if not n or n ~= n or n < (row.least or 0) or n > (row.most or math.huge)
        or row.above and n <= row.above or row.whole and n % 1 ~= 0 then
        return nil, ("%s takes a %s, got '%s'"):format(flag, accepted(row), check.hidden(text))
    end
    return n
end

-- Returns what is wrong if an option stands in the place of the text of `flag`; else nil.
local function forgotten_value(flag, value)
    if value and value:find "^%-%-." then
        local shown = check.hidden(value)
        return ("%s needs a value, but '%s' follows; if it is the value, write %s=%s")
            :format(flag, shown, flag, shown)
    end
end

-- Parses `args`. `rows` maps each flag to {name, kind="switch"|"text"|"number", whole=, least=, above=,
-- most=, says=, word=}. Returns the options by name and the list of other arguments; or nil and a message.
-- `--` ends the options.
function M.parse(args, rows)
    local opts, rest = {}, {}
    local i = 1
    while args[i] do
        local flag, value = args[i], nil
        if flag == "--" then
            for j = i + 1, #args do
                rest[#rest + 1] = args[j]
            end
            break
        elseif flag == "-" or flag:sub(1, 1) ~= "-" then
            rest[#rest + 1] = flag
        else
            if flag:find "^%-%-[^=]+=" then
                flag, value = flag:match "^(%-%-[^=]+)=(.*)$"
            end
            local row = rows[flag]
            if not row then
                local near = check.suggest(flag, rows)
                return nil, ("unknown option '%s'%s"):format(check.hidden(flag),
                    near and " (did you mean '" .. near .. "'?)" or "")
            elseif row.kind == "switch" then
                if value then
                    return nil, flag .. " takes no value"
                end
                opts[row.name] = true
            else
                if not value then
                    i = i + 1
                    value = args[i]
                    local forgotten = row.kind ~= "number" and forgotten_value(flag, value)
                    if forgotten then
                        return nil, forgotten
                    end
                end
                if value == nil then
                    return nil, flag .. " needs a value"
                elseif row.kind == "number" and not (row.word and value == row.word) then
                    local wrong
                    value, wrong = number_of(flag, row, value)
                    if not value then
                        return nil, wrong
                    end
                end
                opts[row.name] = value
            end
        end
        i = i + 1
    end
    return opts, rest
end

return M
