-- Numbers that come from outside: waits, rate limits and token counts that a server states. A server may
-- state anything, so only this module reads them. It bounds each number. If a number is not plausible, it
-- warns once for each kind of number and origin. Data from a server never raises an error.
local http_date = require "leat.internal.http_date"
local logger = require "leat.log"
local task = require "leat.task"

local max = math.max

local M = {}

local DAY = 86400

-- The longest wait that is accepted, in seconds.
M.LONGEST = 366 * DAY
-- Unix times begin here (September 2001). As a number of seconds to wait, this would be 31 years.
local FIRST_MOMENT = 1e9
-- No model reads or writes as many tokens in one call.
local MOST_TOKENS = 1e8
-- The largest limit that is accepted, in requests or tokens per window.
local MOST_LIMIT = 1e12

-- ---- warnings

local MOST_WARNINGS = 1000
local warned, count = {}, 0

-- "https://host:port" of a URL; other text is taken as it is.
local function origin_of(url)
    url = type(url) == "string" and url or ""
    local origin = url:match "^(%a[%w+.-]*://[^/?#]*)" or url
    return (origin:gsub("//.*@", "//")):sub(1, 100)
end

-- Warns once for each `what` and origin. `value` is the number or text that the server sent. `done` says what
-- leat does with it.
function M.distrust(what, value, url, done)
    local origin = origin_of(url)
    local key = what .. "\n" .. origin
    if warned[key] or count >= MOST_WARNINGS then
        return
    end
    warned[key], count = true, count + 1
    local shown = type(value) == "number" and ("%.14g"):format(value)
        or "'" .. tostring(value):sub(1, 60) .. "'"
    logger.warn(("%s%s: %s is not a usable value; %s"):format(origin ~= "" and origin .. ": " or "", what,
        shown, done))
end

-- ---- formats

local UNITS = { d = DAY, h = 3600, m = 60, min = 60, s = 1, sec = 1, ms = 0.001, us = 1e-6 }

-- Seconds from "1s", "6m0s", "120ms", "1h2m3.5s" or a plain number of seconds; nil for any other text.
function M.duration(text)
    if text:find "^%d+%.?%d*$" then
        return tonumber(text)
    end
    local total, rest = 0, text
    while rest ~= "" do
        local number, unit, after = rest:match "^(%d+%.?%d*)(%a+)(.*)$"
        if not number or not UNITS[unit] then
            return nil
        end
        total, rest = total + number * UNITS[unit], after
    end
    return text ~= "" and total or nil
end

-- A plain number is a wait, or a point in time as Unix seconds or Unix milliseconds. A wait is counted in
-- `unit` seconds.
local function plain(text, clock, unit)
    local n = text:find "^%d[%d.]*[eE]?%+?%d*$" and tonumber(text)
    if not n then
        return nil
    end
    local wait = n * unit
    if wait <= M.LONGEST then
        return wait
    elseif n >= FIRST_MOMENT and n <= clock + M.LONGEST then
        return nil, n
    elseif n >= FIRST_MOMENT * 1000 and n <= (clock + M.LONGEST) * 1000 then
        return nil, n / 1000
    end
    return wait
end

-- Each reads a text: returns the seconds to wait, or nil and a moment in Unix seconds, or nothing.
local FORMATS = {
    plain,
    M.duration,
    function(text) return nil, http_date.parse(text) end,
    function(text) return nil, http_date.iso(text) end,
}

-- The seconds that `text` asks to wait, from 0 to LONGEST; 0 for a time in the past. nil if there is no text,
-- or if it cannot be understood.
--   what   what is read, for the warning: "retry-after"
--   from   url: of the response; date: its Date header, because our clock may be days away from the server's;
--          unit: seconds in 1 of a plain number (1)
function M.wait(text, what, from)
    if text == nil then
        return nil
    end
    local trimmed = tostring(text):match "^%s*(.-)%s*$"
    local date = from.date and http_date.parse(from.date)
    local clock = date or task.time()
    for _, read in ipairs(FORMATS) do
        local seconds, moment = read(trimmed, clock, from.unit or 1)
        seconds = seconds or moment and max(0, moment - clock)
        if seconds then
            return M.bounded(seconds, what, from.url)
        end
    end
    M.distrust(what, text, from.url, "it is ignored")
    return nil
end

-- Bounds a wait in seconds that is a number already, as in err.retry_after. Returns nil if it is not a valid
-- wait.
function M.bounded(seconds, what, url)
    if type(seconds) ~= "number" or not (seconds >= 0) then
        if seconds ~= nil then
            M.distrust(what, seconds, url, "it is ignored")
        end
        return nil
    elseif seconds > M.LONGEST then
        M.distrust(what, seconds, url, "it is taken as 366 days")
        return M.LONGEST
    end
    return seconds
end

-- Reads a limit, or what remains of it: a whole number of at least `least`. Returns nil if it is not valid.
function M.amount(text, least, what, url)
    if text == nil then
        return nil
    end
    local n = text:find "^%s*%d+%.?%d*%s*$" and tonumber(text)
    if n and n >= least and n <= MOST_LIMIT then
        return n
    end
    M.distrust(what, text, url, "it is ignored")
    return nil
end

-- ---- tokens

-- A number of tokens, or nil if it is not plausible.
function M.tokens(n, what, url)
    if type(n) == "number" and n >= 0 and n <= MOST_TOKENS then
        return n
    elseif n ~= nil then
        M.distrust(what, n, url, "it is not counted")
    end
    return nil
end

-- The `usage` of an answer, with only the numbers that are plausible. Values that are not numbers (details,
-- null) are kept.
function M.usage(usage, url)
    local copy
    for name, n in pairs(usage) do
        if type(n) == "number" and not (n >= 0 and n <= MOST_TOKENS) then
            M.distrust("usage." .. tostring(name), n, url, "it is not counted")
            if not copy then
                copy = {}
                for k, v in pairs(usage) do
                    copy[k] = v
                end
            end
            copy[name] = nil
        end
    end
    return copy or usage
end

-- For tests.
function M.forget()
    warned, count = {}, 0
end

return M
