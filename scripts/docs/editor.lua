-- usage: leat scripts/docs/editor.lua FOLDER: writes the definitions for lua-language-server (LuaCATS), which
-- an editor reads to complete and check scripts, into FOLDER/leat.lua and FOLDER/leat. The build runs it; see
-- docs/editor.md.
local sources = require "sources"

if not arg[1] then
    print "usage: leat scripts/docs/editor.lua FOLDER"
    os.exit(2)
end
local folder = arg[0]:match "^(.*)/[^/]*$" or "."
local out

local function put(text)
    out[#out + 1] = text
end

-- Begins the definitions of a module.
local function begin(module)
    out = {}
    put("---@meta " .. module .. "\n")
    put "-- Made from the comments in Leat's sources when it was built: do not edit.\n"
end

-- Writes them: "leat.mock" to leat/mock.lua.
local function finish(module, variable)
    put("return " .. variable .. "\n")
    sources.write(("%s/%s.lua"):format(arg[1], (module:gsub("%.", "/"))), table.concat(out, "\n"))
end

local function put_lines(lines, from)
    for i = from or 1, #lines do
        put(((lines[i]:find "^@" and "---" or "--- ") .. lines[i]):match "^(.-)%s*$")
    end
end

local function trimmed(lines)
    local copy = { unpack(lines) }
    while copy[#copy] == "" do
        copy[#copy] = nil
    end
    return copy
end

-- The comment above a function, with its tags at the end, as LuaCATS wants them.
local function put_comment(parts)
    for _, part in ipairs(parts) do
        if part.what == "text" then
            put_lines(trimmed(part.lines))
        elseif part.what == "example" then
            put "---```lua"
            put_lines(part.lines)
            put "---```"
        end
    end
    for _, part in ipairs(parts) do
        local text = table.concat(trimmed(part.lines), " ")
        if part.what == "param" then
            local name = part.name .. (part.optional and "?" or "")
            put((("---@param %s %s %s"):format(name, part.kind, text):gsub("%s+$", "")))
        elseif part.what == "return" then
            put((("---@return %s %s"):format(part.kind, text):gsub("%s+$", "")))
        end
    end
end

local function put_function(name, parts)
    local params = {}
    for _, part in ipairs(parts) do
        if part.what == "param" then
            params[#params + 1] = part.name
        end
    end
    put_comment(parts)
    put(("function %s(%s) end\n"):format(name, table.concat(params, ", ")))
end

local VALUES = {
    ["json.null"] = "leat.json_null", stdin = "leat.stdin", stopping = "leat.event", version = "leat.version",
}

local function put_value(name)
    put(("---@type %s\nleat.%s = nil\n"):format(assert(VALUES[name], name), name))
end

-- Public names by what they belong to: "leat.task" for its methods, "mock" for a module of its own, and the
-- rest, which is in the table leat.
local methods, plain, modules = {}, {}, { mock = {} }
for _, name in ipairs(sources.names()) do
    local class = sources.class_of(name)
    local module = modules[name:match "^([%w_]+)%." or ""]
    if class then
        methods[class] = methods[class] or {}
        table.insert(methods[class], name)
    elseif module then
        module[#module + 1] = name
    else
        plain[#plain + 1] = name
    end
end

begin "leat"
-- A class is followed by its methods.
for _, block in ipairs(sources.types(folder)) do
    put_lines(block.doc)
    local names = methods[block.name]
    if names then
        put(("local %s = {}\n"):format(names[1]:match "^[%w_]+"))
        for _, name in ipairs(names) do
            put_function(name, sources.entry(name).parts)
        end
        methods[block.name] = nil
    else
        put ""
    end
end

assert(next(methods) == nil, "types.lua has no class for " .. tostring(next(methods)))

-- The module itself. Tables of functions (leat.json) come before what is in them.
put "---@class leat\nlocal leat = {}\n"
local seen = {}
for _, name in ipairs(plain) do
    local group = name:match "^([%w_]+)%."
    if group and not seen[group] then
        seen[group] = true
        put(("leat.%s = {}\n"):format(group))
    end
    if VALUES[name] then
        put_comment(sources.entry(name).parts)
        put_value(name)
    elseif name ~= "response" then -- that is a class
        put_function("leat." .. name, sources.entry(name).parts)
    end
end
put_value "stdin"
put_value "version"
put "-- Globals of scripts that the `leat` program runs; in other programs only `require \"leat\"`."
for _, name in ipairs { "request", "gather", "semaphore", "wait_for", "sleep", "spawn", "json" } do
    put(("%s = leat.%s"):format(name, name))
end
put ""
finish("leat", "leat")

assert(os.execute(("mkdir -p '%s/leat'"):format(arg[1])) == 0)
for module, names in pairs(modules) do
    begin("leat." .. module)
    put(("---@class leat.%s\nlocal %s = {}\n"):format(module, module))
    for _, name in ipairs(names) do
        put_function(name, sources.entry(name).parts)
    end
    finish("leat." .. module, module)
end
