-- Three named tasks: all start, then all finish, in about one second and not three. Where one fails, the
-- others are cancelled and waited for: none runs on unseen.
-- usage: leat scripts/gather_by_name.lua [the number of the one that fails]
local leat = require "leat"

local bad = ...

local function fetch(name)
    print("fetching " .. name)
    if name == bad then
        return nil, leat.error { kind = "script", message = "there is no " .. name }
    end
    sleep(1)
    print("finished " .. name)
    return "data-" .. name
end

local started = leat.now()
local tasks = {}
for i = 1, 3 do
    tasks[i] = spawn(fetch, tostring(i))
    tasks[i].name = "fetch " .. i
end
local data, err = gather(tasks)
if not data then
    for _, task in ipairs(tasks) do
        print(task.name .. ": " .. task:status())
    end
    return nil, err
end
print(("[%s] in %.1f s"):format(table.concat(data, ", "), leat.now() - started))
