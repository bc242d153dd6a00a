-- Dates in HTTP headers: the three formats of RFC 9110, 5.6.7, and those of RFC 3339.
local M = {}

local MONTHS = {
    Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8,
    Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}

-- Days from 1970-01-01, in the Gregorian calendar: years begin in March here, so that the leap day is last.
local function days(year, month, day)
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
        + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

-- `month` is a number, or nil if the name is not a month. The other values are texts of digits.
local function seconds_of(year, month, day, h, m, s)
    if not month or month < 1 or month > 12 then
        return nil
    end
    day, h, m, s = tonumber(day), tonumber(h), tonumber(m), tonumber(s)
    if day < 1 or day > 31 or h > 23 or m > 59 or s >= 61 then -- 60: a leap second
        return nil
    end
    return days(tonumber(year), month, day) * 86400 + h * 3600 + m * 60 + s
end

-- Seconds since 1970, or nil.
function M.parse(text)
    local day, name, year, h, m, s =
        text:match "^%s*%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT%s*$"
    if not day then
        day, name, year, h, m, s =
            text:match "^%s*%a+, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT%s*$"
        year = year and (year < "70" and "20" or "19") .. year
    end
    if not day then
        name, day, h, m, s, year = text:match "^%s*%a%a%a (%a%a%a) +(%d+) (%d%d):(%d%d):(%d%d) (%d%d%d%d)%s*$"
    end
    return seconds_of(year, MONTHS[name], day, h, m, s)
end

-- The same for "2026-12-01T09:30:00Z", also with a fraction or with an offset such as +02:00. Anthropic uses
-- this format.
function M.iso(text)
    local year, month, day, h, m, s, zone =
        text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d%.?%d*)(.*)$"
    local sign, hours, minutes = (zone or ""):match "^([+-])(%d%d):?(%d%d)$"
    local at = year and seconds_of(year, tonumber(month), day, h, m, s)
    if not at or not sign and zone ~= "" and zone ~= "Z" and zone ~= "z" then
        return nil
    end
    local offset = sign and (hours * 3600 + minutes * 60) * (sign == "+" and 1 or -1) or 0
    return at - offset
end

return M
