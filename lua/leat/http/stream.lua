-- The methods of a response to a request with stream=true. They read the body while it arrives.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local native_request = require "leat.native.request"
local native_task = require "leat.native.task"
local wait_for = require("leat.task").wait_for

local next_piece, read_bytes = native_request.next, native_request.read

local M = {}

local function handle_of(self, name)
    local handle = type(self) == "table" and self._stream
    if not handle then
        check.fail(("%s: call it with a colon on a response that was asked for with stream=true (the body of "
            .. "any other is in res.body)"):format(name))
    end
    return handle
end

-- Makes an event from the values that C returns, or nil at the end of the events.
local function to_event(data, err, name, id)
    if data == nil then
        return nil, err
    end
    return { data = data, event = name or "message", id = id }
end

local function next_event(handle)
    return to_event(await(next_piece(handle)))
end

local function next_line(handle)
    return await(next_piece(handle))
end

local function next_bytes(handle)
    return await(read_bytes(handle))
end

local function or_raise(item, err)
    if item == nil and err ~= nil then
        error(err, 0)
    end
    return item
end

--- The next bytes of the body, waiting for them.
---@param n? integer this many bytes (at most 64 MiB), fewer only at the end; default: all that has arrived
---@return string|nil bytes nil at the end
---@return leat.error? err if the stream broke: kinds closed (reason "truncated", "reset"), timeout,
---protocol ...
--- ```lua
--- local res = assert(request { url = url .. "/text?lines=100", stream = true })
--- assert(res:read(4) == "this" and #res:read() > 0)
--- while res:read() do end
--- assert(res.complete == true)
--- ```
function M.read(self, n)
    return await(read_bytes(handle_of(self, "read"), n))
end

--- Iterates over the body as it arrives, in pieces of any size. Raises an error if the stream breaks.
---@return fun(): string|nil iterator of strings
--- ```lua
--- local bytes = 0
--- local res = assert(request { url = url .. "/text?lines=100", stream = true })
--- for chunk in res:chunks() do bytes = bytes + #chunk end
--- assert(bytes == 2000)
--- ```
function M.chunks(self)
    local handle = handle_of(self, "chunks")
    return function()
        return or_raise(await(read_bytes(handle)))
    end
end

local PIECES = { max_bytes = "number" }

local function form(self, name, opts)
    local handle = handle_of(self, name)
    native_request.form(handle, name, check.options(name, opts, PIECES).max_bytes)
    return handle
end

--- Iterates over the lines of the body (NDJSON, logs), without LF or CRLF. Raises an error if the stream
--- breaks.
---@param opts? leat.piece_options max_bytes of a line (8 MiB); a longer one is an error of kind too_large
---@return fun(): string|nil iterator of strings
---
--- A last line without a line end counts if the body ended properly.
--- ```lua
--- local res = assert(request { url = url .. "/text?lines=3", stream = true })
--- local last
--- for line in res:lines() do last = line end
--- assert(last == "this is line 000003")
--- ```
function M.lines(self, opts)
    local handle = form(self, "lines", opts)
    return function()
        return or_raise(await(next_piece(handle)))
    end
end

--- Iterates over server-sent events. Each is a table with data (string), event (its name, or "message") and
--- id (the last id that was sent, if any). Raises an error if the stream breaks.
---@param opts? leat.piece_options max_bytes of an event (8 MiB); a larger one is an error of kind too_large
---@return fun(): leat.sse|nil iterator of events
---
--- Events are parsed exactly as section 9.2 of the WHATWG HTML standard says. So an event needs a blank line
--- at its end. If the stream ends without it, the incomplete event is in `res.incomplete`.
--- ```lua
--- local res = assert(request { url = url .. "/play", body = "id: 7\ndata: one\n\ndata: two\n\ndata: th",
---     stream = true })
--- local seen = {}
--- for event in res:events() do seen[#seen + 1] = event.data .. event.id end
--- assert(table.concat(seen, " ") == "one7 two7" and res.incomplete.data == "th")
--- ```
function M.events(self, opts)
    local handle = form(self, "events", opts)
    return function()
        return or_raise(next_event(handle))
    end
