-- Requests to a server in the same process, tried again until they succeed, JSON both ways, and a journal.
local scratch = ...
local journal = scratch .. "/run.jsonl"

local calls = 0
local server = expect(leat.serve { handler = function(req)
    calls = calls + 1
    if calls % 3 == 1 then
        return { status = 503, headers = { ["Retry-After"] = "0" }, body = "later" }
    end
    local n = expect(req:json()).n
    return { json = { square = n * n } }
end })

local retry = leat.retry { attempts = 5, base = 0.001 }
local function square(n)
    local res, err = retry:call(request, { url = server.url .. "/square", json = { n = n }, idempotent = true,
        timeout = 3 })
    if not res then
        return nil, err
    elseif not res.ok then
        return nil, leat.error { kind = "http", message = "status " .. res.status }
    end
    local answer
    answer, err = res:json()
    if not answer then
        return nil, err
    end
    return answer.square
end

local got = expect(leat.map({ 1, 2, 3 }, square, { limit = 2, journal = journal }))
expect(got[1] == 1 and got[2] == 4 and got[3] == 9)
local both = expect(gather { function() return square(5) end, function() return square(6) end })
expect(both[1] == 25 and both[2] == 36)
-- What is in the journal is not called again.
got = expect(leat.map({ 1, 2, 3 }, function() error "it was done" end, { journal = journal }))
expect(got[1] == 1 and got[2] == 4 and got[3] == 9)
server:close()
expect(os.remove(journal))
return true
