-- agree.lua LEAT FROM TO [virtual|socket|batch]: runs program.lua (or batch.lua, twice) for these seeds, and
-- compares what the summary, --stats, --trace, --report, the files of a batch, the messages at the end, the
-- exit status and the service's own counters say of one run.
local reasons = require "leat.internal.reasons"

local leat_path, from, to, mode = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4] or "virtual"
local folder = arg[0]:match "^(.*)/[^/]*$"
local scratch = os.tmpname()
os.remove(scratch)

local function slurp(path)
    local f = io.open(path, "rb")
    local text = f and f:read "*a" or ""
    if f then
        f:close()
    end
    return text
end

local problems, seed = 0, nil
local totals = { items = 0, failed = 0, requests = 0, unlooked = 0, all_failed = 0, missed = 0, bad = 0,
    stopped = 0 }

local function add(name, n)
    totals[name] = totals[name] + n
end

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

local function remove_all(endings)
    for _, ending in ipairs(endings) do
        os.remove(scratch .. ending)
    end
end

local RECORDS = { ".stats", ".trace", ".html", ".err" }

-- Runs a script of this folder: its output, exit status, standard error, and what Leat has recorded of it.
local function run(script, arguments)
    remove_all(RECORDS) -- those of the run before must not be taken for this one's
    local pipe = io.popen(("OPENAI_API_KEY=k %s %s --seed %d --stats=%s.stats --trace %s.trace "
        .. "--report %s.html %s/%s %d %s 2>%s.err; echo $?"):format(leat_path,
        mode == "socket" and "" or "--virtual-time", seed, scratch, scratch, scratch, folder, script, seed,
        arguments, scratch))
    local out = pipe:read "*a"
    pipe:close()
    local text, status = out:match "^(.-)(%d+)\n$"
    local function record_of(ending)
        local record, err = json.decode(slurp(scratch .. ending))
        return record or error(("%s is not whole: %s; the run ended with status %s and said: %s"):format(
            ending, tostring(err), tostring(status), slurp(scratch .. ".err")), 0)
    end
    return {
        text = text, status = tonumber(status),
        told = slurp(scratch .. ".err"), page = slurp(scratch .. ".html"),
        stats = record_of ".stats", trace = record_of ".trace",
    }
end

local function sum_of(list)
    local sum = 0
    for _, entry in ipairs(list) do
        sum = sum + entry.count
    end
    return sum
end

local function tile(ran, name)
    return tonumber(ran.page:match("<b[^>]*>([^<]*)</b><span>" .. name:gsub("[()]", "%%%0") .. "</span>"))
end

-- The page's row of an outcome: how often, and whether it is marked as bad.
local function row_of(ran, outcome)
    if not ran.rows then
        ran.rows = {}
        for bad, name, n in ran.page:gmatch '<tr><td( ?[^>]*)>([^<]*)</td><td class="n">(%d+)</td>' do
            ran.rows[name] = bad ~= "" and tonumber(n) or nil
        end
    end
    return ran.rows[outcome:gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;",
        ['"'] = "&quot;", ["'"] = "&#39;" })]
end

-- The items, as --stats and the page have them.
local function compare_items(ran, sums)
    local stats = ran.stats
    for _, name in ipairs { "ok", "failed", "skipped", "resumed" } do
        same("items " .. name, stats["items_" .. name], sums[name])
    end
    same("items", stats.items,
        stats.items_ok + stats.items_failed + stats.items_skipped + stats.items_resumed)
    same("items of the page", tile(ran, "items"), stats.items > 0 and stats.items or nil)
    same("failed items of the page", tile(ran, "items failed"),
        stats.items > 0 and stats.items_failed or nil)
    for _, name in ipairs { "failed", "skipped" } do
        local why = stats["items_why_" .. name]
        same("reasons for " .. name, sum_of(why), stats["items_" .. name])
        for _, entry in ipairs(why) do
            local shown = entry.reason:gsub("[\127-\255]", "?")
            same("the page's " .. name .. ": " .. shown, row_of(ran, name .. ": " .. shown), entry.count)
        end
    end
end

