-- Loads leat where globals are what a game leaves to mods: no `require`, and a `package` of its own.
-- usage: luajit hidden.lua URL nothing|empty|others
local url, how = ...
local req, all = require, {}
local hidden = ({ empty = { path = "" }, others = { loaded = {}, preload = {} } })[how]
for k, v in pairs(_G) do
    all[k] = v
end
local globals = _G
for k in all.pairs(all) do
    globals[k] = nil
end
local kept = "assert collectgarbage error getfenv getmetatable ipairs next pairs pcall print rawequal"
    .. " rawget rawset select setfenv setmetatable tonumber tostring type unpack xpcall coroutine string"
    .. " table math _G"
for k in kept:gmatch "%S+" do
    globals[k] = all[k]
end
globals.package = hidden
globals.debug = { traceback = all.debug.traceback, getinfo = all.debug.getinfo,
    getmetatable = all.debug.getmetatable, setmetatable = all.debug.setmetatable }
globals.io = { open = all.io.open, lines = all.io.lines, write = all.io.write }
globals.os = { clock = all.os.clock, time = all.os.time, date = all.os.date }

local leat = req "leat"
print(leat.run(function()
    leat.sleep(0.001)
    local res = assert(leat.request(url .. "/v1/models"))
    local results = leat.pipeline {}:run({ 1, 2 }, function(x) return x * x end)
    return res.status, results[2], leat.json.encode { 1 }, leat.gather({ leat.uuid }).n
end))
print(leat.run(function()
    local t = leat.spawn(function() error "a bug" end)
    return tostring(select(2, pcall(t.await, t))):match "a bug"
end))
local names = "openai retry breaker limiter adaptive batch queue serve inspect merge jsonl client log stdin"
for name in names:gmatch "%w+" do
    assert(leat[name], name)
end
print(req "leat" == leat, req "leat.retry" ~= nil, require, package == hidden)
