-- batch.lua SEED IN OUT: writes random rows to IN, unless it is there, and runs `leat batch IN OUT` over a
-- service that fails in every way. What the service has counted goes to OUT.counted, for agree.lua.
local services = require "service"

local seed, input, output = tonumber(arg[1]), arg[2], arg[3]
local random = services.generator(seed)

local ROWS = {
    function(i) return '{"prompt":"question ' .. i .. '"}' end,
    function(i) return "question " .. i end,
    function(i)
        return ('{"messages":[{"role":"user","content":"question %d"}],"seed":16180655071118354%d}'):format(i,
            i)
    end,
    function(i)
        return ('{"custom_id":"own-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"m",'
            .. '"messages":[{"role":"user","content":"question %d"}]}}'):format(i, i)
    end,
}
local BAD = { "42", "null", '["a"]', '{"prompt":', '{"custom_id":"x"}', "{}" }

local function write_rows()
    local f = assert(io.open(input, "w"))
    for i = 1, random(60) do
        f:write(random(12) == 1 and BAD[random(#BAD)] or ROWS[random(#ROWS)](i), "\n")
    end
    f:close()
end

local given = io.open(input)
if given then
    given:close()
else
    write_rows()
end

local handler, server = services.new(random, { mild = random(10) > 1 })
local service = assert(leat.simulate("http://service.test", handler))
local args = { input, output, "--model", "m", "--base-url", "http://service.test/v1", "--retries",
    tostring(random(4) - 1), "--timeout", tostring(3 + random(30)) }
for flag, value in pairs { ["--concurrency"] = random(3) > 1 and tostring(random(12)) or nil,
    ["--rpm"] = random(4) == 1 and tostring(60 * random(20)) or nil } do
    args[#args + 1] = flag
    args[#args + 1] = value
end
if random(4) == 1 then
    args[#args + 1] = "--ordered"
end
return leat.finally(function()
    return require("leat.cli.batch").main(args)
end, function() -- also where the command ends by os.exit
    service:close()
    local f = assert(io.open(output .. ".counted", "w"))
    f:write(leat.json.encode(services.counted(server)), "\n")
    f:close()
    return true
end)
