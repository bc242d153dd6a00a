-- merge over iterators and queues: items in the order of their arrival, broken sources skipped or raised.
local function ticks(name, n, pause, breaks)
    local i = 0
    return function()
        sleep(pause)
        i = i + 1
        if i <= n then
            return name .. i
        elseif breaks then
            return nil, leat.error { kind = "io", message = name .. " broke" }
        end
    end
end

local queue = leat.queue()
local n, keys = 0, {}
expect(gather { function()
    for i = 1, 3 do
        expect(queue:put("q" .. i))
        sleep(0.002)
    end
    queue:close()
    return true
end, function()
    for item, key in leat.merge { a = ticks("a", 5, 0.001), b = ticks("b", 3, 0.002), q = queue } do
        n = n + 1
        keys[key] = item
    end
    return true
end })
expect(n == 11 and keys.a == "a5" and keys.b == "b3" and keys.q == "q3")

n = 0
local errs = {}
local function keep(err, key) errs[key] = err return true end
local function open(spec)
    if spec.refuses then
        return nil, leat.error { kind = "connect", message = "nobody there" }
    end
    return ticks(spec.name, spec.n, 0.001, spec.breaks)
end
local specs = { { name = "x", n = 2 }, { name = "y", n = 1, breaks = true }, { refuses = true },
    { name = "z", n = 2 } }
for _ in leat.merge(specs, open, { limit = 2, on_error = keep }) do
    n = n + 1
end
expect(n == 5)
expect(errs[2] and errs[2].kind == "io", errs[2])
expect(errs[3] and errs[3].kind == "connect", errs[3])

local merged = leat.merge { ticks("c", 50, 0.001), ticks("d", 1, 0.002, true) }
local ok, err
repeat
    ok, err = pcall(merged)
until not ok
expect(err ~= nil, "no error")
expect(tostring(err):find("d broke", 1, true), err)
merged = leat.merge { ticks("e", 50, 0.001), ticks("f", 50, 0.001) }
expect(merged())
merged:close()
return true
