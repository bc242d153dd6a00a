-- Finds responses that are not ok, were received for an item, and whose `ok` and `status` no code has read.
-- `http` hides these two fields of such a response, so that a read of them calls its metatable.
local check = require "leat.internal.check"
local logger = require "leat.log"
local policy = require "leat.policy.common"
local reasons = require "leat.internal.reasons"

local M = {}

local places = {} -- by "file:line": {left = reasons}: those that nobody has looked at
local warned = {}

-- The scope that counts the responses of the running task's item, or nil if the task belongs to no item.
local function item_scope()
    local scope = policy.scope()
    while scope and not scope.item do
        scope = scope.outer
    end
    return scope
end

-- Hides the status of a response that is not ok, if it was received for an item.
function M.hide(res)
    local scope = item_scope()
    if not scope then
        return
    end
    local at = check.where()
    at = at ~= "?" and at or scope.item
    local place = places[at] or reasons.new()
    places[at] = place
    place:add_label("status " .. res.status)
    res._status, res._place, res.status, res.ok = res.status, place, nil, nil
end

-- Call this when code has checked `res`, which may be any value.
function M.looked(res)
    local place = type(res) == "table" and rawget(res, "_place")
    if place then
        res.status, res.ok, res._place, res._status = res._status, false, nil, nil
        place:remove_label("status " .. res.status)
    end
end

-- Warns once for each place in the script. Called at the end of a program.
function M.warn()
    local list = {}
    for at, place in pairs(places) do
        if place.n > 0 and not warned[at] then
            list[#list + 1], warned[at] = at, true
        end
    end
    table.sort(list)
    for _, at in ipairs(list) do
        local place = places[at]
        local one = place.n == 1
        logger.warn(("%s: %s not ok (%s), and nothing looked at %s ok or status, so %s may count as ok. "
            .. "Check res.ok, or give the request expect=\"2xx\""):format(at,
            one and "a response received here was" or place.n .. " responses received here were",
            place:text(), one and "its" or "their", one and "its item" or "their items"))
    end
end

return M
