-- What the policies share: checks of options, the three ways in which a call can end, scopes, and reading a
-- status.
local bug = require "leat.internal.bug"
local check = require "leat.internal.check"
local errors = require "leat.error"
local native = require "leat.native.task"

local xpcall = xpcall

local M = {}

-- Returns opts[name], which must be a number of at least `min` (default 0) and not NaN.
function M.number(who, opts, name, default, min)
    local value = opts[name]
    if value == nil then
        return default
    end
    if type(value) ~= "number" or not (value >= (min or 0)) then
        check.fail(("%s: option '%s' must be a number of at least %g, got %s"):format(who, name, min or 0,
            check.picture(value, name)))
    end
    return value
end

-- The same, but infinity is not allowed.
function M.finite(who, opts, name, default)
    local value = M.number(who, opts, name, default)
    if value == math.huge then
        check.fail(("%s: option '%s' must be finite"):format(who, name))
    end
    return value
end

-- The same, but 0 is not allowed.
function M.positive(who, opts, name)
    local value = M.number(who, opts, name)
    if value == 0 then
        check.fail(("%s: option '%s' must be more than 0"):format(who, name))
    end
    return value
end

function M.count(who, opts, name, default)
    return check.count(who, "option '" .. name .. "'", opts[name] == nil and default or opts[name], 1)
end

M.own = check.own

-- Whether a raised value is a failure, rather than a bug or the cancel of this task. A function may raise one
-- of leat's errors instead of returning it.
local function is_failure(raised)
    return errors.is(raised) and raised.kind ~= "cancelled"
end

local function tried(ok, ...)
    local first = ...
    if ok then
        return ...
    elseif is_failure(first) then
        return nil, first
    end
    error(first, 0)
end

-- Calls fn and returns its values. If fn raises a failure, it returns nil, err. Bugs and cancels are raised.
function M.try(fn, ...)
    return tried(xpcall(fn, bug.note, ...))
end

local function conclude(stack, entry, finished, ok, ...)
    for i = #stack, 1, -1 do
        if stack[i] == entry then
            table.remove(stack, i)
            break
        end
    end
    local first, second = ...
    if ok then
        finished(true, first, second)
        return ...
    elseif is_failure(first) then
        finished(true, nil, first)
    else
        finished(false)
    end
    error(first, 0)
end

-- If the task is abandoned, it runs its clean-ups from this list.
local function enlist(finished)
    local stack = native.cleanups()
    local entry = { grace = 5, begun = false, fn = function() finished(false) end }
    stack[#stack + 1] = entry
    return stack, entry
end

-- Calls fn(...) and then finished(ended, value, err), whatever happens, also if there is not enough memory to
-- start. `ended` is false after a bug and after a cancel. Returns and raises what fn does. `finished` gives
-- back places and leases, so it must update its counters before it waits for anything. A caller that counts
-- something must create `finished` first: nothing may fail between the count and this call.
function M.run(finished, fn, ...)
    local ok, stack, entry = pcall(enlist, finished)
    if not ok then
        finished(false)
        error(stack, 0)
    end
    return conclude(stack, entry, finished, xpcall(fn, bug.note, ...))
end

-- ---- scopes: data for all calls made inside a function, also in tasks that it starts

local scopes = {} -- by the id of the task

-- The innermost scope around the running task, or nil.
function M.scope()
    return native.inherited(scopes)
end

-- Calls fn(...) within `scope`, a table.
function M.within(scope, fn, ...)
    local id = native.current().id
    local before = scopes[id]
    scopes[id] = scope
    return M.run(function()
        scopes[id] = before
    end, fn, ...)
end

-- The status if `value` looks like a response (of ours, or a table with status and headers).
function M.status(value)
    if type(value) ~= "table" then
        return nil
    end
    local status = rawget(value, "_status") or value.status -- not the script's own check
    if type(status) == "number" and type(value.headers) == "table" then
        return status
    end
end

-- The URL of a response or of an error, for a warning; nil if it has none.
function M.url(value)
    local url = type(value) == "table" and value.url
    return type(url) == "string" and url or nil
end

-- The value of a header. The case of the name does not matter.
function M.header(headers, name)
    local value = headers[name]
    if value == nil and not getmetatable(headers) then -- the headers of a response accept any case
        for key, v in pairs(headers) do
            if type(key) == "string" and key:lower() == name then
                value = v
            end
        end
    end
    if type(value) == "table" then
        value = value[1]
    end
    return value ~= nil and tostring(value) or nil
end

return M
