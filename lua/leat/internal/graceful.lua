-- Runs that end by themselves once leat.stopping is set. The first Ctrl-C does not cancel such a run: it
-- finishes the items that it has begun.
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
