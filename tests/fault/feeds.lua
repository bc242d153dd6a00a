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

local handler, server
local function url()
    return server.url .. "/"
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
