-- The globals of scripts that a C host starts in its own Lua state: first the host's globals, then those of a
-- state that leat creates.
local names = {
    leat = true, request = true, gather = true, semaphore = true, wait_for = true, sleep = true, spawn = true,
    json = true,
}

return function(globals, leat)
    return setmetatable({}, {
        __index = function(_, name)
            local value = globals[name]
            if value == nil and names[name] then
                value = name == "leat" and leat or leat[name]
            end
            return value
        end,
        __newindex = globals,
    })
end
