local lazy_require = require "leat.internal.lazy_require"
local leat = require "leat"

-- A replacement that may run Lua code is called from Lua (leat.state.gsub explains why). Everything else uses
-- LuaJIT's own gsub.
local function install_gsub(lib)
    local raw_gsub = lib.gsub
    function lib.gsub(s, pattern, repl, limit)
        local kind = type(repl)
        if kind == "function" or kind == "table" and getmetatable(repl) then
            return lazy_require("leat.state.gsub").gsub(s, pattern, repl, limit)
        end
        return raw_gsub(s, pattern, repl, limit)
    end
end

-- The runtime calls this for the states that it creates. It sets up the script's globals and coroutines.
return function(directory, limited, restricted, allow_modules)
    require "leat.internal.coroutines"(coroutine, limited)
    if limited then
        require "leat.state.time_limit_guards"()
    end
    install_gsub(string)
    if not restricted then
        require "leat.state.blocking"()
    end
    require("leat.state.loader").install(directory)
    _G.leat, _G.sleep, _G.spawn, _G.wait_for = leat, leat.sleep, leat.spawn, leat.wait_for
    -- The other globals are created on first use, like the fields of the same name.
    local names = { gather = true, semaphore = true, request = true, json = true }
    setmetatable(_G, {
        __index = function(_, name)
            if names[name] then
                local value = leat[name]
                rawset(_G, name, value)
                return value
            end
        end,
    })
    local runtime = require "leat.native.runtime"
    if runtime.print then
        require "leat.state.print_redirect"(runtime.print)
    end
    -- In every process, LuaJIT starts with the same random numbers. Without a seed, the jitter of two
    -- processes would be the same.
    math.randomseed(runtime.seed)
    function os.exit(code)
        if code == nil or code == true then
            code = 0
        elseif code == false then
            code = 1
        end
        runtime.exit(code)
        leat.sleep(0) -- raises the cancel, so that clean-ups run
    end
    if restricted then
        return require("leat.state.sandbox").globals(leat, directory, allow_modules)
    end
end
