-- map, each, as_completed and batch over lists and iterators that wait.
local function square(x) sleep(0.001) return x * x end
local function odd(x)
    sleep(0.001)
    if x % 2 == 0 then
        return nil, leat.error { kind = "io", message = "even" }
    end
    return x
end
local function count(n)
    local i = 0
    return function()
        sleep(0.0005)
        i = i + 1
        return i <= n and i or nil
    end
end

local seen = 0
local got = expect(leat.map(count(4), square, { limit = 2, on_result = function(i) seen = seen + i end }))
expect(got[4] == 16 and got.n == 4 and seen == 10)
local none, err = leat.map({ 1, 2, 3 }, odd)
expect(none == nil and err.kind == "io", err)
got = expect(leat.map({ 1, 2, 3 }, odd, { settle = true }))
expect(got[1].ok and got[3].ok and got[2].err.kind == "io", got[1], got[2], got[3])

local counts = expect(leat.each(count(5), odd, { limit = 3 }))
expect(counts.ok == 3 and counts.failed == 2 and counts.first_error.kind == "io", counts.first_error)

seen = 0
for i, value, why in leat.as_completed({ 3, 1, 2 }, odd) do
    expect(value or why.kind == "io", why)
    seen = seen + i
end
expect(seen == 6)
local arrivals = leat.as_completed(count(50), square, { limit = 2 })
expect(arrivals() == 1)
arrivals:close()

got, err = leat.batch({ 1, 2, 3, 4, 5 }, { size = 2, interval = 0.01 }, odd)
expect(got, err)
expect(got[1].value == 1 and got[2].err.kind == "io" and got[5].value == 5, got[1], got[2], got[5])
return true
