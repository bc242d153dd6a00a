-- For a host that handles the standard output of its scripts: print, io.write and io.stdout:write call the
-- host. Only used in states that leat creates.

--- The text that print(...) writes, without the line end.
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
        local ok = raw_write(file) -- writes nothing, but raises an error if the file is closed
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
