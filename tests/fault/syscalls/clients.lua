-- The clients of serve.lua, at arg[1]; arg[2]: the kind of call that fails there. Each client asks until it
-- is served. Writes to standard output what is wrong.
local url, kind = arg[1], arg[2]
local tries, broken = {}, 0

local function ask(id)
    for try = 1, 4 do
        tries[id] = try
        local res, err = request { method = "POST", url = url .. "/?id=" .. id, timeout = 20,
            body = ("x"):rep(1000) }
        if res and res.body == (id % 5 == 0 and "parts" or "whole") then
            return
        end
        broken = broken + 1
        if err and err.kind == "timeout" then
            print(("id %d: no answer: %s"):format(id, err.message))
        end
    end
    print(("id %d: not served in %d tries"):format(id, tries[id]))
end

local ids = {}
for i = 1, 20 do
    ids[i] = i
end
leat.each(ids, ask, { limit = 4 })

local executed
for _ = 1, 3 do
    local res = request { url = url .. "/executed", timeout = 20 }
    executed = res and res.ok and res:json() or executed
    if executed then
        break
    end
    broken = broken + 1
end
request { url = url .. "/stop", timeout = 20, idempotent = false }
if not executed then
    return print "it does not answer any more"
end
for _, id in ipairs(ids) do
    local n = executed[tostring(id)] or 0
    if n < 1 or n > tries[id] then
        print(("id %d: executed %d times, asked %d times"):format(id, n, tries[id]))
    end
end
if kind == "accept" and broken > 0 then
    print(broken .. " clients saw that it could not accept")
elseif broken > 4 then
    print(broken .. " requests were not answered")
end
