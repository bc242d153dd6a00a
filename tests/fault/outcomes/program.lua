-- program.lua SEED [socket]: pipelines of random options and items, over a service that fails in every way.
-- Compares what this process can see, and prints the rest as JSON, for agree.lua.
local reasons = require "leat.internal.reasons"
local services = require "service"

local seed, on_sockets = tonumber(arg[1]), arg[2] == "socket"

local random = services.generator(seed)

local function one_of(list)
    return list[random(#list)]
end

local problems = {}
local function wrong(...)
    local parts = { ... }
    for i = 1, select("#", ...) do
        parts[i] = tostring(parts[i])
    end
    problems[#problems + 1] = table.concat(parts, " ")
end

local function same(what, a, b)
    if a ~= b then
        wrong(what .. ":", a, "and", b)
    end
end

-- Seconds are short where they are real.
local function seconds(s)
    return on_sockets and s / 100 or s
end

local handler, server = services.new(random, { on_sockets = on_sockets })
local service
if on_sockets then
    service = assert(leat.serve { handler = handler })
else
    service = assert(leat.simulate("http://service.test", handler))
end
local base = service.url or "http://service.test"

-- ---- the items

local sums = { items = 0, ok = 0, failed = 0, skipped = 0, resumed = 0, why_failed = {}, why_skipped = {} }
local unlooked, ids = {}, 0
local ai = leat.openai { base_url = base .. "/v1", api_key = "k", model = "m", retry = false }
local api = leat.client { base_url = base, expect = "2xx" }

local function new_id()
    ids = ids + 1
    return tostring(ids)
end

local function url_of(id)
    return base .. "/thing?id=" .. id
end

local KINDS = {
    get = function()
        return request(url_of(new_id()))
    end,
    post = function()
        return request { url = url_of(new_id()), method = "POST", body = "x" }
    end,
    keyed = function()
        local headers = { ["Idempotency-Key"] = new_id() }
        return request { url = url_of(new_id()), method = "POST", headers = headers }
    end,
    body = function() -- does not look
        local id = new_id()
        local res, err = request(url_of(id))
        if res then
            unlooked[#unlooked + 1] = id
            return res.body
        end
        return nil, err
    end,
    looks = function()
        local res, err = request(url_of(new_id()))
        if res then
            return res.ok and res.body or "no"
        end
        return nil, err
    end,
    expects = function()
        return request { url = url_of(new_id()), expect = one_of { "2xx", 404, { "2xx", "4xx" } } }
    end,
    client = function()
        return api:get("thing?id=" .. new_id())
    end,
    stream = function()
        return request { url = url_of(new_id()), stream = true }
    end,
    chat = function()
        return ai:chat "hello"
    end,
    streamed = function()
        local stream, err = ai:stream "hello"
        if not stream then
            return nil, err
        end
        local text = ""
        for delta in stream do
            text = text .. delta
        end
        return text
    end,
    two = function()
        local both, err = gather {
            function() return ai:chat "one" end, function() return api:get "thing" end,
        }
        return both and both.n, err
    end,
    within = function()
        return leat.retry { attempts = 2, base = seconds(0.1) }:call(request, url_of(new_id()))
    end,
    words = function(item)
        return nil, item % 2 == 0 and "even" or "row " .. item
    end,
    raises = function()
        error(leat.error { kind = "invalid", message = "bad row" })
    end,
    value = function(item)
        return item
    end,
    nothing = function()
        return nil
    end,
    nowhere = function()
        return request "http://nobody.invalid:1/"
    end,
}
if on_sockets then
    KINDS.nowhere = function()
        return request "http://127.0.0.1:1/"
    end
end
local NAMES = {}
for name in pairs(KINDS) do
    NAMES[#NAMES + 1] = name
end
table.sort(NAMES)

-- ---- a pipeline

local function grouped(errs, calls)
    local failed, skipped = reasons.new(), reasons.new()
    for index, err in pairs(errs) do
        (calls[index] and failed or skipped):add(err)
    end
    return failed, skipped
end

local function same_reasons(what, list, wanted)
    local a, b = reasons.text(list, 100), wanted:text(100)
    same(what, a, b)
end

local function add(into, list)
    for _, entry in ipairs(list) do
        into[entry.reason] = (into[entry.reason] or 0) + entry.count
    end
end

local function check_summary(stats, what)
    local text = tostring(stats)
    local head = ("%d item%s: %d ok, %d failed, %d skipped"):format(stats.items,
        stats.items == 1 and "" or "s", stats.ok, stats.failed, stats.skipped)
    if text:sub(1, #head) ~= head then
        wrong(what, "begins its summary by", text:match "[^\n]*", "and not", head)
    end
    for _, name in ipairs { "failed", "skipped" } do
        local sum = 0
        for _, entry in ipairs(stats["why_" .. name]) do
            sum = sum + entry.count
        end
        same(what .. ", reasons for " .. name, sum, stats[name])
        if stats[name] > 0 and not text:find(("\n%d %s: "):format(stats[name], name), 1, true) then
            wrong(what, "does not say in its summary why items", name)
        end
    end
end

local missed = 0

local function check_thresholds(stats)
    local called = stats.ok + stats.failed + stats.skipped
    if not stats:check { failed = stats.failed, ok = stats.ok, items = stats.items, calls = stats.calls,
        success_rate = called > 0 and stats.ok / called or nil } then
        wrong "the figures miss themselves"
    end
    if random(8) == 1 then
        missed = missed + 1
        if stats:check { failed = stats.failed - 1 } then
            wrong "one failure less was met"
        end
    end
end

local all_failed = 0

-- Each pipeline is made at a place of its own, by which the end of the program tells them apart.
local function make_at(i, opts)
    return assert(loadstring("return (leat.pipeline((...)))", "@place" .. i))(opts)
end

-- What a pipeline may accept, and which statuses that allows.
local ACCEPTED = {
    { value = 404, allows = function(status) return status == 404 end },
    { value = "4xx", allows = function(status) return status >= 400 and status < 500 end },
    { value = { 304, "5xx" }, allows = function(status) return status == 304 or status >= 500 end },
    { value = function(res) return res.status == 409 end,
        allows = function(status) return status == 409 end },
}

local function pipeline(place)
    local names = {}
    for i = 1, random(3) == 1 and 1 or random(#NAMES) do
        names[i] = one_of(NAMES)
    end
    local lines, told, own, journal = {}, {}, {}, random(4) == 1 and os.tmpname() or nil
    local accept = random(3) == 1 and one_of(ACCEPTED) or { allows = function() return false end }
    local function refused(value)
        local status = type(value) == "table" and type(value.headers) == "table" and value.status
        return status and (status < 200 or status >= 300) and not accept.allows(status)
    end
    local opts = {
        concurrency = one_of { 1, 3, 10, "adaptive" }, accept = accept.value,
        retry = random(3) > 1 and { attempts = random(4), base = seconds(0.2), max_retry_after = seconds(10) }
            or random(2) == 1,
        timeout = random(2) == 1 and seconds(3 + random(5)) or nil,
        deadline = random(3) == 1 and seconds(5 + random(10)) or nil,
        breaker = random(3) == 1 and one_of {
            { threshold = 2 + random(4), reset = seconds(5) },
            { failure_rate = 0.5, min_calls = 4, window = seconds(20), reset = seconds(5) },
        } or nil,
        rate = random(3) == 1 and one_of {
            { rps = 5 / seconds(1), burst = random(5) }, { rpm = 6000, tpm = 1e6 },
            { rps = 20 / seconds(1), max_wait = seconds(1) },
        } or nil,
        batch = random(4) == 1 and { size = 1 + random(5), interval = seconds(0.1) } or nil,
        progress = function(line) lines[#lines + 1] = line end, journal = journal,
        on_result = function(index, value, err)
            told[index] = (told[index] or 0) + 1
            if err == nil and refused(value) then
                wrong("item", index, "is ok with", value)
            elseif err and err.kind == "http" and err.response and not own[index]
                and not refused(err.response) then
                wrong("item", index, "has failed with", err.response)
            end
        end,
    }
    if on_sockets then
        opts.retry = random(3) > 1 and { attempts = random(4), base = 0.01, max_retry_after = 0.1 }
    end
    local pipe = make_at(place, opts)
    local total = { items = 0, ok = 0, failed = 0, skipped = 0, resumed = 0 }
    local failed_all = reasons.new()
    local ran = false
    for _ = 1, random(2) do
        local n, calls = random(25), {}
        lines, told, own = {}, {}, {}
        local function call(item, index)
            calls[index] = (calls[index] or 0) + 1
            local value, err = KINDS[names[(item - 1) % #names + 1]](item)
            own[index] = value == nil -- so that it is no matter of the pipeline
            if journal and type(value) == "table" and value.status and not refused(value) then
                return value.body or "streamed" -- a journal cannot hold a response
            end
            return value, err
        end
        local list = {}
        for i = 1, n do
            list[i] = i
        end
        local results, stats
        if random(3) == 1 then
            stats = pipe:each(list, call)
        else
            results, stats = pipe:run(list, call)
        end
        ran = true
        same("items", stats.items, n)
        same("their ends", stats.ok + stats.failed + stats.skipped + stats.resumed, n)
        for i = 1, n do
            same("item " .. i .. " was told", told[i], 1)
        end
        if results then
            local errs = 0
            for i = 1, n do
                errs = errs + (results.errors[i] ~= nil and 1 or 0)
            end
            same("errors", errs, stats.failed + stats.skipped)
            local failed, skipped = grouped(results.errors, calls)
            same("failed items", failed.n, stats.failed)
            same_reasons("why failed", stats.why_failed, failed)
            same_reasons("why skipped", stats.why_skipped, skipped)
        end
        check_summary(stats, "the run")
        local last = lines[#lines] or ""
        if stats.failed > 0 and not last:find(("%d failed: %s"):format(stats.failed,
            reasons.text(stats.why_failed)), 1, true) then
            wrong("the progress ends with", last, "and the summary is", tostring(stats))
        end
        local attempts = 0
        for _, c in pairs(calls) do
            attempts = attempts + c
        end
        -- A request that was sent again on a fresh connection is a call, too: only sockets have such.
        if not on_sockets or stats.calls < attempts or stats.calls > attempts + server.aborted then
            same("calls", attempts, stats.calls)
        end
        check_thresholds(stats)
        for _, name in ipairs { "items", "ok", "failed", "skipped", "resumed" } do
            total[name] = total[name] + stats[name]
        end
        for _, entry in ipairs(stats.why_failed) do
            failed_all:add_label(entry.reason, entry.count)
        end
    end
    for _ = 1, random(4) - 2 do -- and a call of its own now and then
        local value, err = pipe:call(KINDS[one_of(NAMES)], 1)
        local failed = value == nil and err ~= nil
        total.items = total.items + 1
        local now = pipe:stats()
        local name = not failed and "ok" or now.skipped > total.skipped and "skipped" or "failed"
        total[name] = total[name] + 1
    end
    local stats = pipe:stats()
    for name, n in pairs(total) do
        same("all " .. name, stats[name], n)
        sums[name] = sums[name] + n
    end
    check_summary(stats, "the pipeline")
    add(sums.why_failed, stats.why_failed)
    add(sums.why_skipped, stats.why_skipped)
    if ran and stats.ok + stats.resumed == 0 and stats.failed > 0 then
        all_failed = all_failed + 1
    end
    if journal then
        os.remove(journal)
    end
end

for place = 1, random(3) do
    pipeline(place)
end

-- leat.each counts its items in the same way, but without a pipeline.
if random(2) == 1 then
    local n, seen = random(10), 0
    local counts = leat.each((function()
        local list = {}
        for i = 1, n do list[i] = i end
        return list
    end)(), function(item)
        seen = seen + 1
        return KINDS[one_of { "get", "looks", "words", "value" }](item)
    end)
    same("each", counts.ok + counts.failed, n)
    local why = 0
    for _, entry in ipairs(counts.why_failed) do
        why = why + entry.count
    end
    same("each, reasons", why, counts.failed)
end
service:close(seconds(1))

local not_ok = 0
for _, id in ipairs(unlooked) do
    local status = server.by_id[id]
    if not status then
        wrong("the service does not know", id)
    elseif status < 200 or status > 299 then
        not_ok = not_ok + 1
    end
end
io.write(leat.json.encode({
    problems = leat.json.array(problems), sums = sums, missed = missed, unlooked = not_ok,
    all_failed = all_failed,
    server = services.counted(server),
}), "\n")
