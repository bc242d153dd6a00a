-- compare(gone): raises where the host's globals, libraries and packages are not as they were when this file
-- ran, but for leat's packages while its runtime is there.
local function look(where, t, out, seen)
    if seen[t] then
        return out
    end
    seen[t] = true
    for k, v in pairs(t) do
        local path = where .. "." .. tostring(k)
        out[path] = v
        if type(v) == "table" then
            look(path, v, out, seen)
        end
    end
    return out
end

local first = look("", _G, {}, {})
local string_index = getmetatable("").__index

function compare(gone)
    local now = look("", _G, {}, {})
    local function check(path)
        if now[path] ~= first[path] and path ~= ".compare" then
            assert(not gone and path:find "^%.package%.%a+%.leat", path)
        end
    end
    for path in pairs(now) do
        check(path)
    end
    for path in pairs(first) do
        check(path)
    end
    assert(getmetatable("").__index == string_index)
end
