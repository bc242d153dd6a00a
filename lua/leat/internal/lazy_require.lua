-- The original `require` of the state. leat uses it for its own modules that are loaded on first use, because
-- a script may replace the global one.
local builtin_require, loaded = require, package.loaded

return function(name)
    local ok, value = pcall(builtin_require, name)
    if not ok then
        loaded[name] = nil -- otherwise later calls would fail: it would count as still being loaded
        error(value, 0)
    end
    return value
end
