-- The globals of a restricted script: a table of everything that is allowed, so anything that is not listed
-- is missing. leat's own modules keep the real globals.
local check = require "leat.internal.check"
local errors = require "leat.error"
local loader = require "leat.state.loader"
local native = require "leat.native.pattern"

local M = {}

local raw = { find = string.find, gsub = string.gsub, rep = string.rep, sub = string.sub,
    byte = string.byte }
local raw_load, raw_setmetatable, raw_getmetatable = load, setmetatable, getmetatable
local raw_collect, raw_insert = collectgarbage, table.insert

local function copy(from, names)
    local to = {}
    for name in names:gmatch "%S+" do
        to[name] = from[name]
    end
    return to
end

local function denied(what)
    return errors.new {
        kind = "denied",
        reason = "sandbox",
        message = what .. " is not allowed in the sandbox",
    }
end

-- ---- strings

local function text_of(i, v, who)
    if type(v) ~= "string" and type(v) ~= "number" then
        check.fail(("bad argument #%d to '%s' (string expected, got %s)"):format(i, who,
            v == nil and "no value" or type(v)))
    end
    return tostring(v)
end

-- Lua's rule for the start of a search: a negative number counts from the end, and 0 means 1. Returns nil if
-- it is after the end.
local function start_of(s, init)
    init = init == nil and 1 or math.floor(init)
    if init < 0 then
        init = #s + init + 1
    end
    return init < 1 and 1 or init
end

local function find(s, p, init, plain)
    s, p = text_of(1, s, "find"), text_of(2, p, "find")
    init = start_of(s, init)
    if init > #s + 1 then
        init = #s + 1
    end
    if plain or not raw.find(p, "[%^%$%*%+%?%.%(%[%%%-]") then
        return native.plain(s, p, init)
    end
    return native.find(s, p, init)
end

local function captures(s, first, last, capture, ...)
    if not first then
        return nil
    elseif capture == nil then
        return raw.sub(s, first, last)
    end
    return capture, ...
end

