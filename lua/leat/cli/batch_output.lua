-- Writes the results of `leat batch`. OUT has the rows that were answered, each once. So OUT itself shows
-- what is done, and a run that was killed can continue. A second file has the rows that failed.
local bug = require "leat.internal.bug"
local errors = require "leat.error"
local file = require "leat.internal.file"
local headers = require "leat.http.headers"
local journal = require "leat.journal"
local json = require "leat.json"
local keyset = require "leat.internal.fingerprint_set"
local lines = require "leat.internal.lines"
local log = require "leat.log"
local reasons = require "leat.internal.reasons"
local rows = require "leat.cli.batch_rows"
local services = require "leat.cli.batch_service"
local sync = require "leat.sync"
local task = require "leat.task"
local util = require "leat.util"

local base64, native = util.base64, require "leat.native.task"

local encode = json.encode

local M = {}
local Out = {}
Out.__index = Out

-- The maximum number of bad rows that are reported one by one, if the file of errors has them all.
local MOST_TOLD = 20

-- ---- the contents of OUT at the start

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
        log.warn(("%s: %d lines are not answers of a batch; they are kept unchanged"):format(self.path,
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

-- path: "-" or a file; errors_path: nil means no file; opts.patience: how many seconds to wait for a service
-- that cannot be reached.
function M.open(path, errors_path, opts)
    local self = setmetatable({ path = path, errors_path = errors_path, done = keyset.new(),
        names = keyset.new(), failed = 0, bad = 0, first = 1, last = 0, waiting = {}, turn = sync.event(),
        under_way = 0, moved = sync.event(), one = sync.semaphore(1), ordered = opts.ordered,
        window = opts.window or 1, rows = {}, retries = opts.retries or 0, answered = 0,
        why_failed = reasons.new(), dry_run = opts.dry_run }, Out)
    self.service = services.new(opts.url or "the service", opts.patience or math.huge, self.moved)
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
    if old and old == file.identity(path) then -- both paths name the same new file
        return nil, errors.new { kind = "invalid", reason = "same_file",
            message = "OUT and the file of errors are the same file" }
    elseif old then -- from the last run; its rows are tried again
        local _, gone = file.unlink(errors_path)
        if gone and gone.reason ~= "not_found" then
            return nil, gone
        end
    end
    return self
end

-- ---- Out is also the journal of a pipeline (leat.gather describes journals)

function Out:key(row)
    return row
end

function Out:known(row)
    local names = self.names
    if names.count > 0 and (self.done:has(row.custom_id .. "\0" .. row.id)
        or row.rounded_id and self.done:has(row.custom_id .. "\0" .. row.rounded_id)) then
        return true
    elseif names:has(row.custom_id) then
        self:stop(rows.changed(row))
        return true
    end
    self.last = self.last + 1
    row.place = self.last
    self.under_way = self.under_way + 1
    return false
end

-- In JSON, a line end is only allowed between two tokens. So the answer without line ends is still what was
-- sent.
local function answer_line(row, res)
    local body = res.body
    if body:find("\n", 1, true) or body:find("\r", 1, true) then
        body = body:gsub("[\r\n]+", "")
    end
    return ('{"id":%s,"custom_id":%s,"response":{"status_code":%d,"request_id":%s,"body":%s},"error":null}')
        :format(encode(row.id), encode(row.custom_id), res.status,
            encode(headers.one(res, "x-request-id") or ""), body)
end

local function open_errors(path)
    local f, err = file.open(path, "w")
    if not f then
        return nil, err
    end
    return lines.writer(f)
end

local function write_failure(self, record)
    if not self.errors_path or self.dry_run then
        return true
    end
    local ok, err = self.one:with(function() -- one at a time: a second open would empty the file
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

-- Adds a text as JSON. The text may contain any bytes.
local function said(fields, name, text)
    if type(text) ~= "string" then
        return
    elseif encode(text) then
        fields[name] = text
    else
        fields[name .. "_base64"] = base64.encode(text)
    end
end

-- `body` has what the server said. An answer that cannot be used was paid for, so `answer` has all of it.
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

-- Handles a line that is not a valid row.
function Out:bad_row(line, message, custom_id)
    self.bad = self.bad + 1
    if not self.errors_path or self.bad <= MOST_TOLD then
        log.warn(("line %d: %s"):format(line, message))
    elseif self.bad == MOST_TOLD + 1 and self.dry_run then
        log.warn(("line %d and others"):format(line))
    elseif self.bad == MOST_TOLD + 1 then
        log.warn(("line %d and others: see %s"):format(line, self.errors_path))
    end
    local ok, err = write_failure(self, failure_line({ line = line, custom_id = custom_id },
        errors.new { kind = "invalid", message = message }))
    if not ok then
        self:stop(err)
    end
end

-- Writes answers in the order of the rows. Early answers wait here; there are at most as many as the window
-- allows.
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
    while row.place - self.first > self.window and not self.broken do
        self.turn:wait()
    end
    return true
end

local function put(self, row, text)
    if self.ordered then
        return in_order(self, row, text)
    end
    if not text then
        return true
    end
    return self.writer:line(text) -- returns both of its values
end

-- Attempts are counted in tenths. If the server refuses an attempt because of a rate limit, it counts as one
-- tenth, because the row is not the cause. An attempt that could not connect to a service that has answered
-- before does not count. Nor does an attempt whose connection was lost, because the row has an idempotency
-- key. But that is limited, because the row itself may crash the service.
local WHOLE, TENTH, LOST_FREE = 10, 1, 10

local function cost_of(row, err)
    if err.status == 429 or err.kind == "rate_limited" then
        return TENTH
    elseif err.kind == "closed" then
        row.lost = (row.lost or 0) + 1
        return row.lost > LOST_FREE and WHOLE or 0
    end
    return WHOLE
end

-- Called after an attempt. Returns whether there will be another one.
function Out:try_again(res, err, again)
    local row = self.rows[native.current().id]
    row.calling, row.err = false, err
    local service = self.service
    local why = service:attempted(row, res, err)
    if not why and err and not self.broken and service:is_away(err) then
        why = service:wait(row, err)
        err.at_once, again = true, true -- the wait is over already
    elseif err then
        row.spent = (row.spent or 0) + cost_of(row, err)
        again = again and row.spent <= self.retries * WHOLE
    end
    if why then
        self:stop(why)
    end
    return again and not self.broken
end

-- Ends the run: no row and no attempt starts from now on. Requests that are already sent may finish, and
-- their answers are kept. Rows that wait for another attempt or for their turn are cancelled.
function Out:stop(err)
    if self.broken then
        return
    end
    self.broken = err
    local own = native.current().id
    for id, row in pairs(self.rows) do
        if not row.calling and id ~= own then
            row.task:cancel "the run has ended"
        end
    end
    self.moved:set()
    self.turn:set()
end

local function not_sent()
    return errors.new { kind = "cancelled", reason = "stopping", message = "the run has ended" }
end

-- Sends a row, unless the run is over. send(...) returns the answer, or nil, err.
function Out:send(row, send, ...)
    if self.broken then
        return nil, not_sent()
    end
    row.calling = true
    local res, err = send(...)
    row.answer = res -- it was paid for, so it is kept even if the row is cancelled
    return res, err
end

-- Counts and writes the failure of a row.
local function note_failure(self, row, failure)
    self.failed = self.failed + 1
    self.why_failed:add(failure)
    local ok, err = write_failure(self, failure_line(row, failure))
    if ok then
        ok, err = put(self, row, nil)
    end
    return ok, err
end

-- The names of the policies, by the module in which a bug may occur.
local POLICIES = { ["policy/pacer"] = "the adaptive slots", adaptive = "the adaptive slots",
    limiter = "the rate limiter",
    retry = "retry", ["policy/retry_rules"] = "retry", ["policy/retry_pause"] = "retry",
    breaker = "the breaker", ["pipeline/item"] = "the pipeline" }

-- A bug in a policy is not the fault of this row, and it must not lose the other rows. Returns the error that
-- reports it.
local function told_bug(row, raised)
    local trace, policy_name = bug.trace(raised), nil
    for module in trace:gmatch "leat/([%w_/]+)%.lua" do
        policy_name = policy_name or POLICIES[module]
    end
    log.debug(trace)
    return errors.new { kind = "internal", message = ("a bug in %s, at row '%s' (line %d): %s"):format(
        policy_name or "leat batch", row.custom_id, row.line, tostring(raised)) }
end

-- Writes the result of a row. `over`: the failure says nothing about the service, because the run is over or
-- had a bug.
local function note(self, row, res, failure, over)
    local ok, err
    if res ~= nil then
        self.service:served()
        ok, err = put(self, row, answer_line(row, res))
        self.answered = self.answered + (ok and 1 or 0)
    else
        local why = not over and self.service:lost(failure)
        if why then
            self:stop(why)
        end
        ok, err = note_failure(self, row, failure)
    end
    if not ok then
        self:stop(err)
    end
end

-- The time in seconds to write the result of a row that was cancelled.
local GRACE = 60

-- Handles a row that was cancelled. If the run is over, the result of its last attempt counts. Without such a
-- result the row is not counted, and the next run treats it like a row that this run did not reach.
local function cut_off(self, row, cancel)
    local failure = self.broken and row.err
    if row.answer or failure then
        task.shield(GRACE, note, self, row, row.answer, failure, true)
        return row.answer, failure
    end
    return nil, cancel
end

local function kept(self, row, id, ok, ...)
    local first, second = ...
    self.rows[id] = nil
    self.service:release(row)
    self.under_way = self.under_way - 1
    self.moved:set()
    if ok and first ~= nil then
        note(self, row, first)
        return ...
    end
    local failure = first
    if ok then
        failure = errors.wrap(second)
    elseif not errors.is(first) then
        failure = told_bug(row, first)
        self:stop(failure)
        note(self, row, row.answer, failure, true)
        return nil, failure
    end
    if failure.kind == "cancelled" then
        return cut_off(self, row, failure)
    end
    note(self, row, nil, failure)
    return nil, failure
end

-- Calls fn(...) for a row, and writes the result.
function Out:keep(row, fn, ...)
    if self.broken then -- it has broken meanwhile
        self.under_way = self.under_way - 1
        return nil, not_sent()
    end
    local current = native.current()
    local id = current.id
    row.task, self.rows[id] = current, row
    return kept(self, row, id, xpcall(fn, bug.note, ...))
end

-- Writes answers that do not fit on the disk of OUT to the folder for temporary files.
local function rescue(self, lost)
    local _, n = lost:gsub("\n", "")
    local path = ("%s/leat-batch-%s.jsonl"):format(os.getenv "TMPDIR" or "/tmp", util.uuid():sub(1, 8))
    local f, err = file.open(path, "xp")
    local ok = f
    if f then
        ok, err = f:write(lost)
        if ok then
            ok, err = f:sync()
        end
        local closed, why = f:close()
        ok, err = ok and closed, err or why
    end
    if ok then
        log.error(("%d answers could not be written to %s; they are in %s: append that file to OUT"):format(n,
            self.path, path))
    else
        log.error(("%d answers could not be written to %s, nor elsewhere (%s), and are lost"):format(n,
            self.path, err.message))
    end
end

-- Writes answers that wait for earlier rows. Those rows will not be answered in this run.
local function write_waiting(self)
    for place = self.first, self.last do
        local line = self.waiting[place]
        if line then
            self.waiting[place] = nil
            self.writer:line(line) -- if it fails, the close fails too
        end
    end
end

function Out:close()
    local ok, err = true, nil
    if self.writer then
        write_waiting(self)
        ok, err = self.writer:close()
        local lost = self.writer._rest
        if lost and lost ~= "" then
            rescue(self, lost)
        end
    end
    if self.errors_writer then
        local closed, why = self.errors_writer:close()
        if not closed then
            ok, err = nil, err or why
        end
    end
    return ok, err
end

return M
