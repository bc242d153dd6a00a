--- What a call costs for each element must not depend on how many there are: each public function is run
--- with n elements and with 10 n, and an element of the many may cost at most twice as much. By the CPU
--- time of this process, the best of several runs, taken again with more elements where it looks bad.
---
---     LEAT_GROWTH=3000 build/leat --virtual-time --seed 1 tests/lua/test_virtual_growth.lua
---
--- is the full form (200 is the short one); LEAT_GROWTH_SHOW=1 shows all ratios.
local t = require "harness"
local leat = require "leat"

local base = tonumber(os.getenv "LEAT_GROWTH" or 200)
local show = os.getenv "LEAT_GROWTH_SHOW"
local rounds, most = 4, 2

jit.off() -- what a compiler makes of the larger number is not looked at

local function fails()
    return nil, leat.error { kind = "closed", message = "no", retryable = true }
end
local function same(x)
    return x
end
local function waits(x)
    sleep(x % 7)
    return x
end
local numbers = t.numbers
local function functions(n, fn)
    local list = {}
    for i = 1, n do
        list[i] = function()
            return fn(i)
        end
    end
    return list
end
local function drain(iterator)
    for _ in iterator do
    end
end
local function once_each(n, fn)
    for i = 1, n do
        fn(i)
    end
end
local function at_once(n, fn)
    leat.each(numbers(n), fn, { limit = n })
end

local url = "http://growth.test"
local path = os.tmpname()

