-- Many calls at once: gather, map, each, as_completed, race, group. All of them are loops over one C
-- primitive: a group of tasks that reports the end of each task, in order.
local await = require "leat.internal.await"
local native = require "leat.native.task"
local check = require "leat.internal.check"
local draw = require "leat.internal.producer"
local errors = require "leat.error"
local expected = require "leat.internal.expected"
local policy = require "leat.policy.common"
local reasons = require "leat.internal.reasons"
local results_of = require "leat.internal.results"
local sync = require "leat.sync"

local note = native.note

local M = {}

local DEFAULT_LIMIT = 100

local function join(t)
    return await(native.join(t))
end

-- Empties the group: cancels all tasks that still run and waits for them, whatever happens. Returns the first
-- bug and the first failed clean-up among them, so that a failure of the caller does not hide them.
local function cancel_all(g, reason)
    g:cancel(reason)
    local bug, unclean
    while true do
        local t, _, status, value = await(g:await_all_start())
        if not t then
            return bug, unclean
        end
        if status == "raised" then
            bug = bug or t
        elseif status == "cancelled" and unclean == nil then
            unclean = value.cleanup
        end
    end
end

-- Adds tasks that run already ({index, task} each) to the group. The group handles their end from this
-- moment on, even before a task that waits for them has begun. Returns the set of their indexes, and their
-- number.
local function take_over(g, tasks)
    local theirs = {}
    for _, entry in ipairs(tasks) do
        local index, t = entry[1], entry[2]
        if not g:adopt(index, t) then
            g:spawn(index, join, t)
        end
        theirs[index] = true
    end
    return theirs, #tasks
end

-- Runs the jobs that next_job() returns (index, fn, a, b; nil after the last one), at most `limit` at a
-- time, beside `tasks`. on_end(index, status, value, task) is called for each task that ends. If it returns
-- something other than nil, the rest is cancelled and waited for, and pump returns that value.
local function pump(g, next_job, limit, on_end, _, tasks)
    local theirs, waited_for = take_over(g, tasks or {})
    local running, more = 0, true
    while true do
        while more and running < limit do
            local index, fn, a, b = next_job()
            if index == nil then
                more = false
            else
                g:spawn(index, fn, a, b)
                running = running + 1
            end
        end
        if running + waited_for == 0 then
            return nil
        end
        local t, index, status, value = await(g:next_start())
        if theirs[index] then
            waited_for = waited_for - 1
        else
            running = running - 1
        end
        local stop = on_end(index, status, value, t)
        if stop ~= nil then
            return stop
        end
    end
end

-- The same, for job sources that may have to wait for the next job.
local function slow_pump(g, next_job, limit, on_end, on_stop)
    local places = draw.jobs(g, on_stop, next_job, limit)
    while true do
        local t, index, status, value = await(g:next_start())
        local stop
        if not t then
            return nil
        elseif index > 0 then
            stop = on_end(index, status, value, t)
            places:_give()
        elseif status == "raised" then
            stop = t
        else
            draw.ended(status, value)
        end
        if stop ~= nil then
            return stop
        end
    end
end

-- Calls `loop(g, ...)`, and then empties the group, also if loop raises. If loop returned something other
-- than nil, that is a failure, or the task that had a bug. Bugs are raised.
local function finish_group(g, reason, loop, ...)
    local ok, stop = xpcall(loop, note, g, ...)
    local bug, unclean
    if not ok or stop ~= nil then
        bug, unclean = cancel_all(g, reason)
    end
    if ok and native.is_task(stop) then
        bug = stop
    end
    if bug and (ok or errors.is(stop)) then -- not even a cancel hides a bug
        native.raise_bug(bug)
    end
    if unclean ~= nil and errors.is(stop) and stop.cleanup == nil then
        stop.cleanup = unclean
    elseif unclean ~= nil then
        require("leat.log").warn("a clean-up failed: " .. tostring(unclean))
    end
    if not ok then
        error(stop, 0)
    end
    return stop
end

M.finish_group = finish_group -- Internal: for pipelines, as are with_journal and item_jobs

-- Runs a pump on a new group. `total`: the number of jobs if they come from a list, else nil.
local function run(next_job, limit, on_end, total, on_stop, tasks)
    return finish_group(native.group(), "another task of the same gather has ended it",
        total and pump or slow_pump, next_job, limit, on_end, on_stop, tasks)