-- The requests, as --stats, the page, the trace and the service have them.
local function compare_requests(ran, server)
    local stats = ran.stats
    same("requests", stats.requests_ok + stats.requests_failed + stats.requests_cancelled, stats.requests)
    same("requests of the page", tile(ran, "requests"), stats.requests)
    same("ok requests of the page", tile(ran, "requests ok (2xx)"), stats.requests_ok)
    same("failed requests of the page", tile(ran, "requests failed"), stats.requests_failed)
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
    same("reasons of requests", sum_of(stats.requests_why_failed), stats.requests_failed)
    for _, entry in ipairs(stats.requests_why_failed) do
        same("the page's " .. entry.reason, row_of(ran, entry.reason), entry.count)
    end
    local traced, statuses, errs = 0, {}, {}
    for _, e in ipairs(ran.trace.traceEvents) do
        if e.cat == "request" and e.ph == "b" and e.args then
            local into, name = errs, e.args.error
            if name == "" then
                into, name = statuses, tostring(e.args.status)
            end
            traced, into[name] = traced + 1, (into[name] or 0) + 1
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
    local unread = stats.wire_attempts - server.requests -- sent, and given up before the service read it
    if unread < 0 or unread > (mode == "socket" and failed + stats.requests_cancelled or 0) then
        wrong("requests on the wire, and those that the service got:", stats.wire_attempts, server.requests)
    end
    local given, missing = 0, 0
    for code, n in pairs(server.by_status) do
        local got = stats.statuses[code] or 0
        given = given + n
        if code ~= "302" then -- most of these are followed
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
    same("exit status in --stats", stats.exit_status, ran.status)
    add("requests", stats.requests)
end

local function compare_program()
    local ran = run("program.lua", mode)
    local decoded, said = pcall(function() return assert(json.decode(ran.text)) end)
    if not decoded then
        return wrong("the program ended with status", ran.status, ran.told)
    end
    for _, problem in ipairs(said.problems) do
        wrong(problem)
    end
    local sums = said.sums
    compare_items(ran, sums)
    for _, name in ipairs { "why_failed", "why_skipped" } do
        for _, entry in ipairs(ran.stats["items_" .. name]) do
            same(name .. " " .. entry.reason, entry.count, sums[name][entry.reason])
        end
    end
    compare_requests(ran, said.server)

    local lines, unlooked = 0, 0
    for line in ran.told:gmatch "[^\n]+" do
        lines = lines + (line:find("no item of the pipeline at place", 1, true) and 1 or 0)
        if line:find("nothing looked at", 1, true) then
            unlooked = unlooked + (tonumber(line:match "(%d+) responses received here") or 1)
        end
    end
    same("pipelines without a success", lines, said.all_failed)
    same("responses that nobody looked at", unlooked, said.unlooked)
    same("exit status", ran.status, said.missed > 0 and 3 or said.all_failed > 0 and 4 or 0)
    add("items", sums.items)
    add("failed", sums.failed)
    for _, name in ipairs { "unlooked", "all_failed", "missed" } do
        add(name, said[name])
    end
end

