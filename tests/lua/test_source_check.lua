-- leat.stopping as a condition is found in a script's source, and nothing else is.
local t = require "harness"
local check = require "leat.state.source_check"

local function finds(text, ...)
    t.eq(table.concat(check.conditions(text), " "), table.concat({ ... }, " "), text)
end

t.test("leat.stopping as a condition is found, with its line", function()
    finds("while not leat.stopping do\nend", 1)
    finds("\n\nif leat.stopping then return end", 3)
    finds("repeat\nwork()\nuntil leat.stopping\nprint(1)", 3)
    finds("repeat work() until leat.stopping", 1)
    finds("if done or leat.stopping then end", 1)
    finds("if a then elseif leat.stopping then end", 1)
    finds("while leat.stopping == false do end", 1)
    finds("while leat.stopping ~= true do end", 1)
    finds("while false == leat.stopping do end", 1)
    finds("return not leat.stopping", 1)
    finds("local left = leat.stopping and 0 or n", 1)
    finds("while not (leat.stopping) do end", 1)
    finds("while (leat.stopping) do end", 1)
    finds("if not(leat.stopping)then end", 1)
    finds("for i = 1, 3 do if leat.stopping or i > 2 then break end end", 1)
    finds("while not leat . stopping do end\nif leat.stopping then end", 1, 2)
end)

t.test("leat.stopping is found under other names", function()
    finds("local stopping = leat.stopping\nwhile not stopping do end", 2)
    finds("local leat = require 'leat'\nif leat.stopping then end", 2)
    finds("local l = require('leat')\nif l.stopping then end", 2)
    finds('local s = require("leat").stopping\nif not s then end', 2)
    finds("local s = require[[leat]].stopping if s then end", 1)
    finds("if require 'leat'.stopping then end", 1)
end)

t.test("correct code is left alone", function()
    finds "while not leat.stopping:is_set() do end"
    finds "if leat.stopping.is_set(leat.stopping) then end"
    finds "leat.stopping:wait()"
    finds "local stopping = leat.stopping while not stopping:is_set() do end"
    finds "local s = options.stopping or leat.stopping"
    finds "spawn(watch, leat.stopping)"
    finds "t = { stopping = leat.stopping }"
    finds "while not leat.is_stopping() do end"
    finds "if x.leat.stopping2 then end"
    finds "if server.stopping then end"
    finds "if not stopping then end"
    finds "if q == leat.stopping then end"
end)

t.test("comments and texts are not code", function()
    finds "-- while not leat.stopping do"
    finds "--[[ if leat.stopping then\n]] local x"
    finds "--[==[ ]] if leat.stopping then ]==] local x"
    finds "local s = 'while not leat.stopping do'"
    finds 'local s = "a \\" while not leat.stopping do"'
    finds "local s = [[\nif leat.stopping then]]"
    finds "local s = [=[ ]] if leat.stopping then ]=]"
    finds("local s = [[\n\n]] --[[\n]] if leat.stopping then end", 4)
    finds("local s = 'a\\\nb' if leat.stopping then end", 2)
    finds("-- one\n-- two\nif leat.stopping then end", 3)
end)

t.test("an unfinished text ends the look", function()
    for _, text in ipairs { "'", '"abc', "[[", "--[[", "[==[ leat.stopping", "not", "leat.stopping", "",
        "leat.", "not leat.", "x = leat.stopping)", "(leat.stopping" } do
        finds(text)
    end
end)

t.done()
