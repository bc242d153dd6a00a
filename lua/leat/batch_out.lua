-- What `leat batch` writes. OUT itself says what is done, so that a run which was killed goes on; it has the
-- rows that were answered, each once, and a file beside it those that failed. Internal.
local errors = require "leat.error"
local file = require "leat.file"
local journal = require "leat.journal"
local json = require "leat.json"
local keyset = require "leat.keyset"
local lines = require "leat.lines"
local log = require "leat.log"
local policy = require "leat.policy"
local rows = require "leat.batch_rows"
local sync = require "leat.sync"
local task = require "leat.task"
local base64 = require("leat.util").base64

local encode = json.encode

local M = {}
local Out = {}
Out.__index = Out

-- Rows that fail one after the other, all for want of the service, before the run gives up; and seconds,
-- where it has answered before: it may only be started again.
local MOST_IN_A_ROW, PATIENCE = 50, 30
-- Attempts without an answer after which it counts as away; seconds between two rows started then.
local AWAY, PACE = 20, 0.1
-- Bad rows that are told one by one where the file of errors has them all.
local MOST_TOLD = 20

-- ---- OUT as it is

local function scan(self)
    local next_line, err = lines.read(self.path, self.path)
    if not next_line then
        return nil, err
    end
    local foreign, torn, unended = 0, false, false
    while true do
        local text, number, whole = next_line()
        if not number then
            break
        end
        local record = text and text:find "%S" and json.decode(text)
        if type(record) == "table" and type(record.custom_id) == "string" and type(record.id) == "string" then
            self.done:add(record.custom_id .. "\0" .. record.id)
            self.names:add(record.custom_id)
        elseif whole == false and journal.is_torn(text or "-", '{"id":"batch_req_') then
            torn = true
        elseif text ~= "" then
            foreign = foreign + 1
        end
        unended = whole == false
    end
    if foreign > 0 then
        log.warn(("%s: %d lines are no answers of a batch; they are left as they are"):format(self.path,
            foreign))
    end
    return true, torn, unended
end

local function open_file(self)
    local f, err = file.open(self.path, "a+")
    if not f then
        return nil, err
    end
    self.file = f
    local ok, torn, unended
    ok, err = f:lock()
    if not ok then
        return nil, err.reason == "locked" and errors.new { kind = "io", reason = "locked",
            message = self.path .. ": another process is writing it" } or err
    end
    local size
    size, err = f:size()
    if not size then
        return nil, err
    elseif size > 0 then
        ok, torn, unended = scan(self)
        if not ok then
            return nil, torn
        end
    end
    if torn or unended then
        ok, err = journal.mend(f, self.path, torn)
        if not ok then
            return nil, err
        end
    end
    return f
end

-- path: "-" or a file; errors_path: nil for none.
function M.open(path, errors_path, opts)
    local self = setmetatable({ path = path, errors_path = errors_path, done = keyset.new(),
        names = keyset.new(), failed = 0, bad = 0, in_a_row = 0, first = 1, last = 0, waiting = {},
        turn = sync.event(), misses = 0, under_way = 0, moved = sync.event(), one = sync.semaphore(1),
        ordered = opts.ordered, window = opts.window or 1 }, Out)
    local f, err
    if opts.dry_run then
        local _, why = scan(self)
        if why and type(why) == "table" and why.reason ~= "not_found" then
            return nil, why
        end
        self.before = self.done.count
        return self
    elseif path == "-" then
        f, err = file.open("-", "w")
    else
        f, err = open_file(self)
    end
    if not f then
        return nil, err
    end
    self.before = self.done.count
    self.writer, err = lines.writer(f, true, true)
    if not self.writer then
        return nil, err
    end
    local old = errors_path and file.identity(errors_path)
    if old and old == file.identity(path) then -- two ways to write the name of one new file
        return nil, errors.new { kind = "invalid", reason = "same_file",
            message = "OUT is the file of errors" }
    elseif old then -- of the run before: what failed there is tried again
        local _, gone = file.unlink(errors_path)
        if gone and gone.reason ~= "not_found" then
            return nil, gone
        end
    end
    return self
end

-- ---- as the journal of a pipeline (leat.gather says what that is)

function Out:key(row)
    return row
end

function Out:known(row)
    if self.done:has(row.custom_id .. "\0" .. row.id)
        or row.rounded_id and self.done:has(row.custom_id .. "\0" .. row.rounded_id) then
        return true
    elseif self.names:has(row.custom_id) then
        self.broken = rows.changed(row)
        return true
    end
    self.last = self.last + 1
    row.place = self.last
    self.under_way = self.under_way + 1
    return false
end

-- A line end in JSON stands between two tokens, never within one: without them the answer is as it was sent.
local function answer_line(row, res)
    return ('{"id":%s,"custom_id":%s,"response":{"status_code":%d,"request_id":%s,"body":%s},"error":null}')
        :format(encode(row.id), encode(row.custom_id), res.status,
            encode(policy.header(res.headers, "x-request-id") or ""), (res.body:gsub("[\r\n]+", "")))
end

local function open_errors(path)
    local f, err = file.open(path, "w")
    if not f then
        return nil, err
    end
    return lines.writer(f)
end

