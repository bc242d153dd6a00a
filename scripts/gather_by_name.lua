-- Three named tasks: all start, then all finish, in about one second and not three. Had one failed, the
-- others would have been cancelled and waited for.
local leat = require "leat"

local function fetch(name)
    print("fetching " .. name)
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
local data = assert(gather(tasks))
print(("[%s] in %.1f s"):format(table.concat(data, ", "), leat.now() - started))
