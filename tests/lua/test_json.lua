-- JSON: what must be accepted, what must be rejected, and what must come back as it was.
local t = require "harness"
local leat = require "leat"
local generator = require "random"
local json = leat.json

local function bytes(...)
    return string.char(...)
end

-- A list of { what, text }: one test each would drown the rest, so a group reports its own failures.
local function accepts(group, texts)
    t.test("decode accepts " .. group .. " (" .. #texts .. " texts)", function()
        for _, text in ipairs(texts) do
            local value, err = json.decode(text)
            t.ok(value ~= nil and err == nil, ("%q: %s"):format(text, tostring(err)))
            local other, other_err = json.decode(text, { builder = "cjson" })
            t.ok(other ~= nil and other_err == nil, ("%q by cjson: %s"):format(text, tostring(other_err)))
            t.eq(other, value)
        end
    end)
end

local function rejects(group, texts)
    t.test("decode rejects " .. group .. " (" .. #texts .. " texts)", function()
        for _, text in ipairs(texts) do
            local value, err = json.decode(text)
            t.ok(value == nil, ("%q was accepted"):format(text))
            t.fails("invalid", value, err)
            t.ok(err and err.offset and err.offset >= 1 and err.offset <= #text + 1,
                ("%q: offset %s"):format(text, tostring(err and err.offset)))
            local other, other_err = json.decode(text, { builder = "cjson" })
            t.fails("invalid", other, other_err)
        end
    end)
end

accepts("values alone", {
    "null", "true", "false", "0", "-0", "42", '""', '"a"', "[]", "{}", " null ", "\ttrue\n", "\r\n[ ]\r\n",
    '"\\u0022"', "-1", "1.5", "1e3", "[[[[]]]]", '{"":0}',
})
accepts("numbers", {
    "[0]", "[-0]", "[-0.0]", "[0.5]", "[1]", "[-1]", "[10]", "[123456789]", "[1.0]", "[1.25]", "[0e1]",
    "[0e+1]", "[0E-1]", "[1e1]", "[1E1]", "[1e+1]", "[1E+1]", "[1e-1]", "[1E-1]", "[1.5e10]",
    "[123.456e78]",
    "[-123]", "[20e1]", "[123e65]", "[0.000000000000000000000000000000000001]", "[1E22]", "[1e-2]",
    "[9007199254740993]", "[-9007199254740993]", "[123123123123123123123123123123]", "[1e-400]", "[1e308]",
    "[-1.7976931348623157e308]", "[5e-324]", "[2.2250738585072014e-308]", "[ 4]", "[4 ]", "[0,1]",
})
accepts("strings", {
    '["\\"\\\\\\/\\b\\f\\n\\r\\t"]', '["\\u0000"]', '["\\u0060\\u012a\\u12AB"]', '["\\uD801\\udc37"]',
    '["\\ud83d\\ude39\\ud83d\\udc8d"]', '["\\uDBFF\\uDFFF"]', '["\\uFFFF"]', '["\\ufffe"]', '["\\uFDD0"]',
    '["\\u2028\\u2029"]', '["\\u00A0"]', '["\\u200b"]', '["\\u2064"]', '["/"]', '["a/*b*/c"]', '["\127"]',
    '["\226\130\172"]', '["\240\157\132\158"]', '["\226\128\168"]', '["\226\128\169"]', '["\239\187\191"]',
    '["\\\\u0000"]', '["\\\\n"]', '["\\\\a"]', '["\\\\\\\\"]', '["\\u0061\\u30af"]', '["new\\nline"]',
    '["\194\128"]', '["\223\191"]', '["\224\160\128"]', '["\237\159\191"]', '["\238\128\128"]',
    '["\239\191\191"]', '["\240\144\128\128"]', '["\244\143\191\191"]', '["\\u0821"]', '["asd "]', '[" "]',
    '["\\uA66D"]', '["\207\128"]', '["\\uDADA\\uDEDA"]',
})
accepts("arrays and objects", {
    "[]", "[ ]", "[null]", "[null, 1, \"1\", {}]", "[1,null,null,2]", "[false]", "[[]   ]", "[1\n]", '[""]',
    " [1]",
    "[2] ", "[1,2,3]", "[[1],[2,[3]]]", "{}", "{ }", '{"a":1}', '{ "a" : 1 }', '{"a":1,"b":2}',
    '{"a":{"b":{"c":[]}}}', '{"a":"b","a":"c"}', '{"a":"b","a":"b"}', '{"\\u0000":1}', '{"a\\u0062":null}',
    '{"a":[]}', '{"title":"\\u041f\\u043e\\u043b"}', '{\n"a": "b"\n}', '{"x":[{"id":"xx"}],"id":"yy"}',
    '{"min":-1.0e+28,"max":1.0e+28}', '["a","b"]', '{"":""}', ("["):rep(500) .. ("]"):rep(500),
})

