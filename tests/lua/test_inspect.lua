-- leat.inspect: what a person sees of any value.
local t = require "harness"
local leat = require "leat"

local inspect = leat.inspect

t.test("plain values read as they are written", function()
    t.eq(inspect(nil), "nil")
    t.eq(inspect(true), "true")
    t.eq(inspect(42), "42")
    t.eq(inspect(-0.5), "-0.5")
    t.eq(inspect(2 ^ 53), "9007199254740992")
    t.eq(inspect(0.1 + 0.2), "0.30000000000000004")
    t.eq(inspect(1 / 0), "inf")
    t.eq(inspect(0 / 0):match "nan", "nan")
    t.eq(inspect "a\n\"b\"\\", [["a\n\"b\"\\"]])
    t.eq(inspect(json.null), "json.null")
    t.eq(inspect(print), "function <built in>")
    t.ok(inspect(function() end):find "^function <.*test_inspect.lua:%d+>$")
end)

t.test("text is shown as text in any script, what is not text as escapes", function()
    t.eq(inspect "漢字 ü", '"漢字 ü"')
    t.eq(inspect "\255\254", [["\xff\xfe"]])
    t.eq(inspect "\0\27[31m", [["\x00\x1b[31m"]])
    t.eq(inspect "\194\155", [["\xc2\x9b"]], "a C1 control character")
    t.eq(inspect "\237\160\128", [["\xed\xa0\x80"]], "a surrogate")
    t.eq(inspect "\228\184", [["\xe4\xb8"]])
end)

t.test("a long string is cut with its length, between two characters", function()
    t.eq(inspect(("a"):rep(1048576), { max_string = 3 }), '"aaa…" (1048576 bytes)')
    t.eq(inspect(("漢"):rep(10), { max_string = 4 }), '"漢…" (30 bytes)')
    t.eq(inspect(("漢"):rep(10), { max_string = 6 }), '"漢漢…" (30 bytes)')
end)

t.test("lists, maps and both; keys sorted by kind and value", function()
    t.eq(inspect {}, "{}")
    t.eq(inspect { 1, "two", { 3 } }, '{ 1, "two", { 3 } }')
    t.eq(inspect { b = 1, a = 2, c = 3 }, "{ a = 2, b = 1, c = 3 }")
    t.eq(inspect { "x", [10] = 1, [-1] = 2, k = 3, [true] = 4 },
        '{ "x", [-1] = 2, [10] = 1, k = 3, [true] = 4 }')
    t.eq(inspect { ["end"] = 1, ["a b"] = 2, [""] = 3 }, '{ [""] = 3, ["a b"] = 2, ["end"] = 1 }')
    t.eq(inspect { 1, nil, 3 }:find("3", 1, true) ~= nil, true)
end)

t.test("what does not fit the width goes on lines of its own, indented", function()
    t.eq(inspect({ alpha = { 1, 2 }, beta = "bbbb" }, { width = 24 }),
        '{\n  alpha = { 1, 2 },\n  beta = "bbbb"\n}')
    t.eq(inspect({ a = { b = { "cccccccc", "dddddddd" } } }, { width = 20 }),
        '{\n  a = {\n    b = {\n      "cccccccc",\n      "dddddddd"\n    }\n  }\n}')
end)

t.test("cycles are marked, a table met twice is shown twice, depth is bounded", function()
    local a = { name = "a" }
    a.self = a
    t.eq(inspect(a), '{ name = "a", self = <cycle> }')
    local shared = { 1 }
    t.eq(inspect { shared, shared }, "{ { 1 }, { 1 } }")
    t.eq(inspect({ { { {} } } }, { depth = 2 }), "{ { {…} } }")
    local deep = {}
    for _ = 1, 100000 do deep = { deep } end
    t.ok(#inspect(deep) < 1000)
    t.eq(inspect { [{ 1 }] = 2 }, "{ [{ 1 }] = 2 }")
end)

t.test("__tostring is obeyed, __index and __pairs are not asked, a broken __tostring does no harm", function()
    t.eq(inspect(setmetatable({ x = 1 }, { __tostring = function() return "a point" end })), "a point")
    t.eq(inspect { setmetatable({}, { __tostring = function() return "two\nlines" end }) }, "{ two lines }")
    t.eq(inspect(setmetatable({}, { __tostring = error })), "a table whose __tostring fails")
    t.eq(inspect(setmetatable({}, { __tostring = function() return 1 end })),
        "a table whose __tostring fails")
    local asked = setmetatable({ 1 }, { __index = error, __len = error, __metatable = "locked" })
    t.eq(inspect(asked), "{ 1 }")
    t.ok(inspect(leat.error { kind = "timeout", message = "too late" }):find("timeout: too late", 1, true))
    t.eq(inspect(json.decode "[]"), "{}")
end)

t.test("colours only if asked, and they do not count as width", function()
    local value = { a = { 1, "x", true }, b = function() end }
    t.eq(inspect(value):find "\27", nil)
    local colored = inspect(value, { colors = true })
    t.ok(colored:find "\27%[32m")
    t.eq((colored:gsub("\27%[%d*m", "")), inspect(value))
end)

t.test("large values are shown in bounded space and time", function()
    local list = {}
    for i = 1, 3000000 do list[i] = i end
    local text = inspect(list)
    t.ok(#text < 5000, #text)
    t.ok(text:find("… 2999900 more", 1, true), text:sub(-60))
    local map = {}
    for i = 1, 200000 do map["key" .. i] = ("v"):rep(500) end
    text = inspect(map)
    t.ok(#text < 40000, #text)
    t.ok(text:find("… more", 1, true))
    local wide = {}
    for i = 1, 100 do
        wide[i] = {}
        for j = 1, 100 do wide[i][j] = { ("s"):rep(300), { ("s"):rep(300) } } end
    end
    t.ok(#inspect(wide) < 60000, #inspect(wide))
    t.ok(#inspect(("x"):rep(50 * 1024 * 1024)) < 500)
    t.ok(#inspect { ("k"):rep(1e6), [("k"):rep(1e6)] = 1 } < 2000)
end)

t.test("exact bounds: items of a level, and of the whole", function()
    t.eq(inspect({ 1, 2, 3, 4 }, { max_items = 2 }), "{ 1, 2, … 2 more }")
    t.eq(inspect({ a = 1, b = 2, c = 3 }, { max_items = 2 }), "{ a = 1, b = 2, … 1 more }")
    t.eq(inspect({ 1, 2, a = 1 }, { max_items = 2 }), "{ 1, 2, … 1 more }")
end)

if t.url then
    t.test("a response is shown by status, type, size, time and the head of its body", function()
        local res = assert(request(t.url .. "/ok"))
        local text = inspect(res)
        t.ok(text:find "^response 200", text)
        t.ok(text:find("3 bytes, %d+%.%d+ s\nok$"), text)
        t.ok(not inspect { res }:find("\n", 1, true))
        local long = assert(request { url = t.url .. "/echo", body = ("x"):rep(10000) })
        t.ok(#inspect(long) < 700 and inspect(long):find "…$")
    end)
end

t.test("wrong options raise and are named", function()
    t.raises("did you mean 'colors'", inspect, 1, { colour = true })
    t.raises("depth", inspect, 1, { depth = "x" })
end)

t.done()
