-- Where a bug came up first: what is raised again on its way out has lost that. Internal.
local errors = require "leat.error"
local native = require "leat.native.task"

local M = {}

local last

-- A handler for xpcall, around what the policies and semaphores call.
function M.note(raised)
    local noted = native.note(raised)
    if not errors.is(noted) and not (last and rawequal(last.raised, noted)) then
        last = { raised = noted, trace = debug.traceback("", 2) }
    end
    return noted
end

-- The stack, leat's own functions included, of the bug whose value was raised last; "" for any other value.
-- It is handed out once: another bug may have the same text.
function M.trace(raised)
    local trace = last and rawequal(last.raised, raised) and last.trace or ""
    last = nil
    return trace
end

return M