rejects("what is not a value", {
    "", " ", "\n", "nul", "nulll", "tru", "truee", "fals", "True", "TRUE", "Null", "nil", "undefined", "a",
    "abc",
    "'a'", "*", "<null>", "<.>", "[<null>]", "&", ",", ":", "}", "]", "][", "{]", "[}", "\0", "\0null",
    "null\0",
    "\f1", "\v1", "\194\160[]", "\226\129\160[]", "\239\187\191[]", "\239\187\191", "\254\255\0[", "[\255]",
    "\229", "[\229]", "//", "/**/[]", "[] // no", "[]/**/", "# no\n[]", "[nul]", "[tru]", "[fals]", "[a",
    "aa",
    "[True]", "[1,,2", "é",
})
rejects("numbers", {
    "+1", "01", "-01", "00", "-", "--1", "-a", "- 1", "1.", "-1.", ".5", "-.5", "1.e1", "0.e1", "0.", "1e",
    "1E",
    "1e+", "1e-", "1E+", "0e", "0e+", "0E", "0E+", "1eE2", "1e1.5", "1.2.3", "1+2", "1-2", "1 000", "1_000",
    "1,000",
    "0x1", "0x42", "0xF", "1a", "12a", "1e1a", "NaN", "-NaN", "nan", "Inf", "inf", "Infinity", "-Infinity",
    "+Inf",
    "[-]", "[-1.0.]", "[-2.]", "[.-1]", "[.2e-3]", "[0.1.2]", "[0.3e+]", "[0.3e]", "[0e+-1]", "[1.0e+]",
    "[1.0e-]",
    "[1.0e]", "[2.e+3]", "[2.e-3]", "[2.e3]", "[9.e+]", "[1+2]", "[0x1]", "[0x42]", "[++1234]", "[-foo]",
    "[-012]", "[-1x]", "[012]", "[1.8011670033376514H-308]", "[-NaN]", "[NaN]", "[Infinity]",
    "[-123.123foo]",
    "[\239\188\145]", "123\0", "1e\229", "0\229", "[1 2]", "2.", "[.]", "1e400", "-1e400",
    "[1e999999999999]",
    "[123.456e-]", "-2.", "0e+-1", ".",
})
rejects("strings", {
    '"', '"a', "[\"", '["a', '["a]', '"\\', '"\\"', '["\\"]', '["\\x00"]', '["\\\\\\"]', '["\\\t"]',
    '["\\a"]',
    '["\\v"]', '["\\0"]', '["\\\'"]', '["\\ "]', '["\\U0041"]', '["\\u"]', '["\\u0"]', '["\\u00"]',
        '["\\u00A"]',
    '["\\u 041"]', '["\\u00G1"]', '["\\u+041"]', '["\\uD834\\uDd"]', '["\\uD800\\"]', '["\\uD800\\u"]',
    '["\\uD800\\u1"]', '["\\uD800\\u1x"]', '["\\uD800\\uD800\\x"]', '["\\u\229"]', '["\\\229"]', '["\n"]',
    '["a\nb"]', '["\t"]', '["a\0a"]', '["\31"]', '["\r"]', "['single']", "[\\n]", '[\\u0020"asd"]',
    '["\240\159\146"]',
    '""x', '"asd"x', '["\\uD800"]', '["\\uDC00"]', '["\\udc00\\ud800"]', '["\\ud800x"]', '["\\ud800\\n"]',
    '["\\ud800\\ud800"]', '["\\uDFAA"]', '["\\uDd1e\\uD834"]', '[\\"a"]', "`a`",
})
rejects("bytes that are not UTF-8", {
    '"\128"', '"\191"', '"\192\128"', '"\193\191"', '"\194"', '"\194a"', '"\224\128\128"', '"\224\159\191"',
        '"\226\130"',
    '"\226\130a"', '"\237\160\128"', '"\237\191\191"', '"\240\128\128\128"', '"\240\143\191\191"',
        '"\240\144\128"',
    '"\244\144\128\128"', '"\245\128\128\128"', '"\248\136\128\128\128"', '"\252\132\128\128\128\128"',
        '"\254"',
    '"\255"', '"\195\40"', '"\226\40\161"', '"\240\40\140\188"', '{"\255":1}', '"a\239\187"',
})
rejects("arrays", {
    "[", "[1", "[1,", "[,", "[,1]", "[1,]", "[1,,2]", "[1,,]", "[,]", '["",]', "[1:2]", "[1 true]",
    "[\"a\" 1]",
    "[1,\n1\n,1", "[[]", "[[1]", "[]]", "[1]]", "[1]x", "[1][2]", "[][]", "[3[4]]", "[x", "[x]", '["x"',
    "[(1)]",
    '[1,{"a":]', "[{}", "[a, b]", "[,null]", "[   , \"\"]", "[\"a\",\n4\n,1,", '["": 1]', "[\226\129\160]",
    "[*]",
    "[1}", "[;1]", "[1;2]", '["a","b",1', "[null,", "[\v1]", "[\f]", "[{]", "[{}{}]",
    ("["):rep(513) .. ("]"):rep(513),
    ("["):rep(100000), ("[{\"a\":"):rep(50000),
})
rejects("objects", {
    "{", "{a", "{a:1}", "{'a':1}", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a":1,,"b":2}',
    '{,}', '{,"a":1}',
    '{"a" 1}', '{"a"::1}', '{"a":1 "b":2}', '{"a":1;"b":2}', '{"a"=1}', '{"a"=>1}', '{1:1}', "{null:null}",
    "{true:1}", "{[]:1}", '{"a":b}', '{"a":"b",a}', '{"a"}', '{"a","b"}', '{:"b"}', '{"a":"b"}#',
    '{"a":"b"}//',
    '{"a":"b"}/**/', '{"a":"b"}}', '{"a":1}{"b":2}', '{"a":true} "x"', '{"a" b}', '{"a": 1 2}',
        '{"a":1,"b"}',
    '{9999E9999:1}', '{"id":0,}', '{"id":0,,,,,}', '{"x", null}', '{"x"::"b"}', "{\240\159\135\168}",
    '{"a":/*x*/"b"}',
    '{"a":"a" 123}', "{[", "{key: 'value'}", '{"a"x:1}', '{,', "{}}", "{{}}", '{"a":{}', "{\"\\u12\":1}",
    '{"a\n":1}',
    ('{"a":'):rep(513) .. "1" .. ("}"):rep(513),
})

