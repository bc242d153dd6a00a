-- The `require` that a state begins with, for leat's own modules that are loaded on first use. A script may
-- replace the global one. Internal.
local builtin_require, loaded = require, package.loaded

return function(name)
    local ok, value = pcall(builtin_require, name)
    if not ok then
        loaded[name] = nil -- or it would be refused from now on, as one that is still being loaded
        error(value, 0)
    end
    return value
end
