-- Keeps the traceback of the place where a bug was raised first. A value that is caught and raised again has
-- lost its traceback.
local errors = require "leat.error"
local native = require "leat.native.task"

local M = {}

local last

-- A message handler for xpcall. The policies and semaphores use it around the functions that they call.
function M.note(raised)
    local noted = native.note(raised)
    if not errors.is(noted) and not (last and rawequal(last.raised, noted)) then
        last = { raised = noted, trace = debug.traceback("", 2) }
    end
    return noted
end

-- Returns the traceback of the bug that was raised last, with leat's own functions, if `raised` is its value;
-- "" for any other value. Each traceback is returned only once, because another bug may have the same text.
function M.trace(raised)
    local trace = last and rawequal(last.raised, raised) and last.trace or ""
    last = nil
    return trace
end

return M
