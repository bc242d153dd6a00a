-- Where waiting in C and Lua meet. Internal.
local native = require "leat.native.task"

local PARKED, take = native.PARKED, native.take

-- A C function that parked hands out PARKED when its task runs again; the result is then taken, or the
-- cancel raised. One that needed no wait handed out its values.
local function await(...)
    if (...) == PARKED then
        return await(take()) -- the take may find that it must wait on
    end
    return ... -- none, too
end

return await
