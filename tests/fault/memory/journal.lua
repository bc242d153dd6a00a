-- Journals of map, each and batch: what has ended is not called again, what has failed is; and lines of JSON.
local scratch = ...
local path, calls = scratch .. "/run.jsonl", 0
os.remove(path) -- a first try's
local function work(i)
    calls = calls + 1
    sleep(0)
    if i == 2 and calls <= 3 then
        return nil, leat.error { kind = "timeout", phase = "total", message = "slow" }
    end
    return { n = i * i }
end

local counts, err = leat.each({ 1, 2, 3 }, work, { journal = path, limit = 1 })
expect(counts, err)
expect(counts.failed == 1, "of several only the first is told, the other is of memory")
expect(counts.ok == 2 and counts.first_error.kind == "timeout", counts.first_error)
expect(os.remove(path))

calls = 3
local got
got, err = leat.map({ 1, 2, 3 }, work, { journal = { path = path, config = { v = 1 } } })
expect(got, err)
expect(got[2].n == 4 and calls == 6)
got, err = leat.batch({ 1, 2, 3, 4 }, { size = 3, journal = { path = path, config = { v = 1 } } }, work)
expect(got, err)
expect(got[4].ok and got[4].value.n == 16, got[4].err)
expect(calls == 7)
got, err = leat.map({ 1 }, work, { journal = { path = path, config = { v = 2 } } })
expect(got == nil and err.kind == "invalid", err)
expect(os.remove(path))

local out = expect(leat.jsonl.writer(path))
expect(out:write { text = ("é"):rep(100) })
expect(out:write { 1, 2, 3 })
expect(out:write "three")
expect(out:close())
out = expect(leat.jsonl.writer(path, { append = true, sync = true }))
expect(out:write { last = true })
expect(out:close())
local n = 0
for row, line in expect(leat.jsonl.read(path)) do
    n = n + line
    expect(row)
end
expect(n == 10)
expect(os.remove(path))
return true
