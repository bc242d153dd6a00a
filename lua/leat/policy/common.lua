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

-- If the task is abandoned, it runs its clean-ups from this list.
local function enlist(state, finished)
    local stack = native.cleanups()
    local n = #stack
    stack[n + 1] = state
    stack[n + 2] = finished
    return stack
end

-- After enlist has run out of memory.
local function unlist(state)
    local stack = native.cleanups()
    local n = #stack
    if stack[n] == state then
        stack[n] = nil
    end
end

-- The two values are the last ones, unless generators end in another order.
local function remove(stack, state, finished)
    local n = #stack
    local i = n
    while i > 2 and not (stack[i] == finished and stack[i - 1] == state) do
        i = i - 1
    end
    for k = i - 1, n do
        stack[k] = stack[k + 2]
    end
end

local function conclude(stack, state, finished, trying, ok, ...)
    remove(stack, state, finished)
    local first, second = ...
    if ok then
        finished(state, true, first, second)
        return ...
    elseif is_failure(first) then
        finished(state, true, nil, first)
        if trying then
            return nil, first
        end
    else
        finished(state, false)
    end
    error(first, 0)
end

-- Calls fn(...) and then finished(state, ended, value, err), whatever happens, also if there is not enough
-- memory to start. `ended` is false after a bug and after a cancel. Returns and raises what fn does.
-- `finished` gives back places and leases, so it must update its counters before it waits for anything. A
-- caller that counts something must create `state` (not nil) first: nothing may fail between the count and
-- this call. No closure and no table is made here: pipelines call this several times for each item.
function M.guard(state, finished, fn, ...)
    local ok, stack = pcall(enlist, state, finished)
    if not ok then
        pcall(unlist, state)
        finished(state, false)
        error(stack, 0)
    end
    return conclude(stack, state, finished, false, xpcall(fn, bug.note, ...))
end

local function call_it(finished, ended, value, err)
    finished(ended, value, err)
end

-- The same, but `finished` is called without a state.
function M.run(finished, fn, ...)
    return M.guard(finished, call_it, fn, ...)
end

-- ---- scopes: data for all calls made inside a function, also in tasks that it starts

local scopes = {} -- by the id of the task

-- The innermost scope around the running task, or nil.
function M.scope()
    return native.inherited(scopes)
end

local function leave(scope, ended, value, err)
    local id = scope.id
    if id then
        scopes[id] = scope.before
    end
    if scope.finished then
        scope:finished(ended, value, err)
    end
end

local function enter(scope)
    local id = native.current().id
    scope.before = scopes[id]
    scopes[id] = scope
    scope.id = id
    return enlist(scope, leave)
end

local function call_within(scope, trying, fn, ...)
    local ok, stack = pcall(enter, scope)
    if not ok then
        pcall(unlist, scope)
        leave(scope, false)
        error(stack, 0)
    end
    return conclude(stack, scope, leave, trying, xpcall(fn, bug.note, ...))
end

-- Calls fn(...) within `scope`, a table. Afterwards scope:finished(ended, value, err) is called, as `guard`
-- calls its function, if there is one. A scope is used once at a time, because this sets its fields `id` and
-- `before`. A table that is made with `id = false, before = false` has room for them.
function M.within(scope, fn, ...)
    return call_within(scope, false, fn, ...)
end

-- The same, and `try` in one.
function M.try_within(scope, fn, ...)
    return call_within(scope, true, fn, ...)
end

-- The status if `value` looks like a response (of ours, or a table with status and headers).
function M.status(value)
    if type(value) ~= "table" then
        return nil
    end
    local status = rawget(value, "_status") or value.status -- not the script's own check
    if type(status) == "number" and (rawget(value, "_head") or type(value.headers) == "table") then
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
