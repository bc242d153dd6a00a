-- `require` for the states that leat creates. It is written in Lua, so that the top level of a module may
-- wait. It looks in the folder of the script first.
local check = require "leat.internal.check"
local lazy_require = require "leat.internal.lazy_require"
local native_runtime = require "leat.native.runtime"
local native_task = require "leat.native.task"

local M = {}

local function read(path)
    local f = io.open(path, "rb")
    local text = f and f:read "*a" -- a directory can be opened, but not read
    if f then
        f:close()
    end
    return text
end

local function search(name, templates, tried)
    local file = name:gsub("%.", "/")
    for template in templates:gmatch "[^;]+" do
        local path = template:gsub("%?", (file:gsub("%%", "%%%%")))
        local text = read(path)
        if text then
            return path, text
        end
        tried[#tried + 1] = "\n\tno file '" .. path .. "'"
    end
end

-- Compiles the text of a file to a function. Bytecode is refused.
local function compile(path, text)
    if text:byte() == 27 then
        return nil, "'" .. path .. "' is bytecode; only text is loaded"
    elseif text:find("stopping", 1, true) then
        lazy_require("leat.state.source_check").look(text, path)
    end
    return loadstring((text:gsub("^#[^\n]*", "")), "@" .. path)
end

-- lua-cjson is linked with leat. It is used if none is installed for the script's Lua.
local LINKED = { cjson = native_runtime.cjson, ["cjson.safe"] = native_runtime.cjson_safe }

local function not_found(name, tried)
    local instead = require("leat.internal.foreign").module(name)
    check.fail("require: module '" .. name .. "' not found" .. (instead and " (" .. instead .. ")" or "")
        .. ":" .. table.concat(tried))
end

-- Returns the function that makes module `name`. Otherwise it raises an error with the places that were
-- searched.
local function find(name, beside)
    if package.preload[name] then
        return package.preload[name]
    end
    local tried = { "\n\tno field package.preload['" .. name .. "']" }
    local path, text = search(name, beside .. package.path, tried)
    if path then
        local chunk, err = compile(path, text)
        if not chunk then
            error("require: module '" .. name .. "' does not compile: " .. err, 0)
        end
        return chunk
    end
    for i = 3, #package.loaders do -- C libraries
        local loader = package.loaders[i](name)
        if type(loader) == "function" then
            return loader
        end
        tried[#tried + 1] = loader or ""
    end
    if LINKED[name] then
        return LINKED[name]
    end
    not_found(name, tried)
end

-- Returns the function of the text of module `name`, with `env` as its globals. Raises an error if there is
-- no such module.
function M.find_text(name, templates, env)
    local tried = {}
    local path, text = search(name, templates, tried)
    if not path then
        not_found(name, tried)
    end
    local chunk, err = compile(path, text)
    if not chunk then
        error("require: module '" .. name .. "' does not compile: " .. err, 0)
    end
    return setfenv(chunk, env)
end

-- Replaces the global dofile, so that the file that it runs may wait.
local function dofile_waiting(path)
    if type(path) ~= "string" then
        check.fail("dofile: the file's name must be a string, got " .. check.picture(path, "path"))
    end
    local text = read(path)
    if not text then
        check.fail("dofile: cannot read '" .. path .. "'")
    end
    local chunk, err = compile(path, text)
    if not chunk then
        error("dofile: " .. err, 0)
    end
    return chunk()
end

-- Damaged bytecode crashes LuaJIT. So scripts can load only text, whatever mode they ask for.
local function text_mode(mode)
    return ((mode or "t"):gsub("b", ""))
end

local function loaded_or(f, err)
    if f then
        return f
    end
    if err:find("wrong mode", 1, true) then
        err = "only text is loaded, and this is bytecode (or the mode excludes text)"
    end
    return nil, err
end

local function text_only(raw, who)
    return function(source, name, mode, env)
        if type(source) ~= "string" and type(source) ~= "function" then
            check.fail(who .. ": the source must be a string or a function, got "
                .. check.picture(source, "source"))
        end
        return loaded_or(raw(source, name, text_mode(mode), env))
    end
end

-- Makes a `require` that stores modules in `loaded`. `find_module(name)` returns the function of a module or
-- raises an error.
function M.requirer(loaded, find_module)
    local loading = {}
    local function require_module(name)
        if type(name) ~= "string" then
            check.fail("require: the module's name must be a string, got " .. check.picture(name, "module"))
        end
        if loaded[name] ~= nil then
            return loaded[name]
        end
        local other = loading[name]
        if other then
            if other.task == native_task.current() then
                check.fail("require: module '" .. name .. "' requires itself, directly or through others")
            end
            other.event = other.event or lazy_require("leat.sync").event()
            other.event:wait() -- another task is loading it
            return require_module(name)
        end
        local chunk = find_module(name)
        local mine = { task = native_task.current() }
        loading[name] = mine
        local ok, value = xpcall(chunk, native_task.note, name)
        loading[name] = nil
        if ok and value ~= nil then
            loaded[name] = value
        elseif ok and loaded[name] == nil then
            loaded[name] = true
        end
        if mine.event then
            mine.event:set()
        end
        if not ok then
            error(value, 0)
        end
        return loaded[name]
    end
    return require_module
end

-- Replaces the globals require, dofile, load, loadstring and loadfile. `directory` is the folder of the
-- script, or nil.
function M.install(directory)
    local beside = directory and directory .. "/?.lua;" .. directory .. "/?/init.lua;" or ""

    _G.dofile = dofile_waiting
    _G.load, _G.loadstring = text_only(load, "load"), text_only(loadstring, "loadstring")
    local raw_loadfile = loadfile
    function _G.loadfile(path, mode, env)
        return loaded_or(raw_loadfile(path, text_mode(mode), env))
    end

    _G.require = M.requirer(package.loaded, function(name)
        return find(name, beside)
    end)
end

return M
