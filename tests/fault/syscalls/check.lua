-- Looks at what a run of the sweep left in its folder, and writes to standard output what is wrong. arg: the
-- program, the service's address of this run, the kind of call that failed, "faulted" or "again", the status.
local program, address, kind, when, status = arg[1], arg[2], arg[3], arg[4], tonumber(arg[5])
local rows = tonumber(os.getenv "SWEEP_ROWS")

local function read(path)
    local f = io.open(path, "rb")
    local text = f and f:read "*a"
    return text, f and f:close()
end

local function say(...)
    print(when .. ": " .. string.format(...))
end

local function executed()
    return assert(request { url = address .. "/executed", expect = "2xx" }):json()
end

-- The rows whose failure said that they may have been executed.
local function uncertain()
    local ids = {}
    for id, failure in (read("err.faulted") or ""):gmatch "row (%d+) failed: (%l+)" do
        ids[id] = failure == "closed" or failure == "timeout"
    end
    return ids
end

local function look_at_rows(path, id_of)
    local text, seen, n = read(path) or "", {}, 0
    if text ~= "" and text:sub(-1) ~= "\n" then
        say("%s ends with half a line", path)
    end
    for line in text:gmatch "[^\n]+" do
        local value = leat.json.decode(line)
        local id = value and id_of(value)
        if not value then
            say("%s: not a line of JSON: %s", path, line)
        elseif id and seen[id] then
            say("row %s stands twice in %s", id, path)
        elseif id then
            seen[id], n = true, n + 1
        end
    end
    local calls, may_be = executed(), uncertain()
    for i = 1, rows do
        local id = tostring(i)
        local most = (may_be[id] or kind == "send" or kind == "recv") and 2 or 1
        if (calls[id] or 0) > most then
            say("row %s was executed %d times", id, calls[id])
        elseif calls[id] and not seen[id] and not may_be[id] and program ~= "batch" then
            say("row %s was executed, and is not in %s", id, path)
        elseif seen[id] and not calls[id] then
            say("row %s is in %s, and was never executed", id, path)
        end
    end
    if program == "batch" and status == 4 then
        local failed = select(2, (read "answers.errors" or ""):gsub("\n", "\n"))
        if n + failed ~= rows then
            say("status 4 with %d answers and %d errors of %d rows", n, failed, rows)
        end
    elseif program == "map" and status == 0 and not (leat.json.decode(read "stats.json" or "")
        and leat.json.decode(read "trace.json" or "") and (read "report.html" or ""):find "</html>") then
        say "status 0, and not all of trace, report and stats is there"
    end
    if status == 0 and n ~= rows then
        say("status 0 with %d of %d rows in %s", n, rows, path)
    end
end

local function look_at_file(path, size)
    local text = read(path)
    if status == 0 and (not text or #text ~= size) then
        say("status 0, and %s has %s of %d bytes", path, text and #text, size)
    elseif text and text ~= "old\n" and #text ~= size then
        say("%s is neither the old file nor the new one", path)
    end
end

if program == "batch" then
    look_at_rows("answers", function(line)
        return line.custom_id:match "%d+"
    end)
elseif program == "map" or program:find "^host" then
    look_at_rows("run.jsonl", function(line)
        return type(line.value) == "number" and tostring(line.value) or nil
    end)
elseif program == "sink" then
    look_at_file("sunk", 1024 * 1024)
    look_at_file("sunk_tls", 1024 * 1024)
end
