-- leat batch while its service is away, on virtual time: the command as it is, over a simulated service. What
-- cannot be simulated, a connection that does not come about, is put in place of the call.
local t = require "harness"
local batch_cli = require "leat.cli.batch"
local log = require "leat.log"
local openai = require "leat.openai"

local path = t.memory_path()
local BASE = "http://service.test"
local raw_post, raw_warn, raw_exit = openai.post, log.warn, os.exit

local function remove_files()
    for _, suffix in ipairs { "", ".in", ".errors" } do
        os.remove(path .. suffix)
    end
end

local function write_rows(n)
    local f = assert(io.open(path .. ".in", "w"))
    for i = 1, n do
        f:write('{"custom_id":"', i, '","prompt":"question ', i, '"}\n')
    end
    f:close()
end

local function refused()
    return leat.error { kind = "connect", reason = "refused", phase = "connect", retryable = true,
        message = "cannot connect to " .. BASE .. ": Connection refused" }
end

local function no_address()
    return leat.error { kind = "dns", phase = "dns", retryable = false,
        message = "no address for service.test" }
end

local function no_connection()
    sleep(10)
    return leat.error { kind = "timeout", phase = "connect", retryable = true,
        message = "no connection within 10 s" }
end

local function lost()
    return leat.error { kind = "closed", reason = "reset", retryable = true,
        message = "closed without an answer" }
end