t.test("what decode takes apart, encode puts together again", function()
    for _, text in ipairs {
        "[]", "{}", "[[],{}]", '{"a":[]}', "null", "true", "false", "0", "-0", "-1", "9007199254740991",
        "9007199254740992", "-9007199254740992", "0.1", "0.30000000000000004", "123456789012345", "1e+300",
            "4.94065645841247e-324",
        "1.7976931348623157e+308", "0.7", "12.25", "1234567.891", "-0.001", "3.141592653589793", '""',
            '"a/b"', '"é"',
        '"\\u0000\\u001f"', '"\\b\\f\\n\\r\\t\\"\\\\"', '"\127"', "[null,1,[2,[3]]]", '{"a\\u0000b":1}',
            "[0.5,100,-7]",
    } do
        t.eq(json.encode(json.decode(text)), text)
    end
end)

t.test("every double reads back as it was written", function()
    local random = generator(12345)
    for _ = 1, 20000 do
        local x = (random() + random() / 2 ^ 32) * 10 ^ (random(40) - 21)
        if random(2) == 1 then
            x = math.floor(x * 1000) / 1000
        end
        local text = json.encode { x }
        if json.decode(text)[1] ~= x or #text > 26 then
            t.ok(false, ("%.17g became %s"):format(x, text))
            return
        end
    end
    t.ok(true)
end)

