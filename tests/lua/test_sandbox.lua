-- The sandbox, looked at from outside: this script is not in it, but makes one and walks through it.
local t = require "harness"
local raw = { find = string.find, match = string.match, gmatch = string.gmatch, gsub = string.gsub }
local real = {}
local libs = { _G = _G, io = io, os = os, package = package, debug = debug, jit = jit, string = string }
for name, lib in pairs(libs) do
    real[lib] = name
end
for _, name in ipairs { "dofile", "loadfile", "load", "loadstring", "require", "getfenv", "setfenv",
    "newproxy", "module", "collectgarbage" } do
    if _G[name] then real[_G[name]] = name end
end
for _, lib in ipairs { "io", "debug", "package", "jit" } do
    for name, value in pairs(_G[lib]) do
        if type(value) == "function" or type(value) == "table" then real[value] = lib .. "." .. name end
    end
end
for _, name in ipairs { "execute", "exit", "getenv", "remove", "rename", "setlocale", "tmpname" } do
    real[os[name]] = "os." .. name
end
for _, name in ipairs { "dump", "find", "match", "gmatch", "gsub" } do
    real[string[name]] = "string." .. name
end

local env = require("leat.state.sandbox").globals(leat, nil, "lib.*")

local function run(code, ...)
    local chunk = assert(loadstring(code, "=sandboxed"))
    return setfenv(chunk, env)(...)
end

-- Everything that a script can reach without upvalues, which it cannot see.
local function walk(value, path, seen)
    if real[value] then
        error("reaches " .. real[value] .. " by " .. path, 0)
    end
    if seen[value] then
        return
    end
    local mt = type(value) ~= "function" and env.getmetatable(value)
    if type(value) == "table" or type(value) == "userdata" then
        seen[value] = true
    end
    if type(mt) == "table" then
        walk(mt, path .. ":metatable", seen)
    end
    if type(value) == "table" then
        for k, v in next, value do
            walk(v, path .. "." .. tostring(k), seen)
        end
    end
end

t.test("nothing that a script can reach leads out of the sandbox", function()
    local objects = run [[
        local list = { _G, string, table, math, leat, ("").rep, sleep }
        for name in ("error gather map each as_completed merge race group semaphore queue event stopping"
            .. " is_stopping request client retry breaker limiter adaptive batch openai pipeline json uuid"
            .. " base64 sha256"
            .. " hmac inspect log version tasks stats"):gmatch "[%w_]+" do
            list[name] = assert(leat[name], name)
        end
        list.client_object = leat.client { base_url = "http://127.0.0.1:1" }
        list.sem, list.q, list.ev = semaphore(1), leat.queue(), leat.event()
        list.task = spawn(sleep, 0)
        list.tasks_list = leat.tasks()
        list.err = select(2, request "http://127.0.0.1:1/")
        list.limiter_object = leat.limiter { rps = 5 }
        return list
    ]]
    walk(objects, "list", {})
end)

t.test("what is not allowed is nil, or is denied", function()
    run [[
        for _, name in ipairs { "io", "debug", "package", "ffi", "jit", "dofile", "loadfile", "newproxy",
            "getfenv", "setfenv", "module", "gcinfo" } do
            assert(_G[name] == nil, name)
        end
        assert(string.dump == nil and os.getenv == nil and os.execute == nil and os.exit == nil)
        assert(leat.serve == nil and leat.stdin == nil and leat.core == nil)
        for _, name in ipairs { "ffi", "io", "debug", "string.buffer", "jit", "leat.native.file",
            "leat.core.file", "leat.file", "leat.internal.file", "leat.state.loader", "leat.loader",
            "lib/../x", "lib...x" } do
            local ok, err = pcall(require, name)
            assert(not ok and err.kind == "denied" and err.reason == "sandbox", name)
        end
        local ok, err = pcall(require, "lib.absent")
        assert(not ok and tostring(err):find "not found")
        assert(require "leat" == leat)
    ]]
end)

t.test("chunks are text and see the sandbox alone", function()
    run [[
        assert(load("return io")() == nil and loadstring("return io")() == nil)
        assert(load("x = 1") and load("return _G")() == _G)
        assert(load "\27LJ\2" == nil and loadstring "\27LJ\2" == nil)
        assert(load("return 1", "x", "b") == nil)
        local given = false
        assert(load(function() if not given then given = true return "\27LJ\2" end end) == nil)
    ]]
end)

t.test("a script cannot replace the string methods that leat uses", function()
    run [[
        assert(getmetatable("") == "string" and not pcall(setmetatable, "", {}))
        local sub, gmatch = string.sub, string.gmatch
        string.sub = function() return "lib." end
        string.gmatch = function() return function() return "*" end end
        local ok, err = pcall(require, "leat.internal.file")
        string.sub, string.gmatch = sub, gmatch
        assert(not ok and err.kind == "denied")
        assert(("abc"):sub(2, 2) == "b")
    ]]
end)

t.test("files of the machine are denied", function()
    run [[
        local function denied(spec)
            spec.url = "http://127.0.0.1:1/"
            local v, err = request(spec)
            assert(v == nil and err.kind == "denied" and err.reason == "sandbox", tostring(err))
        end
        denied { method = "POST", body = { file = "/etc/passwd" } }
        denied { method = "POST", multipart = { f = { file = "/etc/passwd" } } }
    ]]
end)

