-- The same in every host: what leat.so gives and what it leaves alone. LEAT_URL is a mock server. Ends with
-- "guest ok" on standard output, or raises.
local url = assert(os.getenv "LEAT_URL")

local ffi = require "ffi"
ffi.cdef [[
struct guest_poll { int fd; short events, revents; };
int poll(struct guest_poll *fds, unsigned long count, int timeout);
]]

-- ---- what is the host's

local libraries = { "coroutine", "string", "table", "math", "os", "io", "debug", "bit", "jit", "package" }

local function fields(of, into, name, skip)
    into[name .. " meta"] = debug.getmetatable(of) or false
    for key, value in next, of do
        if not (skip and tostring(key):find "^leat") then
            into[name .. "." .. tostring(key)] = value
        end
    end
end

local function snapshot()
    local seen = {}
    fields(_G, seen, "_G")
    for _, name in ipairs(libraries) do
        fields(_G[name], seen, name)
    end
    fields(package.loaded, seen, "package.loaded", true)
    fields(package.preload, seen, "package.preload", true)
    for i, loader in ipairs(package.loaders) do
        seen["loader " .. i] = loader
    end
    seen.strings = debug.getmetatable ""
    seen.hook, seen.mask, seen.count = debug.gethook()
    seen.compiler = table.concat({ tostring(jit.status()), select(2, jit.status()) }, " ")
    seen.pause = collectgarbage("setpause", 200)
    seen.stepmul = collectgarbage("setstepmul", 200)
    collectgarbage("setpause", seen.pause)
    collectgarbage("setstepmul", seen.stepmul)
    return seen
end

local function same(before, after)
    for key, value in pairs(before) do
        assert(rawequal(value, after[key]), key .. " is another")
    end
    for key in pairs(after) do
        assert(before[key] ~= nil, key .. " is new")
    end
end

-- A strict host: what it has not defined may be neither read nor written.
local old_meta = getmetatable(_G)
local strict = {
    __index = function(_, name)
        error("the global '" .. tostring(name) .. "' is read", 2)
    end,
    __newindex = function(_, name)
        error("the global '" .. tostring(name) .. "' is written", 2)
    end,
}
setmetatable(_G, strict)
debug.sethook(function() end, "", 1e8)
math.randomseed(7)
local number = math.random()
math.randomseed(7)
local before = snapshot()

-- ---- loading

local leat
coroutine.wrap(function() -- the coroutine that loads it may go
    leat = require "leat"
end)()
collectgarbage()
assert(require "leat" == leat)
package.loaded.leat = nil
assert(require "leat" == leat, "a second require makes another")
for _, name in ipairs { "request", "gather", "semaphore", "wait_for", "sleep", "spawn", "json", "pipeline",
    "openai", "map", "queue", "event", "merge", "retry", "client" } do
    assert(leat[name] ~= nil, name)
end

-- ---- run

local function raised(text, fn, ...)
    local ok, why = pcall(fn, ...)
    assert(not ok, "nothing was raised: " .. text)
    assert(tostring(why):find(text, 1, true), "raised instead of '" .. text .. "': " .. tostring(why))
    return why
end

local function values(...)
    return select("#", ...), ...
end

local n, a, b, c = values(leat.run(function(...)
    leat.sleep(0)
    return ..., nil, 3
end, 1))
assert(n == 3 and a == 1 and b == nil and c == 3)
assert(select("#", leat.run(function() end)) == 0)
local _, err = leat.run(function() return nil, "no such thing" end)
assert(_ == nil and err.kind == "script" and err.cause == "no such thing")
_, err = leat.run(leat.wait_for, 0.001, leat.sleep, 60)
assert(_ == nil and err.kind == "timeout")
local why = raised("guest.lua:", leat.run, function()
    leat.spawn(function()
        leat.sleep(0)
        local nothing = nil
        return nothing.field
    end)
    leat.sleep(60)
end)
assert(why:find "'nothing'" and why:find "\nin task %d+ ", why)
local bug = {}
local ok, value = pcall(leat.run, error, bug)
assert(not ok and value == bug, "another value was raised")
local ended = false
leat.run(function()
    leat.spawn(function() leat.sleep(0.01) ended = true end)
end)
assert(ended, "its children had not ended")
_, err = leat.run(function() return leat.event():wait() end)
assert(_ == nil and err.reason == "stuck" and err.message:find "event:wait", tostring(err))