end

--- Returns the next server-sent event. Unlike `events`, it returns an error instead of raising it.
---@return leat.sse|nil event nil at the end
---@return leat.error? err if the stream broke
--- ```lua
--- local res = assert(request { url = url .. "/play", body = "data: one\n\n", stream = true })
--- assert(res:next_event().data == "one")
--- local event, err = res:next_event()
--- assert(event == nil and err == nil)
--- ```
function M.next_event(self)
    local handle = handle_of(self, "next_event")
    native_request.form(handle, "events")
    return next_event(handle)
end

--- Closes the stream: aborts a transfer that still runs, and frees its place. Does nothing if it has ended.
function M.close(self)
    native_request.close(handle_of(self, "close"))
end

-- Internal: returns at most `most` bytes from the beginning, and whether this is all. Closes the stream.
function M.head(self, most, seconds)
    local parts, size = {}, 0
    local _, err = wait_for(seconds, function()
        while size < most do
            local bytes, broken = M.read(self)
            if bytes == nil then
                return nil, broken
            end
            parts[#parts + 1], size = bytes, size + #bytes
        end
    end)
    local whole = err == nil and self.complete ~= nil and self.complete
    M.close(self)
    return table.concat(parts), whole
end

local function read_all(step, handle, fn)
    while true do
        local item, err = step(handle)
        if item == nil then
            if err ~= nil then
                return nil, err
            end
            return true
        end
        if fn(item) == false then
            return true
        end
    end
end

local function each(step, handle, name, fn)
    check.callable(name, "the first argument", fn)
    local ok, done, err = xpcall(read_all, native_task.note, step, handle, fn)
    native_request.close(handle)
    if not ok then
        error(done, 0)
    end
    if done == nil then
        return nil, err
    end
    return done
end

--- Calls `fn(event)` for every event, and then closes the stream in any case.
---@param fn function if it returns false, the loop ends; other results are ignored
---@param opts? leat.piece_options as for events
---@return true|nil done
---@return leat.error? err if the stream broke
--- ```lua
--- local res = assert(request { url = url .. "/play", body = "data: 1\n\ndata: 2\n\n", stream = true })
--- assert(res:each_event(function(event) return event.data ~= "1" end))
--- ```
function M.each_event(self, fn, opts)
    return each(next_event, form(self, "events", opts), "each_event", fn)
end

--- Calls `fn(line)` for every line, and then closes the stream in any case.
---@param fn function if it returns false, the loop ends; other results are ignored
---@param opts? leat.piece_options as for lines
---@return true|nil done
---@return leat.error? err if the stream broke
--- ```lua
--- local n = 0
--- local res = assert(request { url = url .. "/text?lines=3", stream = true })
--- assert(res:each_line(function() n = n + 1 end) and n == 3)
--- ```
function M.each_line(self, fn, opts)
    return each(next_line, form(self, "lines", opts), "each_line", fn)
end

--- Calls `fn(bytes)` for every piece of the body, and then closes the stream in any case.
---@param fn function if it returns false, the loop ends; other results are ignored
---@return true|nil done
---@return leat.error? err if the stream broke
--- ```lua
--- local n = 0
--- local res = assert(request { url = url .. "/text?lines=3", stream = true })
--- assert(res:each_chunk(function(bytes) n = n + #bytes end) and n == 60)
--- ```
function M.each_chunk(self, fn)
    return each(next_bytes, handle_of(self, "each_chunk"), "each_chunk", fn)
end

-- Internal, for merge: returns a reader that fits the content-type of the response.
function M.reader(self)
    local handle = handle_of(self, "merge")
    local kind = (self.headers["content-type"] or ""):lower()
    local step = next_bytes
    if kind:find("event-stream", 1, true) then
        native_request.form(handle, "events")
        step = next_event
    elseif kind:find("ndjson", 1, true) or kind:find("jsonl", 1, true)
        or kind:find("json-seq", 1, true) then
        native_request.form(handle, "lines")
        step = next_line
    end
    return function()
        return step(handle)
    end
end

return M
