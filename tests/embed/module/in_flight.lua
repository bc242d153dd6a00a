-- Leaves the state to its host with everything in flight that a task can wait for. LEAT_CLOSE says what comes
-- then: nothing special; "finalizers": the host's own ones call leat; "first": the runtime's finalizer comes
-- before all others, which LuaJIT happens to call in the order from new to old.
local url = ...
local leat = require "leat"

local chat = { url = url .. "/v1/chat/completions", method = "POST",
    json = { model = "m", messages = { { role = "user", content = "hello" } } } }
local sem, queue = leat.semaphore(1), leat.queue()
_G.kept = {}

local function keep(...)
    _G.kept[#_G.kept + 1] = { ... }
    return ...
end

for _ = 1, 20 do
    keep(leat.start(leat.request, chat))
end
leat.start(leat.gather, { function() return leat.request(chat) end, function() return leat.sleep(60) end })
leat.start(leat.wait_for, 60, leat.request, chat)
leat.start(leat.map, { 1, 2, 3 }, function() return leat.request(chat) end)
leat.start(leat.shield, 60, leat.request, chat)
leat.start(function()
    leat.finally(function() leat.sleep(60) end, function() leat.sleep(60) end)
end)
for _ = 1, 3 do
    leat.start(sem.with, sem, leat.request, chat)
    leat.start(sem.acquire, sem)
    leat.start(queue.get, queue)
end
leat.start(leat.group, function(g) g:spawn(leat.request, chat) leat.sleep(60) end)
leat.start(function()
    local stream = keep(leat.request { url = url .. "/v1/chat/completions", method = "POST", stream = true,
        json = { model = "m", stream = true, messages = { { role = "user", content = "hello" } } } })
    if stream then
        stream:read()
        leat.sleep(60)
    end
end)
local ai = leat.openai { base_url = url .. "/v1", api_key = "none", model = "m" }
leat.start(ai.chat, ai, "hello")
leat.start(function()
    for delta in leat.merge({ "a", "b" }, function(prompt) return ai:stream(prompt) end) do keep(delta) end
end)
leat.start(leat.client { base_url = url, cookies = true }.get, leat.client { base_url = url }, "/v1/models")
-- Servers, one of them in the process, and their requests: one that is answered late, and one whose stream
-- nobody reads.
local function answer(req)
    keep(req)
    if req.path == "/quick" then
        return "fine"
    elseif req.path == "/slow" then
        leat.sleep(3600)
    end
    local out = keep(req:respond {})
    while out:write(("x"):rep(65536)) do end
end
local function ask(server, base)
    keep(server)
    assert(leat.request(base .. "/quick").status == 200)
    leat.start(leat.request, base .. "/slow")
    leat.start(leat.request, base .. "/quick")
    keep(assert(leat.request { url = base .. "/stream", stream = true }))
    leat.sleep(3600)
end
leat.start(function()
    local server = leat.serve { port = 0, handler = answer }
    ask(server, server.url)
end)
leat.start(function()
    ask(assert(leat.simulate("http://inside", answer)), "http://inside")
end)
leat.start(function()
    for row in leat.jsonl.read "/dev/zero" do keep(row) end
end)
leat.start(leat.event().wait, leat.event())
leat.start(function() error("nobody looks at this") end)

repeat
    pcall(leat.step, 0.001) -- the bug above comes up here
until leat.stats().engine.active > 30 and tostring(leat.tasks()):find "waiting in write.*waiting in write"
assert(leat.stats().tasks > 50)
collectgarbage()
local how = os.getenv "LEAT_CLOSE"
for _ = 1, how == "finalizers" and 2 or 0 do
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        pcall(leat.step)
        pcall(leat.start, print)
        pcall(leat.request, url)
        pcall(leat.client, {})
        pcall(leat.json.encode, {})
        leat.stats()
        leat.now()
        for _, held in ipairs(_G.kept) do
            pcall(function() held[1]:cancel() end)
            pcall(function() held[1]:close() end)
            pcall(function() held[1]:status() end)
        end
        sem:release()
        queue:try_put(1)
    end
    keep(proxy)
end
if how == "first" then
    local closed = 0
    for key, value in pairs(debug.getregistry()) do
        if type(key) == "userdata" and type(value) == "userdata" and leat.stats().engine then
            local meta = debug.getmetatable(value)
            if meta and meta.__gc and not meta.__index and not meta.__name then
                meta.__gc(value)
                closed = closed + 1
            end
        end
    end
    assert(not leat.stats().engine, "the runtime's own was not among " .. closed)
    assert(not pcall(leat.step) and not pcall(leat.start, print) and not pcall(leat.run, print))
end
