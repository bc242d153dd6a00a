-- Why items failed, counted by reason: "430 × status 503, 6 × timeout (first_byte)".
local M = {}

local Reasons = {}
Reasons.__index = Reasons

-- The number of different reasons that are counted. All further ones count as OTHER, so that memory is
-- bounded.
local MOST_LABELS = 50
local OTHER = "other reasons"
local LONGEST = 60 -- bytes of a script's own message

function M.new()
    return setmetatable({ n = 0, labels = 0, counts = {} }, Reasons)
end

-- The text of a script's own error, on one line and shortened.
local function words(message)
    local text = tostring(message):gsub("%s+", " ")
    if #text > LONGEST then
        text = text:sub(1, LONGEST):gsub("[\192-\255]?[\128-\191]*$", "") .. "..."
    end
    return text
end

-- Why retry stopped trying.
local GAVE_UP = {
    retry_budget = "not retried: retry budget used up",
    retry_after = "not retried: the server asked for too long a wait",
    deadline = "not retried: no time left",
}

local function detail_of(err)
    local kind = err.kind
    if kind == "timeout" then
        return err.phase or err.reason
    elseif kind == "script" or kind == "raised" then
        return words(err.message)
    elseif kind == "http" then
        return err.code == "insufficient_quota" and err.code or err.reason ~= "retry_budget" and err.reason
    elseif err.reason ~= "retry_budget" then
        return err.reason
    end
end

-- The reason of a failure as a short text: "status 503", "timeout (first_byte)", "connect (refused)", "status
-- 503 (not retried: POST without idempotency key)".
function M.of(err)
    if type(err) ~= "table" or err.kind == nil then
        return words(err)
    end
    local label = err.kind
    if (label == "http" or label == "rate_limited") and type(err.status) == "number" then
        label = ("status %d"):format(err.status)
    end
    local detail = detail_of(err)
    local why = err.not_retried and "not retried: " .. tostring(err.not_retried) or GAVE_UP[err.gave_up]
    if not detail or detail == "" or detail == err.kind then
        detail = why
    elseif why then
        detail = tostring(detail) .. "; " .. why
    end
    return detail and ("%s (%s)"):format(label, tostring(detail)) or label
end

-- Adds `times` (default 1) to the count of a label.
function Reasons:add_label(label, times)
    local count = self.counts[label]
    if not count then
        if self.labels >= MOST_LABELS or label == OTHER then
            label = OTHER
            count = self.counts[OTHER] or 0
        else
            self.labels, count = self.labels + 1, 0
        end
    end
    self.counts[label] = count + (times or 1)
    self.n = self.n + (times or 1)
end

function Reasons:merge(other)
    for label, count in pairs(other.counts) do
        self:add_label(label, count)
    end
end

function Reasons:remove_label(label)
    local counts = self.counts
    label = counts[label] and label or OTHER
    self.n, counts[label] = self.n - 1, counts[label] - 1
    if counts[label] == 0 then
        counts[label] = nil
        self.labels = self.labels - (label ~= OTHER and 1 or 0)
    end
end

-- Counts a failure, whatever it is.
function Reasons:add(err)
    self:add_label(M.of(err))
end

-- A list of {reason=, count=}, the most frequent reason first.
function Reasons:list()
    local list = {}
    for label, count in pairs(self.counts) do
        list[#list + 1] = { reason = label, count = count }
    end
    table.sort(list, function(a, b)
        return a.count > b.count or a.count == b.count and a.reason < b.reason
    end)
    return list
end

-- A list as Reasons:list gives it, as text: at most `most` reasons (5), the rest as one.
function M.text(list, most)
    most = most or 5
    local parts, rest = {}, 0
    for i, entry in ipairs(list) do
        if (i <= most or #list == most + 1) and entry.reason ~= OTHER then
            parts[#parts + 1] = ("%d × %s"):format(entry.count, entry.reason)
        else
            rest = rest + entry.count
        end
    end
    if rest > 0 then
        parts[#parts + 1] = ("%d × %s"):format(rest, OTHER)
    end
    return table.concat(parts, ", ")
end

function Reasons:text(most)
    return M.text(self:list(), most)
end

return M