-- The lines of a file as JSON, how many, and how many have each custom_id.
local function rows_of(path)
    local rows, names = {}, {}
    for line in slurp(path):gmatch "[^\n]+" do
        local row = assert(json.decode(line, { big = "string" }))
        rows[#rows + 1] = row
        names[tostring(row.custom_id)] = (names[tostring(row.custom_id)] or 0) + 1
    end
    return rows, names
end

-- One run of a batch; `before`: the answers that were there already. Returns those that are there now.
local function compare_batch(arguments, before)
    local input, output = scratch .. ".in", scratch .. ".out"
    local ran = run("batch.lua", arguments)
    local stats = ran.stats
    local server = json.decode(slurp(output .. ".counted"))
    if not server or ran.told:find("a bug in", 1, true) then
        wrong("the batch ended with status", ran.status, ran.told)
        return nil
    end
    local answers, names = rows_of(output)
    local failures = rows_of(output .. ".errors")
    for name, n in pairs(names) do
        if n > 1 then
            wrong("row", name, "is answered", n, "times")
        end
    end
    local bad, by_status = 0, {}
    for _, row in ipairs(failures) do
        if row.id == json.null then
            bad = bad + 1
        elseif type(row.response) == "table" then
            local code = tostring(row.response.status_code)
            by_status[code] = (by_status[code] or 0) + 1
        end
    end
    for _, row in ipairs(answers) do
        local body = row.response.body
        if row.response.status_code ~= 200 or type(body.choices) ~= "table" or body.error then
            wrong("row", row.custom_id, "counts as answered")
        end
    end
    same("answers", #answers, before + stats.items_ok)
    local stopped = ran.told:find("leat: stopped: ", 1, true) ~= nil
    local lost = stats.items_failed + stats.items_skipped
    same("rows that failed, and those in the file", lost, #failures - bad)
    local counted = {}
    for _, name in ipairs { "items_why_failed", "items_why_skipped" } do
        for _, entry in ipairs(stats[name]) do
            local code = entry.reason:match "^status (%d+)"
            if code then
                counted[code] = (counted[code] or 0) + entry.count
            end
        end
    end
    for code, n in pairs(counted) do
        if (by_status[code] or 0) < n then
            wrong("status", code, "failed", n, "rows, and stands at", by_status[code] or 0,
                "in the file of errors")
        end
    end
    compare_items(ran, { ok = stats.items_ok, failed = stats.items_failed, skipped = stats.items_skipped,
        resumed = stats.items_resumed })
    compare_requests(ran, server)

    local line = ran.told:match "leat: (%d+ rows? answered[^\n]*)" or ran.told:match "leat: stopped: ([^\n]*)"
    if not line then
        wrong("no summary in", ran.told)
        return nil
    end
    same("rows answered", tonumber(line:match "^(%d+) rows? answered"), stats.items_ok)
    same("rows that failed, and those in the summary", lost, tonumber(line:match "(%d+) failed" or 0))
    same("bad rows", tonumber(line:match "(%d+) bad" or 0), bad)
    if lost > 0 and stats.items_skipped == 0 then
        local why = line:match "failed (%b())"
            or "(" .. tostring(ran.told:match("\n" .. lost .. " failed: ([^\n]*)")) .. ")"
        same("reasons in the summary", why, "(" .. reasons.text(stats.items_why_failed) .. ")")
    end
    if stopped then
        same("skipped rows of a run that was stopped", stats.items_skipped, 0)
        same("exit status", ran.status, 1)
        add("stopped", 1)
    else
        local rows = select(2, slurp(input):gsub("\n", ""))
        same("rows done before", tonumber(line:match "(%d+) done before" or 0), before)
        same("rows resumed", stats.items_resumed, before)
        same("rows", stats.items + bad, rows)
        same("exit status", ran.status, #failures > 0 and 4 or 0)
        for _, name in ipairs { "failed", "skipped" } do
            local why = ran.told:match("\n" .. stats["items_" .. name] .. " " .. name .. ": ([^\n]*)\n")
            if stats["items_" .. name] > 0 and not why then
                wrong("the summary does not say why", stats["items_" .. name], name)
            end
        end
    end
    add("items", stats.items)
    add("failed", stats.items_failed)
    add("bad", bad)
    return #answers
end

local function compare_batches()
    local paths = ("%s.in %s.out"):format(scratch, scratch)
    local files = { ".in", ".out", ".out.errors", ".out.counted" }
    remove_all(files)
    local before = compare_batch(paths, 0)
    if before then
        compare_batch(paths, before)
    end
    remove_all(files)
end

for number = from, to do
    seed = number
    local ok, raised = pcall(mode == "batch" and compare_batches or compare_program)
    if not ok then
        wrong(raised)
    end
end
remove_all(RECORDS)
local said = ("%s, seeds %d to %d: %d items, %d of them failed; %d requests"):format(mode, from, to,
    totals.items, totals.failed, totals.requests)
print(said .. (mode == "batch" and ("; %d bad rows, %d runs stopped"):format(totals.bad, totals.stopped)
    or ("; %d responses not looked at, %d pipelines without a success, %d missed thresholds"):format(
        totals.unlooked, totals.all_failed, totals.missed)))
print(problems == 0 and "1 passed, 0 failed" or "0 passed, 1 failed")
os.exit(problems == 0 and 0 or 1)
