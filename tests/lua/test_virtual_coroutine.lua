-- Waiting from anywhere a script may stand: its own coroutines, pcall, metamethods, iterators, modules.
local t = require "harness"
local leat = require "leat"

t.test("a generator may wait between its yields", function()
    local function squares(n)
        return coroutine.wrap(function()
            for i = 1, n do
                sleep(1)
                coroutine.yield(i * i)
            end
        end)
    end
    local got, before = {}, leat.now()
    for v in squares(4) do
        got[#got + 1] = v
    end
    t.eq(got, { 1, 4, 9, 16 })
    t.near(leat.now() - before, 4)
end)

t.test("values pass through resume and yield as ever, waits in between or not", function()
    local co = coroutine.create(function(a, b)
        sleep(1)
        local c, d = coroutine.yield(a + b, nil)
        sleep(1)
        local e = coroutine.yield(c, d, nil)
        return e, "end"
    end)
    local function pack(...) return { n = select("#", ...), ... } end
    t.eq(pack(coroutine.resume(co, 1, 2)), { n = 3, true, 3, nil })
    t.eq(pack(coroutine.resume(co, 3, nil)), { n = 4, true, 3, nil, nil })
    t.eq(pack(coroutine.resume(co, 5)), { n = 3, true, 5, "end" })
    t.eq(coroutine.status(co), "dead")
    t.eq(pack(coroutine.resume(co)), { n = 2, false, "cannot resume dead coroutine" })
end)

t.test("generators within generators wait too", function()
    local function level(n)
        return coroutine.wrap(function()
            if n == 0 then
                for i = 1, 3 do
                    sleep(1)
                    coroutine.yield(i)
                end
            else
                for v in level(n - 1) do
                    sleep(1)
                    coroutine.yield(v * 2)
                end
            end
        end)
    end
    local got = {}
    for v in level(5) do
        got[#got + 1] = v
    end
    t.eq(got, { 32, 64, 96 })
end)

t.test("a cancel reaches through a generator, and a limit around one holds", function()
    local cleaned
    local function forever()
        return coroutine.wrap(function()
            while true do
                local ok, err = pcall(sleep, 10)
                if not ok then
                    cleaned = true
                    error(err, 0)
                end
                coroutine.yield(1)
            end
        end)
    end
    t.fails("timeout", wait_for(15, function()
        for _ in forever() do
            cleaned = false
        end
    end))
    t.eq(cleaned, true)
end)

t.test("other tasks run while a generator waits", function()
    local log = {}
    local function ticker(name, s)
        return function()
            for v in coroutine.wrap(function()
                for i = 1, 3 do
                    sleep(s)
                    coroutine.yield(i)
                end
            end) do
                log[#log + 1] = name .. v
            end
        end
    end
    gather { ticker("a", 2), ticker("b", 3) }
    t.eq(table.concat(log, " "), "a1 b1 a2 b2 a3 b3")
end)

t.test("a coroutine that waits inside another task cannot be resumed: the error names it", function()
    local co = coroutine.create(function() sleep(10) end)
    local owner = spawn(function() return coroutine.resume(co) end)
    owner.name = "the owner"
    sleep(1)
    local err = t.raises("waiting inside task " .. owner.id .. " (the owner)", function()
        coroutine.resume(co)
    end)
    t.ok(tostring(err):find("test_virtual_coroutine.lua", 1, true))
    owner:await()
end)

t.test("an error in a coroutine keeps its value, and resume its false", function()
    local value = {}
    local co = coroutine.create(function() sleep(1) error(value) end)
    local ok, raised = coroutine.resume(co)
    t.eq(ok, false)
    t.ok(rawequal(raised, value))
    t.raises("inside", coroutine.wrap(function() sleep(1) error "inside" end))
end)

t.test("yield outside a coroutine says what to do instead", function()
    t.raises("a task gives way with sleep(0)", coroutine.yield, 1)
end)

t.test("endless recursion of coroutines is an error, not a crash", function()
    local function f()
        return coroutine.wrap(f)()
    end
    t.raises("C stack overflow", f)
end)

t.test("waiting works under pcall, xpcall, metamethods and iterators", function()
    local before = leat.now()
    t.eq({ pcall(function() sleep(1) return "p" end) }, { true, "p" })
    t.eq({ xpcall(function(x) sleep(1) return x end, print, "x") }, { true, "x" })
    local slow = setmetatable({}, {
        __index = function(_, k) sleep(1) return k end,
        __newindex = function() sleep(1) end,
        __add = function() sleep(1) return "sum" end,
        __eq = function() sleep(1) return true end,
        __lt = function() sleep(1) return true end,
        __concat = function() sleep(1) return "cat" end,
        __call = function() sleep(1) return "called" end,
    })
    t.eq(slow.key, "key")
    slow.x = 1
    t.eq(slow + 1, "sum")
    t.eq(slow < setmetatable({}, getmetatable(slow)), true)
    t.eq(slow .. "x", "cat")
    t.eq(slow(), "called")
    for v in function(_, last) sleep(1) return (last or 0) < 2 and (last or 0) + 1 or nil end do
        t.ok(v <= 2)
    end
    t.near(leat.now() - before, 11)
end)

t.test("where LuaJIT cannot wait the error says so, names the function, and nothing is left", function()
    local err = t.raises("sleep: cannot wait inside sort", table.sort, { 3, 2, 1 },
        function(a, b) sleep(1) return a < b end)
    t.ok(tostring(err):find("wait before the call", 1, true))
    t.raises("cannot wait inside format", function()
        local text = string.format("%s", setmetatable({}, { __tostring = function() sleep(1) end }))
        return text
    end)
    local sem = semaphore(1)
    t.raises("acquire: cannot wait", function()
        sem:acquire()
        table.sort({ 2, 1 }, function() sem:acquire() end)
    end)
    sem:release()
    t.raises("wait_for: cannot wait", table.sort, { 2, 1 }, function() wait_for(1, sleep, 2) end)
    t.raises("gather: cannot wait", table.sort, { 2, 1 }, function() gather { sleep } end)
    t.raises("cannot wait", table.sort, { 2, 1 }, function()
        coroutine.wrap(function() sleep(1) end)()
    end)
    sleep(1)
end)

-- ---- modules

local function write_module(name, text)
    local dir = os.tmpname()
    os.remove(dir)
    local path = dir .. "_" .. name .. ".lua"
    local f = assert(io.open(path, "w"))
    f:write(text)
    f:close()
    package.path = dir .. "_?.lua;" .. package.path
    return path
end

t.test("a module's top level may wait, and two tasks that require it share one load", function()
    local path = write_module("slow_module", [[
        loads = (loads or 0) + 1
        sleep(5)
        return { value = 42 }
    ]])
    local before = leat.now()
    local r = assert(gather {
        function() return require "slow_module" end,
        function() return require "slow_module" end,
    })
    os.remove(path)
    t.ok(rawequal(r[1], r[2]))
    t.eq(r[1].value, 42)
    t.eq(_G.loads, 1)
    _G.loads = nil
    t.near(leat.now() - before, 5)
end)

t.test("modules that require each other, or do not exist, are clear errors", function()
    local a = write_module("ring_a", 'return require "ring_b"')
    local b = write_module("ring_b", 'return require "ring_a"')
    t.raises("requires itself", require, "ring_a")
    os.remove(a)
    os.remove(b)
    t.raises("module 'no.such.module' not found", require, "no.such.module")
    local broken = write_module("broken_module", "local x = = 1")
    t.raises("does not compile", require, "broken_module")
    os.remove(broken)
    t.raises("the module's name must be a string, got nil", require)
end)

t.test("dofile may wait", function()
    local path = write_module("done_file", "sleep(1) return ...")
    t.eq(dofile(path), nil)
    os.remove(path)
    t.raises("cannot read", dofile, path)
end)

t.test("a task's own coroutine cannot be resumed by another one, and goes on", function()
    local co
    local task = spawn(function()
        co = coroutine.running()
        sleep(1)
        return "on its own"
    end)
    sleep(0)
    for _, resume in ipairs {
        coroutine.resume,
        function(c) return coroutine.wrap(function() return coroutine.resume(c) end)() end,
    } do
        local ok, err = pcall(resume, co)
        t.eq(ok, false)
        t.ok(tostring(err):find("a task's own coroutine", 1, true), tostring(err))
    end
    t.eq(coroutine.status(co), "suspended")
    t.eq(task:await(), "on its own")
    local main = coroutine.running()
    t.eq(spawn(function() return (pcall(coroutine.resume, main)) end):await(), false)
    t.eq({ coroutine.resume(main) }, { false, "cannot resume running coroutine" })
end)

t.done()
