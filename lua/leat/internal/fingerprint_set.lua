-- A set of texts. It needs 24 bytes for each text, however long the text is: a journal may have millions of
-- items. A text is identified by 104 bits of its SHA-256.
local sha256 = require("leat.native.util").sha256

local M = {}
local Set = {}
Set.__index = Set

local function half(digest, from)
    local n = 0
    for i = from, from + 5 do
        n = n * 256 + digest:byte(i)
    end
    return n * 16 + digest:byte(from + 6) % 16
end

function M.new()
    return setmetatable({ count = 0, _marks = {}, _rare = {} }, Set)
end

-- Whether `text` is in the set.
function Set:has(text)
    local digest = sha256(text, true)
    local mark = self._marks[half(digest, 1)]
    return mark ~= nil and mark == half(digest, 8) or self._rare[digest] ~= nil
end

-- Adds `text`. Returns whether it is new.
function Set:add(text)
    local digest = sha256(text, true)
    local name, mark = half(digest, 1), half(digest, 8)
    local held = self._marks[name]
    if held == mark or self._rare[digest] then
        return false
    elseif held == nil then
        self._marks[name] = mark
    else
        self._rare[digest] = true
    end
    self.count = self.count + 1
    return true
end

return M