local function write_failure(self, record)
    if not self.errors_path then
        return true
    end
    local ok, err = self.one:with(function() -- opening waits: a second one would empty the file
        if not self.errors_writer then
            local why
            self.errors_writer, why = open_errors(self.errors_path)
            return self.errors_writer, why
        end
        return true
    end)
    if not ok then
        return nil, err
    end
    return self.errors_writer:line(record)
end

-- A text as JSON, whatever its bytes.
local function said(fields, name, text)
    if type(text) ~= "string" then
        return
    elseif encode(text) then
        fields[name] = text
    else
        fields[name .. "_base64"] = base64.encode(text)
    end
end

-- What the server said is in `body`; an answer that cannot be used, but was paid for, is whole in `answer`.
local function failure_line(row, err)
    local response = "null"
    if err.status then
        response = ('{"status_code":%d,"request_id":%s,"body":null}'):format(err.status,
            encode(err.request_id or "") or '""')
    end
    local fields = { attempts = err.attempts }
    said(fields, "code", type(err.code) == "string" and err.code or err.reason or err.kind)
    said(fields, "message", err.message)
    said(fields, "body", err.body)
    said(fields, "answer", err.partial)
    return ('{"id":%s,"custom_id":%s,"line":%d,"response":%s,"error":%s}'):format(encode(row.id or json.null),
        encode(row.custom_id or json.null), row.line, response, encode(fields, { sorted = true }))
end

-- A row that could not be read as one.
function Out:bad_row(line, message, custom_id)
    self.bad = self.bad + 1
    if not self.errors_path or self.bad <= MOST_TOLD then
        log.warn(("line %d: %s"):format(line, message))
    elseif self.bad == MOST_TOLD + 1 then
        log.warn(("line %d and others: see %s"):format(line, self.errors_path))
    end
    local ok, err = write_failure(self, failure_line({ line = line, custom_id = custom_id },
        errors.new { kind = "invalid", message = message }))
    if not ok then
        self.broken = self.broken or err
    end
end

-- In the order of the rows: what came early waits here, but no more than a window of it.
local function in_order(self, row, text)
    self.waiting[row.place] = text or false
    while self.waiting[self.first] ~= nil do
        local line = self.waiting[self.first]
        self.waiting[self.first] = nil
        self.first = self.first + 1
        local before = self.turn
        self.turn = sync.event()
        before:set()
        if line then
            local ok, err = self.writer:line(line)
            if not ok then
                return nil, err
            end
        end
    end
    while row.place - self.first > self.window do
        self.turn:wait()
    end
    return true
end

local function put(self, row, text)
    if self.ordered then
        return in_order(self, row, text)
    end
    return not text or self.writer:line(text)
end

-- What the next row meets as well: a wrong address, a model or an account that is not there.
local OF_THE_SERVICE = { [402] = true, [404] = true, [405] = true, [429] = true }

local function of_the_service(err)
    if err.status then
        return err.retryable or OF_THE_SERVICE[err.status]
    end
    return err.kind ~= "invalid" and err.kind ~= "script"
end

local function missed(self, err)
    if of_the_service(err) then
        self.misses = self.misses + 1
    else
        self.misses = 0
    end
end

-- Of an attempt: whether there is to be another one.
function Out:try_again(err, again)
    if again and err then
        missed(self, err)
    end
    return again and not self.broken
end

-- Waits while the service is away and enough rows are under way to find it again: it is no use to start all
-- of them, and to let them fail.
function Out:wait_for_service()
    while self.misses >= AWAY and self.under_way >= MOST_IN_A_ROW and not self.broken do
        self.moved:clear()
        self.moved:wait()
    end
    if self.misses >= AWAY and self.answered_at then
        task.sleep(PACE)
    end
end

-- Whether to go on after this failure.
local function verdict(self, err)
    if err.kind == "cancelled" then
        return
    end
    missed(self, err)
    if err.status == 401 or err.status == 403 then
        self.broken = self.broken or err
    elseif of_the_service(err) then
        self.in_a_row = self.in_a_row + 1
        if self.in_a_row >= MOST_IN_A_ROW
            and (not self.answered_at or task.now() - self.answered_at >= PATIENCE) then
            self.broken = self.broken or errors.new { kind = err.kind, status = err.status,
                reason = err.reason, message = ("%d rows in a row have failed; the last: %s")
                    :format(self.in_a_row, err.message) }
        end
    end
end

local function keep(self, row, res, reply_or_err)
    local ok, err
    self.under_way = self.under_way - 1
    self.moved:set()
    if res ~= nil then
        self.in_a_row, self.misses, self.answered_at = 0, 0, task.now()
        ok, err = put(self, row, answer_line(row, res))
    else
        local failure = errors.wrap(reply_or_err)
        self.failed = self.failed + 1
        verdict(self, failure)
        ok, err = write_failure(self, failure_line(row, failure))
        if ok then
            ok, err = put(self, row, nil)
        end
    end
    if not ok then
        self.broken = self.broken or err
    end
    return res ~= nil or nil, reply_or_err
end

function Out:keep(row, fn, ...)
    return keep(self, row, policy.try(fn, ...))
end

function Out:close()
    local ok, err = true, nil
    for _, writer in ipairs { self.writer or false, self.errors_writer or false } do
        if writer then
            local closed, why = writer:close()
            if not closed then
                ok, err = nil, err or why
            end
        end
    end
    return ok, err
end

return M
