-- Semaphores, queues and events with waiters that give up and are cancelled: no permit and no item is lost.
local sem = kept.sem or semaphore(2)
kept.sem = sem
function kept.check()
    expect(sem.available == 2 and sem.waiting == 0, "a permit is lost")
end

local most, now = 0, 0
local function hold(s)
    return sem:with(function()
        now = now + 1
        most = math.max(most, now)
        leat.finally(function() sleep(s) end, function() now = now - 1 end)
        return true
    end)
end

expect(leat.map({ 0.001, 0.002, 0.001, 0.003 }, hold))
expect(most == 2 and now == 0)
local none, err = gather { function() return hold(60) end, function() return hold(60) end,
    function() return wait_for(0.001, hold, 1) end }
expect(none == nil and err.kind == "timeout", err)
local first = spawn(hold, 60)
local second = spawn(hold, 60)
local third = spawn(hold, 0)
sleep(0.001)
for _, task in ipairs { first, second, third } do
    if task:status() ~= "waiting" then
        expect(task:await())
    end
end
expect(sem.waiting == 1 and not sem:try_acquire())
none, err = sem:acquire(0.001)
expect(none == nil and err.kind == "timeout", err)
first:cancel()
expect(third:await())
second:cancel()
first:await()
second:await()
local small = semaphore(2)
small:resize(1)
local ok, bug = pcall(small.with, small, function() error "a bug" end)
expect(not ok and small.available == 1 and tostring(bug):find("a bug", 1, true), bug)

local queue = leat.queue(2)
local got, sent = {}, 0
expect(gather {
    function()
        for i = 1, 6 do
            expect(queue:put(i, 5))
            sent = sent + 1
        end
        queue:close()
        return true
    end,
    function()
        local first_item, late = wait_for(0, queue.get, queue)
        got[1] = first_item
        expect(first_item or late.kind == "timeout", late)
        for item in queue:iter() do
            got[#got + 1] = item
            sleep(0)
        end
        return true
    end,
})
expect(table.concat(got, ",") == "1,2,3,4,5,6" and sent == 6)
local full = leat.queue(1)
expect(full:try_put "x" and not full:try_put "y")
none, err = full:put("y", 0.001)
expect(none == nil and err.kind == "timeout", err)
full:close(leat.error { kind = "io", message = "gone" })
expect(full:get() == "x")
none, err = full:get()
expect(none == nil and err.kind == "io", err)

local event = leat.event()
local waiters = {}
for i = 1, 3 do
    waiters[i] = function() return event:wait(i == 3 and 0.001 or 5) end
end
local all = spawn(gather, waiters, { settle = true })
sleep(0.002)
event:set()
local settled = expect(all:await())
expect(settled[1].ok and settled[2].ok and not settled[3].ok and settled[3].err.kind == "timeout", settled[1],
    settled[2], settled[3])
event:clear()
expect(not event:is_set())
return true
