-- What --report and --stats write at the end of a run, from what was recorded. Internal.
local core = require "leat.core.record"
local json = require "leat.json"
local tally = require "leat.tally"

local floor, max, min = math.floor, math.max, math.min
local seconds = tally.seconds

local M = {}

-- ---- figures

-- The time that a share of the answered requests was within, 2 % exact; nil without any.
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

-- What --stats writes: see README.md.
function M.stats(data, status)
    local failed = 0
    for _, n in pairs(data.kinds) do
        failed = failed + n
    end
    return {
        exit_status = status, wall_s = rounded(data.wall), cpu_s = rounded(data.cpu),
        peak_memory_bytes = data.peak_memory, tasks = data.tasks, requests = data.requests,
        requests_ok = data.ok, requests_cancelled = data.cancelled, requests_failed = failed,
        statuses = json.object(data.statuses), failures = json.object(data.kinds),
        wire_attempts = data.attempts, bytes_in = data.bytes_in, bytes_out = data.bytes_out,
        latency_s = {
            p50 = rounded(quantile(data, 0.5)), p95 = rounded(quantile(data, 0.95)),
            p99 = rounded(quantile(data, 0.99)),
        },
        requests_per_s = data.wall > 0 and rounded(data.requests / data.wall) or 0,
    }
end

-- ---- the page

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

local function escaped(text)
    return (tostring(text):gsub("[&<>\"']", ESCAPES):gsub("[%z\1-\31\127-\255]", "?"))
end

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6878; --paper: #fff; --card: #f4f6f9;
  --line: #d5dbe4;
  --a: #2f6fde; --bad: #c62f3c; --queued: #c9d0db; --dns: #8e6bd0; --connect: #d99a1c; --tls: #2f9e8f;
  --wait: #7aa7f0; --body: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --dim: #9aa6b8; --paper: #14181f;
  --card: #1e2530;
  --line: #323c4b; --a: #6ea3ff; --bad: #ff6f7a; --queued: #465163; --dns: #b397ea; --connect: #e6b450;
  --tls: #54c4b4; --wait: #44699f; --body: #6ea3ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 0 0 8px; color: var(--dim); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 8px;
  margin: 16px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 10px 12px; }
.tile b { display: block; font-size: 18px; font-weight: 600; }
.tile span { color: var(--dim); font-size: 12px; }
.bad { color: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 0 24px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); font-weight: 400;
  overflow-wrap: anywhere; }
th { color: var(--dim); font-size: 12px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.legend span { display: inline-block; margin-right: 14px; font-size: 12px; color: var(--dim); }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
]]

local function tile(out, value, name, bad)
    out[#out + 1] = ('<div class="tile"><b%s>%s</b><span>%s</span></div>'):format(
        bad and ' class="bad"' or "", escaped(value), escaped(name))
end

local function size(n)
    for _, unit in ipairs { "B", "kB", "MB", "GB" } do
        if n < 1000 or unit == "GB" then
            return (n < 10 and unit ~= "B" and "%.1f %s" or "%.0f %s"):format(n, unit)
        end
        n = n / 1000
    end
end

local function rect(x, y, w, h, color, title)
    return ('<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f" fill="var(--%s)">%s</rect>'):format(
        x, y, w, h, color, title and "<title>" .. escaped(title) .. "</title>" or "")
end

local function label(x, y, text, anchor)
    return ('<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>'):format(x, y, anchor or "start",
        escaped(text))
end

local W, H, LEFT, FOOT = 520, 150, 44, 18

