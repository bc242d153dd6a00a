-- Standard input that does not block the other tasks (io.read and io.lines do). One task reads at a time.
-- If a read is cancelled, the next read gets the data that it had taken.
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

--- Reads one line, all of the input, or a number of bytes.
---@param what? string|integer "l" (default): a line without its line end (LF or CRLF); "a": all the rest;
---n: up to n bytes, as soon as there are some
---@param max_bytes? integer the longest line (default 16 MiB) or text (256 MiB) that is accepted
---@return string|nil data nil at the end; for "a" the empty string
---@return leat.error? err kind "too_large": the line was longer; it is skipped, and the next read begins
---after it; kind "io"
---
--- Raises if another task is reading. A last line without a line end is a line, too.
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

--- Iterates over the lines. Raises for a line that is too long and for a failed read, so that neither
--- looks like the end of the input. `stdin:read` returns these as nil, err.
---@param max_bytes? integer the longest line that is accepted (16 MiB)
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
