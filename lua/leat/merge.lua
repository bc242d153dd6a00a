-- merge: reads many iterators and streams at once, and returns their items in the order in which they
-- arrive.
local await = require "leat.internal.await"
local native = require "leat.native.task"
local check = require "leat.internal.check"
local draw = require "leat.internal.producer"
local errors = require "leat.error"
local sync = require "leat.sync"

local note = native.note

-- AHEAD: how many items are read ahead, for all sources together. TURN: how many items a source may add
-- before the others have a turn.
local AHEAD, TURN = 16, 4

local DEFAULT_LIMIT = 100

local M = {}

local Merge = check.class({}, "merge")
Merge.__index = Merge

-- Marks that pass through the queue beside items.
local ENDED, BROKEN, BUG = {}, {}, {}

-- Returns a function that reads a source: each call returns one item; nil at the end, or nil, err.
local function reader_of(source, who)
    if type(source) == "function" then
        return source
    end
    local mt = getmetatable(source)
    if type(source) == "table" and source._stream then
        return require("leat.http.stream").reader(source)
    elseif type(mt) == "table" and mt.__call then
        return source
    elseif (type(source) == "table" or type(source) == "userdata") and mt and source.iter then
        return source:iter()
    end
    check.fail(("%s must be an iterator function, a streamed response or a queue, got %s"):format(who,
        check.picture(source, who)))
end

local function read_source(self, key, source, item)
    if self.open then
        local err
        source, err = self.open(item, key)
        if source == nil then
            if err == nil then
                check.fail "merge: open returned nil, and no error"
            end
            return BROKEN, errors.wrap(err)
        end
    end
    local read = reader_of(source, "merge: a source")
    local turn = 0
    while true do
        local value, err = read()
        if value == nil then
            if err ~= nil then
                return BROKEN, errors.wrap(err)
            end
            return ENDED
        end
        self:_put(value, key)
        turn = turn + 1
        if turn % TURN == 0 then
            await(native.sleep(0))
        end
    end
end

-- The body of the task that reads one source. It also puts a mark into the queue, behind the items, that
-- says how the source ended.
local function pump(self, key, source, item)
    local ok, mark, err = xpcall(read_source, note, self, key, source, item)
    if not ok then
        mark, err = errors.is(mark) and BROKEN or BUG, mark
    end
    self:_mark(mark, key, err)
end

function Merge:_put(value, key, err)
    assert(self.queue:put(value))
    -- No wait and no allocation in between, so that the order is the same as in the queue.
    local at = self.tail
    self.keys[at], self.errors[at] = key, err
    self.tail = at % AHEAD + 1
end

-- Puts the mark into the queue that says that a source's task ends.
function Merge:_mark(mark, key, err)
    self:_put(mark, key, err)
    self.marks = self.marks + 1
end

-- One slot for each item that the queue can hold, allocated at the start.
local function slots()
    local t = {}
    for i = 1, AHEAD do
        t[i] = false
    end
    return t
end

-- Returns a function that opens the sources of an iterator of items, in a task of its own.
local function opener(self)
    return function()
        local ok, key, _, item = xpcall(self._next_source, note)
        if not ok then
            self:_mark(BUG, nil, key)
        elseif key == nil then
            self:_mark(ENDED)
        else
            self.running = self.running + 1
            return 1, pump, self, key, nil, item
        end
    end
end

local function fill(self)
    if self.draws then
        if not self.places then
            self.running = 1
            self.places = draw.jobs(self.group, nil, opener(self), self.limit)
        end
        return
    end
    while self.more and self.running < self.limit do
        local key, source, item = self._next_source()
        if key == nil then
            self.more = false
        else
            self.group:spawn(self.running, pump, self, key, source, item)
            self.running = self.running + 1
        end
    end
end

-- Ends the merge, also for other tasks that read from it.
local function finish(self)
    self.closed = true
    self.queue:close()
end

local function stop(self)
    self.closed = true
    self.group:cancel("the merge was closed")
    while await(self.group:await_all_start()) do
    end
    finish(self)
end

-- Removes a task that has ended. Raises its error if no mark in the queue reports it.
local function let_go(self)
    local ended, _, _, err = await(self.group:next_start())
    if err ~= nil then
        stop(self)
        error(err, 0)
    end
    return ended
end

local function source_ended(self)
    let_go(self)
    self.running, self.marks = self.running - 1, self.marks - 1
    if self.places then
        self.places:_give()
    end
end

local function broke(self, err, key)
    self.broken = self.broken + 1
    self.first_error = self.first_error or err
    if self.on_error == "raise" then
        stop(self)
        err.key = key
        error(err, 0)
    elseif self.on_error ~= "skip" then
        self.on_error(err, key)
    end
end

-- Returns the next value of the queue; nil if another task has closed the merge meanwhile. The end of a
-- source's task wakes the reader, too: if the task ended for lack of memory, no mark arrives.
local function next_value(self)
    local value
    repeat
        value = self.queue:try_get()
        if value == nil and self.group:count() < self.running - self.marks then
            while let_go(self) do
            end
        elseif value == nil then
            value = self.queue:get()
        end
    until value ~= nil or self.closed
    return value
