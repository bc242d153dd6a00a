-- What the reference and the editors' definitions are made of: the comments above the public functions, as
-- the program's own parser reads them, and the types in types.lua beside this file.
local annotations = require "leat.repl.annotations"
local help = require "leat.repl.help"

local M = {}

function M.read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

function M.write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
end

-- The names of all public functions, methods and values, sorted.
M.names = help.names

-- {module, doc, parts} of one of them.
M.entry = help.entry

M.parts, M.signature = annotations.parts, annotations.signature

-- The blocks of types.lua in their order: {name ("leat.task"), kind ("class", "alias"), doc (lines), parts}.
function M.types(folder)
    local blocks, doc = {}, {}
    for line in (M.read(folder .. "/types.lua") .. "\n"):gmatch "(.-)\n" do
        if line:find "^%-%-%-" then
            doc[#doc + 1] = line:sub(4)
        elseif #doc > 0 then
            local kind, name = table.concat(doc, "\n"):match "@(%l+) (leat%.[%w_]+)"
            blocks[#blocks + 1] = { name = name, kind = kind, doc = doc, parts = annotations.parts(doc) }
            doc = {}
        end
    end
    return blocks
end

-- The class whose methods begin with this name: "response:json" belongs to leat.response.
function M.class_of(name)
    local class, method = name:match "^([%w_]+):([%w_]+)$"
    return class and "leat." .. class, method
end

return M