end

-- Returns the functions of a list as jobs, the number of entries, and the tasks in the list ({index, task}
-- each).
local function list_jobs(who, list)
    check.functions(who, list)
    local n, tasks = #list, {}
    for i = 1, n do
        local f = list[i]
        if native.is_task(f) then
            tasks[#tasks + 1] = { i, f }
        elseif type(f) ~= "function" then
            check.callable(who, "item " .. i, f)
        end
    end
    local i = 0
    return function()
        repeat
            i = i + 1
        until i > n or not native.is_task(list[i])
        if i > n then
            return nil
        end
        return i, list[i]
    end, n, tasks
end

local function item_jobs(who, items, fn)
    check.items(who, items, fn)
    local i = 0
    if check.is_list(who, items) then
        local n = #items
        return function()
            i = i + 1
            if i > n then
                return nil
            end
            return i, fn, items[i], i
        end, n
    end
    return function()
        local item = items()
        if item == nil then
            return nil
        end
        i = i + 1
        return i, fn, item, i
    end
end

M.item_jobs = item_jobs

local function limit_of(who, opts, default)
    local limit = opts.limit or opts.concurrency or default
    return check.count(who, "limit", limit, 1)
end

-- The on_end of gather and map: stores results by index, and stops at the first failure or bug.
local function collect(results, settle, on_result)
    return function(index, status, value, t)
        local ok = status == "ok"
        if settle then
            if status == "raised" then
                value = errors.raised(value, native.trace(t))
            end
            results[index] = ok and { ok = true, value = value } or { ok = false, err = value }
        elseif status == "raised" then
            return t
        elseif ok then
            results[index] = value
        end
        if on_result then
            if ok then
                on_result(index, value)
            else
                on_result(index, nil, value)
            end
        end
        if not ok and not settle then
            return value
        end
    end
end

local function finish(who, results, err, count)
    results_of.list(results)
    results.n = count()
    if err ~= nil then
        err = errors.with_partial(err, results)
        native.failed(err, who)
        return nil, err
    end
    return results
end

-- Wraps a job source. The second function returns how many jobs it has returned so far.
local function counted(next_job)
    local n = 0
    return function()
        local index, fn, a, b = next_job()
        if index ~= nil then
            n = index
        end
        return index, fn, a, b
    end, function()
        return n
    end
end

local GATHER = { settle = "boolean", limit = "number", concurrency = "number" }

--- Runs a list of functions and tasks at once and waits for all of them.
---@param list (function|leat.task)[] functions and tasks
---@param opts? leat.gather_options settle=true: every result is {ok=true, value=} or {ok=false, err=};
---limit=n (alias concurrency): at most n functions run at a time (default: no limit). Tasks in the list
---run already, so they do not count
---@return leat.results|nil results the first result of each function, by index, with n; or nil, err
---@return leat.error? err
---
--- At the first failure the others are cancelled and waited for. err.partial holds the results that were
--- there by then. (If the failure has a `partial` of its own, such as a part of a body, see
--- err.cause.partial.) At a bug the others are cancelled, too, and then the bug is raised. An empty list
--- returns at once. A response is a success, whatever its status; with expect="2xx" a request fails for
--- every other status.
--- ```lua
--- local r = gather { function() sleep(0.01) return "a" end, function() return "b" end }
--- assert(r[1] == "a" and r[2] == "b" and r.n == 2)
--- local s = gather({ function() return nil, "no" end }, { settle = true })
--- assert(s[1].ok == false and s[1].err.kind == "script")
--- ```
function M.gather(list, opts)
    check.functions("gather", list)
    opts = check.options("gather", opts, GATHER)
    local next_job, n, tasks = list_jobs("gather", list)
    local results = {}
    local limit = limit_of("gather", opts, math.huge)
    local err = run(next_job, limit, collect(results, opts.settle), n, nil, tasks)
    return finish("gather", results, err, function()
        return n
    end)
end

-- Calls body(journal) with the journal that the options name, or with nil. The option may also be an open
-- journal: any object with key, known and keep.
local function with_journal(who, opts, values, body)
    local given = opts.journal
    if given == nil or type(given) == "table" and given.keep then
        return body(given)
    end
    return require("leat.journal").with(who, opts.journal, values, body)
end

M.with_journal = with_journal

local MAP = {
    settle = "boolean", limit = "number", concurrency = "number", on_result = "function", journal = true,
}

--- Calls `fn(item, index)` for every item, at most `limit` at a time.
---@param items table|function a list, or an iterator function. The iterator is called when a slot is
---free, in a task of its own. So it may wait (for a queue, a stream, `leat.stdin:lines()`) without
---delaying the other calls
---@param fn function
---@param opts? leat.map_options
---
--- * `limit` (alias `concurrency`; default 100), `settle` as for gather, `on_result(index, value, err)`.
--- * `journal`: a path, or {path=, key=, config=}. The result of each item is on the disk before the next
---   step. So after a crash or a kill, the same run continues: items that have succeeded are not called
---   again, and their results are read from the file (as JSON stores them). Failed items are called again.
---   An item is identified by its content as JSON, or by the text that `key(item, index)` returns. A file
---   that was begun with another `config` (any JSON value) is refused, and so is a file that another
---   process uses. After the first Ctrl-C no new item starts, and running items may finish.
---@return leat.results|nil results by index, with n; or nil, err as from gather. With a journal also err
---of kind "io" (reason "locked"), "invalid" (not a journal, or another config), "cancelled" (reason
---"stopping")
---@return leat.error? err
---
--- If all results are nil and there is no `on_result`, a warning names fn: perhaps its `return` is missing.
--- ```lua
--- local r = leat.map({ 1, 2, 3 }, function(x) sleep(0) return x * x end, { limit = 2 })
--- assert(r[1] == 1 and r[3] == 9 and r.n == 3)
---
--- local calls, path = 0, os.tmpname()
--- local function square(x) calls = calls + 1 return x * x end
--- for _ = 1, 2 do
---     r = assert(leat.map({ 1, 2, 3 }, square, { journal = path }))
---     assert(r[3] == 9 and calls == 3)
--- end
--- assert(os.remove(path))
--- ```
function M.map(items, fn, opts)
    local jobs, total = item_jobs("map", items, fn)
    opts = check.options("map", opts, MAP)
    local limit = limit_of("map", opts, DEFAULT_LIMIT)
    return with_journal("map", opts, true, function(journal)
        local next_job, count = counted(jobs)
        local results = {}
        local on_result, on_stop, fed = opts.on_result, nil, sync._is_fed(items)
        if journal and not total then
            on_result = on_result and draw.serial(on_result)
            on_stop = not fed and journal:interrupter()
        end
        local on_end = collect(results, opts.settle, on_result)
        if journal then
            next_job = journal:jobs(next_job, function(index, value)
                on_end(index, "ok", value)
            end, fed)
        end
        local err = run(next_job, limit, on_end, total, on_stop) or journal and journal:stopped()
        results, err = finish("map", results, err, count)
        if not results then
            return nil, err
        elseif not opts.on_result then
            require("leat.internal.no_result").look("map", fn, results, opts.settle)
        end
        return results
    end)
end

local ONE = { calls = 1 }

-- Internal: the same jobs, but a response that is neither ok nor accepted becomes an error of kind "http".
local function judged_jobs(next_job, accept)
    return function()
        local index, fn, item, i = next_job()
        return index, fn and function(...)
            return expected.judged(accept, ONE, fn(...))
        end, item, i
    end
end

M.judged_jobs = judged_jobs

local EACH = { limit = "number", concurrency = "number", journal = true, accept = true }

--- Like map, but keeps no results and does not stop at a failure. Memory use stays constant for any
--- number of items.
---@param items table|function
---@param fn function
---@param opts? leat.each_options limit (alias concurrency; default 100); journal as for map; accept as for
---leat.pipeline
---@return leat.counts|nil counts {ok=, failed=, first_error=, why_failed={{reason=, count=}, ...}}. With
---a journal also `resumed` (items that an earlier run had done; `ok` does not include them) and
---`interrupted` (Ctrl-C ended the run early). nil, err if the journal cannot be used
---@return leat.error? err
---
--- If an item's result is a response that is not ok, the item has failed (kind "http"), unless `accept`
--- allows the response. A bug is raised. A journal needs about 50 bytes of memory for each item.
--- ```lua
--- local c = leat.each({ 1, 2, 3 }, function(x) if x == 2 then return nil, "two" end return true end)
--- assert(c.ok == 2 and c.failed == 1 and c.first_error.message == "two")
--- ```
function M.each(items, fn, opts)
    opts = check.options("each", opts, EACH)
    local accept = opts.accept ~= nil and expected.compile(opts.accept, "each", "accept") or nil
    local at = check.where()
    local counts, why = results_of.counts { ok = 0, failed = 0 }, reasons.new()
    local next_job, total = item_jobs("each", items, fn)
    local limit = limit_of("each", opts, DEFAULT_LIMIT)
    return with_journal("each", opts, false, function(journal)
        local jobs, on_stop = next_job, nil
        if journal then
            local fed = sync._is_fed(items)
            counts.resumed, on_stop = 0, not fed and journal:interrupter()
            jobs = journal:jobs(judged_jobs(jobs, accept), function()
                counts.resumed = counts.resumed + 1
            end, fed)
        end
        -- leat.internal.unseen warns at this place about responses that nobody looked at.
        policy.within({ item = at, outer = policy.scope() }, run, jobs, limit, function(_, status, value, t)
            if status == "raised" then
                return t
            end
            local failed = status ~= "ok"
            if not failed and expected.refuses(accept, value) then
                failed, value = true, expected.refusal(value, true)
            end
            if not failed then
                counts.ok = counts.ok + 1
            else
                counts.failed = counts.failed + 1
                why:add(value)
                counts.first_error = counts.first_error or value
            end
        end, total, on_stop)
        if journal and journal.broken then
            return nil, journal.broken
        end
        counts.interrupted = journal and journal.interrupted
        counts.why_failed = why:list()
        return counts
    end)
end

local ARRIVALS = { limit = "number", concurrency = "number" }

local Arrivals = {}
Arrivals.__index = Arrivals

local function fill(self)
    while self.more and self.running < self.limit do
        local index, fn, a, b = self.next_job()
        if index == nil then
            self.more = false
        else
            self.group:spawn(index, fn, a, b)
            self.running = self.running + 1
        end
    end
end

-- Starts the next job: one has ended.
local function refill(self)
    if self.places then
        self.places:_give()
    else
        self.running = self.running - 1
        fill(self)
    end
end

function Arrivals:__call()
    while not self.closed do
        local t, index, status, value = await(self.group:next_start())
        if status == "raised" then
            self.closed = true
            cancel_all(self.group, "another task of the same as_completed has ended it")
            native.raise_bug(t)
        elseif not t or self.closed then -- t was the last one; or another task has closed this meanwhile
            return nil
        elseif index > 0 then
            refill(self)
            if status == "ok" then
                return index, value
            end
            return index, nil, value
        elseif status ~= "ok" then
            self:close()
            draw.ended(status, value)
        end
    end
end

--- Cancels the calls that still run and waits for them. This happens by itself when the task that opened
--- it ends. Raises if a clean-up has a bug.
function Arrivals:close()
    check.own(self, Arrivals, "as_completed:close")
    self.closed = true -- it may be closed already, while another task still waits for the rest
    local bug = cancel_all(self.group, "as_completed was closed")
    if bug then
        native.raise_bug(bug)
    end
end

--- Calls `fn(item, index)` for every item and iterates over the results, in the order in which the calls
--- end.
---@param items table|function
---@param fn function
---@param opts? leat.as_completed_options limit (alias concurrency; default 100)
---@return leat.as_completed iterator of index, value, err; has close()
---
--- After a `break`, running calls go on until close(), or until the task that opened it ends. A bug is
--- raised. Several tasks may use the same iterator: each result goes to one of them.
--- ```lua
--- local order = {}
--- local function wait(s) sleep(s) return s end
--- for i, v, err in leat.as_completed({ 0.03, 0.01 }, wait) do order[#order + 1] = i end
--- assert(order[1] == 2 and order[2] == 1)
--- ```
function M.as_completed(items, fn, opts)
    local next_job, total = item_jobs("as_completed", items, fn)
    opts = check.options("as_completed", opts, ARRIVALS)
    local limit = limit_of("as_completed", opts, DEFAULT_LIMIT)
    local self = setmetatable({
        group = native.group(), running = 0, more = true, next_job = next_job, limit = limit,
    }, Arrivals)
    if total then
        fill(self)
    else
        self.places = draw.jobs(self.group, nil, next_job, limit)
    end
    return self
end

--- Runs all functions at once and returns the first success. The others are cancelled and waited for.
---@param list (function|leat.task)[] functions and tasks
---@return any value the first result of the winner; or nil, err if all have failed, with err.causes by
---index
---@return leat.error? err
---
--- Failures are ignored, but a bug is raised. A response is a success, whatever its status: give the
--- requests expect="2xx" so that other statuses are failures.
--- ```lua
--- local v = leat.race { function() sleep(1) return "slow" end, function() return "quick" end }
--- assert(v == "quick")
--- local _, err = leat.race { function() return nil, "no" end }
--- assert(err.causes[1].message == "no")
---
--- local function get(path) return function() return request { url = url .. path, expect = "2xx" } end end
--- assert(leat.race({ get "/status?code=500", get "/ok" }).ok)
--- ```
function M.race(list)
    local next_job, n, tasks = list_jobs("race", list)
    if n == 0 then
        check.fail("race: the list is empty: nothing can win")
    end
    local causes = results_of.failures {}
    local won = run(next_job, math.huge, function(index, status, value, t)
        if status == "raised" then
            return t
        elseif status == "ok" then
            return { value }
        end
        causes[index] = value
    end, n, nil, tasks)
    if won then
        return won[1]
    end
    local first = causes[1]
    local lost = errors.new {
        kind = first.kind,
        message = ("all %d failed; the first: %s"):format(n, errors.text(first.message)),
        causes = causes,
        retryable = first.retryable,
    }
    native.failed(lost, "race")
    return nil, lost
end

local Nursery = check.class({}, "group")
Nursery.__index = Nursery

--- Starts `fn(...)` as a task of the group. If a task of the group has failed already, the new one is
--- cancelled before it begins.
---@param fn function
---@param ... any its arguments
---@return leat.task task
function Nursery:spawn(fn, ...)
    check.own(self, Nursery, "g:spawn")
    if not self.group then
        check.fail("spawn: this group has ended")
    end
    local t = self.group:spawn(0, fn, ...)
    self.spawned = self.spawned + 1
    self.tasks[t] = self.spawned
    return t
end

--- Cancels the tasks that the group has started, but not the function that runs it.
---@param reason? string
function Nursery:cancel(reason)
    check.own(self, Nursery, "g:cancel")
    local all = {}
    for t in pairs(self.tasks) do
        all[#all + 1] = t
    end
    -- In the order in which they started, so that a run with the same seed does the same.
    table.sort(all, function(a, b)
        return self.tasks[a] < self.tasks[b]
    end)
    for _, t in ipairs(all) do
        t:cancel(reason or "the group was cancelled")
    end
end

-- Waits until every task of the group has ended, or one has failed. Returns nil, the first failure, or the
-- task with the first bug.
local function first_failure(g)
    while true do
        local t, _, status, value = await(g:next_start())
        if not t then
            return nil
        elseif status == "raised" then
            return t
        elseif status == "failed" then
            return value
        end
    end
end

--- Runs `fn(g)` and waits for all tasks that fn starts with `g:spawn(fn, ...)`.
---@param fn fun(g: leat.group): ...
---@return any ... the values of fn; or nil and the first failure, after all others have been cancelled
---
--- `g:cancel([reason])` cancels the tasks that g has started, not fn itself. A bug is raised.
--- ```lua
--- local sum = 0
--- leat.group(function(g)
---     for i = 1, 3 do g:spawn(function() sleep(0) sum = sum + i end) end
--- end)
--- assert(sum == 6)
--- ```
function M.group(fn)
    check.callable("group", "the argument", fn)
    local nursery = setmetatable({ spawned = 0, tasks = setmetatable({}, { __mode = "k" }) }, Nursery)
    local g = native.group()
    nursery.group = g
    local body = g:spawn(0, fn, nursery)
    local ok, err = pcall(finish_group, g, "another task of the same group has failed", first_failure)
    nursery.group = nil
    if not ok then
        error(err, 0)
    elseif err ~= nil then
        return nil, err
    end
    return body:await()
end

return M
