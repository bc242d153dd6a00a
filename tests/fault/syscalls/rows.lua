-- Rows, each of which is paid for once: a map with a journal. arg[1]: the service's address of this run.
-- A row that failed is named on standard error. In the host's session a function of the host's takes part.
local list = {}
for i = 1, tonumber(os.getenv "SWEEP_ROWS") do
    list[i] = i
end

local results, err = leat.map(list, function(id)
    if host then -- luacheck: ignore 113
        local doubled, why = host.double(id) -- luacheck: ignore 113
        if not doubled then
            return nil, why
        end
        assert(doubled == 2 * id)
    end
    local res, why = request { method = "POST", url = arg[1] .. "/do?id=" .. id, expect = "2xx",
        body = ("x"):rep(1000), timeout = 10 }
    if not res then
        return nil, why
    end
    return res:json().id
end, { journal = "run.jsonl", limit = 4, settle = true })
if not results then
    return nil, err
end
local first
for id, slot in ipairs(results) do
    if not slot.ok then
        first = first or slot.err
        io.stderr:write(("row %d failed: %s: %s\n"):format(id, slot.err.kind, slot.err.message))
    end
end
return not first or nil, first
