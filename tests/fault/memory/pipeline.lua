-- Everything that a pipeline puts around a call, rows from a file of JSON lines and results into another.
local scratch = ...
local input, output = scratch .. "/in.jsonl", scratch .. "/out.jsonl"

local rows = expect(leat.jsonl.writer(input))
for i = 1, 6 do
    expect(rows:write { id = i, text = ("é"):rep(i * 10) })
end
expect(rows:close())

local tries = {}
local function work(row)
    tries[row.id] = (tries[row.id] or 0) + 1
    sleep(0)
    if row.id % 3 == 0 and tries[row.id] == 1 then
        return nil, leat.error { kind = "timeout", phase = "total", message = "slow", retryable = true }
    end
    return { id = row.id, n = #row.text }
end

local pipe = leat.pipeline {
    concurrency = { min = 1, start = 2, max = 4 }, rate = { rpm = 6e6 }, timeout = 3, deadline = 60,
    retry = { attempts = 3, base = 0.001 }, breaker = { threshold = 50 },
    journal = { path = scratch .. "/pipe.jsonl", key = function(row) return row.id end },
}
local list = {}
for row in expect(leat.jsonl.read(input)) do
    list[#list + 1] = row
end
expect(#list == 6)
local results, stats = pipe:run(list, work)
expect(results, stats)
local out = expect(leat.jsonl.writer(output, { sync = true }))
for i = 1, 6 do
    expect(results[i], results.errors and results.errors[i])
    expect(results[i].id == i and results[i].n == i * 20)
    expect(out:write(results[i]))
end
expect(out:close())
expect(tostring(stats):find("6", 1, true))
expect(os.remove(scratch .. "/pipe.jsonl") and os.remove(input) and os.remove(output))
return true
