-- leat tests/bench/client.lua: what a request costs before it reaches the engine, bare and through a client
-- that has the same headers, authorization and limits. A header that is refused ends each one there.
local COUNT, ROUNDS = 50000, 5
local refused = { ["not a name"] = "x" }

local function bare()
    return request { url = "http://127.0.0.1:1/v1/chat", timeout = 5, auth = { bearer = "abc" },
        json = { n = 1 }, headers = { Accept = "application/json", ["X-A"] = "1", ["X-B"] = "2",
            ["not a name"] = "x" } }
end

local api = assert(leat.client { base_url = "http://127.0.0.1:1/v1", timeout = 5, auth = { bearer = "abc" },
    headers = { Accept = "application/json", ["X-A"] = "1", ["X-B"] = "2" } })

local function by_client()
    return api:post("chat", { json = { n = 1 }, headers = refused })
end

local best = { math.huge, math.huge }
for _ = 1, ROUNDS do
    for i, call in ipairs { bare, by_client } do
        collectgarbage()
        local from = os.clock()
        for _ = 1, COUNT do
            local _, err = call()
            assert(err.kind == "invalid")
        end
        best[i] = math.min(best[i], (os.clock() - from) / COUNT)
    end
end
print(("bare %.2f us, through a client %.2f us, ratio %.2f"):format(best[1] * 1e6, best[2] * 1e6,
    best[2] / best[1]))
