-- What JSON costs: build/leat tests/bench/json.lua [rounds]. Microseconds of CPU time per call, the
-- least of several rounds: leat's one-pass builder, lua-cjson behind leat's strict scan
-- (builder="cjson"), the same with lua-cjson alone where a plain `require "cjson"` finds it, and encode.
local json = require("leat").json
local has_cjson, cjson = pcall(require, "cjson")

local texts = {
    { "chat reply", '{"id":"chatcmpl-9aB3xYzQ","object":"chat.completion","created":1718000000,'
        .. '"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":'
        .. '"Forty-two is the product of six and seven, no more."},"finish_reason":"stop"}],"usage":'
        .. '{"prompt_tokens":19,"completion_tokens":14,"total_tokens":33}}' },
    { "stream chunk", '{"id":"chatcmpl-9aB3xYzQ","object":"chat.completion.chunk","created":1718000000,'
        .. '"model":"gpt-4o-mini-2024-07-18","system_fingerprint":null,"choices":[{"index":0,"delta":'
        .. '{"content":" Hello\\n"},"logprobs":null,"finish_reason":null}]}' },
    { "1000 numbers", json.encode((function()
        local list = {}
        for i = 1, 1000 do list[i] = i * 0.37 - 100 end
        return list
    end)()) },
    { "64 KiB text", json.encode { (("A line of text, and \"more\" of it.\n"):rep(1900)) } },
}

local function cost(count, fn, ...)
    local least = math.huge
    for _ = 1, tonumber(arg and arg[1]) or 5 do
        collectgarbage()
        local start = os.clock()
        for _ = 1, count do fn(...) end
        least = math.min(least, (os.clock() - start) / count * 1e6)
    end
    return least
end

local BY_CJSON = { builder = "cjson" }
print(("%-14s %7s %9s %12s %9s %9s %12s"):format("us per call", "bytes", "decode", "scan+cjson", "cjson",
    "encode", "cjson encode"))
for _, row in ipairs(texts) do
    local name, text = row[1], row[2]
    local count = math.max(100, math.floor(2e7 / (#text + 100) / 4))
    local value = json.decode(text)
    local alone = has_cjson and ("%9.2f"):format(cost(count, cjson.decode, text)) or "-"
    local encoded = has_cjson and ("%12.2f"):format(cost(count, cjson.encode, value)) or "-"
    print(("%-14s %7d %9.2f %12.2f %9s %9.2f %12s"):format(name, #text, cost(count, json.decode, text),
        cost(count, json.decode, text, BY_CJSON), alone, cost(count, json.encode, value), encoded))
end