-- Names of what it stands for, then what is done with n elements.
local rows = {
    { "sleep", function(n) at_once(n, waits) end },
    { "spawn Task:await", function(n)
        local tasks = {}
        for i = 1, n do tasks[i] = spawn(waits, i) end
        for i = n, 1, -1 do tasks[i]:await() end
    end },
    { "wait_for deadline", function(n)
        at_once(n, function() return wait_for(60, function() return leat.deadline() and sleep(1) end) end)
    end },
    { "shield", function(n) at_once(n, function() return leat.shield(60, sleep, 1) end) end },
    { "finally", function(n) at_once(n, function() return leat.finally(same, same) end) end },
    { "finally in one task", function(n)
        local function nest(i) return i > 0 and leat.finally(function() return nest(i - 1) end, same) end
        for _ = 1, n, 50 do nest(50) end
    end },
    { "now time is_stopping uuid", function(n)
        once_each(n, function() return leat.now(), leat.time(), leat.is_stopping(), leat.uuid() end)
    end },
    { "tasks stats", function(n)
        local tasks = {}
        for i = 1, n do tasks[i] = spawn(sleep, 1) end
        sleep(0)
        t.ok(#leat.tasks() > n)
        leat.stats()
        for i = 1, n do tasks[i]:cancel() end
    end },
    { "error inspect", function(n)
        local list = {}
        for i = 1, n do list[i] = leat.error { kind = "closed", message = "x" .. i } end
        leat.inspect(list)
    end },
    { "gather", function(n) assert(gather(functions(n, waits))) end },
    { "gather newest first", function(n)
        assert(gather(functions(n, function(i) sleep(n - i) return i end)))
    end },
    { "gather settle", function(n) assert(gather(functions(n, fails), { settle = true })) end },
    { "gather fails", function(n)
        gather(functions(n, function(i) sleep(1) if i == n then return fails() end sleep(1) end))
    end },
    { "map", function(n) assert(leat.map(numbers(n), waits, { limit = n })) end },
    { "map on_result", function(n) assert(leat.map(numbers(n), same, { on_result = same })) end },
    { "map journal", function(n)
        os.remove(path)
        assert(leat.map(numbers(n), same, { journal = { path = path } }))
        assert(leat.map(numbers(n), same, { journal = { path = path } })) -- all of it is known
    end },
    { "each", function(n) leat.each(numbers(n), fails) end },
    { "as_completed Arrivals:close", function(n)
        local arrivals = leat.as_completed(numbers(n), waits)
        drain(arrivals)
        arrivals = leat.as_completed(numbers(n), waits, { limit = n })
        arrivals()
        arrivals:close()
    end },
    { "merge Merge:close", function(n)
        local function open(i)
            local left = 3
            return function() left = left - 1 sleep(i % 3) return left > 0 and left or nil end
        end
        drain(leat.merge(numbers(n), open, { limit = n }))
        local m = leat.merge(numbers(n), open, { limit = n })
        m()
        m:close()
    end },
    { "race", function(n) leat.race(functions(n, function(i) sleep(i) return i end)) end },
    { "group Nursery:spawn Nursery:cancel", function(n)
        leat.group(function(g)
            for i = 1, n do g:spawn(sleep, i) end
            sleep(n / 2)
            g:cancel()
        end)
    end },
    { "semaphore Semaphore:with Semaphore:acquire", function(n)
        local sem = semaphore(3)
        at_once(n, function() return sem:with(sleep, 1) end)
        at_once(n, function() return sem:acquire(1) and sem:release() end)
        at_once(n, function(i) sem:acquire() if i % 3 == 0 then sleep(1) end sem:release() end)
    end },
    { "queue Queue:put Queue:get Queue:iter Queue:close", function(n)
        local q = leat.queue()
        for i = 1, n do q:put(i) end
        q:close()
        drain(q:iter())
        q = leat.queue(1)
        local putters = spawn(at_once, n, function(i) q:put(i) end)
        at_once(n, function() q:get() end)
        putters:await()
    end },
    { "event stopping Event:wait", function(n)
        local event = leat.event()
        local waiters = spawn(at_once, n, function() return event:wait() end)
        sleep(1)
        event:set()
        waiters:await()
    end },
    { "cancel of many", function(n)
        local all = spawn(at_once, n, function() sleep(100) end)
        sleep(1)
        all:cancel()
        all:await()
    end },
    { "request", function(n) at_once(n, function() return request(url) end) end },
    { "client Client:request", function(n)
        local api = leat.client { base_url = url }
        at_once(n, function() return api:get "/x" end)
    end },
    { "max_per_host", function(n)
        at_once(n, function() return request { url = url, max_per_host = 5 } end)
    end },
    { "headers of a request and a response", function(n)
        local headers = {}
        for i = 1, 100 do headers["X-" .. i] = "v" end
        for _ = 1, n, 100 do
            local res = assert(request { url = url .. "/headers", headers = headers })
            for _ in pairs(res.headers) do
            end
        end
    end },
    { "query and form", function(n)
        local query = {}
        for i = 1, n do query["k" .. i] = i end
        assert(request { url = url, method = "POST", form = query })
    end },
    { "body from a function", function(n)
        local left = n
        assert(request { url = url, method = "POST", body = function()
            left = left - 1
            return left >= 0 and "0123456789" or nil
        end })
    end },
    { "stream by chunk, line and event", function(n)
        local what = url .. "/stream?" .. n
        assert(request { url = what, stream = true }):each_line(same)
        assert(request { url = what, stream = true }):each_chunk(same)
        assert(request { url = what, stream = true }):each_event(same)
    end },
    { "retry Retry:call", function(n)
        local retry = leat.retry { attempts = 2, base = 0.01 }
        at_once(n, function() return retry:call(fails) end)
    end },
    { "breaker Breaker:call Breaker:state", function(n)
        local breaker = leat.breaker { failure_rate = 0.99, window = 60 }
        at_once(n, function(i) breaker:state() return breaker:call(i % 2 == 0 and fails or same, 1) end)
    end },
    { "limiter Limiter:call", function(n)
        local limiter = leat.limiter { rpm = 6000 }
        at_once(n, function() return limiter:call(same, 1) end)
    end },
    { "Limiter:reserve Limiter:stats Reservation:settle", function(n)
        local limiter = leat.limiter { tpm = 1e9 }
        once_each(n, function()
            assert(limiter:reserve { tokens = 10 }):settle(5)
            limiter:stats()
        end)
    end },
    { "adaptive Adaptive:call Adaptive:history", function(n)
        local adaptive = leat.adaptive { max = 50 }
        at_once(n, function() return adaptive:call(waits, 1) end)
        adaptive:history()
    end },
    { "batch", function(n) leat.batch(numbers(n), { size = 10 }, same) end },
    { "pipeline Pipeline:run Pipeline:stats", function(n)
        local pipe = leat.pipeline { retry = { attempts = 2, base = 0.01 }, concurrency = 20 }
        assert(pipe:run(numbers(n), waits))
        pipe:stats()
    end },
    { "Pipeline:each Pipeline:call", function(n)
        local pipe = leat.pipeline { rate = { rpm = 1e6 }, breaker = true, concurrency = { max = 50 } }
        pipe:each(numbers(n), function(i) return i % 9 > 0 and i or fails() end)
        once_each(n, function(i) pipe:call(same, i) end)
    end },
    { "json.encode json.decode json.array json.object", function(n)
        local list, object = {}, {}
        for i = 1, n do list[i], object["key" .. i] = { i, "text" .. i }, i end
        json.decode(json.encode { json.array(list), json.object(object) })
    end },
    { "json.encode nested wide", function(n)
        local text = "[" .. ('{"a":[1,2,{"b":"\\u00e4\\n"}]},'):rep(n) .. "1]"
        json.encode(json.decode(text))
    end },
    { "jsonl.writer jsonl.read Writer:write Writer:flush Writer:close", function(n)
        local writer = assert(leat.jsonl.writer(path))
        once_each(n, function(i) writer:write { i } end)
        writer:flush()
        writer:close()
        drain(leat.jsonl.read(path))
    end },
    { "base64.encode base64.decode sha256 hmac", function(n)
        local text = ("x"):rep(1000 * n)
        leat.base64.decode(leat.base64.encode(text))
        leat.sha256(text)
        leat.hmac("key", text)
    end },
    { "log.debug log.info log.warn log.error", function(n)
        once_each(n, function(i) leat.log.debug("line " .. i) end)
    end },
    { "simulate Request:respond Request:json Stream:write Stream:close Server:stats Server:close",
    function(n)
        local server = leat.simulate("http://own.test", function(req)
            req:json()
            local out = assert(req:respond { status = 200 })
            for _ = 1, 5 do out:write "x" end
            out:close()
        end)
        at_once(n, function() return request { url = "http://own.test", json = { 1 } } end)
        server:stats()
        server:close()
    end },
    { "Client:stream", function(n)
        local ai = leat.openai { base_url = url .. "/deltas?" .. n, api_key = "k", model = "m" }
        drain(assert(ai:stream "hello"))
    end },
    { "openai Client:chat Client:models", function(n)
        local ai = leat.openai { base_url = url .. "/v1", api_key = "k", model = "m" }
        at_once(n, function() return ai:chat "x" end)
    end },
    { "string.gsub", function(n) (("x"):rep(n)):gsub(".", same) end },
}

-- Public, and not measured here: why.
local exempt = {
    serve = "needs sockets: simulate runs the same code", run = "leat.so", start = "leat.so",
    step = "leat.so",
    backend_fd = "leat.so", timeout = "leat.so", version = "a table of texts", stdin = "standard input",
    ["stdin.lines"] = "standard input", ["stdin.read"] = "standard input", json = "a module",
    jsonl = "a module", base64 = "a module", log = "a module",
    ["Journal:interrupter"] = "internal", ["Journal:jobs"] = "internal", ["Journal:keep"] = "internal",
    ["Journal:key"] = "internal", ["Journal:known"] = "internal", ["Journal:stopped"] = "internal",
    ["Limiter:learn"] = "takes one response", ["Limiter:set"] = "takes one set of numbers",
    ["Stream:abort"] = "takes nothing", ["M:lines"] = "standard input", ["M:read"] = "standard input",
    ["Client:embed"] = "a request",
}

-- ---- all public names

local function public_names()
    local names = {}
    for line in io.lines "lua/leat/init.lua" do
        local name = line:match "^    (%l[%w_]*) = [%w{]"
        if name then
            names[#names + 1] = name
        end
    end
    for _, module in ipairs { "json", "jsonl", "base64", "log" } do
        for name, value in pairs(leat[module]) do
            if type(value) == "function" and name:sub(1, 1) ~= "_" then
                names[#names + 1] = module .. "." .. name
            end
        end
    end
    local list = io.popen "ls lua/leat/*.lua"
    for file in list:lines() do
        for line in io.lines(file) do
            names[#names + 1] = line:match "^function (%u%w*:%l[%w_]*)"
        end
    end
    list:close()
    return names
end

t.test("each public function has a row, or a reason to have none", function()
    local known = {}
    for _, row in ipairs(rows) do
        for name in row[1]:gmatch "%S+" do
            known[name] = true
        end
    end
    local names = public_names()
    t.ok(#names > 80)
    local missing = {}
    for _, name in ipairs(names) do
        if not known[name] and not exempt[name] then
            missing[#missing + 1] = name
        end
    end
    t.eq(missing, {})
end)

t.test("each call of leat.h stands in tests/unit/test_growth.c", function()
    local function read(name)
        local file = assert(io.open(name))
        local text = file:read "*a"
        file:close()
        return text
    end
    local known, count, missing = {}, 0, {}
    for name in read("tests/unit/test_growth.c"):gmatch "leat_[%w_]+" do
        known[name] = true
    end
    for declaration in read("src/leat.h"):gmatch "LEAT_API ([^;{]*)" do
        local name = declaration:match "(leat_[%w_]+)%("
        if name then
            count = count + 1
            missing[#missing + 1] = not known[name] and name or nil
        end
    end
    t.ok(count > 40, count)
    t.eq(missing, {})
end)

-- ---- measuring

-- The CPU time of `times` runs, repeated until it is long beside the steps of the clock, which are 10 ms on
-- some machines.
local function cost(fn, n, times)
    local runs = 0
    collectgarbage()
    local before = os.clock()
    repeat
        for _ = 1, times do
            fn(n)
        end
        runs = runs + times
    until os.clock() - before >= 0.1
    return (os.clock() - before) / (n * runs)
end

local function ratio_of(fn, n)
    local few, many = math.huge, math.huge
    for _ = 1, rounds do
        few = math.min(few, cost(fn, n, 10))
        many = math.min(many, cost(fn, 10 * n, 1))
        if many <= most * few and not show then
            break
        end
    end
    return many / few
end

local delta = 'data: {"choices":[{"index":0,"delta":{"content":"' .. ("x"):rep(500) .. '"}}]}\n\n'

local function answer(req)
    local n = tonumber(req.target:match "^/deltas.*%?(%d+)")
    if n then
        return { body = delta:rep(n) .. "data: [DONE]\n\n",
            headers = { ["Content-Type"] = "text/event-stream" } }
    end
    n = tonumber(req.target:match "stream%?(%d+)")
    if n then
        return { body = ("data: x\n\n"):rep(n), headers = { ["Content-Type"] = "text/event-stream" } }
    elseif req.target:find "/v1" then
        return { body = '{"choices":[{"message":{"content":"y"},"finish_reason":"stop"}]}',
            headers = { ["Content-Type"] = "application/json" } }
    end
    return { body = "ok", headers = req.target == "/headers" and req.headers or nil }
end

for _, row in ipairs(rows) do
    t.test("ten times as many cost ten times as much: " .. row[1], function()
        local server = leat.simulate(url, answer)
        local ratio, n = nil, base
        for _ = 1, 3 do -- more of them tell a curve from a busy machine
            ratio = ratio_of(row[2], n)
            if ratio <= most then
                break
            end
            n = 3 * n
        end
        server:close()
        if show then
            print(("%6.2f  %s"):format(ratio, row[1]))
        end
        t.ok(ratio <= most, ("an element of %d costs %.2f times one of %d"):format(10 * n, ratio, n))
    end)
end
os.remove(path)

t.done()
