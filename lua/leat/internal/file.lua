-- Files for tasks: read and written on other threads, so that no disk holds up the rest. Sinks and uploads
-- stand on it. Internal.
local await = require "leat.internal.await"
local native_file = require "leat.native.file"

local check = require "leat.internal.check"
local errors = require "leat.error"
local native_runtime = require "leat.native.runtime"

local raw, File = native_file.raw, native_file.File

local M = {}

-- open(path, how): how is "r", "w" (new or emptied), "x" (must not be there), "a" (append), "a+"; with a "p"
-- for private. The path "-" is standard output where it is only written. Gives a file, or nil, err.
function M.open(path, how)
    if native_runtime.restricted then
        return nil, errors.new { kind = "denied", reason = "sandbox",
            message = "files are not allowed in the sandbox ('" .. check.path(tostring(path)) .. "')" }
    end
    return await(native_file.open(path, how))
end

-- At most n bytes; nil at the end, or nil, err.
function File:read(n)
    return await(raw.read(self, n))
end

-- All of the text, or nil, err.
function File:write(text)
    return await(raw.write(self, text))
end

-- Puts what was written onto the disk.
function File:sync()
    return await(raw.sync(self))
end

-- For this process alone; nil, err with reason "locked" if another one has it.
function File:lock()
    return await(raw.lock(self))
end

function File:size()
    return await(raw.size(self))
end

function File:truncate(length)
    return await(raw.truncate(self, length))
end

File.close = raw.close

function M.rename(from, to)
    return await(native_file.rename(from, to))
end

function M.unlink(path)
    return await(native_file.unlink(path))
end

M.unlink_now = native_file.unlink_now

-- A text that all paths of one regular file share; nil for what is none, and for what is not there.
function M.identity(path)
    return await(native_file.identity(path))
end

return M
