-- Writes --report and --stats at the end of a run, from the recorded data.
local native = require "leat.native.record"
local json = require "leat.json"
local outcomes = require "leat.pipeline.outcomes"
local reasons = require "leat.internal.reasons"

local M = {}

-- ---- figures

-- The time within which a share of the requests was answered, exact to 2 %; nil if none was answered.
local function quantile(data, share)
    local seen = 0
    for _, bucket in ipairs(data.latencies) do
        seen = seen + bucket[2]
        if seen >= share * data.measured - 1e-9 then
            return bucket[1]
        end
    end
end

local function rounded(v)
    return v and tonumber(("%.6g"):format(v))
end

-- The failed requests by kind, and their reasons as a list of {reason=, count=}.
local function failures_of(data)
    local kinds, why = {}, reasons.new()
    for _, f in ipairs(data.failures) do
        kinds[f.kind] = (kinds[f.kind] or 0) + f.count
        why:add_label(reasons.of { kind = f.kind, phase = f.detail, reason = f.detail }, f.count)
    end
    for status, n in pairs(data.statuses) do
        if not status:find "^2" then
            why:add_label("status " .. (status == "0" and "of another kind" or status), n)
        end
    end
    return kinds, why
end

-- The contents of --stats: see scripts/docs/pages/command-line.md.
function M.stats(data, status)
    local kinds, why = failures_of(data)
    local items = outcomes.sums()
    return {
        exit_status = status, wall_s = rounded(data.wall), cpu_s = rounded(data.cpu),
        peak_memory_bytes = data.peak_memory, tasks = data.tasks, requests = data.requests,
        requests_ok = data.ok, requests_cancelled = data.cancelled,
        requests_failed = data.requests - data.ok - data.cancelled,
        requests_why_failed = json.array(why:list()),
        statuses = json.object(data.statuses), failures = json.object(kinds),
        items = items.items, items_ok = items.ok, items_failed = items.failed, items_skipped = items.skipped,
        items_resumed = items.resumed, items_why_failed = json.array(items.why_failed),
        items_why_skipped = json.array(items.why_skipped),
        wire_attempts = data.attempts, bytes_in = data.bytes_in, bytes_out = data.bytes_out,
        latency_s = {
            p50 = rounded(quantile(data, 0.5)), p95 = rounded(quantile(data, 0.95)),
            p99 = rounded(quantile(data, 0.99)),
        },
        requests_per_s = data.wall > 0 and rounded(data.requests / data.wall) or 0,
    }
end

-- ---- files

local function write(path, text)
    local f, why = io.open(path, "wb")
    if not f then
        return why
    end
    local ok, why_not = f:write(text)
    local closed, too_late = f:close()
    return not (ok and closed) and path .. ": " .. tostring(why_not or too_late) or nil
end

-- The program calls this when the run is over. Either path may be nil; "" is standard error. Returns a text
-- if something could not be written.
function M.finish(report, stats, title, status)
    local data = native.data()
    local problem
    if report then
        problem = write(report,
            require("leat.cli.report_page").page(data, M.stats(data, status), title, status))
    end
    if stats then
        local text = json.encode(M.stats(data, status), { sorted = true, indent = stats ~= "" and 2 or nil })
        if stats == "" then
            io.stderr:write(text, "\n")
        else
            problem = write(stats, text .. "\n") or problem
        end
    end
    return problem
end

return M
