-- How a Lua function waits for something that C has started.
local native = require "leat.native.task"

local PARKED, take = native.PARKED, native.take

-- `...` is what a C function returned. PARKED means that the task was parked and runs again now: await takes
-- the result, or raises the cancel. Anything else is the function's results: it did not have to wait.
local function await(...)
    if (...) == PARKED then
        return await(take()) -- take() may have to wait again
    end
    return ... -- also when there are no values
end

return await
