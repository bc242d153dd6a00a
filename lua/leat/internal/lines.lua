-- Files of lines: read piece by piece, written whole, off the loop's thread. Internal.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local native = require "leat.native.lines"
local errors = require "leat.error"
local file = require "leat.internal.file"
local task = require "leat.task"

local M = {}

local PIECE = 64 * 1024
local MAX_LINE = 16 * 1024 * 1024
local DISK_TIME = 60 -- seconds that a cancel waits for the disk

-- ---- reading

-- An err about a line.
function M.invalid(path, number, what)
    path = check.path(path)
    return errors.new { kind = "invalid", message = ("%s:%d: %s"):format(path, number, what), file = path,
        line = number }
end

local function of_stdin()
    local stdin = require "leat.stdin"
    return { read = function(_, n)
        return stdin:read(n)
    end, close = function()
    end }
end

-- read(path | open file, name, max) gives an iterator function of text, number, whole: the text
-- without its line end, and whether it had one. A line longer than `max` bytes comes as nil, number, err, and
-- the next call goes on behind it; nil alone is the end. A failed read is raised.
function M.read(source, name, max)
    max = max or MAX_LINE
    local f = source
    if type(source) == "string" then
        local err
        if source == "-" then
            f = of_stdin()
        else
            f, err = file.open(source, "r")
        end
        if not f then
            return nil, err
        end
    end
    local chunk, at, number, ended = "", 1, 0, false
    local parts, held, skipping = {}, 0, false
    local function whole_line(piece, had_end)
        number = number + 1
        local text = piece
        if held > 0 then
            parts[#parts + 1] = piece
            text = table.concat(parts)
        end
        parts, held = {}, 0
        if skipping or #text > max then
            skipping = false
            return nil, number, M.invalid(name, number, ("the line is longer than %d bytes"):format(max))
        end
        if number == 1 and text:sub(1, 3) == "\239\187\191" then
            text = text:sub(4)
        end
        if text:byte(-1) == 13 then
            text = text:sub(1, -2)
        end
        return text, number, had_end
    end
    return function()
        while true do
            local to = chunk:find("\n", at, true)
            if to then
                local piece = chunk:sub(at, to - 1)
                at = to + 1
                return whole_line(piece, true)
            elseif ended then
                return nil
            end
            local rest = chunk:sub(at)
            if skipping or held + #rest > max then
                skipping, parts, held = true, {}, 0
            elseif rest ~= "" then
                parts[#parts + 1] = rest
                held = held + #rest
            end
            local more, err = f:read(PIECE)
            chunk, at = more or "", 1
            if not more or more == "" then
                if err then
                    error(err, 0)
                end
                ended = true
                f:close()
                if held > 0 or skipping then
                    return whole_line("", false)
                end
            end
        end
    end
end

-- ---- writing

local Writer = {}
Writer.__index = Writer

-- A writer of whole lines on an open file, which it takes over. A line is written at once by another thread,
-- and is in the file at every end of the process that is not kill -9. `durable`: a line counts as written
-- when it is on the disk. `again`: a line that counted as failed may still be written by `close`.
function M.writer(f, durable, again)
    local out, err = native.new(f, durable, again)
    if not out then
        return nil, err
    end
    return setmetatable({ _out = out, _durable = durable }, Writer)
end

local function wait(self)
    return await(native.wait(self._out))
end

-- Adds a line (its end is added here). Returns when it is on the disk for a durable writer, else at once: the
-- task waits only where much waits for the file already.
function Writer:line(text)
    if self._closed then
        check.fail "jsonl: the writer is closed"
    end
    local done, err = native.add(self._out, text)
    if done then
        return true
    elseif done == nil then
        return nil, err
    elseif self._durable then
        return task.shield(DISK_TIME, wait, self) -- a cancel must not make it unknown what became of it
    end
    return wait(self)
end

-- Waits until everything so far is on the disk.
function Writer:flush()
    if self._closed then
        return true
    end
    return await(native.sync(self._out))
end

-- Writes everything, puts it onto the disk and closes; a second time does nothing. What could not be written
-- is then in `_rest`.
function Writer:close()
    if self._closed then
        return true
    end
    local out, retried, closed, why = self._out, false, "busy", nil
    local ok, err = await(native.sync(out))
    while closed == "busy" do -- other tasks may add to it, or close it, until then
        if not self._closed then
            await(native.idle(out))
        end
        if self._closed then
            return ok, err
        elseif not ok and not retried and native.retry(out) then -- the disk may have room again
            retried = true
            await(native.sync(out))
        else
            self._rest = not ok and native.rest(out) or nil
            closed, why = native.shut(out)
        end
    end
    self._closed = true
    if ok and closed then
        return true
    end
    return nil, err or why
end

return M
