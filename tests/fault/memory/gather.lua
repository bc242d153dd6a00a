-- gather: results, failures that cancel the others, settled slots, one inside the other, a cancel of all.
local ended = 0
local function wait(s, v)
    return function()
        return leat.finally(function() sleep(s) return v end, function() ended = ended + 1 end)
    end
end
local function fail() sleep(0.002) return nil, leat.error { kind = "io", message = "no" } end

local got = expect(gather { wait(0.003, "a"), wait(0.001, "b"), spawn(wait(0, "c")) })
expect(got[1] == "a" and got[2] == "b" and got[3] == "c" and got.n == 3)

local none, err = gather { wait(0.001, 1), fail, wait(60, 2) }
expect(none == nil and err.kind == "io", err)
expect(err.partial[1] == 1 and ended == 5)

got = expect(gather({ wait(0.001, 1), fail, wait(0.003, 3) }, { settle = true, limit = 2 }))
expect(got[1].value == 1 and not got[2].ok and got[3].value == 3 and got[2].err.kind == "io",
    got[1], got[2], got[3])

got = expect(gather { function()
    return gather { wait(0.001, 1), function() return gather { wait(0, 2) } end }
end })
expect(got[1][1] == 1 and got[1][2][1] == 2)

local task = spawn(gather, { wait(60, 1), wait(60, 2) })
sleep(0.001)
task:cancel "enough"
none, err = task:await()
expect(none == nil and err.kind == "cancelled", err)
expect(ended == 11)
return true
