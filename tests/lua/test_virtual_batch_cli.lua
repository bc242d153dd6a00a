-- leat batch for hours at high rates, on virtual time: the command as it is, against leat mock within the
-- process.
-- LEAT_FULL=1: an hour at a thousand rows a second.
local t = require "harness"
local batch_cli = require "leat.cli.batch"
local mock = require "leat.mock"

local full = os.getenv "LEAT_FULL" == "1"
local path = t.memory_path()

local function finish()
    for _, suffix in ipairs { "", ".in", ".errors" } do
        os.remove(path .. suffix)
    end
end

-- Runs `rows` rows against a mock of these options; gives the mock's counters and the seconds that it took.
local function run(name, rows, options, ...)
    finish()
    local input = assert(io.open(path .. ".in", "w"))
    for i = 1, rows do
        input:write('{"custom_id":"', i, '","prompt":"question ', i, '"}\n')
    end
    input:close()
    options.simulate = "http://" .. name .. ".test"
    local server = assert(mock.start(options))
    local began = leat.now()
    local ok, err = batch_cli.main { path .. ".in", path, "-q", "--model", "mock", "--base-url",
        options.simulate .. "/v1", ... }
    local took = leat.now() - began
    local stats = assert(request(options.simulate .. "/mock/stats")):json()
    server:close(0)
    t.ok(ok, tostring(err))
    local seen, n = {}, 0
    for row in assert(leat.jsonl.read(path)) do
        t.ok(not seen[row.custom_id], row.custom_id)
        t.eq(row.response.body.choices[1].message.content, "Answer to: question " .. row.custom_id)
        seen[row.custom_id], n = true, n + 1
    end
    t.eq(n, rows)
    t.eq(stats.by_status["200"], rows)
    return stats, took
end

t.test("thousands of rows against a limit of a thousand a second all end well", function()
    local rows = full and 3600000 or 10000
    local stats, took = run("fast", rows, { rpm = 60000, latency = 0.002 })
    t.ok(took < 1.5 * rows / 1000, took)
    t.ok((stats.by_status["429"] or 0) < 0.1 * rows, tostring(stats.by_status["429"]))
end)

t.test("a service of 2 ms without a limit, as fast as it can", function()
    run("quick", full and 200000 or 2000, { latency = "0.001-0.003", seed = 3 }, "--concurrency", "50")
end)

t.test("an hour at ten rows a minute, given by --rpm, or found out", function()
    local rows = full and 3600 or 600
    local _, took = run("slow", rows, { rpm = 10, latency = "0.5-2", seed = 4 }, "--rpm", "10")
    t.ok(took >= 60 * (rows - 10) / 10, took)
    run("learned", rows, { rpm = 10, latency = "0.5-2", seed = 5 })
end)

t.test("an hour of a service that fails one in ten loses no row", function()
    run("failing", full and 36000 or 1000, { errors = 0.1, broken = 0.02, latency = 0.05, seed = 6 },
        "--rpm", "600", "--retries", "9")
end)

-- A policy with a bug in its n-th call: `class[name]`.
local function buggy(n, class, name, ...)
    finish()
    local input = assert(io.open(path .. ".in", "w"))
    for i = 1, 200 do
        input:write('{"custom_id":"id ', i, '","prompt":"x"}\n')
    end
    input:close()
    local raw, calls = class[name], 0
    class[name] = function(...)
        calls = calls + 1
        if calls == n then
            error "sleep: seconds must be 0 or more seconds, got -8.6e-08"
        end
        return raw(...)
    end
    local server = assert(mock.start { simulate = "http://buggy.test", latency = "0.5-2", errors = 0.2,
        rpm = name == "wait" and 60 or nil, seed = 7 })
    local ok, err = batch_cli.main { path .. ".in", path, "-q", "--model", "mock", "--base-url",
        "http://buggy.test/v1", ... }
    class[name] = raw
    local stats = assert(request("http://buggy.test/mock/stats")):json()
    server:close(0)
    t.fails("internal", ok, err)
    t.ok(err.message:find "sleep: seconds must be 0 or more seconds", err.message)
    local n_answers = 0
    for _ in assert(leat.jsonl.read(path)) do
        n_answers = n_answers + 1
    end
    t.eq(n_answers, stats.by_status["200"]) -- what had been sent has ended, and is kept
    t.ok(n_answers < 190, n_answers)
    return err.message
end

t.test("a bug in a policy ends the run in good order, and names the policy and the row", function()
    local rules, pace = require "leat.policy.retry_rules", require "leat.policy.pacer"
    local message = buggy(10, rules, "worth_trying")
    t.ok(message:find "^a bug in retry, at row 'id %d+' %(line %d+%)", message)
    local class = getmetatable(pace.new())
    message = buggy(30, class.__index, "wait")
    t.ok(message:find "^a bug in the adaptive slots, at row 'id %d+' %(line %d+%)", message)
    message = buggy(20, getmetatable(leat.limiter { rpm = 60 }).__index, "reserve", "--rpm", "600")
    t.ok(message:find "^a bug in the pipeline, at row 'id %d+' %(line %d+%)", message)
end)

finish()
t.done()
