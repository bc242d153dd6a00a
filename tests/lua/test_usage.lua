-- Wrong use of the task primitives: it raises at the script's line, and says what was given and what is
-- accepted. The rest of the task is none the worse for it.
local t = require "harness"
local leat = require "leat"

local here = "test_usage.lua:"

-- Every {function, ...} of `cases` raises a text with its key in it, that begins with this file's name.
local function refused(name, cases)
    t.test(name, function()
        for text, case in pairs(cases) do
            local ok, raised = pcall(function()
                local fn = case[1]
                local value = fn(unpack(case, 2, case.n or #case)) -- not a tail call: its line is asked for
                return value
            end)
            t.eq(ok, false, text)
            t.eq(type(raised), "string", text)
            t.ok(raised:find(text, 1, true), ("expected %q, got %q"):format(text, raised))
            t.ok(raised:find(here, 1, true), "no line of the script in: " .. raised)
            t.ok(not raised:find("leat/", 1, true), "a line of leat's own in: " .. raised)
        end
    end)
end

local nan = 0 / 0
local sem, q, e = semaphore(1), leat.queue(1), leat.event()

refused("times", {
    ["sleep: seconds must be a number of seconds, got nil"] = { sleep },
    ["sleep: seconds must be a number of seconds, got '1'"] = { sleep, "1" },
    ["sleep: seconds must be a number of seconds, got a table"] = { sleep, {} },
    ["sleep: seconds must be 0 or more seconds, got -0.1"] = { sleep, -0.1 },
    ["sleep: seconds must be 0 or more seconds, got -inf"] = { sleep, -math.huge },
    ["sleep: seconds must be 0 or more seconds, got nan"] = { sleep, nan },
    ["wait_for: seconds must be a number of seconds, got nil"] = { wait_for, nil, print, n = 3 },
    ["wait_for: seconds must be 0 or more seconds, got -1"] = { wait_for, -1, print },
    ["wait_for: seconds must be 0 or more seconds, got nan"] = { wait_for, nan, print },
    ["wait_for: seconds must be a number of seconds, got a function"] = { wait_for, print, 1 },
    ["shield: seconds must be 0 or more seconds, got -1"] = { leat.shield, -1, print },
    ["shield: seconds must be a number of seconds, got 'x'"] = { leat.shield, "x", print },
    ["finally: the grace must be 0 or more seconds, got -1"] = { leat.finally, print, print, -1 },
    ["finally: the grace must be 0 or more seconds, got '5'"] = { leat.finally, print, print, "5" },
    ["acquire: timeout must be 0 or more seconds, got -1"] = { sem.acquire, sem, -1 },
    ["acquire: timeout must be a number of seconds, got 'x'"] = { sem.acquire, sem, "x" },
    ["get: timeout must be 0 or more seconds, got nan"] = { q.get, q, nan },
    ["put: timeout must be 0 or more seconds, got -1"] = { q.put, q, 1, -1 },
    ["wait: timeout must be a number of seconds, got true"] = { e.wait, e, true },
})

refused("functions", {
    ["spawn: the first argument must be a function, got nil"] = { spawn },
    ["spawn: the first argument must be a function, got 'print'"] = { spawn, "print" },
    ["wait_for: the second argument must be a function, got nil"] = { wait_for, 1 },
    ["wait_for: the second argument must be a function, got 5"] = { wait_for, 1, 5 },
    ["wait_for: expected a task, got a semaphore"] = { wait_for, 1, sem },
    ["shield: the second argument must be a function, got nil"] = { leat.shield, 1 },
    ["finally: the first argument must be a function, got nil"] = { leat.finally },
    ["finally: the clean-up must be a function, got nil"] = { leat.finally, print },
    ["group: the argument must be a function, got a table"] = { leat.group, {} },
    ["with: the first argument must be a function, got nil"] = { sem.with, sem },
})

refused("lists and options", {
    ["gather takes one list of functions: gather{ f, g }; got nil"] = { gather },
    ["gather takes one list of functions: gather{ f, g }; got a function"] = { gather, print },
    ["gather: item 2 must be a function, got 5"] = { gather, { print, 5 } },
    ["gather: item 1 must be a function, got a table"] = { gather, { {} } },
    ["gather: options must be a table, got 5"] = { gather, {}, 5 },
    ["gather: item 1 must be a function, got true (pass the function itself, not what a call of it has"] =
        { gather, { sleep(0), sleep(0) } },
    ["spawn: the first argument must be a function, got true (pass the function itself and its arguments"] =
        { spawn, sleep(0) },
    ["wait_for: the second argument must be a function, got nil (pass the function itself"] = { wait_for, 1 },
    ["gather: item 1 must be a function, got 'x'"] = { gather, { "x" } },
    ["gather: unknown option 'setle' (did you mean 'settle'?)"] = { gather, {}, { setle = true } },
    ["gather: unknown option 1 (options: concurrency, limit, settle)"] = { gather, {}, { true } },
    ["gather: option 'settle' must be a boolean, got 1"] = { gather, {}, { settle = 1 } },
    ["gather: limit must be a whole number of at least 1, got 0"] = { gather, {}, { limit = 0 } },
    ["gather: limit must be a whole number of at least 1, got 1.5"] = { gather, {}, { limit = 1.5 } },
    ["gather: limit must be a whole number of at least 1, got nan"] = { gather, {}, { limit = nan } },
    ["gather: option 'concurrency' must be a number, got '3'"] = { gather, {}, { concurrency = "3" } },
    ["map: the second argument must be a function, got nil"] = { leat.map, {} },
    ["map: the items, unless a list, must be a function, got nil"] = { leat.map, nil, print, n = 3 },
    ["map: option 'on_result' must be a function, got true"] = { leat.map, {}, print, { on_result = true } },
    ["map: limit must be a whole number of at least 1, got -1"] = { leat.map, {}, print, { limit = -1 } },
    ["each: unknown option 'settle'"] = { leat.each, {}, print, { settle = true } },
    ["each: the items, unless a list, must be a function, got 7"] = { leat.each, 7, print },
    ["as_completed: the second argument must be a function, got 5"] = { leat.as_completed, {}, 5 },
    ["as_completed: unknown option 'on_result'"] = { leat.as_completed, {}, print, { on_result = print } },
    ["race: the list is empty"] = { leat.race, {} },
    ["race takes one list of functions: race{ f, g }; got 'x'"] = { leat.race, "x" },
})

refused("semaphore, queue and event", {
    ["semaphore: the number of permits must be a whole number of at least 0, got nothing"] = { semaphore },
    ["semaphore: the number of permits must be a whole number of at least 0, got -1"] = { semaphore, -1 },
    ["semaphore: the number of permits must be a whole number of at least 0, got 0.5"] = { semaphore, 0.5 },
    ["semaphore: the number of permits must be a whole number of at least 0, got nan"] = { semaphore, nan },
    ["semaphore: the number of permits must be a whole number of at least 0, got '3'"] = { semaphore, "3" },
    ["resize: the number of permits must be a whole number of at least 0, got -1"] = { sem.resize, sem, -1 },
    ["release: all 1 permits of this semaphore are back already"] = { sem.release, sem },
    ["expected a semaphore, got 5 (its methods are called with a colon"] = { sem.acquire, 5 },
    ["expected a semaphore, got nothing"] = { sem.release },
    ["expected a semaphore, got a queue"] = { sem.try_acquire, q },
    ["queue: the capacity must be a whole number of at least 1, got 0"] = { leat.queue, 0 },
    ["queue: the capacity must be a whole number of at least 1, got 'x'"] = { leat.queue, "x" },
    ["put: nil cannot be put into a queue"] = { q.put, q },
    ["put: nil cannot be put into a queue (get returns nil at its end)"] = { q.try_put, q, nil, n = 3 },
    ["expected a queue, got nil"] = { q.get },
    ["expected a queue, got a table"] = { q.close, {} },
    ["expected an event, got nil"] = { e.wait },
    ["expected an event, got true"] = { e.set, true },
})

local ended = spawn(print)
ended:cancel()

refused("tasks", {
    ["await: expected a task, got 5"] = { ended.await, 5 },
    ["await: expected a task, got nil"] = { ended.await },
    ["cancel: expected a task, got nil"] = { ended.cancel, nil, n = 2 },
    ["cancel: the reason must be a string"] = { ended.cancel, ended, {} },
    ["status: expected a task, got a semaphore"] = { ended.status, sem },
    ["task: only 'name' can be set, not 'nme'"] = { function() ended.nme = "x" end },
    ["task: the name must be a string"] = { function() ended.name = {} end },
    ["error: expected a table"] = { leat.error, "text" },
    ["error: unknown kind 'tiemout'"] = { leat.error, { kind = "tiemout" } },
})

refused("Lua's own functions that leat completes", {
    ["os.exit: the status must be a whole number from 0 to 255, got 256"] = { os.exit, 256 },
    ["os.exit: the status must be a whole number"] = { os.exit, "x" },
    ["require: the module's name must be a string, got nil"] = { require },
    ["require: module 'no.such.module' not found"] = { require, "no.such.module" },
    ["dofile: cannot read '/no/such/file'"] = { dofile, "/no/such/file" },
    ["load: the source must be a string or a function, got nil"] = { load },
    ["bad argument #1 to 'wrap' (function expected, got nil)"] = { coroutine.wrap },
    ["coroutine.yield: called outside a coroutine of the script's own"] = { coroutine.yield },
    ["bad argument #1 to 'gsub' (string expected, got nil)"] = { string.gsub, nil, "a", print, n = 4 },
    ["bad argument #2 to 'gsub' (string expected, got boolean)"] = { string.gsub, "a", true, print },
    ["bad argument #4 to 'gsub' (number expected, got string)"] = { string.gsub, "a", "a", print, "x" },
    ["malformed pattern (missing ']')"] = { string.gsub, "a", "[a", print },
    ["gsub: the replacement must be a string, a number, nil or false, got a table"] = {
        string.gsub, "a", "a", function() return {} end,
    },
})

t.test("bytecode is refused wherever it could come from", function()
    local code = string.dump(function() return 1 end)
    local at = 0
    local function reader()
        at = at + 1
        return at <= #code and code:sub(at, at) or nil
    end
    for _, load_it in ipairs {
        function() return load(code) end, function() return load(code, "x", "b") end,
        function() return load(code, "x", "bt") end, function() return loadstring(code) end,
        function() return load(reader) end,
    } do
        local f, err = load_it()
        t.eq(f, nil)
        t.ok(err:find("only text is loaded", 1, true), err)
    end
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(code)
    file:close()
    local f, err = loadfile(path)
    t.eq(f, nil)
    t.ok(err:find("only text is loaded", 1, true), err)
    t.raises("bytecode", dofile, path)
    os.remove(path)
    t.eq(load("return ...", "name", "t", {})(7), 7)
    t.eq(setfenv(load("return x"), { x = 8 })(), 8)
    t.eq(load("return x", "name", nil, { x = 9 })(), 9)
end)

t.test("a refused call leaves the objects as they were", function()
    t.eq(sem.available, 1)
    t.eq(sem.waiting, 0)
    t.eq(q.size, 0)
    t.eq(e:is_set(), false)
end)

t.done()
