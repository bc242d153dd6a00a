-- race and group: winners, losers that are waited for, causes, nurseries that are cancelled, and bugs.
local ended = 0
local function wait(s, v)
    return function()
        return leat.finally(function() sleep(s) return v end, function() ended = ended + 1 end)
    end
end
local function fail(s)
    return function() sleep(s) return nil, leat.error { kind = "io", message = "no " .. s } end
end

local slow, quick = spawn(wait(60, "slow")), spawn(wait(0.002, "quick"))
local none, err
local won, why = leat.race { slow, fail(0.001), quick }
expect(won == "quick" and ended == 2, won, why, select(2, quick:await()), select(2, slow:await()))
none, err = leat.race { fail(0.002), fail(0.001) }
expect(none == nil and err.causes and err.causes[1].kind == "io" and err.causes[2].kind == "io", err)

local sum = 0
local value
value, err = leat.group(function(g)
    for i = 1, 3 do
        g:spawn(function() sleep(i / 1000) sum = sum + i end)
    end
    return "whole"
end)
expect(value == "whole" and sum == 6, err)

none, err = leat.group(function(g)
    g:spawn(wait(60))
    g:spawn(fail(0.001))
    return g:spawn(wait(60)):await()
end)
expect(none == nil and err.kind == "io", err)
expect(ended == 4)

value, err = leat.group(function(g)
    g:spawn(wait(60))
    sleep(0.001)
    g:cancel "enough"
    return true
end)
expect(value == true, err)
expect(ended == 5)

local ok, bug, lost = pcall(gather, { wait(60), function() sleep(0.001) error "a bug" end })
expect(not ok and tostring(bug):find("a bug", 1, true), bug, lost)
expect(ended == 6)
return true
