-- For a host that wants what its scripts write to standard output: print, io.write and io.stdout:write hand
-- it over. Internal; for states of leat's own.

--- What print(...) writes, without the end of the line.
local function line_of(...)
    local parts = { ... }
    for i = 1, select("#", ...) do
        parts[i] = tostring((select(i, ...)))
        if type(parts[i]) ~= "string" then
            error("'tostring' must return a string to 'print'", 3)
        end
    end
    return table.concat(parts, "\t")
end

return function(sink)
    local stdout = io.stdout
    local methods = getmetatable(stdout).__index
    local raw_write = methods.write

    function print(...)
        sink(line_of(...) .. "\n")
    end

    function methods.write(file, ...)
        if not rawequal(file, stdout) then
            return raw_write(file, ...)
        end
        local ok = raw_write(file) -- nothing: raises where it is closed
        for i = 1, select("#", ...) do
            local kind = type((select(i, ...)))
            if kind ~= "string" and kind ~= "number" then
                error(("bad argument #%d to 'write' (string expected, got %s)"):format(i, kind), 2)
            end
        end
        sink(table.concat({ ... }))
        return ok
    end

    function io.write(...)
        return io.output():write(...)
    end
end
