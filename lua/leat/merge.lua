-- merge: many iterators and streams read at once, their items in the order in which they come.
local await = require "leat.internal.await"
local native = require "leat.native.task"
local check = require "leat.internal.check"
local draw = require "leat.internal.producer"
local errors = require "leat.error"
local sync = require "leat.sync"

local note = native.note

-- Items read ahead, for all sources together; and how many a source may add before the others have a turn.
local AHEAD, TURN = 16, 4

local DEFAULT_LIMIT = 100

local M = {}

local Merge = check.class({}, "merge")
Merge.__index = Merge

-- What comes through the queue besides items.
local ENDED, BROKEN, BUG = {}, {}, {}

-- The function that gives the items of a source, one a call: nil at the end, or nil, err.
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

local function drain_source(self, key, source, item)
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

-- The body of the task that reads one source. How it ends comes through the queue as well, behind its items.
local function pump(self, key, source, item)
    local ok, mark, err = xpcall(drain_source, note, self, key, source, item)
    if not ok then
        mark, err = errors.is(mark) and BROKEN or BUG, mark
    end
    self:_tell(mark, key, err)
end

function Merge:_put(value, key, err)
    assert(self.queue:put(value))
    -- Without a wait or an allocation in between: the same order as in the queue.
    local at = self.tail
    self.keys[at], self.errors[at] = key, err
    self.tail = at % AHEAD + 1
end

-- That a source's task ends.
function Merge:_tell(mark, key, err)
    self:_put(mark, key, err)
    self.told = self.told + 1
end

-- As many slots as the queue may have items, there from the beginning.
local function slots()
    local t = {}
    for i = 1, AHEAD do
        t[i] = false
    end
    return t
end

-- What hands out the sources of an iterator of items, in a task of its own.
local function opener(self)
    return function()
        local ok, key, _, item = xpcall(self._next_source, note)
        if not ok then
            self:_tell(BUG, nil, key)
        elseif key == nil then
            self:_tell(ENDED)
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

-- Nothing comes any more, for other tasks that read either.
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

-- Lets go of a task that has ended; raises what ended it without a word.
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
    self.running, self.told = self.running - 1, self.told - 1
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

-- The next of the queue; nil where the merge was closed meanwhile, by another task. The end of each source's
-- task wakes who waits here: it may have ended for want of memory, so that nothing comes through the queue.
local function next_value(self)
    local value
    repeat
        value = self.queue:try_get()
        if value == nil and self.group:count() < self.running - self.told then
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

--- Cancels what is still read, closes the sources' streams and waits for that. Done by itself when the task
--- that opened the merge ends.
function Merge:close()
    check.own(self, Merge, "merge:close")
    stop(self) -- also where another task does it, which still waits for the rest
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
        return place[a] < place[b] -- of no order
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

--- Reads many sources at once; iterates over their items in the order in which they come.
---@param sources table|function of sources by any key: iterator functions, streamed responses (read as
---events, lines or chunks by their content-type), queues; or a list or iterator of items, if `open` is given
---@param open? function `open(item, index)` gives the source of an item, or nil, err
---@param opts? leat.merge_options limit (alias concurrency): at most that many sources open at a time (100
---with `open`); on_error: "raise" (default) the error of a source that breaks, with err.key; "skip" it and
---go on; or a function of err, key
---@return leat.merge iterator of item, key; has close(), and the fields broken (a count) and first_error
---
--- A source has broken when it gives nil, err or raises a Leat error, or when open does; a bug is raised in
--- any case. Nothing is read ahead but a few items in all, so slow use holds the sources back; a fast source
--- starves nobody. After a `break` what is open stays open until close(), or until the task that opened it
--- ends.
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
        running = 0, told = 0, more = true, closed = false, broken = 0,
        open = open,
        _next_source = next_source,
        draws = draws, -- the next item may have to be waited for
        limit = check.count("merge", "limit", limit, 1),
        on_error = on_error,
    }, Merge)
end

return M