end

function Merge:__call()
    while not self.closed do
        fill(self)
        if self.running == 0 then
            finish(self)
            return nil
        end
        local value = next_value(self)
        if self.closed then
            return nil
        end
        local head = self.head
        local key, err = self.keys[head], self.errors[head]
        self.keys[head], self.errors[head] = nil, nil
        self.head = head % AHEAD + 1
        if value == BUG then
            stop(self)
            error(err, 0)
        elseif value == ENDED or value == BROKEN then
            source_ended(self)
            if value == BROKEN then
                broke(self, err, key)
            end
        else
            return value, key
        end
    end
end

--- Cancels the reading, closes the streams of the sources and waits for that. This happens by itself when
--- the task that opened the merge ends.
function Merge:close()
    check.own(self, Merge, "merge:close")
    stop(self) -- also if another task closes it, while one still waits for an item
end

local function list_of(sources)
    local keys, place, i = {}, {}, 0
    for key, source in pairs(sources) do
        reader_of(source, "merge: source " .. check.hidden(tostring(key)))
        keys[#keys + 1] = key
        place[key] = #keys
    end
    table.sort(keys, function(a, b)
        local kind = type(a)
        if kind ~= type(b) then
            return kind < type(b)
        elseif kind == "number" or kind == "string" then
            return a < b
        end
        return place[a] < place[b] -- these keys have no order of their own
    end)
    return function()
        i = i + 1
        if keys[i] ~= nil then
            return keys[i], sources[keys[i]]
        end
    end
end

local function items_of(items)
    local i = 0
    if check.is_list("merge", items) then
        return function()
            i = i + 1
            if items[i] ~= nil then
                return i, nil, items[i]
            end
        end
    end
    return function()
        local item = items()
        if item ~= nil then
            i = i + 1
            return i, nil, item
        end
    end, true
end

local OPTIONS = { limit = "number", concurrency = "number", on_error = true }

--- Reads many sources at once and iterates over their items in the order in which they arrive.
---@param sources table|function a table of sources, with any keys: iterator functions, queues, and
---streamed responses (read as events, lines or chunks, as their content-type says). If `open` is given:
---a list or an iterator of items
---@param open? function `open(item, index)` returns the source for an item, or nil, err
---@param opts? leat.merge_options limit (alias concurrency): at most this many sources are open at a time
---(with `open` 100, else no limit). on_error, for a source that breaks: "raise" (default) raises its
---error, with err.key; "skip" continues with the others; a function is called with err, key
---@return leat.merge iterator of item, key; has close(), and the fields broken (number of broken sources)
---and first_error
---
--- A source has broken if it, or `open`, returns nil, err or raises a Leat error. A bug is raised in any
--- case. Only a few items in all are read ahead, so a slow reader slows down the sources. A fast source
--- does not displace the others. After a `break`, the sources stay open until close(), or until the task
--- that opened the merge ends.
--- ```lua
--- local function count(to, pause)
---     local n = 0
---     return function() if n < to then n = n + 1 sleep(pause) return n end end
--- end
--- local sum, from = 0, {}
--- for item, key in leat.merge { slow = count(2, 0.02), fast = count(3, 0.001) } do
---     sum = sum + item
---     from[#from + 1] = key
--- end
--- assert(sum == 9 and table.concat(from, " "):find "^fast")
---
--- local open = function(n) if n == 0 then return nil, "no such" end return count(n, 0) end
--- local m = leat.merge({ 2, 0, 1 }, open, { limit = 2, on_error = "skip" })
--- local items = 0
--- for _ in m do items = items + 1 end
--- assert(items == 3 and m.broken == 1 and m.first_error.message == "no such")
--- ```
function M.merge(sources, open, opts)
    if type(open) == "table" and getmetatable(open) == nil then
        open, opts = nil, open
    end
    opts = check.options("merge", opts, OPTIONS)
    local on_error = opts.on_error or "raise"
    if on_error ~= "raise" and on_error ~= "skip" then
        check.callable("merge", "option 'on_error', unless \"raise\" or \"skip\",", on_error)
    end
    local list = type(sources) == "table" and check.picture(sources) == "a table"
    if not list and type(open) ~= "function" then
        check.fail("merge takes one list of sources: merge{ a, b }; got "
            .. check.picture(sources, "sources"))
    elseif open ~= nil then
        check.callable("merge", "the second argument (open)", open)
    end
    local limit = opts.limit or opts.concurrency or open and DEFAULT_LIMIT or math.huge
    local next_source, draws
    if open then
        next_source, draws = items_of(sources)
    else
        next_source = list_of(sources)
    end
    local group, queue = native.group(), sync.queue(AHEAD)
    group:wakes(queue)
    return setmetatable({
        group = group,
        queue = queue,
        keys = slots(), errors = slots(), head = 1, tail = 1,
        running = 0, marks = 0, more = true, closed = false, broken = 0,
        open = open,
        _next_source = next_source,
        draws = draws, -- true if drawing the next item may have to wait
        limit = check.count("merge", "limit", limit, 1),
        on_error = on_error,
    }, Merge)
end

return M
