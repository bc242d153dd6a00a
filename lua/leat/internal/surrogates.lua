-- Halves of surrogate pairs that json.decode has kept in a text (surrogates="keep").
local M = {}

local char = string.char

-- UTF-16 halves as UTF-8 would write them: ED A0..AF xx is a first half, ED B0..BF xx a second one.
local FIRST, SECOND = "\237[\160-\175][\128-\191]", "\237[\176-\191][\128-\191]"

local function unit(half)
    return 0xd000 + half:byte(2) % 64 * 64 + half:byte(3) % 64
end

local function joined(first, second)
    local code = 0x10000 + (unit(first) - 0xd800) * 0x400 + unit(second) - 0xdc00
    return char(0xf0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 64,
        0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

-- The first half at the end of `text`, or nil. Its second half may come with the next piece.
function M.tail(text)
    return text:match(FIRST .. "$")
end

-- Joins halves that stand next to each other. A half that stands alone becomes U+FFFD.
function M.join(text)
    if not text:find("\237[\160-\191]") then
        return text
    end
    return (text:gsub("(" .. FIRST .. ")(" .. SECOND .. ")", joined):gsub("\237[\160-\191][\128-\191]",
        "\239\191\189"))
end

return M
