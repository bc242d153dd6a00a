-- feeds.lua HOW PLACE: a function of the script that something else waits for goes wrong. HOW is loop (no
-- end), bomb (memory), or bug; PLACE is where the function stands. Without arguments it lists the places.
-- Prints what the one that waits for it gets: "failure KIND", "raised", or "value ...".
local leat = require "leat"
local how, place = arg[1], arg[2]

local bad = ({
    loop = function() while true do end end,
    bomb = function()
        local t = {}
        while true do
            t[#t + 1] = ("x"):rep(1000) .. #t
        end
    end,
    bug = function()
        return no_such_table.x -- luacheck: ignore
    end,
})[how]

local function same(x)
    return x
end

local function closed()
    return nil, leat.error { kind = "closed", message = "no", retryable = true }
end

local function list(items)
    return items
end

local handler, server
local function url()
    return server.url .. "/"
end

local function missing()
    handler = function()
        return { status = 404 }
    end
    return request(url())
end

-- A body's function that is right twice.
local function third(pause)
    local n = 0
    return function()
        n = n + 1
        if n == 3 then
            sleep(pause)
            bad()
        end
        return "x"
    end
end

local function all(iterator)
    for _ in iterator do
    end
    return "end"
end

-- Of a pipeline with one item: why that failed, or the run did.
local function of_one(method, opts, fn)
    local why
    function opts.on_result(_, _, err)
        why = err
    end
    local pipe = leat.pipeline(opts)
    local results, err = pipe[method](pipe, { 1 }, fn)
    return nil, not results and err or why
end

local places = {
    body = function()
        return request { url = url(), method = "POST", body = third(0) }
    end,
    body_after_a_wait = function()
        return request { url = url(), method = "POST", body = third(0.01) }
    end,
    body_of_a_stream = function()
        local res, err = request { url = url(), method = "POST", stream = true, body = third(0) }
        if not res then
            return nil, err
        end
        return res:read()
    end,
    handler = function()
        handler = bad
        return request(url())
    end,
    handler_that_has_begun = function()
        handler = function(req)
            local out = assert(req:respond { status = 200 })
            out:write "x"
            bad()
        end
        return request(url())
    end,
    each_chunk = function()
        return assert(request { url = url(), stream = true }):each_chunk(bad)
    end,
    each_line = function()
        return assert(request { url = url(), stream = true }):each_line(bad)
    end,
    each_event = function()
        handler = function()
            return { body = "data: x\n\n", headers = { ["Content-Type"] = "text/event-stream" } }
        end
        return assert(request { url = url(), stream = true }):each_event(bad)
    end,
    expect = function() return request { url = url(), expect = bad } end,
    simulate_handler = function()
        local simulated = leat.simulate("http://simulated.test", bad)
        local res, err = request "http://simulated.test/"
        simulated:close()
        return res, err
    end,
    each = function()
        local counts, err = leat.each({ 1 }, bad)
        return nil, err or counts.first_error
    end,
    each_items = function() return leat.each(bad, same) end,
    each_accept = function()
        return leat.each({ 1 }, missing, { accept = bad })
    end,
    batch = function()
        local results, err = leat.batch({ 1 }, { size = 1, settle = true }, bad)
        return nil, err or results[1].err
    end,
    batch_items = function() return leat.batch(bad, { size = 1 }, list) end,
    batch_on_batch = function() return leat.batch({ 1, 2 }, { size = 1, on_batch = bad }, list) end,
    jsonl_on_error = function()
        local file = assert(io.open(arg[3] .. ".jsonl", "w"))
        file:write "broken\n"
        file:close()
        return all(assert(leat.jsonl.read(arg[3] .. ".jsonl", { on_error = bad })))
    end,
    breaker_classify = function() return leat.breaker { classify = bad }:call(same, 1) end,
    breaker_on_change = function()
        return leat.breaker { threshold = 1, on_change = bad }:call(closed)
    end,
    pipeline_each = function() return of_one("each", {}, bad) end,
    pipeline_accept = function() return of_one("run", { accept = bad }, missing) end,
    pipeline_tokens = function() return of_one("run", { rate = { tpm = 1000, tokens = bad } }, same) end,
    pipeline_progress_sink = function()
        return leat.pipeline { progress = { sink = bad } }:run({ 1, 2 }, same)
    end,
    pipeline_progress_others = function()
        return leat.pipeline { progress = { sink = same, others = bad } }:run({ 1, 2 }, same)
    end,
    pipeline_progress_waiting = function()
        local progress = { sink = same, interval = 0.001, waiting = bad }
        return leat.pipeline { progress = progress }:run({ 1 }, function() return sleep(1) end)
    end,
    pipeline_progress_attach = function()
        return leat.pipeline { progress = { sink = same, attach = bad } }:run({ 1, 2 }, same)
    end,
    as_completed_items = function()
        local _, _, err = leat.as_completed(bad, same)()
        return nil, err
    end,
    shield = function() return leat.shield(60, bad) end,
    spawned = function() return spawn(bad):await() end,
    gsub_replacement = function() return (("x"):gsub(".", bad)) end,
    map = function() return leat.map({ 1, 2, 3 }, bad) end,
    map_on_result = function() return leat.map({ 1, 2, 3 }, same, { on_result = bad }) end,
    map_items = function() return leat.map(bad, same) end,
    map_journal_key = function()
        return leat.map({ 1, 2 }, same, { journal = { path = arg[3], key = bad } })
    end,
    gather = function() return gather { bad, function() sleep(60) end } end,
    as_completed = function()
        local _, _, err = leat.as_completed({ 1, 2 }, bad)()
        return nil, err
    end,
    race = function() return leat.race { bad, bad } end,
    group = function()
        return leat.group(function(g)
            g:spawn(bad)
            sleep(60)
        end)
    end,
    pipeline_items = function() return leat.pipeline {}:run(bad, same) end,
    pipeline_on_result = function() return leat.pipeline { on_result = bad }:run({ 1, 2 }, same) end,
    pipeline_progress = function() return leat.pipeline { progress = bad }:run({ 1, 2 }, same) end,
    pipeline_call = function() return leat.pipeline {}:call(bad) end,
    on_retry = function() return leat.retry { base = 0.01, on_retry = bad }:call(closed) end,
    retry_when = function() return leat.retry { base = 0.01, when = bad }:call(closed) end,
    retry_key = function() return leat.retry { base = 0.01, key = bad }:call(closed) end,
    limiter_tokens = function() return leat.limiter { tpm = 1000, tokens = bad }:call(same, 1) end,
    limiter_usage = function() return leat.limiter { tpm = 1000, usage = bad }:call(same, 1) end,
    adaptive_classify = function() return leat.adaptive { classify = bad }:call(same, 1) end,
    merge_open = function() return all(leat.merge({ 1, 2 }, bad)) end,
    merge_source = function() return all(leat.merge { bad }) end,
    merge_on_error = function()
        return all(leat.merge({ 1, 2 }, closed, { on_error = bad }))
    end,
    clean_up = function() return leat.finally(same, bad) end,
    wait_for = function() return wait_for(60, bad) end,
    semaphore = function() return semaphore(1):with(bad) end,
    generator = function() return all(coroutine.wrap(bad)) end,
}

-- Which place stands for a function-valued option of the annotations: class.field.
local options = {
    ["map_options.on_result"] = "map_on_result", ["batch_options.on_batch"] = "batch_on_batch",
    ["journal_options.key"] = "map_journal_key", ["merge_options.on_error"] = "merge_on_error",
    ["statuses"] = "expect", ["call_options.body"] = "body", ["retry_options.key"] = "retry_key",
    ["retry_options.when"] = "retry_when", ["retry_options.on_retry"] = "on_retry",
    ["breaker_options.classify"] = "breaker_classify", ["breaker_options.on_change"] = "breaker_on_change",
    ["limiter_options.tokens"] = "limiter_tokens", ["limiter_options.usage"] = "limiter_usage",
    ["adaptive_options.classify"] = "adaptive_classify", ["pipeline_options.progress"] = "pipeline_progress",
    ["pipeline_options.on_result"] = "pipeline_on_result",
    ["progress_options.sink"] = "pipeline_progress_sink",
    ["progress_options.others"] = "pipeline_progress_others",
    ["progress_options.waiting"] = "pipeline_progress_waiting",
    ["progress_options.attach"] = "pipeline_progress_attach", ["serve_options.handler"] = "handler",
    ["simulate_options.handler"] = "simulate_handler", ["jsonl_read_options.on_error"] = "jsonl_on_error",
}

if how == "options" then -- PLACE is types.lua: those of its options that have no place here
    local class
    for line in io.lines(place) do
        class = line:match "^%-%-%-@class leat%.([%w_]+)" or class
        local alias = line:match "^%-%-%-@alias leat%.(%S+).*fun%("
        local field = line:match "^%-%-%-@field ([%w_]+)%?? .*fun%("
        local name = alias or field and class:find "_options$" and class .. "." .. field
        if name and not places[options[name]] then
            print(name)
        end
    end
    return
end

if not place then
    for name in pairs(places) do
        print(name)
    end
    return
end

server = assert(leat.serve { handler = function(req)
    return handler and handler(req) or { status = 200, body = "ok" }
end })
local waited = spawn(places[place])
local ok, value, err = pcall(wait_for, 50, waited)
server:close()
if not ok then
    print "raised"
elseif value == nil and err then
    print("failure " .. err.kind)
else
    print("value " .. tostring(value) .. (type(value) == "table" and value.status and value.status or ""))
end
