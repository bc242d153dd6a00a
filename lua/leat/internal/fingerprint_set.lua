-- A set of texts. It needs 24 bytes for each text, however long the text is: a journal may have millions of
-- items. A text is identified by 104 bits of its SHA-256.
local native = require "leat.native.util"

local fingerprint, sha256 = native.fingerprint, native.sha256

local M = {}
local Set = {}
Set.__index = Set

-- _marks: by the first half of a fingerprint, the second half. _rare: digests of texts whose first half
-- another text has already.
function M.new()
    return setmetatable({ count = 0, _marks = {}, _rare = {} }, Set)
end

-- Whether `text` is in the set.
function Set:has(text)
    if self.count == 0 then -- the usual case, for the sets of earlier runs
        return false
    end
    local name, mark = fingerprint(text)
    local held = self._marks[name]
    return held ~= nil and (held == mark or self._rare[sha256(text, true)] ~= nil)
end

-- Adds `text`. Returns whether it is new.
function Set:add(text)
    local name, mark = fingerprint(text)
    local held = self._marks[name]
    if held == nil then
        self._marks[name] = mark
    elseif held == mark then
        return false
    else
        local digest = sha256(text, true)
        if self._rare[digest] then
            return false
        end
        self._rare[digest] = true
    end
    self.count = self.count + 1
    return true
end

return M
