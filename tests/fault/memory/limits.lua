-- wait_for, shield, finally, deadlines and cancels, one inside the other.
local cleaned, shielded, caught = 0, false, false

local none, err = wait_for(0.002, sleep, 60)
expect(none == nil and err.kind == "timeout" and err.at, err)
expect(wait_for(1, function() sleep(0.001) return "in time" end) == "in time")
none, err = wait_for(0.001, function() return wait_for(60, sleep, 60) end)
expect(none == nil and err.kind == "timeout", err)
none, err = wait_for(0.002, gather, { function() sleep(60) end, function() sleep(60) end })
expect(none == nil and err.kind == "timeout", err)

none, err = wait_for(0.001, function()
    return leat.finally(function() sleep(60) end, function()
        cleaned = cleaned + 1 -- which takes no memory: it is done whatever fails
        sleep(0.002)
    end)
end)
expect(none == nil and err.kind == "timeout" and cleaned == 1, err)
none, err = leat.finally(function() return nil, leat.error { kind = "io", message = "mine" } end,
    function() return nil, leat.error { kind = "io", message = "the clean-up's" } end)
expect(none == nil and err.kind == "io" and err.cleanup.kind == "io", err)

local task = spawn(function()
    expect(leat.shield(1, function() sleep(0.003) shielded = true return true end))
    sleep(60)
end)
sleep(0.001)
task:cancel()
none, err = task:await()
expect(none == nil and err.kind == "cancelled", err)
expect(shielded)
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
            caught = true
            error(leat.error { kind = "io", message = "mine" })
        end
    end
end)
sleep(0)
task:cancel()
none, err = task:await()
expect(none == nil and err.kind == "io" and caught, err)
return true
