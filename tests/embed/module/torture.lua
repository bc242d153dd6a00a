-- A little of everything, for runs in which memory ends somewhere on the way.
local url = ...
local leat = require "leat"

local task = leat.start(function()
    leat.gather { function() return leat.request(url .. "/v1/models") end, function() leat.sleep(0) end }
end)
assert(leat.run(leat.request, url .. "/v1/models").status == 200)
leat.run(function()
    local sem = leat.semaphore(1)
    leat.map({ 1, 2 }, function() return sem:with(leat.sleep, 0) end)
end)
pcall(leat.run, error, "a bug")
task:cancel()
leat.start(leat.request, url .. "/v1/models")
leat.start(leat.gather, { function() leat.sleep(60) end })
leat.step()
