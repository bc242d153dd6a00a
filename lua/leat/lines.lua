-- Files of lines: read piece by piece, written whole, off the loop's thread. Internal.
local check = require "leat.check"
local errors = require "leat.error"
local file = require "leat.file"
local sync = require "leat.sync"
local task = require "leat.task"

local M = {}

local PIECE = 64 * 1024
local MAX_LINE = 16 * 1024 * 1024
local MOST_WAITING = 1024 * 1024 -- bytes that may wait for the disk before a writer waits, too
local DISK_TIME = 60             -- seconds that a cancel waits for the disk, so that no line is torn

-- ---- reading

-- An err about a line.
function M.invalid(path, number, what)
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

local function new_batch()
    return { lines = {}, bytes = 0, out = false, ended = sync.event() }
end

-- A writer of whole lines on an open file. `durable`: a line counts as written when it is on the
-- disk. Many tasks may write: what gathers while the disk is busy goes out as one.
function M.writer(f, durable)
    return setmetatable({ _file = f, _durable = durable, _next = new_batch() }, Writer)
end

local function put(self, batch)
    local ok, err = self._file:write(table.concat(batch.lines))
    if ok and self._durable then
        ok, err = self._file:sync()
    end
    batch.out = ok
    self._broken = not ok and err or nil
    return ok, err
end

-- Waits until everything up to now is out, and brings it there unless another task is at it. A cancel waits
-- for the disk: half a line would be worse.
local function push_out(self)
    local batch = #self._next.lines > 0 and self._next or self._writing
    while batch and not batch.out and not self._broken do
        if self._writing then
            self._writing.ended:wait()
        else
            self._writing, self._next = batch, new_batch()
            -- Whatever is raised (memory), those who wait for this batch must be told.
            local ran, ok, err = pcall(task.shield, DISK_TIME, put, self, batch)
            if not ran then
                err = ok
            end
            if not (ran and ok) and not batch.out then
                self._broken = self._broken or errors.wrap(err)
            end
            self._writing = nil
            batch.ended:set()
            if not ran then
                error(err, 0)
            end
        end
    end
    if self._broken then
        return nil, self._broken
    end
    return true
end

-- Adds a line (its end is added here); returns when it is out (or on the disk).
function Writer:line(text)
    if self._closed then
        check.fail "jsonl: the writer is closed"
    elseif self._broken then
        return nil, self._broken
    end
    local batch = self._next
    batch.lines[#batch.lines + 1] = text .. "\n"
    batch.bytes = batch.bytes + #text + 1
    if self._durable or batch.bytes >= PIECE and not self._writing or batch.bytes >= MOST_WAITING then
        return push_out(self)
    end
    return true
end

-- Waits until everything so far is out.
function Writer:flush()
    return self._closed or push_out(self)
end

-- Flushes and closes; a second time does nothing.
function Writer:close()
    if self._closed then
        return true
    end
    local ok, err = push_out(self)
    self._closed = true
    self._file:close()
    return ok, err
end

return M
