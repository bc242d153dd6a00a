-- agree.lua LEAT FROM TO [socket]: runs program.lua for these seeds, and compares what --stats, --trace,
-- --report, the messages at its end, the exit status and the service's own counters say of one run.
local leat_path, from, to, mode = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4] or "virtual"
local folder = arg[0]:match "^(.*)/[^/]*$"
local scratch = os.tmpname()
os.remove(scratch)

local function slurp(path)
    local f = assert(io.open(path, "rb"))
    local text = f:read "*a"
    f:close()
    return text
end

local problems = 0
local totals = { items = 0, failed = 0, requests = 0, unlooked = 0, all_failed = 0, missed = 0 }

local function compare(seed)
    local function wrong(...)
        problems = problems + 1
        local parts = { ... }
        for i = 1, select("#", ...) do
            parts[i] = tostring(parts[i])
        end
        print(("  seed %d: %s"):format(seed, table.concat(parts, " ")))
    end
    local function same(what, a, b)
        if a ~= b then
            wrong(what .. ":", a, "and", b)
        end
    end

    local pipe = io.popen(("%s %s --seed %d --stats=%s.stats --trace %s.trace --report %s.html "
        .. "%s/program.lua %d %s 2>%s.err; echo $?"):format(leat_path,
        mode == "socket" and "" or "--virtual-time", seed, scratch, scratch, scratch, folder, seed,
        mode, scratch))
    local out = pipe:read "*a"
    pipe:close()
    local text, status = out:match "^(.-)(%d+)\n$"
    local told = slurp(scratch .. ".err")
    local ran, said = pcall(function() return assert(json.decode(text)) end)
    if not ran then
        return wrong("the program ended with status", status, told)
    end
    local stats = assert(json.decode(slurp(scratch .. ".stats")))
    local trace = assert(json.decode(slurp(scratch .. ".trace")))
    local page = slurp(scratch .. ".html")
    status = tonumber(status)
    for _, problem in ipairs(said.problems) do
        wrong(problem)
    end

    -- Items: what the pipelines say, --stats, and the page.
    local sums = said.sums
    for _, name in ipairs { "ok", "failed", "skipped", "resumed" } do
        same("items " .. name, stats["items_" .. name], sums[name])
    end
    same("items", stats.items, sums.items)
    local function tile(name)
        return tonumber(page:match("<b[^>]*>([^<]*)</b><span>" .. name:gsub("[()]", "%%%0") .. "</span>"))
    end
    same("items of the page", tile "items", sums.items > 0 and sums.items or nil)
    same("failed items of the page", tile "items failed", sums.items > 0 and sums.failed or nil)
    local rows = {}
    for bad, outcome, n in page:gmatch '<tr><td( ?[^>]*)>([^<]*)</td><td class="n">(%d+)</td>' do
        rows[outcome] = { n = tonumber(n), bad = bad ~= "" }
    end
    local function escaped(s)
        return (s:gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
            ["'"] = "&#39;" }))
    end
    for name, word in pairs { why_failed = "failed: ", why_skipped = "skipped: " } do
        local seen = 0
        for _, entry in ipairs(stats["items_" .. name]) do
            seen = seen + entry.count
            same(name .. " " .. entry.reason, entry.count, sums[name][entry.reason])
            local row = rows[escaped(word .. entry.reason)]
            same("the page's " .. word .. entry.reason, row and row.bad and row.n, entry.count)
        end
        same(name, seen, stats["items_" .. name:match "why_(.*)"])
    end

    -- Requests: --stats, the page, the trace, and what the service counted.
    same("requests", stats.requests_ok + stats.requests_failed + stats.requests_cancelled, stats.requests)
    same("requests of the page", tile "requests", stats.requests)
    same("ok requests of the page", tile "requests ok (2xx)", stats.requests_ok)
    same("failed requests of the page", tile "requests failed", stats.requests_failed)
    local answered, good, failed = 0, 0, 0
    for code, n in pairs(stats.statuses) do
        answered = answered + n
        good = good + (code:find "^2" and n or 0)
    end
    for _, n in pairs(stats.failures) do
        failed = failed + n
    end
    same("ok requests", good, stats.requests_ok)
    same("answered, failed and cancelled", answered + failed + stats.requests_cancelled, stats.requests)
    local reasons = 0
    for _, entry in ipairs(stats.requests_why_failed) do
        reasons = reasons + entry.count
        local row = rows[escaped(entry.reason)]
        same("the page's " .. entry.reason, row and row.n, entry.count)
    end
    same("reasons of requests", reasons, stats.requests_failed)
    local traced, statuses, errs = 0, {}, {}
    for _, e in ipairs(trace.traceEvents) do
        if e.cat == "request" and e.ph == "b" and e.args then
            traced = traced + 1
            if e.args.error == "" then
                local code = tostring(e.args.status)
                statuses[code] = (statuses[code] or 0) + 1
            else
                errs[e.args.error] = (errs[e.args.error] or 0) + 1
            end
        end
    end
    same("requests of the trace", traced, stats.requests)
    for code, n in pairs(stats.statuses) do
        same("status " .. code .. " in the trace", statuses[code], n)
    end
    for kind, n in pairs(stats.failures) do
        same(kind .. " in the trace", errs[kind], n)
    end
    same("cancelled in the trace", errs.cancelled or 0, stats.requests_cancelled)
    local server = said.server
    same("requests on the wire, and those that the service got", stats.wire_attempts, server.requests)
    local given, missing = 0, 0
    for code, n in pairs(server.by_status) do
        local got = stats.statuses[code] or 0
        given = given + n
        if code ~= "302" then
            missing = missing + n - got
            if got > n then
                wrong("status", code, "was given", n, "times and came", got, "times")
            end
        end
    end
    if missing > failed + stats.requests_cancelled then
        wrong(missing, "answers are lost, and", failed, "requests failed,", stats.requests_cancelled,
            "cancelled")
    end
    if given + server.aborted + server.slow < server.requests - stats.requests_cancelled then
        wrong("the service gave", given, "answers to", server.requests, "requests")
    end

    -- The end of the program.
    local lines, unlooked = 0, 0
    for line in told:gmatch "[^\n]+" do
        lines = lines + (line:find("no item of the pipeline at place", 1, true) and 1 or 0)
        if line:find("nothing looked at", 1, true) then
            unlooked = unlooked + (tonumber(line:match "(%d+) responses received here") or 1)
        end
    end
    same("pipelines without a success", lines, said.all_failed)
    same("responses that nobody looked at", unlooked, said.unlooked)
    same("exit status", status, said.missed > 0 and 3 or said.all_failed > 0 and 4 or 0)
    same("exit status in --stats", stats.exit_status, status)
    for name in pairs(totals) do
        totals[name] = totals[name] + (sums[name] or said[name] or stats[name] or 0)
    end
end

for seed = from, to do
    compare(seed)
end
for _, ending in ipairs { ".stats", ".trace", ".html", ".err" } do
    os.remove(scratch .. ending)
end
print(("seeds %d to %d%s: %d items, %d of them failed, %d requests, %d responses not looked at; "
    .. "%d pipelines without a success, %d missed thresholds"):format(from, to,
    mode == "socket" and " on sockets" or "", totals.items, totals.failed, totals.requests,
    totals.unlooked, totals.all_failed, totals.missed))
print(problems == 0 and "1 passed, 0 failed" or "0 passed, 1 failed")
os.exit(problems == 0 and 0 or 1)
