-- What the scripts have for globals that a C host starts in a Lua state of its own: the host's, and behind
-- them those that a state of leat's own has. Internal.
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
