-- Journals: each result is on the disk before a run goes on, so that a killed run can continue. Internal.
--
-- A journal is a file of JSON lines. The first line is its header. Each further line is an item that has
-- ended:
-- {"key":..., "ok":true, "value":...} or {"key":..., "ok":false, "error":{...}}.
local check = require "leat.internal.check"
local graceful = require "leat.internal.graceful"
local errors = require "leat.error"
local file = require "leat.internal.file"
local json = require "leat.json"
local keyset = require "leat.internal.fingerprint_set"
local lines = require "leat.internal.lines"
local log = require "leat.log"
local policy = require "leat.policy.common"
local secrets = require "leat.repl.secrets"
local storable = require "leat.internal.storable"
local sync = require "leat.sync"
local task = require "leat.task"

local redact = require("leat.native.util").redact
local sha256 = require("leat.util").sha256

local M = {}
local Journal = {}
Journal.__index = Journal

local SORTED = { sorted = true }
local ROWS = { path = "string", key = "function", config = true }

local function invalid(path, message)
    path = check.path(path)
    return errors.new { kind = "invalid", message = ("journal %s: %s"):format(path, message), file = path }
end

-- ---- reading what is there

local function read_header(self, text)
    local head = json.decode(text)
    if type(head) ~= "table" or head.leat_journal ~= 1 then
        return nil, invalid(self.path, "this file is not a journal, so it was not changed: "
            .. "choose another path")
    end
    if self.config ~= nil and head.config ~= self.config then
        return nil, invalid(self.path, ("it was begun with another configuration (%s, now %s): take another "
            .. "file, or delete it to do everything again"):format(tostring(head.config), self.config))
    end
    return true
end

local function take_record(self, record)
    local key = record.key
    if record.ok then
        if self.values then
            local value = record.value
            if value == json.null then
                value = nil
            end
            self.values[key] = { value = value }
        end
        self.done:add(key)
    end
end