-- A hook that comes up meanwhile does not end it; Ctrl-C's, which raises, does.
local hook, mask, count = debug.gethook()
assert(leat.run(function()
    debug.sethook(function() end, "", 1e7)
    leat.sleep(0.01)
    debug.sethook(hook, mask, count)
    return "went on"
end) == "went on")

-- ---- where nothing can wait

local advice = "pass that to leat.run or leat.start"
raised(advice, leat.sleep, 1)
raised(advice, leat.request, url)
raised(advice, leat.gather, {})
raised(advice, leat.wait_for, 1, print)
raised(advice, leat.spawn, print)
raised(advice, function() leat.semaphore(0):acquire() end)
raised(advice, function() leat.queue():get() end)
raised(advice, function() leat.event():wait() end)
raised(advice, coroutine.wrap(function() leat.sleep(1) end))
leat.run(function()
    local here = "cannot wait inside a coroutine that the script created, in a host's Lua state"
    raised(here, coroutine.wrap(function() leat.sleep(0) end))
    raised(here, coroutine.wrap(function() leat.request(url) end))
    local walk = coroutine.wrap(function() coroutine.yield(1) coroutine.yield(2) end) -- the host's own go on
    assert(walk() == 1 and walk() == 2)
    leat.sleep(0) -- and so does the task
    raised("called inside a task", leat.run, print)
    raised("called inside a task", leat.step)
    raised("called inside a task", coroutine.wrap(leat.step))
end)
raised("expected a task", leat.start(print).result)
raised("must be a function", leat.run, 5)
raised("must be a function", leat.start, nil)
raised("0 or more seconds", leat.step, -1)
while leat.step() ~= "done" do end
local in_finalizer
do
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        in_finalizer = { pcall(leat.step) }
    end
end
collectgarbage()
assert(in_finalizer[1] == false and in_finalizer[2]:find "inside a finalizer")

-- ---- steps

assert(leat.step() == "done" and leat.timeout() == nil)

-- The descriptor, as a host's poll sees it.
local function readable()
    return ffi.C.poll(ffi.new("struct guest_poll", { leat.backend_fd(), 1, 0 }), 1, 0) == 1
end
for _ = 1, 10 do
    leat.step(0)
end
assert(not readable())
local bell = leat.event()
local task = leat.start(function(name)
    bell:wait()
    return name, 2
end, "one")
assert(leat.timeout() == 0 and readable(), "a task that can begin is not told of")
assert(leat.step(0) == "idle" and leat.timeout() == nil and task:status() == "waiting")
leat.step(0)
assert(not readable())
raised("has not ended", task.result, task)
bell:set() -- by the host, outside any task
assert(leat.timeout() == 0 and readable(), "a task that can go on is not told of")
assert(leat.step() == "done" and task:status() == "ok")
n, a, b = values(task:result())
assert(n == 2 and a == "one" and b == 2)
task = leat.start(leat.sleep, 60)
leat.step()
local wait = leat.timeout()
assert(wait > 0 and wait <= 60, wait)
task:cancel("not wanted")
assert(leat.timeout() == 0 and readable(), "a task that can be cancelled is not told of")
assert(leat.step() == "done")
_, err = task:result()
assert(_ == nil and err.kind == "cancelled" and err.message == "not wanted")
task = leat.start(error, "broken")
local other = leat.start(leat.sleep, 0)
raised("broken", leat.step)
while leat.step() ~= "done" do end
assert(task:status() == "raised" and other:status() == "ok")
raised("broken", task.result, task)
task = leat.start(error, "caught")
leat.run(function() raised("caught", task.await, task) end)
assert(leat.step() == "done", "raised though it was awaited")

