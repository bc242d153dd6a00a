-- Loops over `pairs` and `next` give the same in compiled code: LuaJIT 2.1.0-beta3 may compile them wrongly.
local t = require "harness"
local leat = require "leat"
local json, merge = leat.json, require "leat.openai.merge"
local ffi, random = require "ffi", math.random

-- Pieces of an answer, with fields of new names: the order of the names decides what is compiled, and how.
local function make_events()
    local names = { "content", "role", "refusal", "tool_calls" }
    for i = 5, 7 do names[i] = "field" .. random(1e9) end
    local function value(name)
        if name == "tool_calls" then
            return { { index = 0, id = "c", ["function"] = { name = "f", arguments = "x" } } }
        end
        return random(4) == 1 and json.null or random(6) == 1 and { "a", "b" } or "text"
    end
    local function make_delta()
        local delta = {}
        for _ = 1, random(0, 4) do
            local name = names[random(#names)]
            delta[name] = value(name)
        end
        return random(8) == 1 and { "a", "b" } or delta
    end
    local events = {}
    for e = 1, 12 do
        local choices = {}
        for i = 1, random(0, 2) do
            choices[i] = { index = i - 1, delta = make_delta(),
                logprobs = random(2) == 1 and json.null or nil,
                finish_reason = random(2) == 1 and json.null or nil }
        end
        events[e] = assert(json.encode { id = "i", model = "m", created = 1, object = "o", choices = choices,
            usage = random(3) == 1 and { total_tokens = 3 } or nil })
    end
    return events
end

local function merge_all(events, order)
    local replies = {}
    for i, list in ipairs(order) do
        local merging = merge.new()
        for _, e in ipairs(list) do merge.take(merging, json.decode(events[e])) end
        replies[i] = merge.finish(merging)
    end
    return replies
end

t.test("streamed answers are merged the same in compiled code", function()
    for _ = 1, 40 do
        local events, order = make_events(), {}
        for i = 1, 60 do
            order[i] = {}
            for k = 1, random(8) do order[i][k] = random(#events) end
        end
        jit.flush()
        jit.off()
        local expected = merge_all(events, order)
        jit.on()
        jit.opt.start("hotloop=" .. random(2, 20), "hotexit=" .. random(5))
        t.eq(merge_all(events, order), expected)
    end
    jit.opt.start("hotloop=56", "hotexit=10")
end)

t.test("pairs and next name a wrong argument", function()
    local _, message = pcall(function() for _ in pairs(nil) do t.ok(false) end end)
    t.ok(message:find("bad argument #1 to 'pairs' (table expected, got nil)", 1, true), message)
    _, message = pcall(function() return (next(nil)) end)
    t.ok(message:find("bad argument #1 to 'next' (table expected, got nil)", 1, true), message)
    _, message = pcall(next, {}, "none")
    t.ok(message:find("invalid key to 'next'", 1, true), message)
    t.eq({ next {} }, {})
    t.eq({ next({ 7 }, nil) }, { 1, 7 })
end)

t.test("pairs takes an object of ffi by its own __pairs", function()
    local three = ffi.metatype("struct { int n; }", { __pairs = function(o)
        return function(n, i) if i < n then return i + 1, i * i end end, o.n, 0
    end })
    local got = {}
    for i, square in pairs(three(3)) do got[i] = square end
    t.eq(got, { 0, 1, 4 })
end)

t.done()
