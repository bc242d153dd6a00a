local core = require "leat.core"
local leat = require "leat"

-- Called by the runtime for states of its own: the script's globals and its coroutines.
return function(directory)
    core.install_coroutines(coroutine)
    require("leat.loader").install(directory)
    for _, name in ipairs { "gather", "semaphore", "wait_for", "sleep", "spawn" } do
        _G[name] = leat[name]
    end
    _G.leat = leat
    -- The rest of the globals are made on first use, like the fields they name.
    setmetatable(_G, {
        __index = function(_, name)
            if name == "request" or name == "json" then
                local value = leat[name]
                rawset(_G, name, value)
                return value
            end
        end,
    })
    local runtime = require "leat.core.runtime"
    -- LuaJIT begins every process with the same numbers, which would bring the jitter of two of them in
    -- step.
    math.randomseed(runtime.seed)
    function os.exit(code)
        if code == nil or code == true then
            code = 0
        elseif code == false then
            code = 1
        end
        runtime.exit(code)
        leat.sleep(0) -- raises the cancel: clean-ups run on the way out
    end
end
