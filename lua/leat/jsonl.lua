-- JSON lines: one value per line. Reading and writing happen outside the event loop's thread, in order.
local check = require "leat.internal.check"
local file = require "leat.internal.file"
local json = require "leat.json"
local lines = require "leat.internal.lines"
local storable = require "leat.internal.storable"

local M = {}

local READ = { max_line = "number", on_error = true }

--- Iterates over the values of a file of JSON lines. A line is read only when the loop asks for it. Blank
--- lines, CRLF and a byte order mark are allowed.
---@param path string a file, or "-" for standard input
---@param opts? leat.jsonl_read_options on_error(err, text): called for each bad line, and reading
---continues; max_line in bytes (16 MiB)
---@return (fun(): any, integer)|nil iterator of value, line; a null is json.null
---@return leat.error? err kind "io": the file cannot be opened
---
--- A bad line raises an err of kind "invalid" with `file` and `line`, unless on_error is given.
--- ```lua
--- local path = os.tmpname()
--- local out = assert(leat.jsonl.writer(path))
--- for i = 1, 3 do assert(out:write { id = i }) end
--- assert(out:close())
--- local sum = 0
--- for row, line in assert(leat.jsonl.read(path)) do
---     assert(row.id == line)
---     sum = sum + row.id
--- end
--- assert(sum == 6 and os.remove(path))
--- ```
function M.read(path, opts)
    if type(path) ~= "string" then
        check.fail("jsonl.read: expected a path, got " .. check.picture(path, "path"))
    end
    opts = check.options("jsonl.read", opts, READ)
    if opts.on_error ~= nil then
        check.callable("jsonl.read", "option 'on_error'", opts.on_error)
    end
    local name = path == "-" and "standard input" or path
    local max = opts.max_line and check.count("jsonl.read", "option 'max_line'", opts.max_line, 1)
    local next_line, bad = lines.read(path, name, max)
    if not next_line then
        return nil, bad
    end
    return function()
        while true do
            local text, number, err = next_line()
            if not number then
                return nil
            end
            if text and text:find "%S" then
                local value
                value, err = json.decode(text)
                if value ~= nil then
                    return value, number
                end
                err = lines.invalid(name, number, (err.message:gsub("^json: line 1, ", "")))
            elseif text then
                err = nil
            end
            if err and opts.on_error then
                opts.on_error(err, text)
            elseif err then
                error(err, 0)
            end
        end
    end
end

-- ---- writing

local Writer = check.class({}, "writer")
Writer.__index = Writer

--- Writes a value as one line.
---@param value any any value that json.encode accepts
---@return true|nil
---@return leat.error? err kind "invalid" (JSON cannot hold the value; nothing is written), "io" (for
---example reason "disk_full")
---
--- The line is written in the background while the script continues. It reaches the file however the
--- program ends (an error, os.exit, Ctrl-C, a limit; but not kill -9), even if the writer is not closed.
--- After `flush` or `close` the line is also on the disk, so a power cut does not lose it; with
--- `sync=true` after each write, too. If `write` accepted lines that could not be written later, an error
--- is logged, and a run that was successful otherwise ends with status 1.
--- ```lua
--- local path = os.tmpname()
--- local out = assert(leat.jsonl.writer(path, { sync = true }))
--- assert(out:write { text = "on the disk when this returns" })
--- local ok, err = out:write(print)
--- assert(ok == nil and err.kind == "invalid")
--- assert(out:close() and os.remove(path))
--- ```
function Writer:write(value)
    check.own(self, Writer, "writer:write")
    local text, err = json.encode(value)
    if not text then
        err.message = "jsonl: got " .. storable.why(value, err, "write", "a writer")
        return nil, err
    end
    return self._lines:line(text)
end

--- Waits until all lines written so far are on the disk.
---@return true|nil
---@return leat.error? err kind "io"
--- ```lua
--- local path = os.tmpname()
--- local out = assert(leat.jsonl.writer(path))
--- assert(out:write { 1, 2 } and out:flush())
--- assert(leat.jsonl.read(path)()[2] == 2)
--- assert(out:close() and os.remove(path))
--- ```
function Writer:flush()
    check.own(self, Writer, "writer:flush")
    return self._lines:flush()
end

--- Flushes and closes. Closing again does nothing.
---@return true|nil
---@return leat.error? err kind "io"
--- ```lua
--- local path = os.tmpname()
--- local out = assert(leat.jsonl.writer(path))
--- assert(out:close() and out:close() and os.remove(path))
--- ```
function Writer:close()
    check.own(self, Writer, "writer:close")
    return self._lines:close()
end

local WRITE = { append = "boolean", sync = "boolean" }

--- Opens a file to write JSON lines. Several tasks may write to it. A line is never cut, not even by a
--- cancel.
---@param path string a file, or "-" for standard output
---@param opts? leat.jsonl_writer_options append=true: keep the file's content (else the file is emptied);
---sync=true: each write returns when its line is on the disk
---@return leat.writer|nil writer with write, flush, close
---@return leat.error? err kind "io"
--- ```lua
--- local path = os.tmpname()
--- local out = assert(leat.jsonl.writer(path, { append = true }))
--- leat.each({ 1, 2, 3 }, function(x) return out:write { x = x } end)
--- assert(out:close() and os.remove(path))
--- ```
function M.writer(path, opts)
    if type(path) ~= "string" then
        check.fail("jsonl.writer: expected a path, got " .. check.picture(path, "path"))
    end
    opts = check.options("jsonl.writer", opts, WRITE)
    local f, err = file.open(path, opts.append and "a" or "w")
    if not f then
        return nil, err
    end
    local out
    out, err = lines.writer(f, opts.sync)
    if not out then
        return nil, err
    end
    return setmetatable({ _lines = out }, Writer)
end

return setmetatable(M, { __name = "leat.module" })