local function match(s, p, init)
    s, p = text_of(1, s, "match"), text_of(2, p, "match")
    init = start_of(s, init)
    return captures(s, native.find(s, p, init > #s + 1 and #s + 1 or init))
end

local function gmatch(s, p)
    s, p = text_of(1, s, "gmatch"), text_of(2, p, "gmatch")
    if raw.byte(p) == 94 then -- "^"; no sub here: it may crash in LuaJIT without memory
        p = "%" .. p -- in Lua 5.1, gmatch has no anchor
    end
    local from = 1
    local function step(first, last, ...)
        if first then
            from = last < first and last + 2 or last + 1
        else
            from = #s + 2
        end
        return captures(s, first, last, ...)
    end
    return function()
        if from > #s + 1 then
            return nil
        end
        return step(native.find(s, p, from))
    end
end

local function strings()
    local lib = copy(string, "byte char format len lower rep reverse sub upper")
    lib.find, lib.match, lib.gmatch = find, match, gmatch
    lib.gsub = require("leat.state.gsub").with(native.find)
    return lib
end

-- ---- tables

-- LuaJIT's own insert moves everything from the position on, even if the position is a billion before the
-- list.
local function insert(t, ...)
    if select("#", ...) == 2 and type(t) == "table" then
        local position = tonumber((...))
        if position and not (position >= 1 and position < #t + 2) then
            check.fail("bad argument #2 to 'insert' (position out of bounds)")
        end
    end
    return raw_insert(t, ...)
end

local function tables()
    local lib = copy(table, "concat foreach foreachi getn maxn remove sort unpack")
    lib.insert = insert
    return lib
end

-- ---- loading

local function allowed_module(name, list)
    for rule in (list or ""):gmatch "[^%s,]+" do
        if rule == name or rule == "*" then
            return true
        elseif rule:sub(-2) == ".*" and name:sub(1, #rule - 1) == rule:sub(1, -2) then
            return true
        end
    end
    return false
end

local function loaders(env, directory, allow_modules)
    local function compile(source, name, mode, given)
        if type(source) ~= "string" and type(source) ~= "function" then
            check.fail("load: the source must be a string or a function, got "
                .. check.picture(source, "source"))
        elseif mode ~= nil and not tostring(mode):find("t", 1, true) then
            return nil, "only text is loaded"
        end
        if name ~= nil then
            name = tostring(name)
            if name:find("^@leat/") then -- messages and limits skip leat's own frames
                name = "=" .. name
            end
        end
        return raw_load(source, name, "t", given == nil and env or given)
    end
    function env.load(source, name, mode, given)
        return compile(source, name, mode, given)
    end
    function env.loadstring(source, name)
        return compile(source, name)
    end
    local beside = directory and directory .. "/?.lua;" .. directory .. "/?/init.lua;" or ""
    env.require = loader.requirer({ leat = env.leat }, function(name)
        local plain = name:find "^[%w_%.%-]+$" and not name:find("..", 1, true)
        if not plain or not allowed_module(name, allow_modules) then
            error(denied("require '" .. name .. "'"), 0)
        end
        return loader.find_text(name, beside .. package.path, env)
    end)
end

-- ---- the table

local function collect(what)
    if what ~= nil and what ~= "count" and what ~= "step" then
        error(denied("collectgarbage '" .. tostring(what) .. "'"), 0)
    end
    return raw_collect(what == "step" and "step" or "count")
end

local PUBLIC = "sleep spawn wait_for shield finally now time deadline tasks stats error gather map each"
    .. " as_completed merge race group semaphore queue event stopping is_stopping request client retry"
    .. " breaker limiter adaptive batch openai pipeline json uuid base64 sha256 hmac inspect log version"

-- A copy of leat's table without stdin and serve. Fields are added when they are first used.
local function public(leat)
    local names = {}
    for name in PUBLIC:gmatch "%S+" do
        names[name] = true
    end
    return raw_setmetatable({}, {
        __index = function(t, name)
            local value = names[name] and leat[name]
            if value and type(value) == "table" and raw_getmetatable(value) == nil then
                local own = {}
                for k, v in pairs(value) do
                    own[k] = v
                end
                value = own
            end
            rawset(t, name, value or nil)
            return value or nil
        end,
        __metatable = "leat",
    })
end

-- Makes the globals of a restricted script. `allow_modules`: the names that it may require, separated by
-- commas.
function M.globals(leat, directory, allow_modules)
    require("leat.native.runtime").restricted = true
    local env = copy(_G, "assert error ipairs next pairs pcall print rawequal rawget rawset select tonumber"
        .. " tostring type unpack xpcall _VERSION getmetatable setmetatable")
    env._G = env
    env.table = tables()
    env.math = copy(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log"
        .. " log10 max min mod modf pi pow rad random randomseed sin sinh sqrt tan tanh")
    env.bit = copy(require "bit", "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex")
    env.coroutine = copy(coroutine, "create resume running status wrap yield isyieldable")
    env.os = copy(os, "time date clock difftime")
    env.collectgarbage = collect
    env.string = strings()
    local meta = raw_getmetatable ""
    -- This is not the script's own table, which the script may change: leat's modules call string methods
    -- too.
    meta.__index, meta.__metatable = strings(), "string"
    env.leat = public(leat)
    for name in ("sleep spawn wait_for"):gmatch "%S+" do
        env[name] = leat[name]
    end
    loaders(env, directory, allow_modules)
    local lazy = { gather = true, semaphore = true, request = true, json = true }
    raw_setmetatable(env, {
        __index = function(_, name)
            if lazy[name] then
                local value = env.leat[name]
                rawset(env, name, value)
                return value
            end
        end,
        __metatable = "globals",
    })
    return env
end

return M
