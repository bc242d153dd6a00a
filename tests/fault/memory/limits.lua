-- wait_for, shield, finally, deadlines and cancels, one inside the other.
local steps = {}
local function step(s) steps[#steps + 1] = s end

local none, err = wait_for(0.002, sleep, 60)
expect(none == nil and err.kind == "timeout" and err.at, err)
expect(wait_for(1, function() sleep(0.001) return "in time" end) == "in time")
none, err = wait_for(0.001, function() return wait_for(60, sleep, 60) end)
expect(none == nil and err.kind == "timeout", err)
none, err = wait_for(0.002, gather, { function() sleep(60) end, function() sleep(60) end })
expect(none == nil and err.kind == "timeout", err)

none, err = wait_for(0.001, function()
    return leat.finally(function() sleep(60) end, function()
        sleep(0.002)
        step "cleaned"
    end)
end)
expect(none == nil and err.kind == "timeout" and #steps == 1, err)
none, err = leat.finally(function() return nil, leat.error { kind = "io", message = "mine" } end,
    function() return nil, leat.error { kind = "io", message = "the clean-up's" } end)
expect(none == nil and err.kind == "io" and err.cleanup.kind == "io", err)

local task = spawn(function()
    leat.shield(1, function() sleep(0.003) step "shielded" end)
    step "never"
    sleep(60)
    step "never"
end)
sleep(0.001)
task:cancel()
none, err = task:await()
expect(none == nil and err.kind == "cancelled", err)
expect(steps[2] == "shielded")
none, err = leat.shield(0.001, sleep, 60)
expect(none == nil and err.kind == "timeout", err)

wait_for(5, function()
    expect(leat.deadline() - leat.now() <= 5)
    local child = spawn(leat.deadline)
    expect(child:await() <= leat.deadline())
end)
task = spawn(function()
    while true do
        local ok = pcall(sleep, 60)
        if not ok then
            step "caught"
            error(leat.error { kind = "io", message = "mine" })
        end
    end
end)
sleep(0)
task:cancel()
none, err = task:await()
expect(none == nil and (err.kind == "io" or err.kind == "cancelled"), err)
return true
