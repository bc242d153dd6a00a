-- Standard input without stopping the other tasks, which io.read and io.lines do. One task reads at a
-- time; what a cancelled read had taken is there for the next.
local check = require "leat.internal.check"
local native = require "leat.native.util"
local await = require "leat.internal.await"

local M = {}

local MAX_LINE = 16 * 1024 * 1024
local MAX_ALL = 256 * 1024 * 1024

local function own(self, name)
    if self ~= M then
        check.fail(("stdin:%s: call it with a colon, as in leat.stdin:%s()"):format(name, name))
    end
end

local function size(who, value, default)
    if value == nil then
        return default
    end
    return math.min(check.count(who, "max_bytes", value, 1), MAX_ALL)
end

--- Reads one line, or as much as is asked for.
---@param what? string|integer "l" (default) a line without its line end (LF or CRLF), "a" all that is
---left, n: up to n bytes as soon as there are any
---@param max_bytes? integer the longest line (16 MiB) or text (256 MiB) accepted
---@return string|nil data nil at the end; for "a" the empty string
---@return leat.error? err kind "too_large": the line was longer (it is skipped, the next read goes on behind
---it); kind "io"
---
--- Raises if another task is reading. A last line without a line end counts as a line.
--- ```lua
--- local first = leat.stdin:read()
--- local rest = assert(leat.stdin:read "a")
--- assert(first == nil or type(first .. rest) == "string")
--- ```
function M:read(what, max_bytes)
    own(self, "read")
    if what == nil or what == "l" then
        return await(native.stdin_read("l", size("stdin:read", max_bytes, MAX_LINE)))
    elseif what == "a" then
        return await(native.stdin_read("a", size("stdin:read", max_bytes, MAX_ALL)))
    elseif type(what) ~= "number" then
        check.fail("stdin:read: expected 'l', 'a' or a number of bytes, got " .. check.picture(what, "what"))
    end
    return await(native.stdin_read("n", size("stdin:read", what)))
end

--- An iterator over the lines. Raises on a line that is too long and on a failed read, so that neither
--- looks like the end; `stdin:read` returns those as nil, err.
---@param max_bytes? integer the longest line accepted (16 MiB)
---@return fun(): string|nil
--- ```lua
--- local function longest_line()
---     local longest = 0
---     for line in leat.stdin:lines() do longest = math.max(longest, #line) end
---     return longest
--- end
--- assert(type(longest_line) == "function")
--- ```
function M:lines(max_bytes)
    own(self, "lines")
    local max = size("stdin:lines", max_bytes, MAX_LINE)
    return function()
        local line, err = await(native.stdin_read("l", max))
        if err then
            error(err, 0)
        end
        return line
    end
end

return M