t.test("a catastrophic pattern is a failure", function()
    run [[
        local text = ("a"):rep(30)
        for _, p in ipairs { ("a*"):rep(30) .. "b", (".-"):rep(20) .. "b" } do
            for _, fn in ipairs { string.find, string.match, function(s, q) return s:gsub(q, "") end,
                function(s, q) return s:gmatch(q)() end } do
                local ok, err = pcall(fn, text, p)
                assert(not ok and err.kind == "budget" and err.reason == "pattern", tostring(err))
            end
        end
        local ok, err = pcall(string.find, ("a"):rep(400), ("a?"):rep(400))
        assert(not ok and type(err) == "string")
    ]]
end)

t.test("a search is no longer than its budget, however long its sets and plain texts are", function()
    run [[
        local text, set = ("a"):rep(1e6), "[" .. ("b"):rep(1e6) .. "]"
        for _, p in ipairs { set, "%f" .. set, "x?" .. set .. "*z", "[^" .. ("a"):rep(1e6) .. "]" } do
            local ok, err = pcall(string.find, text, p)
            assert(not ok and err.reason == "pattern", tostring(err))
        end
        local half = ("a"):rep(5e5)
        assert(not text:find(half .. "b", 1, true) and not text:find(half .. "b"))
        assert(text:find(half, 4e5, true) == 4e5)
    ]]
end)

t.test("plain text is found as Lua's own finds it", function()
    for _, s in ipairs { "", "a", "abcabc", "a\0b\0", "aab" } do
        for _, wanted in ipairs { "", "a", "b", "bc", "\0", "b\0", "ab", "abcabcd" } do
            for init = -8, 8 do
                t.eq({ env.string.find(s, wanted, init, true) }, { raw.find(s, wanted, init, true) },
                    ("%q in %q from %d"):format(wanted, s, init))
            end
        end
    end
end)

t.test("an insert far outside of the list is refused, not carried out for minutes", function()
    run [[
        for _, position in ipairs { -1e9, -2147483647, 0, 4.5, 1e9, 0 / 0 } do
            local list = { 1 }
            local ok, err = pcall(table.insert, list, position, 2)
            assert(not ok and err:find "position out of bounds", tostring(err))
            assert(#list == 1)
        end
        local list = {}
        table.insert(list, "b")
        table.insert(list, 1, "a")
        table.insert(list, 3, "d")
        table.insert(list, "3", "c")
        assert(table.concat(list) == "abcd")
        assert(not pcall(table.insert, list) and not pcall(table.insert, 5, 1, 2))
    ]]
end)

local function packed(n, ...)
    local parts = {}
    for i = 1, n do
        parts[i] = tostring((select(i, ...)))
    end
    return table.concat(parts, "|")
end

local function count(...)
    return packed(select("#", ...), ...)
end

local function all(fn, s, p)
    local out = {}
    for a, b in fn(s, p) do
        out[#out + 1] = tostring(a) .. "," .. tostring(b)
        if #out > 50 then
            break
        end
    end
    return table.concat(out, ";")
end

t.test("patterns match as Lua's own do", function()
    local subjects = { "", "a", "abc", "  x = 12, yy=3 ", "((a)(b))", "aXbXc", "%d", "a\0b", "[x]",
        "foo.bar", "THE (quick) fox" }
    local patterns = { "", "a", "^a", "c$", "^$", "$", "%w+", "%s*", "(%w+)%s*=%s*(%w+)",
        "()", "()a()",
        "%b()", "%f[%w]%w+", "[^%s]+", "[]]", "[%]x]", "[a-c]", "[^a-c]", ".-b", "a?b", "(.)%1", "%%d", "X",
        "%z",
        "^%s*(.-)%s*$", "[%a_][%w_]*",
        "(a*(.)%w(%s*))", "%f[%a]%a+%f[%A]", "-", "a-", "[a-]", "^", "(", ")", "%", "[", "[^", "%1", "%b",
        "%f", "(()" }
    for _, s in ipairs(subjects) do
        for _, p in ipairs(patterns) do
            local where = ("'%s' in '%s'"):format(p, s)
            for init = -2, 3 do
                local a, b = count(pcall(raw.find, s, p, init)), count(pcall(env.string.find, s, p, init))
                if a:sub(1, 4) == "true" or b:sub(1, 4) == "true" then
                    t.eq(b, a, "find " .. where .. " from " .. init)
                end
            end
            if pcall(raw.match, s, p) and pcall(raw.match, "abc", p) then
                t.eq(count(env.string.match(s, p)), count(raw.match(s, p)), "match " .. where)
                t.eq(all(env.string.gmatch, s, p), all(raw.gmatch, s, p), "gmatch " .. where)
                for _, repl in ipairs { "<%0>", "<%1>", "", { a = "T" } } do
                    t.eq(count(env.string.gsub(s, p, repl, 2)), count(raw.gsub(s, p, repl, 2)),
                        "gsub " .. where)
                    t.eq(count(env.string.gsub(s, p, repl)), count(raw.gsub(s, p, repl)), "gsub " .. where)
                end
            end
        end
    end
end)

t.done()
