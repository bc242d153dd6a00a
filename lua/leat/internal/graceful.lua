-- Runs that come to an end by themselves once leat.stopping is set: the first Ctrl-C does not cancel them,
-- but lets them finish what they have begun. Internal.
local change = require("leat.native.task").graceful
local policy = require "leat.policy.common"

-- Calls fn(...) as such a run.
return function(fn, ...)
    local function finished()
        change(-1)
    end
    change(1)
    return policy.run(finished, fn, ...)
end
