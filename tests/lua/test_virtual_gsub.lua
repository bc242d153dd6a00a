-- string.gsub is leat's own where the replacement runs Lua code: it may wait, and is otherwise Lua's.
local t = require "harness"
local leat = require "leat"
local generator = require "random"

t.test("a replacement may wait, and other tasks run meanwhile", function()
    local log = {}
    gather {
        function()
            local text = ("a b c"):gsub("%a", function(c) sleep(2) return c:upper() end)
            log[#log + 1] = text
        end,
        function()
            for i = 1, 3 do
                sleep(1.5)
                log[#log + 1] = i
            end
        end,
    }
    t.eq(log, { 1, 2, 3, "A B C" })
end)

t.test("a table's __index may wait for each replacement", function()
    local before = leat.now()
    local lookup = setmetatable({}, { __index = function(_, key) sleep(1) return "<" .. key .. ">" end })
    t.eq({ ("$x + $y"):gsub("%$(%w)", lookup) }, { "<x> + <y>", 2 })
    t.eq(leat.now() - before, 2)
end)

t.test("a cancel and a limit reach a replacement that waits", function()
    local seen = 0
    t.fails("timeout", wait_for(1.5, string.gsub, "abc", ".", function() seen = seen + 1 sleep(1) end))
    t.eq(seen, 2)
end)

t.test("a generator may yield from within a replacement", function()
    local words = {}
    for w in coroutine.wrap(function() string.gsub("one two", "%a+", coroutine.yield) end) do
        words[#words + 1] = w
    end
    t.eq(words, { "one", "two" })
end)

t.test("what the replacement raises comes out unchanged", function()
    local value = {}
    local ok, raised = pcall(string.gsub, "x", "x", function() error(value) end)
    t.eq(ok, false)
    t.ok(rawequal(raised, value))
end)

t.test("results, counts and captures are those of Lua's own gsub", function()
    local function seen(s, pattern, limit)
        local calls = {}
        local text, n = s:gsub(pattern, function(...)
            calls[#calls + 1] = table.concat({ ... }, ",")
            return "-"
        end, limit)
        return text .. "|" .. n .. "|" .. table.concat(calls, ";")
    end
    t.eq(seen("abc", "%a"), "---|3|a;b;c")
    t.eq(seen("abc", "%a", 2), "--c|2|a;b")
    t.eq(seen("abc", "%a", 0), "abc|0|")
    t.eq(seen("abc", "%a", -1), "abc|0|")
    t.eq(seen("abc", "^%a"), "-bc|1|a")
    t.eq(seen("abc", "^b"), "abc|0|")
    t.eq(seen("abc", ""), "-a-b-c-|4|;;;")
    t.eq(seen("", ""), "-|1|")
    t.eq(seen("k=v, x=y", "(%w)=(%w)"), "-, -|2|k,v;x,y")
    t.eq(seen("abc", "()b()"), "a-c|1|2,3")
    t.eq(seen("THE (quick) fox", "%f[%a]%a+"), "- (-) -|3|THE;quick;fox")
    t.eq(seen("f(a(b)c)d", "%b()"), "f-d|1|(a(b)c)")
    t.eq(seen("a\0b\0", "%z"), "a-b-|2|\0;\0")
    t.eq(seen("abc", "$"), "abc-|1|")
    t.eq({ ("abc"):gsub("%w", function(c) return c ~= "b" and 7 or nil end) }, { "7b7", 3 })
    t.eq({ ("abc"):gsub("%w", function() return false end) }, { "abc", 3 })
    t.eq({ string.gsub(12321, 2, function() return "x" end) }, { "1x3x1", 2 })
end)

t.test("a function and a table that say the same give the same, whatever the pattern", function()
    -- A table without a metatable goes through LuaJIT's own gsub.
    local random = generator(99)
    local pieces = {
        "a", "b", "[ab]", "%a", ".", "(a)", "(.)", "a*", "a-", "b?", "%f[a]", "[^a]", "$", "%s", "(b*)",
    }
    local letters = { "a", "b", " ", "x", "\0" }
    local map = {}
    for _, one in ipairs(letters) do
        for _, two in ipairs(letters) do
            map[one], map[one .. two] = "<" .. one:byte() .. ">", false
        end
    end
    map[""] = "!"
    for _ = 1, 3000 do
        local pattern, s = random(4) == 1 and "^" or "", ""
        for _ = 1, random(4) do
            pattern = pattern .. pieces[random(#pieces)]
        end
        for _ = 1, random(9) - 1 do
            s = s .. letters[random(#letters)]
        end
        local limit = random(3) == 1 and random(4) - 1 or nil
        local a, n = s:gsub(pattern, map, limit)
        local b, m = s:gsub(pattern, function(key) return map[key] end, limit)
        t.ok(a == b and n == m, ("%q with %q: %q, not %q"):format(s, pattern, b, a))
    end
end)

t.done()
