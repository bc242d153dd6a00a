-- A server that does what each client asks once, says so in a file, and ends when it is asked to.
local executed, asked_to_stop = {}, leat.event()
local told, err = leat.jsonl.writer "served.jsonl"
if not told then
    return nil, err
end

local function handler(req)
    if req.path == "/stop" then
        asked_to_stop:set()
        return { body = "it stops" }
    elseif req.path == "/executed" then
        return { json = leat.json.object(executed) }
    end
    local id = req.query.id
    executed[id] = (executed[id] or 0) + 1
    sleep(0.002)
    told:write { id = id } -- what fails is told at the end
    if tonumber(id) % 5 == 0 then
        local out = req:respond { headers = { ["Content-Type"] = "text/plain" } }
        return out and out:write "par" and out:write "ts" and out:close()
    end
    return { body = "whole", headers = tonumber(id) % 3 == 0 and { Connection = "close" } or nil }
end

local server
server, err = leat.serve { handler = handler }
if not server then
    return nil, err
end
local f = assert(io.open("address.new", "w"))
f:write(server.url)
f:close()
assert(os.rename("address.new", "address"))
asked_to_stop:wait()
server:close(1)
return told:close()