-- A host ticks while twenty requests wait for it.
local gate, arrived, answered, ticks = leat.event(), 0, 0, 0
local server
leat.start(function()
    server = assert(leat.serve { port = 0, handler = function()
        arrived = arrived + 1
        gate:wait()
        return "through"
    end })
    local got = leat.map(("x"):rep(20):gmatch "x", function()
        local res = assert(leat.request(server.url))
        answered = answered + 1
        return res.body
    end)
    assert(#got == 20 and got[20] == "through")
    server:close()
end)
repeat leat.step(0.001) until arrived == 20
for _ = 1, 100 do
    leat.step(0)
    ticks = ticks + 1
end
assert(ticks == 100 and answered == 0)
gate:set()
while leat.step(0.001) ~= "done" do end
assert(answered == 20)
-- What the server's end leaves to do is done by steps without a task, too.
local late = 0
while readable() do
    leat.step(0)
    late = late + 1
    assert(late < 1000, "the descriptor stays readable")
end

-- ---- the rest of the library, against the mock

local function post(path, body)
    return leat.request { url = url .. path, method = "POST", json = body }
end
assert(leat.run(post, "/mock/reset").ok)
local chat = { model = "m", messages = { { role = "user", content = "hello" } } }
local handles = {}
for i = 1, 20 do
    handles[i] = leat.start(post, "/v1/chat/completions", chat)
end
ticks = 0
while leat.step(0) ~= "done" do
    ticks = ticks + 1
end
assert(ticks > 1)
for i = 1, 20 do
    assert(handles[i]:result().status == 200)
end
assert(leat.run(leat.request, url .. "/mock/stats"):json().peak_in_flight > 1) -- how many depends on the time

local ai = leat.openai { base_url = url .. "/v1", api_key = "none", model = "m" }
leat.run(function()
    local pipe = leat.pipeline { concurrency = 5, retry = { attempts = 3 }, timeout = 60 }
    local answers, stats = pipe:run({ "a", "b", "c" }, function(prompt) return ai:chat(prompt) end)
    assert(#answers == 3 and stats.ok == 3)
    local text = {}
    for delta in leat.merge({ "d", "e" }, function(prompt) return ai:stream(prompt) end) do
        text[#text + 1] = delta
    end
    assert(#text > 2)
    local path = os.tmpname()
    local out = assert(leat.jsonl.writer(path))
    assert(out:write { word = "leat" })
    assert(out:close())
    for row in leat.jsonl.read(path) do
        assert(row.word == "leat")
    end
    os.remove(path)
    assert(leat.json.encode(leat.json.decode "[1,[],{}]") == "[1,[],{}]")
    assert(#leat.sha256 "" == 64 and leat.uuid() ~= leat.uuid())
    local tries = 0
    local again = leat.retry { attempts = 3, base = 0.001 }
    _, err = again:call(function()
        tries = tries + 1
        return nil, leat.error { kind = "closed", message = "gone", retryable = true }
    end)
    assert(tries == 3 and err.kind == "closed")
    -- A forgotten one: its finalizer comes while tasks live, and is not put off until the run's end.
    local long = { { role = "user", content = ("word "):rep(10000) } }
    local slow = { url = url .. "/v1/chat/completions", method = "POST", stream = true,
        json = { model = "m", stream = true, messages = long } }
    assert(leat.request(slow))
    assert(leat.stats().engine.active == 1)
    assert(leat.wait_for(30, function()
        repeat
            collectgarbage()
            leat.sleep(0.001)
        until leat.stats().engine.active == 0
        return true
    end))
end)
local stats = leat.stats()
assert(stats.memory_bytes > 0 and stats.memory_bytes < 64 * 2 ^ 20, stats.memory_bytes)
assert(stats.tasks == 0 and stats.engine.active == 0 and stats.timers == 0)

-- ---- and all is as it was

same(before, snapshot())
assert(math.random() == number, "the host's random numbers were drawn from")
debug.sethook()
setmetatable(_G, old_meta)
io.stdout:write("guest ok\n")
