-- Warns when a function returns no value although its results are collected: most likely its return is
-- missing.
local logger = require "leat.log"

local M = {}

local warned = {}

-- Called when a run of `who` over n items has ended and all results are nil. Warns once for each function.
function M.warn(who, fn, n, instead)
    local info = type(fn) == "function" and debug.getinfo(fn, "S")
    if not info or info.what == "C" or info.source:sub(1, 6) == "@leat/" then
        return
    end
    local at = ("%s:%d"):format(info.short_src, info.linedefined)
    if warned[at] then
        return
    end
    warned[at] = true
    logger.warn(("%s: %s nil: the function at %s returned no value%s. Is its return missing? (%s)"):format(
        who, n == 1 and "the result is" or "all " .. n .. " results are", at,
        n == 1 and "" or " for any item", instead))
end

-- Checks the results of a run, a list with n. With `settle`, each slot is a table with ok and value.
function M.look(who, fn, results, settle)
    local ok = 0
    for i = 1, results.n do
        local slot = results[i]
        if slot ~= nil and not settle or settle and slot and slot.value ~= nil then
            return
        end
        ok = ok + ((not settle or slot and slot.ok) and 1 or 0)
    end
    if ok > 0 then
        M.warn(who, fn, ok, "leat.each is for functions without one")
    end
end

return M
