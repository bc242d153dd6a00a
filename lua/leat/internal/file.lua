-- Files for tasks. Other threads read and write them, so that a slow disk does not block the event loop.
-- Sinks and uploads use this module.
local await = require "leat.internal.await"
local native_file = require "leat.native.file"

local check = require "leat.internal.check"
local errors = require "leat.error"
local native_runtime = require "leat.native.runtime"

local raw, File = native_file.raw, native_file.File

local M = {}

-- open(path, how) returns a file, or nil, err. `how` is "r", "w" (creates or empties), "x" (creates; fails if
-- the file exists), "a" (appends) or "a+". An added "p" makes the file private. When the file is only
-- written, the path "-" means standard output.
function M.open(path, how)
    if native_runtime.restricted then
        return nil, errors.new { kind = "denied", reason = "sandbox",
            message = "files are not allowed in the sandbox ('" .. check.path(tostring(path)) .. "')" }
    end
    return await(native_file.open(path, how))
end

-- Reads at most n bytes. Returns nil at the end, and nil, err on failure.
function File:read(n)
    return await(raw.read(self, n))
end

-- Writes all of the text. Returns nil, err on failure.
function File:write(text)
    return await(raw.write(self, text))
end

-- Waits until everything written so far is on the disk.
function File:sync()
    return await(raw.sync(self))
end

-- Locks the file for this process. Returns nil, err with reason "locked" if another process has locked it.
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

-- A text that is the same for all paths of one regular file. nil if there is no file, or if it is not a
-- regular file.
function M.identity(path)
    return await(native_file.identity(path))
end

return M