-- Internal: returns true if a text is what a kill or a power cut leaves of a line that begins with one of
-- these marks. Any other text was written by another program and is kept.
function M.is_torn(text, ...)
    for i = 1, select("#", ...) do
        local mark = select(i, ...)
        local n = math.min(#text, #mark)
        if text:sub(1, n) == mark:sub(1, n) then
            return true
        end
    end
    return text:find "^%z" ~= nil
end

-- Reads the records. Returns true, whether the last line is torn, and whether the header is missing.
local function read_all(self)
    local next_line, err = lines.read(self.path, self.path)
    if not next_line then
        return nil, err
    end
    local foreign, torn, first = 0, false, true
    while true do
        local text, number, whole = next_line()
        if not number then
            break
        end
        local record = text and json.decode(text)
        self.unended = whole == false
        if first then
            torn = self.unended and type(record) ~= "table"
                and M.is_torn(text or "-", '{"leat_journal":1}', '{"config":')
            if not torn then
                local ok, bad = read_header(self, text or "")
                if not ok then
                    return nil, bad
                end
            end
            first = torn
        elseif type(record) == "table" and type(record.key) == "string" then
            take_record(self, record)
        elseif self.unended and M.is_torn(text or "-", '{"key":', '{"error":') then
            torn = true
        elseif text ~= "" then
            foreign = foreign + 1
        end
    end
    if foreign > 0 then
        log.warn(("journal %s: skipped %d lines that are not records of a journal"):format(self.path,
            foreign))
    end
    return true, torn, first
end

-- Returns the length of the file without an unfinished last line.
local function length_of_whole_lines(path, size)
    local f, err = file.open(path, "r")
    if not f then
        return nil, err
    end
    local at, last = 0, 0
    while at < size do
        local piece
        piece, err = f:read(65536)
        if not piece then
            break
        end
        local to = piece:match ".*()\n"
        if to then
            last = at + to
        end
        at = at + #piece
    end
    f:close()
    if err then
        return nil, err
    end
    return last
end

-- Internal: repairs the end of a file of lines after a kill. If `torn`, the last line is removed; else only
-- its line end is missing and is added.
function M.mend(f, path, torn)
    local size, err = f:size()
    if not size then
        return nil, err
    elseif torn then
        local length
        length, err = length_of_whole_lines(path, size)
        if not length then
            return nil, err
        end
        return f:truncate(length)
    end
    return f:write "\n"
end

local function begin(self, fresh)
    if not fresh then
        return true
    end
    local text, err = json.encode({ leat_journal = 1, config = self.config }, SORTED)
    if not text then
        return nil, err
    end
    return self.writer:line(text)
end

local function load(self)
    local f, err = file.open(self.path, "a+p")
    if not f then
        return nil, err
    end
    self.file = f
    local ok, torn, fresh
    ok, err = f:lock()
    if not ok then
        if err.reason == "locked" then
            return nil, errors.new { kind = "io", reason = "locked", message = ("journal %s: another process "
                .. "is using it"):format(check.path(self.path)), file = check.path(self.path) }
        end
        return nil, err
    end
    local size
    size, err = f:size()
    if not size then
        return nil, err
    elseif size == 0 then -- also true of devices, some of which could be read without end
        fresh = true
    else
        ok, torn, fresh = read_all(self)
        if not ok then
            return nil, torn
        end
    end
    if torn or self.unended then
        ok, err = M.mend(f, self.path, torn)
        if not ok then
            return nil, err
        end
    end
    self.writer, err = lines.writer(f, true, true)
    if not self.writer then
        return nil, err
    end
    return begin(self, fresh)
end

-- ---- keys

-- Returns the key of an item in the journal: a digest of its content, or the text of the user's `key`
-- function. Equal keys are numbered.
function Journal:key(item, index)
    local text
    if self.key_of then
        text = self.key_of(item, index)
        if type(text) == "number" then
            text = ("%.17g"):format(text)
        elseif type(text) ~= "string" or text == "" then
            check.fail(("journal: key(item, index) must return a text, got %s for item %d"):format(
                check.picture(text, "text"), index))
        end
    else
        local content, err = json.encode(item, SORTED)
        if not content then
            check.fail(("journal: item %d cannot be JSON (%s): give journal={path=, "
                .. "key=function(item, index) ...}"):format(index, err.message))
        end
        text = sha256(content):sub(1, 32)
    end
    if self.seen:add(text) then
        return text
    end
    local n = (self.again[text] or 1) + 1
    self.again[text] = n
    return text .. "#" .. n
end

-- Returns whether an item has succeeded in an earlier run, and its value.
function Journal:known(key)
    if not self.done:has(key) then
        return false
    end
    local record = self.values and self.values[key]
    return true, record and record.value
end

-- ---- writing

local KEPT = { kind = true, message = true, reason = true, status = true, code = true, attempts = true,
    retryable = true }

local function record_of(key, ok, value)
    if ok then
        return { key = key, ok = true, value = value }
    end
    local kept = {}
    for name, v in pairs(errors.wrap(value)) do
        if KEPT[name] and type(v) ~= "table" then
            kept[name] = type(v) == "string" and secrets.scrubbed(redact("text", v)) or v
        end
    end
    return { key = key, ok = false, error = kept }
end

-- Calls fn(...) for an item. Its result is on the disk before this returns. After a bug or a cancel nothing
-- is written, so the next run does the item again.
function Journal:keep(key, fn, ...)
    return self:_note(key, policy.try(fn, ...))
end

function Journal:_note(key, ...)
    local value, err = ...
    local ok = not (value == nil and err ~= nil)
    local record = record_of(key, ok, ok and value or err)
    local text, bad = json.encode(record, SORTED)
    if not text then
        check.fail("journal: the function returned " .. storable.why(value, bad, "return", "a journal"))
    end
    local written
    written, bad = self.writer:line(text)
    if not written then
        self.broken = self.broken or bad
    end
    return ...
end

-- ---- runs

-- Wraps a job source (index, fn, item, index). Items that an earlier run has done are passed to
-- on_known(index, value) instead. After the first Ctrl-C it returns no more jobs, unless the items come
-- from a queue (`fed`).
function Journal:jobs(next_job, on_known, fed)
    local function kept(key, fn)
        return function(item, index)
            return self:keep(key, fn, item, index)
        end
    end
    return function()
        while not self.broken do
            if not fed and sync.stopping:is_set() then
                self.interrupted = true
                return nil
            end
            local index, fn, item, i = next_job()
            if index == nil then
                return nil
            end
            local key = self:key(item, i)
            local done, value = self:known(key)
            if not done then
                return index, kept(key, fn), item, i
            end
            on_known(index, value)
        end
    end
end

-- Returns a function that is called when drawing from an iterator is stopped.
function Journal:interrupter()
    return function()
        self.interrupted = true
    end
end

-- Returns why a run ended early: nil, or an err.
function Journal:stopped()
    if self.broken then
        return self.broken
    elseif self.interrupted then
        return errors.new { kind = "cancelled", reason = "stopping",
            message = "interrupted; run it again to continue from " .. check.path(self.path) }
    end
end

-- Calls body(journal) with the journal that `given` names: a path, or {path, key, config}. `values`:
-- whether the results of earlier runs are needed. Returns nil, err if the journal cannot be opened.
function M.with(who, given, values, body)
    if type(given) == "string" then
        given = { path = given }
    end
    given = check.options(who .. ": journal", given, ROWS)
    if type(given.path) ~= "string" or given.path == "" then
        check.fail(who .. ": option 'journal' must be a path or {path=, key=, config=}")
    end
    local config = given.config
    if config ~= nil and type(config) ~= "string" then
        local text, err = json.encode(config, SORTED)
        if not text then
            check.fail(who .. ": journal: config must be a value that JSON can hold: " .. err.message)
        end
        config = text
    end
    local self = setmetatable({ path = given.path, key_of = given.key, config = config,
        done = keyset.new(), seen = keyset.new(), again = {}, values = values and {} or nil }, Journal)
    return task.finally(function()
        local ok, err = load(self)
        if not ok then
            return nil, err
        end
        return graceful(body, self)
    end, function()
        if self.writer then
            return self.writer:close()
        elseif self.file then
            self.file:close()
        end
    end)
end

return M
