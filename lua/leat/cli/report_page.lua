-- The page that --report writes: a single file. A browser can show it without any other file.
local chart = require "leat.cli.report_chart"
local tally = require "leat.pipeline.stats"

local columns, escaped, label, rect = chart.columns, chart.escaped, chart.label, chart.rect
local ceil, exp, floor, log, max, min = math.ceil, math.exp, math.floor, math.log, math.max, math.min
local figure, seconds = tally.figure, tally.seconds

local M = {}

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6878; --paper: #fff; --card: #f4f6f9;
  --line: #e3e8ef; --rule: #aab4c3;
  --a: #2f6fde; --bad: #c62f3c; --queued: #c9d0db; --dns: #8e6bd0; --connect: #d99a1c; --tls: #2f9e8f;
  --wait: #7aa7f0; --body: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --dim: #9aa6b8; --paper: #14181f;
  --card: #1e2530; --line: #29313e; --rule: #566275;
  --a: #6ea3ff; --bad: #ff6f7a; --queued: #465163; --dns: #b397ea; --connect: #e6b450; --tls: #54c4b4;
  --wait: #44699f; --body: #6ea3ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 0 0 8px; color: var(--dim); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 8px;
  margin: 16px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 10px 12px; }
.tile b { display: block; font-size: 18px; font-weight: 600; }
.tile span { color: var(--dim); font-size: 12px; }
.bad { color: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
  gap: 0 24px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
svg .bad { fill: var(--bad); }
svg g:hover text { fill: var(--ink); }
.scroll { overflow: auto; max-height: 640px; }
.scroll svg { min-width: 960px; }
.scroll table { min-width: 640px; }
.low { max-height: 300px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); font-weight: 400;
  white-space: nowrap; }
td.name { max-width: 0; width: 100%; overflow: hidden; text-overflow: ellipsis; }
th { color: var(--dim); font-size: 12px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.legend span { display: inline-block; margin-right: 14px; font-size: 12px; color: var(--dim); }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
]]

local function tile(out, value, name, bad)
    out[#out + 1] = ('<div class="tile"><b%s>%s</b><span>%s</span></div>'):format(
        bad and ' class="bad"' or "", escaped(value), escaped(name))
end

local function size(n)
    for _, unit in ipairs { "B", "kB", "MB", "GB" } do
        if n < 999.5 or unit == "GB" then
            return (n < 10 and unit ~= "B" and "%.1f %s" or "%.0f %s"):format(n, unit)
        end
        n = n / 1000
    end
end

