-- JSON lines: one value a line, read lazily and written in order, off the loop's thread.
local check = require "leat.internal.check"
local file = require "leat.internal.file"
local json = require "leat.json"
local lines = require "leat.internal.lines"
local storable = require "leat.internal.storable"

local M = {}

local READ = { max_line = "number", on_error = true }

--- Iterates over the values of a file of JSON lines. Nothing is read before it is asked for; blank lines,
--- CRLF and a byte order mark are fine.
---@param path string a file, or "-" for standard input
---@param opts? leat.jsonl_read_options on_error(err, text): told of each bad line, and the reading goes on;
---max_line (16 MiB)
---@return (fun(): any, integer)|nil iterator of value, line; a null is json.null
---@return leat.error? err kind "io": the file cannot be opened
---
--- A bad line raises an err of kind "invalid", with `file` and `line`, unless there is an on_error.
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

--- Adds a value as a line.
---@param value any what json.encode takes
---@return true|nil
---@return leat.error? err kind "invalid" (no JSON; nothing is written), "io" (reason "disk_full" and others)
---
--- The line is written at once, while the script goes on. It is in the file however the program ends (an
--- error, os.exit, Ctrl-C, a limit; all but kill -9), also if the writer is not closed. After `flush` or
--- `close`, and with `sync=true` after each write, it is also on the disk, where a power cut leaves it. If
--- lines could not be written that `write` had taken, an error is logged, and a run that did well otherwise
--- ends with status 1.
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

--- Waits until everything that was written so far is on the disk.
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

--- Flushes and closes. A second time does nothing.
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

--- Opens a file for JSON lines. Any number of tasks may write; a line is never torn, by a cancel neither.
---@param path string a file, or "-" for standard output
---@param opts? leat.jsonl_writer_options append=true: keeps what is there (else the file is emptied);
---sync=true: a write returns when its line is on the disk
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
