-- Counts the outcomes of the items of all pipelines, for the end of a program: for --stats, for --report, and
-- for a warning about each pipeline without a successful item.
local logger = require "leat.log"
local reasons = require "leat.internal.reasons"
local unseen = require "leat.internal.unseen"

local M = {}

local places = {} -- outcomes by the place where the pipeline was made

local Outcomes = {}
Outcomes.__index = Outcomes

local function new()
    return setmetatable({ ok = 0, failed = 0, skipped = 0, resumed = 0, runs = 0, why_failed = reasons.new(),
        why_skipped = reasons.new() }, Outcomes)
end

-- Counts an item that has ended as `name`, or `n` of them. `reason` is a text, or nil for "ok". Also used by
-- stats.
function M.ended(self, name, reason, n)
    self[name] = self[name] + (n or 1)
    if reason then
        self["why_" .. name]:add_label(reason, n)
    end
end

Outcomes.ended = M.ended

-- The outcomes of the pipelines made at `at`.
function M.at(at)
    local outcomes = places[at] or new()
    places[at] = outcomes
    return outcomes
end

-- "436 failed: 430 × status 503, 6 × timeout (first_byte)"; the same for "skipped". nil if there is none.
function M.text(self, name)
    if self[name] > 0 then
        return ("%d %s: %s"):format(self[name], name, self["why_" .. name]:text())
    end
end

local function all_failed(self)
    return self.runs > 0 and self.ok + self.resumed == 0 and self.failed > 0
end

-- Warns about pipelines without a successful item. Returns how many there are.
function M.conclude()
    local list = {}
    for at, self in pairs(places) do
        if at ~= "?" and all_failed(self) then
            list[#list + 1] = at
        end
    end
    table.sort(list)
    for _, at in ipairs(list) do
        local self = places[at]
        local skipped = M.text(self, "skipped")
        logger.warn(("no item of the pipeline at %s succeeded: %s%s"):format(at, M.text(self, "failed"),
            skipped and "; " .. skipped or ""))
    end
    unseen.warn()
    return #list
end

-- The sums over all pipelines; the reasons are lists of {reason=, count=}.
function M.sums()
    local sums = new()
    for _, self in pairs(places) do
        for _, name in ipairs { "ok", "failed", "skipped", "resumed" } do
            sums[name] = sums[name] + self[name]
        end
        for _, name in ipairs { "why_failed", "why_skipped" } do
            sums[name]:merge(self[name])
        end
    end
    return {
        items = sums.ok + sums.failed + sums.skipped + sums.resumed, ok = sums.ok, failed = sums.failed,
        skipped = sums.skipped, resumed = sums.resumed, why_failed = sums.why_failed:list(),
        why_skipped = sums.why_skipped:list(),
    }
end

return M