t.test("numbers are read as LuaJIT itself reads them", function()
    local digits = { "1", "12", "123456789012345", "1234567890123456", "9007199254740993",
    "179769313486231570" }
    for _, d in ipairs(digits) do
        for e = -330, 290, 7 do
            local text = d .. "e" .. e
            t.eq(json.decode("[" .. text .. "]")[1], tonumber(text))
        end
        for point = 1, #d - 1 do
            local text = d:sub(1, point) .. "." .. d:sub(point + 1)
            t.eq(json.decode("[" .. text .. "]")[1], tonumber(text))
        end
    end
end)

t.test("long fractions are read as lua-cjson reads them", function()
    local random = generator(99)
    for _ = 1, 5000 do
        local digits = {}
        for i = 1, 15 + random(30) do
            digits[i] = random(10) - 1
        end
        local text = "[-" .. random(1000) - 1 .. "." .. table.concat(digits) .. "]"
        if json.decode(text)[1] ~= json.decode(text, { builder = "cjson" })[1] then
            t.ok(false, text)
            return
        end
    end
    t.ok(true)
end)

t.test("an exponent of any size is read or refused, never misread", function()
    t.eq(json.decode("[0e999999999999, 1e-999999999999, 0.0e-99999, -1e-70000]"), { 0, 0, 0, -0 })
    t.eq(json.decode("[1" .. ("0"):rep(1000) .. "e-1000]")[1], 1)
    t.eq(json.decode("[0." .. ("0"):rep(70000) .. "1e70001]")[1], 1)
    t.fails("invalid", json.decode("1" .. ("0"):rep(400)))
    t.eq(json.decode("[1e999999999999]", { big = "string" }), { "1e999999999999" })
end)

t.test("large whole numbers can be had as text", function()
    local text = "[9007199254740992, 9007199254740993, -9007199254740993, 12345678901234567890, "
        .. "1e400, 1.5, 1e20]"
    t.eq(json.decode(text, { big = "string" }), { 9007199254740992, "9007199254740993", "-9007199254740993",
        "12345678901234567890", "1e400", 1.5, 1e20 })
    t.eq(json.decode("12345678901234567890"), 12345678901234567168)
    t.eq(json.decode("9007199254740993", { big = "string", builder = "cjson" }), "9007199254740993")
end)

t.test("escapes become the characters they stand for", function()
    t.eq(json.decode '"\\u0000\\u00e9\\u20ac\\ud834\\udd1e\\/\\\\u"',
        "\0\195\169\226\130\172\240\157\132\158/\\u")
    t.eq(json.decode '"a\\tb\\nc\\"d"', 'a\tb\nc"d')
    t.eq(json.decode '{"\\u0061\\u0000b": 1}', { ["a\0b"] = 1 })
end)

t.test("of a key that stands twice the last value counts", function()
    t.eq(json.decode '{"a":1,"b":2,"a":3}', { a = 3, b = 2 })
end)

t.test("null is json.null, in both directions and with both builders", function()
    t.ok(json.decode("null") == json.null)
    t.ok(json.decode("[null]", { builder = "cjson" })[1] == json.null)
    t.eq(json.encode { a = json.null }, '{"a":null}')
    t.eq(json.encode(nil), "null")
end)

