-- How long Lua's collector rests between its cycles.
local t = require "harness"

local function pause_of()
    sleep(0.01) -- it is set between two turns of the loop
    local found = collectgarbage("setpause", 200)
    collectgarbage("setpause", found)
    return found
end

-- Returns what the pause was while the script held so many megabytes.
local function pause_with(n)
    local held = {}
    for i = 1, n do
        held[i] = ("x"):rep(2 ^ 20) .. i
    end
    return pause_of(), held
end

t.test("the memory may grow fourfold while there is little of it, then it may double", function()
    collectgarbage()
    t.eq(pause_of(), 400)
    t.eq((pause_with(8)), 200)
    collectgarbage()
    t.eq(pause_of(), 400)
end)

t.test("a script's own collectgarbage setpause stays as it is", function()
    collectgarbage("setpause", 170)
    t.eq((pause_with(8)), 170)
    collectgarbage()
    t.eq(pause_of(), 170)
end)

t.done()
