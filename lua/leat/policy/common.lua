-- What the policies have in common: their options, the three ways in which a call can end, and what a status
-- says. Internal.
local bug = require "leat.internal.bug"
local check = require "leat.internal.check"
local errors = require "leat.error"
local native = require "leat.native.task"

local xpcall = xpcall

local M = {}

-- opts[name], a number of at least `min` (0 unless said), not NaN.
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

-- The same, but not infinite.
function M.finite(who, opts, name, default)
    local value = M.number(who, opts, name, default)
    if value == math.huge then
        check.fail(("%s: option '%s' must be finite"):format(who, name))
    end
    return value
end

-- The same, but not 0.
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

-- Whether what a function raised is a failure (raising one of leat's errors means returning it), and not a
-- bug or the cancel of this task.
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

-- fn's values; nil, err also where it raised the failure. Bugs and cancels are raised.
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

-- Should the task be abandoned, its clean-ups are run from here.
local function enlist(finished)
    local stack = native.cleanups()
    local entry = { grace = 5, begun = false, fn = function() finished(false) end }
    stack[#stack + 1] = entry
    return stack, entry
end

-- Calls fn(...) and then finished(ended, value, err), whatever happens, also where there is no memory to
-- begin: ended is false after a bug and a cancel. Returns, and raises, what fn does. `finished` must not wait
-- before its books are in order: it is what gives back places and leases. Whoever counts something makes
-- `finished` first: nothing may fail between the count and this call.
function M.run(finished, fn, ...)
    local ok, stack, entry = pcall(enlist, finished)
    if not ok then
        finished(false)
        error(stack, 0)
    end
    return conclude(stack, entry, finished, xpcall(fn, bug.note, ...))
end

-- ---- scopes: what the calls made from within a function are to know, from whatever task beneath it

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
    local status = rawget(value, "_status") or value.status -- not the script's look at it: see leat.unseen
    if type(status) == "number" and type(value.headers) == "table" then
        return status
    end
end

-- The URL of a response or of an error, for a warning; or nil.
function M.url(value)
    local url = type(value) == "table" and value.url
    return type(url) == "string" and url or nil
end

-- The value of a header, in any spelling of its name.
function M.header(headers, name)
    local value = headers[name]
    if value == nil and not getmetatable(headers) then -- those of a response find any spelling
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