t.test("empty arrays stay arrays after they were filled and emptied", function()
    local v = json.decode '{"list":[]}'
    v.list[1] = "x"
    t.eq(json.encode(v), '{"list":["x"]}')
    v.list[1] = nil
    t.eq(json.encode(v), '{"list":[]}')
    t.eq(json.encode(json.decode("[[]]", { builder = "cjson" })), "[[]]")
end)

t.test("json.array and json.object say what an empty or numbered table is", function()
    t.eq(json.encode { a = json.array {}, b = json.object {}, }:len(), #'{"a":[],"b":{}}')
    t.eq(json.encode(json.array()), "[]")
    t.eq(json.encode(json.object { [3] = "x" }), '{"3":"x"}')
    t.eq(json.encode(json.object { "x" }), '{"1":"x"}')
    t.eq(json.encode(json.object(json.array {})), "{}")
    t.fails("invalid", json.encode(json.object { [1] = 1, ["1"] = 2 }))
    t.fails("invalid", json.encode(json.object { [1.5] = 1 }))
    t.fails("invalid", json.encode(json.array { a = 1 }))
    t.raises("metatable of its own", json.array, setmetatable({}, {}))
    t.raises("expected a table", json.object, 3)
end)

t.test("an empty object is one with its keys sorted, too", function()
    local v = { tools = { { parameters = json.object {}, list = json.array() } } }
    local text = json.encode(v, { sorted = true })
    t.eq(text, '{"tools":[{"list":[],"parameters":{}}]}')
    t.eq(json.encode(json.decode(text), { sorted = true }), text)
    t.eq(json.encode(json.object {}, { sorted = true, indent = 2 }), "{}")
    t.eq(json.encode(json.object { json.object {} }), '{"1":{}}')
end)

t.test("keys can be sorted and lines indented", function()
    t.eq(json.encode({ b = 1, a = { d = {}, c = json.array(), ["\0"] = 1 }, ab = 2 }, { sorted = true }),
        '{"a":{"\\u0000":1,"c":[],"d":{}},"ab":2,"b":1}')
    t.eq(json.encode({ a = { 1, { b = 2 } } }, { sorted = true, indent = 2 }),
        '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ]\n}')
    t.eq(json.encode({}, { indent = 4 }), "{}")
    for _, opts in ipairs { {}, { sorted = true }, { sorted = true, indent = 2 } } do
        t.eq(json.encode(json.object(), opts), "{}") -- marked as an object, and empty
        local within = { a = json.object(), b = { json.object() } }
        t.eq(json.decode(json.encode(within, opts)), { a = {}, b = { {} } })
    end
    local many = {}
    for i = 1, 1000 do many["k" .. i] = { i } end
    t.eq(json.decode(json.encode(many, { sorted = true })), many)
end)

t.test("what JSON cannot hold fails and says where it is", function()
    local function fails(value, part)
        local text, err = json.encode(value)
        t.fails("invalid", text, err)
        t.ok(err and err.message:find(part, 1, true), tostring(err) .. " should hold " .. part)
    end
    fails(print, "a function")
    fails({ a = { { run = print } } }, "a function, which JSON cannot hold, at .a[1].run")
    fails({ 1, coroutine.create(print) }, "a thread, which JSON cannot hold, at [2]")
    fails({ x = io.stdout }, "a userdata, which JSON cannot hold, at .x")
    fails({ n = 0 / 0 }, "NaN, which JSON cannot hold, at .n")
    fails({ n = 1 / 0 }, "infinite number, which JSON cannot hold, at .n")
    fails({ n = -1 / 0 }, "at .n")
    fails({ a = { 1, nil, 3 } }, "holes")
    fails({ a = { [2] = 1 } }, "at .a")
    fails({ [1e9] = 1 }, "holes")
    fails({ 1, 2, x = 3 }, "both string and number keys")
    fails({ x = 3, [7] = 1 }, "both string and number keys")
    fails({ x = 3, y = 2, [true] = 1 }, "neither a string nor an index")
    fails({ [true] = 1 }, "neither a string nor an index")
    fails({ [0] = 1 }, "neither a string nor an index")
    fails({ [1.5] = 1 }, "neither a string nor an index")
    fails({ s = "a\255" }, "not UTF-8 at .s")
    fails({ ["\255"] = 1 }, "a key that is not UTF-8")
    fails("\237\160\128", "not UTF-8")
    fails(("x"):rep(10) .. "\226\130", "not UTF-8")
end)

t.test("a cycle and a tree too deep fail, and the cycle is named where it closes", function()
    local a = { b = { {} } }
    a.b[1].back = a
    local text, err = json.encode(a)
    t.fails("invalid", text, err)
    t.ok(err.message:find("contains itself, at .b[1].back", 1, true), err.message)
    local deep = {}
    for _ = 1, 1001 do deep = { deep } end
    t.fails("invalid", json.encode(deep))
    t.fails("invalid", json.encode(deep, { max_depth = 1000 }))
    local shared = { 1 }
    t.eq(json.encode { shared, shared }, "[[1],[1]]")
end)

t.test("the depth limit is the one that was asked for", function()
    t.ok(json.decode("[[]]", { max_depth = 2 }))
    t.fails("invalid", json.decode("[[[]]]", { max_depth = 2 }))
    t.ok(json.decode(("["):rep(1000) .. ("]"):rep(1000), { max_depth = 1000 }))
    t.fails("invalid", json.decode(("["):rep(1001) .. ("]"):rep(1001), { max_depth = 1000 }))
    t.eq(json.encode({ { 1 } }, { max_depth = 2 }), "[[1]]")
    t.fails("invalid", json.encode({ { {} } }, { max_depth = 2 }))
end)

-- ---- halves of surrogate pairs

t.test("half a surrogate pair is an error, or U+FFFD, or kept for its other half", function()
    local lone = { '"\\ud83d"', '"\\ude00"', '"a\\udBFFz"', '"\\ude00\\ud83d"', '"\\ud83d\\u0041"' }
    local shown = { "\239\191\189", "\239\191\189", "a\239\191\189z", "\239\191\189\239\191\189",
        "\239\191\189A" }
    for i, text in ipairs(lone) do
        t.fails("invalid", json.decode(text))
        t.fails("invalid", json.decode(text, { surrogates = "strict" }))
        for _, builder in ipairs { "leat", "cjson" } do
            t.eq(json.decode(text, { surrogates = "replace", builder = builder }), shown[i])
        end
        t.ok(json.encode(json.decode(text, { surrogates = "replace" })))
    end
    t.eq(json.decode('{"\\ud83d": 1}', { surrogates = "replace" }), { ["\239\191\189"] = 1 })
    t.eq(json.decode('"\\ud83d\\ude00"', { surrogates = "replace" }), "\240\159\152\128")
    t.eq(json.decode('"\\ud83d\\ud83d\\ude00"', { surrogates = "replace" }),
        "\239\191\189\240\159\152\128")
    for _, text in ipairs { '"\\ud8"', '"\\ud83d\\u"', '"\\ud83d\\x"', '"\237\160\189"' } do
        t.fails("invalid", json.decode(text, { surrogates = "replace" })) -- nothing but halves is let pass
    end
end)

t.test("halves that were kept are joined where they meet", function()
    local halves = require "leat.internal.surrogates"
    local function kept(text)
        return json.decode(text, { surrogates = "keep" })
    end
    local first, second = kept '"one \\ud83d"', kept '"\\ude00 two"'
    t.fails("invalid", json.encode(first))
    t.eq(#halves.tail(first), 3)
    t.ok(not halves.tail(second) and not halves.tail "one")
    t.eq(halves.join(first .. second), "one \240\159\152\128 two")
    t.eq(halves.join(first), "one \239\191\189")
    t.eq(halves.join(second .. first), "\239\191\189 twoone \239\191\189")
    t.eq(halves.join "\237\159\191 plain", "\237\159\191 plain")
    for _, code in ipairs { 0x10000, 0x1f600, 0x20000, 0x10ffff } do
        local high, low = 0xd800 + math.floor((code - 0x10000) / 1024), 0xdc00 + (code - 0x10000) % 1024
        local pair = json.decode(('"\\u%04x\\u%04x"'):format(high, low))
        t.eq(halves.join(kept(('"\\u%04x"'):format(high)) .. kept(('"\\u%04x"'):format(low))), pair)
    end
end)

-- ---- what gather, map and pipelines return

local function even(x)
    return x % 2 == 0 and x or nil
end

local function odd_fails(x)
    if x % 2 == 1 then
        return nil, "odd"
    end
    return x
end

t.test("json.encode takes what gather, map, batch and pipelines return", function()
    for _, opts in ipairs { {}, { sorted = true } } do
        local function encode(v)
            return json.encode(v, opts)
        end
        t.eq(encode(leat.gather { function() return 1 end, function() end }), "[1,null]")
        t.eq(encode(leat.gather {}), "[]")
        t.eq(encode(leat.map({ 1, 3 }, even)), "[null,null]")
        t.eq(encode(leat.map({ 1, 2, 3 }, even)), "[null,2,null]")
        t.eq(encode { pages = leat.map({ 2 }, function() return leat.map({ 1, 2 }, even) end) },
            '{"pages":[[null,2]]}')
        local results = leat.pipeline { retry = false }:run({ 1, 2, 3 }, odd_fails)
        t.eq(encode(results), "[null,2,null]")
        t.eq(json.decode(encode(results.errors))["3"].message, "odd")
        t.eq(encode(leat.pipeline { retry = false }:run({ 2 }, odd_fails).errors), "{}")
        local settled = json.decode(encode(leat.map({ 1, 2 }, odd_fails, { settle = true })))
        t.eq({ settled[1].ok, settled[1].err.kind }, { false, "script" })
        t.eq(settled[2], { ok = true, value = 2 })
        local batch = json.decode(encode(leat.batch({ 2 }, { interval = 0 }, odd_fails)))
        t.eq(batch, { { ok = true, value = 2 } })
        local _, err = leat.map({ 2, 1 }, odd_fails)
        t.eq(encode(err.partial), "[2,null]")
        local _, lost = leat.race { function() return nil, "a" end }
        t.eq(json.decode(encode(lost.causes))["1"].message, "a")
    end
end)

t.test("results that a script has added to are written whole, or refused", function()
    local results = leat.map({ 2, 4 }, even)
    results[3] = "more"
    t.eq(json.encode(results), '[2,4,"more"]')
    results.title = "x"
    t.fails("invalid", json.encode(results))
    results.title, results.n = nil, 1e300
    t.fails("invalid", json.encode(results))
    t.fails("invalid", json.encode { 1, 2, n = 2 }) -- not one of ours: nobody knows what n means
    t.eq(json.encode { n = 2 }, '{"n":2}')
end)

t.test("an error is written without its response", function()
    local res = { body = "\255", read = print }
    t.eq(json.encode(leat.error { message = "m", response = res, status = 404 }, { sorted = true }),
        '{"kind":"script","message":"m","status":404}')
end)

t.test("whole numbers are keys of an object however it is written", function()
    for _, opts in ipairs { {}, { sorted = true }, { sorted = true, indent = 2 } } do
        local text = json.encode({ bias = json.object { [50256] = -100, [9] = { 1 }, a = 2 } }, opts)
        t.eq(json.decode(text), { bias = { ["50256"] = -100, ["9"] = { 1 }, a = 2 } })
        t.fails("invalid", json.encode(json.object { [5] = 1, ["5"] = 2 }, opts))
        t.fails("invalid", json.encode(json.object { [0.5] = 1 }, opts))
        t.fails("invalid", json.encode(json.object { [true] = 1 }, opts))
    end
    t.eq(json.encode(json.object { [10] = 1, [9] = 2, [-1] = 3 }, { sorted = true }),
        '{"-1":3,"10":1,"9":2}')
    local many = json.object()
    for i = 1, 3000 do many[i * 7] = i end
    local back = json.decode(json.encode(many, { sorted = true }))
    t.eq({ back["7"], back["21000"] }, { 1, 3000 })
end)

t.test("an error says line, column and byte", function()
    local _, err = json.decode('{\n  "é": tru\n}')
    t.eq(err.offset, 11)
    t.ok(err.message:find("line 2, column 8 (byte 11)", 1, true), err.message)
    t.ok(tostring(err):find("^invalid: json: "), tostring(err))
end)

t.test("wrong use raises and names the argument", function()
    t.raises("json.decode: text must be a string, got nil", json.decode)
    t.raises("json.decode: text must be a string, got 12", json.decode, 12)
    t.raises("unknown option 'bigs'", json.decode, "1", { bigs = 1 })
    t.raises("surrogates must be 'strict', 'replace' or 'keep', got true", json.decode, "1",
        { surrogates = true })
    t.raises("big must be 'number' or 'string', got 3", json.decode, "1", { big = 3 })
    t.raises("options must be a table, got 'x'", json.decode, "1", "x")
    t.raises("unknown option 'sort'", json.encode, {}, { sort = true })
    t.raises("sorted must be true or false, got 1", json.encode, {}, { sorted = 1 })
    t.raises("indent", json.encode, {}, { indent = 17 })
    t.raises("indent", json.encode, {}, { indent = -1 })
    t.raises("max_depth", json.encode, {}, { max_depth = 1001 })
    t.raises("max_depth", json.decode, "1", { max_depth = 0 })
end)

t.test("a finalizer may use json while json works", function()
    for i = 1, 200 do
        local proxy = newproxy(true)
        getmetatable(proxy).__gc = function()
            json.decode(json.encode { ("x"):rep(3000), "\n" })
        end
        proxy = nil -- luacheck: ignore
        local value = { ("a\n"):rep(2000), i }
        t.eq(json.decode(json.encode(value)), value)
    end
    collectgarbage()
end)

t.test("random bytes in valid texts never crash, and both builders read them alike", function()
    local random = generator(7)
    local base = '{"a":[1,-2.5e3,"x\\u00e9\\n",true,null],"b":{"c":[]},"d":"\226\130\172"}'
    for _ = 1, 5000 do
        local at = random(#base)
        local text = base:sub(1, at - 1) .. bytes(random(256) - 1) .. base:sub(at + random(3) - 1)
        local value, err = json.decode(text)
        local other, other_err = json.decode(text, { builder = "cjson" })
        if (value == nil) ~= (other == nil) or (err and err.offset) ~= (other_err and other_err.offset) then
            t.ok(false, ("%q differs"):format(text))
        elseif value ~= nil then
            t.eq(other, value)
            t.eq(json.decode(json.encode(value)), value)
        end
    end
    t.ok(true)
end)

t.test("a long run of digits in a text is found wherever it stands", function()
    local has_digits = require("leat.native.json_span").has_digits
    local random = generator(5)
    for _ = 1, 20000 do
        local text = {}
        for i = 1, random(40) - 1 do
            text[i] = random(10) > 1 and "7" or "a"
        end
        text = table.concat(text)
        local n = random(16)
        local found = text:find(("%d"):rep(n)) ~= nil
        if has_digits(text, n) ~= found then
            t.eq({ text, n, has_digits(text, n) }, { text, n, found })
        end
    end
    t.ok(true)
end)

t.test("the text of one member of an object is what was written, of the last one of that name", function()
    local member = require("leat.native.json_span").member
    local text = [[{"a":1, "b":{"a":2}, "\u0061": [3,  4.0] }]]
    t.eq({ member(text, "a"), member(text, "b"), member("{}", "a") }, { "[3,  4.0]", '{"a":2}' })
end)

t.done()
