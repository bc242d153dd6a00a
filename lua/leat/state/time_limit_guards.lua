-- Removes or changes functions in a state with a time limit that could disable the limit.
local function refuse(name)
    return function()
        error(name .. ": not available when a time limit is set", 2)
    end
end

-- If an error came from a hook, LuaJIT runs the message handler with hooks switched off, so a handler with an
-- endless loop would never end. So after the limit no handler is called.
local function guard_xpcall()
    local raw_xpcall = xpcall
    local out_of_time = require("leat.native.task").out_of_time
    function _G.xpcall(fn, handler, ...)
        return raw_xpcall(fn, function(err)
            if out_of_time() then
                return err
            end
            return handler(err)
        end, ...)
    end
end

-- table.sort works in C, where the time limit has no effect. A comparison in Lua is checked.
local function guard_sort()
    local raw_sort, getinfo = table.sort, debug.getinfo
    local chunk, why = loadstring("return function(a, b) return a < b end", "@leat/table.sort")
    if not chunk then -- not enough memory
        error(why, 0)
    end
    local less = chunk()
    function table.sort(list, comparator)
        if comparator == nil then
            comparator = less
        elseif type(comparator) == "function" and getinfo(comparator, "S").what == "C" then
            local compare = comparator
            comparator = function(a, b)
                return (compare(a, b))
            end
        end
        return raw_sort(list, comparator)
    end
end

return function()
    guard_xpcall()
    guard_sort()
    for _, name in ipairs { "on", "off", "flush", "attach" } do
        jit[name] = refuse("jit." .. name)
    end
    jit.opt = nil
    for _, name in ipairs { "jit.opt", "jit.profile" } do
        package.loaded[name] = nil
        package.preload[name] = refuse(name)
    end
    debug.sethook = refuse "debug.sethook"
    _G.newproxy = refuse "newproxy" -- LuaJIT runs finalizers with hooks off
end
