-- The counters and measurements of a pipeline, and the summary that is made from them.
local check = require "leat.internal.check"
local logger = require "leat.log"
local outcomes = require "leat.pipeline.outcomes"
local reasons = require "leat.internal.reasons"
local native = require "leat.native.record"
local results = require "leat.internal.results"
local task = require "leat.task"

local exp, floor, log, max = math.exp, math.floor, math.log, math.max
local now = task.now

local M = {}

-- The names that `check` accepts.
local CHECKED = {}
for _, name in ipairs { "items", "ok", "failed", "skipped", "resumed", "retried", "calls", "tokens", "cost",
    "prompt_tokens", "completion_tokens", "wall", "serial", "rate", "success_rate", "p50", "p95", "p99" } do
    CHECKED[name] = "number"
end

local Tally = {}
Tally.__index = Tally

-- Times are counted in buckets. Each bucket is 2 % wider than the one before, so quantiles are exact to 2 %
-- and need constant memory.
local WIDTH = log(1.02)

-- The states of an item. "between" is the time after an attempt and before the next one.
local STATES = { "pending", "rate", "slot", "call", "between" }

-- price: {prompt=, completion=} for a million tokens, or nil.
function M.new(price)
    local self = {
        ok = 0, failed = 0, skipped = 0, resumed = 0, retried = 0, calls = 0, price = price,
        tokens = 0, prompt_tokens = 0, completion_tokens = 0,
        why_failed = reasons.new(), why_skipped = reasons.new(),
        call_seconds = 0, wall = 0, buckets = {}, live = 0, at = now(),
        -- The seconds of the run, by what limited it at that time.
        bounds = { concurrency = 0, rate = 0, retry = 0, batch = 0, items = 0, service = 0 },
    }
    for _, state in ipairs(STATES) do
        self[state] = 0
    end
    return setmetatable(self, Tally)
end

-- Adds the time from the last change to `t`, which is now, to `bounds`. While items wait to start, the
-- running items decide what limits the run. Afterwards the items that have not ended decide.
local function account(self, t)
    local dt = t - self.at
    self.at = t
    local bounds, active = self.bounds, self.live
    if dt <= 0 or active == 0 and not self.blocked then
        return
    end
    self.wall = self.wall + dt
    if self.blocked == "batch" or self.blocked == "items" then
        bounds[self.blocked] = bounds[self.blocked] + dt
        return
    end
    local calling = self.blocked and "concurrency" or "service"
    local between = self.blocked and 0 or self.between
    active = max(1, self.pending + self.rate + self.slot + self.call + between)
    dt = dt / active
    bounds.rate = bounds.rate + dt * self.rate
    bounds.retry = bounds.retry + dt * (self.pending + between)
    bounds.concurrency = bounds.concurrency + dt * self.slot
    bounds[calling] = bounds[calling] + dt * self.call
end

-- An item changes its state at the time `at`. `from` is false when it begins, and `to` is false when it ends.
function Tally:move(from, to, at)
    account(self, at)
    if from then
        self[from] = self[from] - 1
    else
        self.live = self.live + 1
    end
    if to then
        self[to] = self[to] + 1
    else
        self.live = self.live - 1
    end
end

-- Why no further item is started from the time `at` on: "room", "batch", or nil.
function Tally:block(why, at)
    account(self, at)
    self.blocked = why
end

Tally.ended = outcomes.ended

function Tally:called(seconds)
    self.call_seconds = self.call_seconds + seconds
    local b = floor(log(max(seconds, 1e-6)) / WIDTH)
    self.buckets[b] = (self.buckets[b] or 0) + 1
end

-- The first of two values that is a number, or 0.
local function number_of(a, b)
    return type(a) == "number" and a or type(b) == "number" and b or 0
end

function Tally:used(usage)
    local input = number_of(usage.prompt_tokens, usage.input_tokens)
    local output = number_of(usage.completion_tokens, usage.output_tokens)
    self.prompt_tokens, self.completion_tokens = self.prompt_tokens + input, self.completion_tokens + output
    local total = usage.total_tokens
    self.tokens = self.tokens + (type(total) == "number" and total or input + output)
end