-- Columns of {height, bad part, title} with a scale: the left end of the axis, its right end, what it counts.
local function columns(cols, from, to, unit)
    local most = 0
    for _, c in ipairs(cols) do
        most = max(most, c[1])
    end
    local out = { ('<svg viewBox="0 0 %d %d" role="img">'):format(W, H) }
    local tall, width = H - FOOT - 12, (W - LEFT) / max(1, #cols)
    out[#out + 1] = label(LEFT - 6, 16, ("%.3g"):format(most), "end")
    out[#out + 1] = label(LEFT - 6, H - FOOT, "0", "end")
    out[#out + 1] = rect(LEFT, H - FOOT, W - LEFT, 1, "line")
    local gap = width > 4 and 1 or 0
    for i, c in ipairs(cols) do
        local h, bad = most > 0 and c[1] / most * tall or 0, most > 0 and (c[2] or 0) / most * tall or 0
        local x = LEFT + (i - 1) * width
        if h > 0 then
            out[#out + 1] = rect(x, H - FOOT - h, max(0.5, width - gap), h, "a", c[3])
        end
        if bad > 0 then
            out[#out + 1] = rect(x, H - FOOT - bad, max(0.5, width - gap), bad, "bad", c[3])
        end
    end
    out[#out + 1] = label(LEFT, H - 4, from)
    out[#out + 1] = label(W, H - 4, to, "end")
    out[#out + 1] = label((LEFT + W) / 2, H - 4, unit, "middle")
    out[#out + 1] = "</svg>"
    return table.concat(out)
end

local function over_time(data)
    local series, used = data.series, 0
    for i, piece in ipairs(series) do
        if piece.ended > 0 or piece.busy > 0 then
            used = i
        end
    end
    -- No more columns than can be told apart.
    local step = max(1, math.ceil(used / 120))
    local rate, busy, width = {}, {}, series.width * step
    for i = 1, used, step do
        local ended, failed, spent = 0, 0, 0
        for j = i, min(i + step - 1, used) do
            ended, failed = ended + series[j].ended, failed + series[j].failed
            spent = spent + series[j].busy
        end
        local at = seconds((i - 1) * series.width)
        rate[#rate + 1] = { ended / width, failed / width,
            ("%s: %.3g/s, %d failed"):format(at, ended / width, failed) }
        busy[#busy + 1] = { spent / width, 0, ("%s: %.3g in flight"):format(at, spent / width) }
    end
    local to = seconds(used * series.width)
    return columns(rate, "0", to, "ended in a second (red: failed)"), columns(busy, "0", to, "in flight")
end

local function histogram(data)
    local first, last = data.latencies[1], data.latencies[#data.latencies]
    if not first then
        return "<p>No request was answered.</p>"
    end
    local low, high = math.log(first[1] * 0.98), math.log(last[1] * 1.02)
    local n = 40
    local width = max((high - low) / n, 1e-9)
    local cols = {}
    for i = 1, n do
        cols[i] = { 0, 0, ("%s to %s"):format(seconds(math.exp(low + (i - 1) * width)),
            seconds(math.exp(low + i * width))) }
    end
    for _, bucket in ipairs(data.latencies) do
        local i = min(n, max(1, floor((math.log(bucket[1]) - low) / width) + 1))
        cols[i][1] = cols[i][1] + bucket[2]
    end
    for _, c in ipairs(cols) do
        c[3] = c[3] .. (": %d"):format(c[1])
    end
    return columns(cols, seconds(first[1]), seconds(last[1]), "requests by their time")
end

local function outcomes(data)
    local rows = {}
    for status, n in pairs(data.statuses) do
        rows[#rows + 1] = { status == "0" and "another status" or "status " .. status, n,
            (tonumber(status) or 0) >= 400 }
    end
    for kind, n in pairs(data.kinds) do
        rows[#rows + 1] = { kind, n, true }
    end
    if data.cancelled > 0 then
        rows[#rows + 1] = { "cancelled", data.cancelled, false }
    end
    table.sort(rows, function(a, b)
        return a[2] > b[2] or a[2] == b[2] and a[1] < b[1]
    end)
    local out = { '<table><tr><th>outcome</th><th class="n">requests</th></tr>' }
    for _, row in ipairs(rows) do
        out[#out + 1] = ('<tr><td%s>%s</td><td class="n">%d</td></tr>'):format(
            row[3] and ' class="bad"' or "", escaped(row[1]), row[2])
    end
    out[#out + 1] = "</table>"
    return table.concat(out)
end

local PHASES = {
    { "dns", "dns", "look-up" }, { "connect", "connect", "connect" }, { "tls", "tls", "TLS" },
    { "first_byte", "wait", "to the first byte" }, { "total", "body", "body" },
}
local ROWS, ROW = 200, 14

local function outcome_of(x)
    return x.kind or "status " .. x.status
end

local function waterfall(data)
    local n = min(ROWS, #data.list)
    if n == 0 then
        return ""
    end
    local order = {}
    for i, x in ipairs(data.list) do
        order[i] = x
    end
    table.sort(order, function(a, b)
        return a.start < b.start
    end)
    local from, to = order[1].start, 0
    for i = 1, n do
        to = max(to, order[i].start + order[i].queued + order[i].total)
    end
    local scale, name_width, total = 0, 330, 1030
    if to > from then
        scale = (total - name_width) / (to - from)
    end
    local out = { ('<svg viewBox="0 0 %d %d" role="img">'):format(total, n * ROW + 18) }
    for i = 1, n do
        local x = order[i]
        local y, at = (i - 1) * ROW, name_width + (x.start - from) * scale
        local failed = x.kind or x.status >= 400
        local shown = #x.label > 52 and x.label:sub(1, 49) .. "..." or x.label
        out[#out + 1] = ('<g><title>%s: %s in %s</title>'):format(escaped(x.label), escaped(outcome_of(x)),
            escaped(seconds(x.total)))
        out[#out + 1] = ('<text x="0" y="%d"%s>%s</text>'):format(y + 10,
            failed and ' style="fill:var(--bad)"' or "", escaped(shown))
        if x.queued * scale >= 0.3 then
            out[#out + 1] = rect(at, y + 4, x.queued * scale, ROW - 7, "queued")
        end
        at = at + x.queued * scale
        local done = 0
        for _, phase in ipairs(PHASES) do
            local until_s = x[phase[1]]
            if until_s > done then
                out[#out + 1] = rect(at + done * scale, y + 2, max(0.7, (until_s - done) * scale), ROW - 4,
                    failed and phase[1] == "total" and "bad" or phase[2])
                done = until_s
            end
        end
        out[#out + 1] = "</g>"
    end
    out[#out + 1] = label(name_width, n * ROW + 14, seconds(from)) .. label(total, n * ROW + 14, seconds(to),
        "end") .. "</svg>"
    local legend = { '<div class="legend"><span><i style="background:var(--queued)"></i>in our queue</span>' }
    for _, phase in ipairs(PHASES) do
        legend[#legend + 1] = ('<span><i style="background:var(--%s)"></i>%s</span>'):format(phase[2],
            phase[3])
    end
    legend[#legend + 1] = "</div>"
    local note = data.requests > n and ("<p>The first %d of %d requests.</p>"):format(n, data.requests) or ""
    return "<h2>Waterfall</h2>" .. note .. table.concat(legend) .. table.concat(out)
end

local function slowest(data)
    if #data.slowest == 0 then
        return ""
    end
    local out = { "<h2>Slowest</h2>", '<table><tr><th>request</th><th>outcome</th><th class="n">queued</th>'
        .. '<th class="n">time</th></tr>' }
    for _, x in ipairs(data.slowest) do
        out[#out + 1] = ('<tr><td>%s</td><td%s>%s</td><td class="n">%s</td><td class="n">%s</td></tr>')
            :format(escaped(x.label), (x.kind or x.status >= 400) and ' class="bad"' or "",
                escaped(outcome_of(x)), escaped(seconds(x.queued)), escaped(seconds(x.total)))
    end
    out[#out + 1] = "</table>"
    return table.concat(out)
end

-- The page, complete in itself.
function M.page(data, title, status)
    local stats = M.stats(data, status)
    local tiles = {}
    tile(tiles, data.requests, "requests")
    tile(tiles, data.ok, "ok (below 400)")
    local failed = data.requests - data.ok - data.cancelled
    tile(tiles, failed, "failed", failed > 0)
    tile(tiles, seconds(stats.latency_s.p50), "p50")
    tile(tiles, seconds(stats.latency_s.p95), "p95")
    tile(tiles, seconds(stats.latency_s.p99), "p99")
    tile(tiles, ("%.3g/s"):format(stats.requests_per_s), "rate")
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
        .. '</div></div>\n<div class="pair"><div><h2>Latency</h2>' .. histogram(data)
        .. "</div><div><h2>Outcomes</h2>" .. outcomes(data) .. "</div></div>\n" .. waterfall(data) .. "\n"
        .. slowest(data) .. "\n</body></html>\n"
end

local function write(path, text)
    local f, why = io.open(path, "wb")
    if not f then
        return why
    end
    local ok, bad = f:write(text)
    local closed = f:close()
    return not (ok and closed) and (bad or "it could not be written") or nil
end

-- Called by the program when the run is over. Either path may be nil; "" is standard error. A text where
-- something could not be written.
function M.finish(report, stats, title, status)
    local data = core.data()
    local problem
    if report then
        problem = write(report, M.page(data, title, status))
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