local function over_time(data)
    local series, used = data.series, 0
    for i, piece in ipairs(series) do
        if piece.ended > 0 or piece.busy > 0 then
            used = i
        end
    end
    -- At most as many columns as can be seen separately.
    local step = max(1, ceil(used / 120))
    local rate, busy, width = {}, {}, series.width * step
    for i = 1, used, step do
        local ended, failed, spent = 0, 0, 0
        for j = i, min(i + step - 1, used) do
            ended, failed = ended + series[j].ended, failed + series[j].failed
            spent = spent + series[j].busy
        end
        local at = seconds((i - 1) * series.width)
        rate[#rate + 1] = { ended / width, failed / width,
            ("%s: %s/s, %d failed"):format(at, figure(ended / width), failed) }
        busy[#busy + 1] = { spent / width, 0, ("%s: %s in flight"):format(at, figure(spent / width)) }
    end
    local to = seconds(used * series.width)
    return columns(rate, { from = "0", to = to, unit = "ended in a second (red: failed)" }),
        columns(busy, { from = "0", to = to, unit = "in flight" })
end

local function histogram(data, latency)
    local first, last = data.latencies[1], data.latencies[#data.latencies]
    if not first then
        return "<p>No request was answered.</p>"
    end
    local low, high = log(first[1] * 0.98), log(last[1] * 1.02)
    local n = 40
    local width = max((high - low) / n, 1e-9)
    local cols, marks = {}, {}
    for i = 1, n do
        cols[i] = { 0, 0, ("%s to %s"):format(seconds(exp(low + (i - 1) * width)),
            seconds(exp(low + i * width))) }
    end
    for _, bucket in ipairs(data.latencies) do
        local i = min(n, max(1, floor((log(bucket[1]) - low) / width) + 1))
        cols[i][1] = cols[i][1] + bucket[2]
    end
    for _, c in ipairs(cols) do
        c[3] = c[3] .. (": %d"):format(c[1])
    end
    for i, name in ipairs { "p50", "p95", "p99" } do
        marks[i] = { (log(latency[name]) - low) / (high - low), name }
    end
    return columns(cols, { from = seconds(first[1]), to = seconds(last[1]), marks = marks,
        unit = "answers by their time (logarithmic)" })
end

local function is_bad(x)
    return x.kind ~= nil and x.kind ~= "cancelled" or x.kind == nil and (x.status < 200 or x.status > 299)
end

local function outcome_of(x)
    return x.kind or "status " .. x.status
end

-- A table of rows {outcome, count, bad}, with the most frequent first.
local function shares(rows, what, total)
    table.sort(rows, function(a, b)
        return a[2] > b[2] or a[2] == b[2] and a[1] < b[1]
    end)
    local out = { '<table><tr><th>outcome</th><th class="n">' .. what
        .. '</th><th class="n">share</th></tr>' }
    for _, row in ipairs(rows) do
        out[#out + 1] = ('<tr><td%s>%s</td><td class="n">%d</td><td class="n">%.3g %%</td></tr>'):format(
            row[3] and ' class="bad"' or "", escaped(row[1]), row[2], 100 * row[2] / total)
    end
    out[#out + 1] = "</table>"
    return table.concat(out)
end

local function request_outcomes(data, stats)
    local rows = {}
    for status, n in pairs(data.statuses) do
        if status:find "^2" then
            rows[#rows + 1] = { "status " .. status, n }
        end
    end
    for _, why in ipairs(stats.requests_why_failed) do
        rows[#rows + 1] = { why.reason, why.count, true }
    end
    rows[#rows + 1] = data.cancelled > 0 and { "cancelled", data.cancelled } or nil
    return shares(rows, "requests", data.requests)
end

-- The outcomes of the items of pipelines; "" if there are none.
local function item_outcomes(stats)
    if stats.items == 0 then
        return ""
    end
    local rows = {}
    for _, row in ipairs { { "ok", stats.items_ok }, { "done before", stats.items_resumed } } do
        rows[#rows + 1] = row[2] > 0 and row or nil
    end
    for _, why in ipairs(stats.items_why_failed) do
        rows[#rows + 1] = { "failed: " .. why.reason, why.count, true }
    end
    for _, why in ipairs(stats.items_why_skipped) do
        rows[#rows + 1] = { "skipped: " .. why.reason, why.count, true }
    end
    return "<h2>Items of pipelines</h2>" .. shares(rows, "items", stats.items)
end

-- ---- single requests

local PHASES = {
    { "dns", "dns", "look-up" }, { "connect", "connect", "connect" }, { "tls", "tls", "TLS" },
    { "first_byte", "wait", "to the first byte" }, { "total", "body", "body" },
}
local ROWS, ROW, TOP = 200, 16, 20
local OUTCOME, BARS, TOTAL = 355, 367, 1030

-- The origin that all requests have in common, and their names without it.
local function short_names(list)
    local shared
    for _, x in ipairs(list) do
        local origin = x.label:match "^%S+ (%a+://[^/]*)/" or ""
        shared = shared or origin
        if origin ~= shared then
            shared = ""
        end
    end
    local names = {}
    for i, x in ipairs(list) do
        local name = x.label
        if shared and shared ~= "" then
            local from, to = name:find(shared, 1, true)
            name = name:sub(1, from - 1) .. name:sub(to + 1)
        end
        names[i] = name
    end
    return names, shared ~= "" and shared or nil
end

local function bar(out, x, y, from, scale, used)
    local at, done, bad = BARS + (x.start - from) * scale, 0, is_bad(x)
    if x.queued * scale >= 0.3 then
        out[#out + 1] = rect(at, y + 5, x.queued * scale, ROW - 10, "queued")
        used.queued = true
    end
    at = at + x.queued * scale
    for _, phase in ipairs(PHASES) do
        local until_s = x[phase[1]]
        if until_s > done then
            local color = bad and phase[1] == "total" and "bad" or phase[2]
            out[#out + 1] = rect(at + done * scale, y + 3, max(0.7, (until_s - done) * scale), ROW - 6, color)
            used[color] = true
            done = until_s
        end
    end
end

local function legend(used)
    local out = { '<div class="legend">' }
    local function entry(color, name)
        if used[color] then
            out[#out + 1] = ('<span><i style="background:var(--%s)"></i>%s</span>'):format(color, name)
        end
    end
    entry("queued", "in our queue")
    for _, phase in ipairs(PHASES) do
        entry(phase[2], phase[3])
    end
    entry("bad", "failed")
    out[#out + 1] = "</div>"
    return table.concat(out)
end

local function waterfall(data)
    if #data.list == 0 then
        return ""
    end
    local list = {}
    for i, x in ipairs(data.list) do
        list[i] = x
    end
    table.sort(list, function(a, b)
        return a.start < b.start
    end)
    for i = #list, ROWS + 1, -1 do
        list[i] = nil
    end
    local n, from, to = #list, list[1].start, 0
    for _, x in ipairs(list) do
        to = max(to, x.start + x.queued + x.total)
    end
    local scale, names, origin = (TOTAL - BARS) / max(to - from, 1e-9), short_names(list)
    local out, used = { ('<svg viewBox="0 0 %d %d" role="img">'):format(TOTAL, TOP + n * ROW) }, {}
    for i = 0, 4 do
        local x = BARS + (TOTAL - BARS) * i / 4
        out[#out + 1] = rect(min(x, TOTAL - 1), TOP - 4, 1, n * ROW + 4, "line")
            .. label(x, 11, seconds(from + (to - from) * i / 4),
                i == 0 and "start" or i == 4 and "end" or "middle")
    end
    for i, x in ipairs(list) do
        local y, class = TOP + (i - 1) * ROW, is_bad(x) and ' class="bad"' or ""
        local name = #names[i] > 52 and names[i]:sub(1, 49) .. "..." or names[i]
        out[#out + 1] = ('<g><title>%s: %s in %s</title><text x="0" y="%d"%s>%s</text>'
            .. '<text x="%d" y="%d" text-anchor="end"%s>%s</text>'):format(escaped(x.label),
            escaped(outcome_of(x)), escaped(seconds(x.total)), y + 12, class, escaped(name), OUTCOME, y + 12,
            class, escaped(x.kind or x.status))
        bar(out, x, y, from, scale, used)
        out[#out + 1] = "</g>"
    end
    out[#out + 1] = "</svg>"
    local notes = {}
    if data.requests > n then
        notes[1] = ("The first %d of %d requests."):format(n, data.requests)
    end
    notes[#notes + 1] = origin and ("All to %s."):format(origin)
    return "<h2>Waterfall</h2><p>" .. escaped(table.concat(notes, " ")) .. "</p>" .. legend(used)
        .. '<div class="scroll">' .. table.concat(out) .. "</div>"
end

local function requests_table(title, list)
    if #list == 0 then
        return ""
    end
    local out = { "<h2>" .. title .. '</h2><div class="scroll low"><table><tr><th>request</th>'
        .. '<th>outcome</th><th class="n">at</th><th class="n">queued</th><th class="n">time</th></tr>' }
    for _, x in ipairs(list) do
        local name = escaped(x.label)
        out[#out + 1] = ('<tr><td class="name" title="%s">%s</td><td%s>%s</td><td class="n">%s</td>'
            .. '<td class="n">%s</td><td class="n">%s</td></tr>'):format(name, name,
            is_bad(x) and ' class="bad"' or "", escaped(outcome_of(x)), seconds(x.start),
            x.queued < 5e-5 and "-" or seconds(x.queued), seconds(x.total))
    end
    out[#out + 1] = "</table></div>"
    return table.concat(out)
end

-- The whole page. `stats` is what --stats writes.
function M.page(data, stats, title, status)
    local tiles = {}
    local failed = data.requests - data.ok - data.cancelled
    tile(tiles, data.requests, "requests")
    tile(tiles, data.ok, "requests ok (2xx)")
    tile(tiles, failed, "requests failed", failed > 0)
    if stats.wire_attempts > data.requests then
        tile(tiles, stats.wire_attempts, "sent, with resends")
    end
    if stats.items > 0 then
        tile(tiles, stats.items, "items")
        tile(tiles, stats.items_ok, "items ok")
        tile(tiles, stats.items_failed, "items failed", stats.items_failed > 0)
    end
    tile(tiles, seconds(stats.latency_s.p50), "p50")
    tile(tiles, seconds(stats.latency_s.p95), "p95")
    tile(tiles, seconds(stats.latency_s.p99), "p99")
    tile(tiles, figure(stats.requests_per_s) .. "/s", "rate")
    tile(tiles, seconds(data.wall), "wall time")
    tile(tiles, seconds(data.cpu), "CPU time")
    tile(tiles, size(data.peak_memory or 0), "peak memory")
    tile(tiles, size(data.bytes_in), "received")
    tile(tiles, status, "exit status", status ~= 0)
    local rate, busy = over_time(data)
    return '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        .. '<meta name="viewport" content="width=device-width, initial-scale=1"><title>'
        .. escaped(title) .. " - leat</title>\n<style>\n" .. STYLE .. "</style></head>\n<body>\n<h1>"
        .. escaped(title) .. "</h1><p>leat, " .. os.date "!%Y-%m-%d %H:%M:%S UTC" .. "</p>\n"
        .. '<div class="tiles">' .. table.concat(tiles) .. "</div>\n"
        .. '<div class="pair"><div><h2>Rate</h2>' .. rate .. "</div><div><h2>Concurrency</h2>" .. busy
        .. '</div></div>\n<div class="pair"><div><h2>Latency</h2>' .. histogram(data, stats.latency_s)
        .. "</div><div><h2>Outcomes of requests</h2>" .. request_outcomes(data, stats) .. item_outcomes(stats)
        .. "</div></div>\n"
        .. requests_table(failed > #data.failed and "Failed (the first)" or "Failed", data.failed) .. "\n"
        .. waterfall(data) .. "\n" .. requests_table("Slowest", data.slowest) .. "\n</body></html>\n"
end

return M