-- Runs the command over the rows that are in place. fault(seconds since the first answer, or nil, prompt):
-- the failure of an attempt, instead of a call; `latency`: of the calls. Gives what was seen.
local function run(fault, latency, ...)
    local seen = { asked = {}, starts = {}, failed = 0, said = {} }
    local server = assert(leat.simulate(BASE, function(req)
        local prompt = req:json().messages[1].content
        seen.asked[prompt] = (seen.asked[prompt] or 0) + 1
        sleep(latency * (0.5 + math.random()))
        return { json = { choices = { { message = { content = "about " .. prompt } } } } }
    end))
    openai.post = function(ai, url, body, opts)
        local now = leat.now()
        local err = fault(seen.first and now - seen.first, json.decode(body).messages[1].content)
        if err then
            seen.failed = seen.failed + 1
            return nil, err
        end
        if seen.first then
            seen.starts[#seen.starts + 1] = now - seen.first
        end
        local res, why = raw_post(ai, url, body, opts)
        seen.first = seen.first or res and leat.now()
        -- What was under way when the service went away gets no answer.
        local broken = res and fault(leat.now() - seen.first, nil)
        if broken then
            return nil, lost()
        end
        return res, why
    end
    log.warn = function(text)
        seen.said[#seen.said + 1] = text
    end
    rawset(os, "exit", function(status)
        seen.status = status
    end)
    local began = leat.now()
    local ok, value, err = pcall(batch_cli.main, { path .. ".in", path, "-q", "--model", "m", "--base-url",
        BASE .. "/v1", ... })
    openai.post, log.warn = raw_post, raw_warn
    rawset(os, "exit", raw_exit)
    server:close(0)
    assert(ok, value)
    seen.took, seen.ok, seen.err = leat.now() - began, value, err
    seen.rows, seen.answers = {}, 0
    for row in assert(leat.jsonl.read(path)) do
        t.ok(not seen.rows[row.custom_id], "row " .. row.custom_id .. " is answered twice")
        t.eq(row.response.body.choices[1].message.content, "about question " .. row.custom_id)
        seen.rows[row.custom_id], seen.answers = row, seen.answers + 1
    end
    return seen
end

local function lost_rows()
    local f = io.open(path .. ".errors")
    local text = f and f:read "*a" or ""
    if f then
        f:close()
    end
    return text
end

local function count(list, pattern)
    local n = 0
    for _, text in ipairs(list) do
        n = n + (text:find(pattern) and 1 or 0)
    end
    return n
end

-- A fault between two moments after the first answer.
local function between(from, to, make)
    return function(at)
        if at and at >= from and at < to then
            return make()
        end
    end
end

-- The most calls that were started within `seconds`, after the moment `from`.
local function most_within(starts, seconds, from)
    local most, first = 0, 1
    for i, at in ipairs(starts) do
        while starts[first] < at - seconds do
            first = first + 1
        end
        most = at >= from and math.max(most, i - first + 1) or most
    end
    return most
end

for name, make in pairs { ["connection refused"] = refused, ["no address"] = no_address,
    ["connections time out"] = no_connection } do
    t.test("the service is away for 8 s (" .. name .. "): all of 2,000 rows are answered", function()
        remove_files()
        write_rows(2000)
        local seen = run(between(1, 9, make), 0.2, "--retries", "0", "--concurrency", "50")
        t.ok(seen.ok, tostring(seen.err))
        t.eq({ seen.answers, lost_rows() }, { 2000, "" })
        -- Each row that was under way notices it once or twice; then one at a time looks for the service.
        t.ok(seen.failed <= 2 * 50 + 20, seen.failed)
    end)
end

t.test("rows do not come back all at once", function()
    remove_files()
    write_rows(3000)
    local seen = run(between(2, 12, refused), 1, "--retries", "0", "--concurrency", "500")
    t.ok(seen.ok, tostring(seen.err))
    t.eq(seen.answers, 3000)
    t.ok(most_within(seen.starts, 0.1, 2) > 1, "nothing was started after the outage")
    local before, back = most_within(seen.starts, 0.1, 0), {}
    for _, at in ipairs(seen.starts) do
        if at >= 12 and at < 15 then
            back[#back + 1] = at
        end
    end
    t.ok(before > 10, before)
    t.ok(most_within(back, 0.1, 12) <= 10, most_within(back, 0.1, 12))
end)

t.test("the service goes away again and again", function()
    remove_files()
    write_rows(1000)
    local seen = run(function(at)
        return at and at % 6 > 2 and refused() or nil
    end, 0.1, "--retries", "1", "--concurrency", "10")
    t.ok(seen.ok, tostring(seen.err))
    t.eq({ seen.answers, lost_rows() }, { 1000, "" })
end)

t.test("one of three servers behind a name refuses: no row fails, and the run comes to its end", function()
    remove_files()
    write_rows(1000)
    local n = 0
    local seen = run(function(at)
        n = n + 1
        return at and n % 3 == 0 and refused() or nil
    end, 0.1, "--retries", "0", "--concurrency", "20")
    t.ok(seen.ok, tostring(seen.err))
    t.eq({ seen.answers, lost_rows() }, { 1000, "" })
    t.ok(seen.took < 600, seen.took)
end)

t.test("the wait is reported with its beginning, once and then seldom, and so is its end", function()
    remove_files()
    write_rows(100)
    local seen = run(between(1, 400, refused), 0.2, "--patience", "1000", "--concurrency", "5")
    t.ok(seen.ok, tostring(seen.err))
    local waits = count(seen.said, "^waiting since %d%d:%d%d:%d%d for http://service%.test/v1: "
        .. "cannot connect to http://service%.test: Connection refused$")
    t.ok(waits >= 2 and waits <= 15, waits)
    t.eq(count(seen.said, "^http://service%.test/v1 answers again, after 4%d%d s$")
        + count(seen.said, "^http://service%.test/v1 answers again, after 39%d s$"), 1)
    t.eq(#seen.said, waits + 1)
    seen = run(between(1, 1.3, refused), 0.2, "--concurrency", "5")
    t.eq(#seen.said, 0)
end)

t.test("a service that stays away: the run ends as --help says, and the next one goes on", function()
    remove_files()
    write_rows(300)
    local seen = run(between(1, math.huge, refused), 0.2, "--concurrency", "10")
    local err = t.fails("connect", seen.ok, seen.err)
    t.ok(err.message:find("http://service.test/v1 has been unreachable since", 1, true), err.message)
    t.ok(err.message:find("at most 300 s (--patience)", 1, true), err.message)
    t.ok(seen.took > 300 and seen.took < 310, seen.took)
    local asked = 0
    for _ in pairs(seen.asked) do
        asked = asked + 1
    end
    t.ok(seen.answers > 0 and seen.answers < 300 and asked >= seen.answers, seen.answers)
    local first = seen.answers
    seen = run(function() end, 0.2, "--concurrency", "10")
    t.ok(seen.ok, tostring(seen.err))
    t.eq({ seen.answers, lost_rows() }, { 300, "" })
    local again = 0
    for _, n in pairs(seen.asked) do
        again = again + n
    end
    t.eq(again, 300 - first)
    t.ok(batch_cli.USAGE:find "default%s+300")
end)

t.test("--patience says how long to wait; 0 is not at all", function()
    for patience, took in pairs { [0] = 2, [5] = 8, [60] = 64 } do
        remove_files()
        write_rows(300)
        local seen = run(between(1, math.huge, refused), 0.2, "--concurrency", "10", "--patience",
            tostring(patience))
        t.fails("connect", seen.ok, seen.err)
        t.ok(seen.took >= 1 + patience and seen.took < took, seen.took)
    end
end)

t.test("a connection that is lost uses up no attempt, as each row has an idempotency key", function()
    remove_files()
    write_rows(500)
    local seen = run(between(1, 1.2, lost), 0.2, "--retries", "0", "--concurrency", "20")
    t.ok(seen.ok, tostring(seen.err))
    t.eq({ seen.answers, lost_rows() }, { 500, "" })
    t.ok(seen.failed > 0)
end)

t.test("but a row on which the connection is lost each time fails, and the others do not", function()
    remove_files()
    write_rows(100)
    local tries = 0
    local seen = run(function(_, prompt)
        if prompt == "question 50" then
            tries = tries + 1
            return lost()
        end
    end, 0.2, "--concurrency", "5", "--retries", "2")
    t.eq(seen.status, 4)
    t.ok(seen.answers == 99 and not seen.rows["50"], seen.answers)
    t.ok(tries > 3 and tries < 20, tries)
    t.ok(lost_rows():find('"code":"reset"', 1, true), lost_rows())
end)

t.test("a service that has never answered ends the run at once, as before", function()
    for _, make in ipairs { refused, no_address } do
        remove_files()
        write_rows(300)
        local seen = run(make, 0.2, "--concurrency", "10")
        t.fails(make().kind, seen.ok, seen.err)
        t.ok(seen.err.message:find "has never answered, in %d+ attempts", seen.err.message)
        t.ok(seen.failed <= 10 and seen.took < 2, seen.took)
    end
end)

t.test("a refused key ends the run at once, also while others wait for the service", function()
    remove_files()
    write_rows(300)
    local seen = run(function(at, prompt)
        if prompt == "question 60" and at and at > 0 then
            sleep(5)
            return leat.error { kind = "http", status = 401, retryable = false, message = "no such key" }
        end
        return at and at > 0.5 and refused() or nil
    end, 0.05, "--concurrency", "40")
    local err = t.fails("http", seen.ok, seen.err)
    t.eq(err.status, 401)
    t.ok(seen.took < 10, seen.took)
end)

remove_files()
t.done()
