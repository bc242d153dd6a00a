-- A method that is called with a point where a colon belongs says so, whatever the object.
local t = require "harness"
local leat = require "leat"

local requests, writers = {}, {}

leat.simulate("https://a.test", function(req)
    requests[1] = req
    local out = req:respond { headers = { ["Content-Type"] = "text/event-stream" } }
    writers[1] = out
    out:write 'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    return out:close()
end)

local whole = assert(request "https://a.test/")
local group
leat.group(function(g)
    group = g
    g:spawn(sleep, 0)
end)
local merged = leat.merge { function() end }
local arrivals = leat.as_completed({}, print)

-- An object, and the methods that have no list of their own to be found in.
local OBJECTS = {
    response = { whole, "json", "header_values", "read", "chunks", "lines", "events", "next_event", "close",
        "each_chunk", "each_line", "each_event" },
    client = { assert(leat.client { base_url = "https://a.test" }) },
    semaphore = { semaphore(1), "with", "acquire", "try_acquire", "release", "resize" },
    queue = { leat.queue(1), "put", "get", "try_put", "try_get", "close", "iter" },
    event = { leat.event() },
    task = { spawn(sleep, 0), "await", "cancel", "status" },
    group = { group },
    pipeline = { leat.pipeline {} },
    stats = { select(2, leat.pipeline {}:run({ 1 }, tostring)) },
    retry = { leat.retry {} }, breaker = { leat.breaker {} }, adaptive = { leat.adaptive {} },
    limiter = { leat.limiter { rpm = 60 } },
    reservation = { leat.limiter { rpm = 60 }:reserve() },
    openai = { leat.openai { base_url = "https://a.test/v1", api_key = "k", model = "m" } },
    server_request = { requests[1], "json", "respond", "abort" },
    server_stream = { writers[1] },
    server = { assert(leat.simulate("https://b.test", print)) },
    stdin = { leat.stdin, "read", "lines" },
    merge = { merged, "close" },
    as_completed = { arrivals, "close" },
}

-- Those that do not begin with "_", which are internal.
local function methods_of(entry)
    local names = {}
    for i = 2, #entry do
        names[#names + 1] = entry[i]
    end
    local mt = debug.getmetatable(entry[1])
    local index = #names == 0 and mt and mt.__index
    for name, value in pairs(type(index) == "table" and index or {}) do
        if type(name) == "string" and type(value) == "function" and not name:find "^_" then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return names
end

sleep(0.01)

local kinds = {}
for kind in pairs(OBJECTS) do
    kinds[#kinds + 1] = kind
end
table.sort(kinds)

for _, kind in ipairs(kinds) do
    local entry = OBJECTS[kind]
    t.test(kind .. ": a method without the colon says what is wrong", function()
        local names = methods_of(entry)
        for _, name in ipairs(names) do
            local method = entry[1][name]
            for _, args in ipairs { {}, { "x" }, { print }, { {} }, { 1, 2 } } do
                local ok, raised = pcall(method, unpack(args))
                t.ok(not ok and tostring(raised):find("colon", 1, true), ("%s.%s(%s): %s"):format(kind, name,
                    tostring(args[1]), tostring(raised)))
                t.ok(not tostring(raised):find "leat/[%w_/]+%.lua", tostring(raised))
            end
        end
        t.ok(#names > 0, "methods of " .. kind)
    end)
end

merged:close()
arrivals:close()
t.done()
