-- The parts of the prompt that need no terminal: chunks and their locals, what counts as a secret.
local t = require "harness"
local chunk = require "leat.repl.chunk"
local secrets = require "leat.repl.secrets"

-- Runs the texts one after the other as lines of one prompt; the values of the last.
local function lines(...)
    local kept, last = {}, nil
    for i = 1, select("#", ...) do
        last = { assert(chunk.compile(select(i, ...), "=[" .. i .. "]", kept))() }
    end
    return unpack(last, 1, 10)
end

t.test("a text is whole, unfinished or wrong", function()
    for _, text in ipairs { "for i = 1, 2 do", "x = (", "f(", "x = [[a", "--[[ a", "local", "function f()",
        "x =", "if x then else", "x = 'a\\" } do
        local fn, err, unfinished = chunk.compile(text, "=t", {})
        t.ok(not fn and err and unfinished, text)
    end
    for _, text in ipairs { "x = = 1", "x = 'a", "end", "1 +* 2", "x y", ")" } do
        local fn, err, unfinished = chunk.compile(text, "=t", {})
        t.ok(not fn and err and not unfinished, text)
    end
    for _, text in ipairs { "1", "x = 1", "-- note", "", "return 1",
        "1, 2 -- note", "f;", "do end --[[ x ]]" } do
        t.ok(chunk.compile(text, "=t", {}), text)
    end
end)

t.test("an expression gives all its values, and so does a last line of several", function()
    t.eq({ lines "1, nil, 3" }, { 1, nil, 3 })
    t.eq({ lines "('x'):rep(2)" }, { "xx" })
    t.eq({ lines "local a = 2\na = a + 1\na * 2" }, { 6 })
    t.eq({ lines "local a = {\n1}\n#a" }, { 1 })
    t.eq({ lines "select('#', ...)" }, { 0 })
end)

t.test("locals stay, one variable for all who see it", function()
    t.eq(lines("local a, b = 1, 2", "a + b"), 3)
    t.eq(lines("local n = 1 function rt_get() return n end", "n = 5", "rt_get()"), 5)
    t.eq(lines("local function fact(n) return n < 2 and 1 or n * fact(n - 1) end", "fact(5)"), 120)
    t.eq(lines("local x = 1", "local x = x + 1", "x"), 2)
    t.eq(lines("local x = 1", "do local x = 7 end", "x"), 1)
    t.eq(lines("local x = 1 if true then local y = 2 end", "local z = x return z", "z, y"), 1)
    t.eq(lines("local x = 1 if true then return x end", "x"), nil, "the limit: left before its end")
    t.eq(lines("local t = { f = 1 }", "t.f .. t.f"), "11")
    t.eq(lines("local a, b = 1, 2 return a", "b"), 2)
    t.eq(lines("local a = 1; local b = a -- local c = 3", "c"), nil)
    t.eq(lines([[local s = "local q = 1" local r = 'local q = 2' local u = [=[local q]=] ]], "q"), nil)
    t.eq(lines("for i = 1, 2 do local w = i end repeat local w = 1 until w", "w"), nil)
    t.eq(lines("local v = 3 for i = 1, 2 do local w = i end repeat local w until true", "v"), 3)
    t.eq(lines("local a = function() local inner = 1 return inner end", "a() + (inner or 1)"), 2)
    t.eq(lines("local y = {['end'] = 1, ['local'] = 2} y.z = 1", "y.z"), 1)
    rt_get = nil -- luacheck: ignore
end)

t.test("a local that its own line never changes may still be changed by a later one", function()
    local kept = {}
    assert(chunk.compile("local n = 1 local function get() return n end", "=a", kept))()
    local sum = assert(chunk.compile("local s = 0 for i = 1, 200 do s = s + get() end return s", "=b", kept))
    t.eq(sum(), 200)
    assert(chunk.compile("n = 2", "=c", kept))()
    t.eq(sum(), 400)
end)

t.test("many locals and many names do no harm", function()
    local names = {}
    for i = 1, 199 do names[i] = "v" .. i end
    local text = "local " .. table.concat(names, ", ") .. " = 1"
    local kept = {}
    assert(chunk.compile(text, "=a", kept))()
    t.ok(chunk.compile(table.concat(names, " = 2 ") .. " = 2", "=b", kept))
    t.ok(chunk.compile("goto done do local x end ::done::", "=c", kept))
    t.ok(chunk.compile("goto done local x = 1 ::done::", "=d", kept))
end)

t.test("lines stay where they are", function()
    local fn = assert(chunk.compile("local a = 1\nlocal b = 2\nerror 'here'", "=[7]", { a = nil }))
    t.raises("[7]:3: here", fn)
end)

t.test("a text that looks like a secret is found", function()
    for _, text in ipairs { 'k = "sk-proj-abc123def456"', 'api_key = "x"', "API_KEY='x'",
        'headers = {["X-Api-Key"] = "v"}',
        'request{url = u, auth = {bearer = "abc"}}', 'h = "Authorization: Bearer abc"', '"ghp_abcd1234"',
        'password = [[x]]', '"https://user:pw@host/"', '"https://host/?token=abc"', '"eyJhbGciOi.eyJzdWIiOi"',
        '"d41d8cd98f00b204e9800998ecf8427e"', '"AKIAIOSFODNN7EXAMPLE"', "auth = {basic = {'user', 'pw'}}",
        'local t = { client_secret = "s" }' } do
        t.ok(secrets.found(text), text)
    end
end)

t.test("other texts are not taken for secrets", function()
    for _, text in ipairs { 'request("https://host/path/to/thing?page=2")', "for i = 1, 10 do print(i) end",
        'key = os.getenv "OPENAI_API_KEY"', "local keys = {} for key in pairs(t) do keys[1] = key end",
        'require "leat.inspect"', "help(request)",
        "x = a_rather_long_name_of_a_function_that_has_no_digits(1, 2)",
        "token = nil", 'f = io.open("/usr/share/doc/some-package-name/changelog.Debian.gz")' } do
        t.ok(not secrets.found(text), text)
    end
end)

t.done()