-- For each share, the time within which that share of the calls ended; nil before the first call.
function Tally:quantiles(...)
    local order, total = {}, 0
    for b, count in pairs(self.buckets) do
        order[#order + 1] = b
        total = total + count
    end
    table.sort(order)
    local shares, out, seen, i = { ... }, {}, 0, 1
    for _, b in ipairs(order) do
        seen = seen + self.buckets[b]
        while shares[i] and seen >= shares[i] * total - 1e-9 do
            out[i] = exp((b + 0.5) * WIDTH)
            i = i + 1
        end
    end
    return unpack(out, 1, #shares)
end

-- ---- the summary

local Stats = check.class({}, "statistics")
Stats.__index = Stats

local function plural(n, word)
    return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

-- A number with three digits, or more if it is large.
function M.figure(n)
    return (n < 999.5 and "%.3g" or n < 1e6 and "%.0f" or "%.3gM"):format(n < 1e6 and n or n / 1e6)
end

function M.seconds(s)
    if not s then
        return "-"
    elseif s < 0.9995 then
        return ("%.3g ms"):format(s * 1000)
    elseif s < 100 then
        return ("%.3g s"):format(s)
    end
    s = floor(s + 0.5)
    return ("%d:%02d min"):format(floor(s / 60), s % 60)
end

function Stats:__tostring()
    local seconds = M.seconds
    local lines = {
        ("%s: %d ok, %d failed, %d skipped%s; %s, %d of them retries%s%s"):format(
            plural(self.items, "item"), self.ok, self.failed, self.skipped,
            self.resumed > 0 and (", %d done before"):format(self.resumed) or "",
            plural(self.calls, "call"), self.retried,
            self.tokens > 0 and "; " .. plural(self.tokens, "token") or "",
            self.cost and ("; cost %.4g"):format(self.cost) or ""),
    }
    for _, name in ipairs { "failed", "skipped" } do
        if self[name] > 0 then
            lines[#lines + 1] = ("%d %s: %s"):format(self[name], name, reasons.text(self["why_" .. name]))
        end
    end
    if self.calls > 0 then -- how much work ran at once; with waits between the calls it would mean nothing
        local times = self.wall > 0 and self.serial / self.wall or 0
        lines[#lines + 1] = ("%s, %s items/s%s"):format(seconds(self.wall), M.figure(self.rate), times >= 1.05
            and ("; one after the other %s (%s times as long)"):format(seconds(self.serial), M.figure(times))
            or "")
    end
    if self.p50 then
        lines[#lines + 1] = ("calls: p50 %s, p95 %s, p99 %s"):format(seconds(self.p50), seconds(self.p95),
            seconds(self.p99))
    end
    if self.bottleneck and self.wall > 0 then
        lines[#lines + 1] = ("bottleneck: %s (%.0f %% of the time)"):format(self.bottleneck,
            100 * self.bounds[self.bottleneck] / self.wall)
    end
    return table.concat(lines, "\n")
end

-- The figures for which more is better. For all others less is better.
local LEAST = { ok = true, items = true, rate = true, success_rate = true }
local TIMES = { p50 = true, p95 = true, p99 = true, wall = true, serial = true }

local function shown(name, value)
    return TIMES[name] and M.seconds(value) or ("%.4g"):format(value)
end

--- Compares the figures with thresholds. Each threshold that is missed is reported on standard error. Then
--- the `leat` program ends with status 3, unless the script itself fails.
---@param thresholds leat.thresholds by name: the least ok, items, rate and success_rate (ok of those that
---were called), the most of any other figure: failed, skipped, retried, calls, tokens, cost, wall, p50,
---p95, p99 ...
---@return boolean met
---@return string[] missed a text for each that is missed
---
--- A figure that does not exist (p95 without a call) counts as missed. Raises an error for an unknown name.
--- ```lua
--- local pipe = leat.pipeline {}
--- local _, stats = pipe:run({ 1, 2 }, function(x) return x end)
--- assert(stats:check { failed = 0, success_rate = 0.99, p95 = 2 })
--- ```
function Stats:check(thresholds)
    check.own(self, Stats, "stats:check")
    check.table("stats:check", "thresholds", thresholds)
    check.options("check", thresholds, CHECKED)
    local missed = results.lines {}
    for name, bound in pairs(thresholds) do
        local value = self[name]
        if name == "success_rate" then
            local called = self.ok + self.failed + self.skipped
            value = called > 0 and self.ok / called or nil
        end
        local good = value and (LEAST[name] and value >= bound or not LEAST[name] and value <= bound)
        if not good then
            missed[#missed + 1] = ("threshold missed: %s is %s, should be at %s %s"):format(name,
                value and shown(name, value) or "unknown", LEAST[name] and "least" or "most",
                shown(name, bound))
        end
    end
    table.sort(missed)
    for _, text in ipairs(missed) do
        native.missed()
        logger.warn(text)
    end
    return #missed == 0, missed
end

-- The current figures.
function Tally:stats()
    account(self, now())
    local called = self.ok + self.failed + self.skipped
    local items = called + self.resumed
    local s = {
        items = items, ok = self.ok, failed = self.failed, skipped = self.skipped, resumed = self.resumed,
        retried = self.retried,
        calls = self.calls, in_flight = self.call, tokens = self.tokens, prompt_tokens = self.prompt_tokens,
        completion_tokens = self.completion_tokens, wall = self.wall, serial = self.call_seconds,
        rate = self.wall > 0 and called / self.wall or 0, bounds = {},
        why_failed = self.why_failed:list(), why_skipped = self.why_skipped:list(),
    }
    local price = self.price
    if price then
        s.cost = (self.prompt_tokens * (price.prompt or 0) + self.completion_tokens * (price.completion or 0))
            / 1e6
    end
    s.p50, s.p95, s.p99 = self:quantiles(0.5, 0.95, 0.99)
    for _, name in ipairs { "service", "concurrency", "rate", "retry", "batch", "items" } do
        local spent = self.bounds[name]
        s.bounds[name] = spent
        if spent > 0 and (not s.bottleneck or spent > s.bounds[s.bottleneck]) then
            s.bottleneck = name
        end
    end
    return setmetatable(s, Stats)
end

return M
