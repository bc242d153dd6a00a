-- What stands between a task and its waits: the script's own coroutines, pcall, metamethods, iterators, gsub;
-- and tasks whose ends are looked at from outside.
local function generate(n)
    return coroutine.wrap(function()
        for i = 1, n do
            sleep(0.001)
            coroutine.yield(i)
        end
    end)
end
local sum = 0
for i in generate(3) do
    sum = sum + i
end
expect(sum == 6)
local lazy = setmetatable({}, { __index = function(_, name) sleep(0.001) return name .. "!" end,
    __call = function(_, x) sleep(0) return x end })
expect(lazy.a == "a!" and lazy(5) == 5)
expect(("a b"):gsub("%a", function(c) sleep(0.001) return c:upper() end) == "A B")

local co = coroutine.create(function(a)
    sleep(0.001)
    local b = coroutine.yield(a + 1)
    error("ended with " .. b)
end)
local ok, value = coroutine.resume(co, 1)
expect(ok and value == 2, value)
ok, value = coroutine.resume(co, "this")
expect(not ok and tostring(value):find("ended with this", 1, true), value)

local held = generate(5)
local task = spawn(function()
    held()
    return wait_for(0.0005, held)
end)
local none, err = task:await()
expect(none == nil and err.kind == "timeout", err)

task = spawn(function(...)
    sleep(0)
    return select("#", ...), ...
end, 1, nil, 3)
task.name = "three"
expect(tostring(task):find("three", 1, true))
local n, a, b, c = task:await()
expect(n == 3 and a == 1 and b == nil and c == 3 and task:status() == "ok", a)
task = spawn(function()
    spawn(function() sleep(0.001) return nil, leat.error { kind = "io", message = "a child's" } end)
    return "mine"
end)
none, err = task:await()
expect(none == nil and err.kind == "io", err)
local function bug() return spawn(function() sleep(0) return nil + 1 end):await() end
ok, value, err = xpcall(bug, debug.traceback)
expect(not ok and tostring(value):find("arithmetic", 1, true), value, err)
expect(leat.tasks()[1])
return true
