-- The lists that gather, map, batch and pipelines return, with n and with the errors in a second table. A
-- hole is an item without a value. The metatables make print and json.encode show the contents.
local text_of = require("leat.error").text

local M = {}

local MOST_SHOWN = 3

local Failures = { __leat_json = "object", __shown_whole = true }

local function sorted_indexes(t)
    local indexes = {}
    for index in pairs(t) do
        if type(index) == "number" then
            indexes[#indexes + 1] = index
        end
    end
    table.sort(indexes)
    return indexes
end

function Failures:__tostring()
    local indexes, lines = sorted_indexes(self), {}
    for i = 1, math.min(#indexes, MOST_SHOWN) do
        lines[i] = ("[%d] %s"):format(indexes[i], text_of(self[indexes[i]]))
    end
    if #indexes > MOST_SHOWN then
        lines[#lines + 1] = ("and %d more"):format(#indexes - MOST_SHOWN)
    end
    return ("%d failed%s%s"):format(#indexes, #lines > 0 and ": " or "", table.concat(lines, "; "))
end

local Results = { __leat_json = "list", __shown_whole = true }

-- An item counts as failed only if `errors` contains it, or if settle has marked it. A hole may also be a
-- function that returned nothing.
local function failures_of(results)
    local errors = rawget(results, "errors")
    local failures = {}
    for i = 1, results.n or #results do
        local value = results[i]
        if type(errors) == "table" then
            failures[i] = errors[i]
        elseif type(value) == "table" and rawget(value, "ok") == false then
            failures[i] = rawget(value, "err")
        end
    end
    return setmetatable(failures, Failures)
end

function Results:__tostring()
    local failures, n = failures_of(self), self.n or #self
    local text = ("results of %d item%s"):format(n, n == 1 and "" or "s")
    return next(failures) ~= nil and text .. ", " .. tostring(failures) or text
end

local Counts = { __shown_whole = true }

function Counts:__tostring()
    local text = ("%d ok, %d failed"):format(self.ok, self.failed)
    if self.resumed then
        text = ("%s, %d done before"):format(text, self.resumed)
    end
    return self.first_error ~= nil and text .. "; the first: " .. text_of(self.first_error) or text
end

local Lines = { __shown_whole = true }

function Lines:__tostring()
    return self[1] and table.concat(self, "\n") or "none"
end

-- Marks the counts that `each` returns.
function M.counts(t)
    return setmetatable(t, Counts)
end

-- Marks a list of texts.
function M.lines(t)
    return setmetatable(t, Lines)
end

-- Marks a list of results. Its n may be set later.
function M.list(t)
    return setmetatable(t, Results)
end

-- Marks a table of errors by index.
function M.failures(t)
    return setmetatable(t, Failures)
end

return M
