-- An HTTP server (src/server/). Each request is handled in its own task.
local check = require "leat.internal.check"
local await = require "leat.internal.await"
local errors = require "leat.error"
local json = require "leat.json"
local log = require "leat.log"
local redact = require("leat.native.util").redact
local native_serve = require "leat.native.serve"
local native_sync = require "leat.native.sync"
local native_task = require "leat.native.task"
local tasks = require "leat.task"

local note = native_task.note

local M = {}

-- How many seconds complete responses may take to be sent before their connections are closed.
local FLUSH = 2

-- How many times in a row a server may fail to take a request before it closes.
local TRIES = 100

-- ---- requests

local Request = native_serve.request_methods

-- Requests are userdata. Their metatable cannot be reached from here, so only the type is checked.
local function own_request(self, name)
    if type(self) ~= "userdata" then
        check.fail(("request:%s: call it with a colon on the request that the handler was given, as in "
            .. "req:%s(...)"):format(name, name))
    end
end

--- Decodes the request's body as JSON.
---@return any value nil only together with an err
---@return leat.error? err kind "invalid"
function Request:json()
    own_request(self, "json")
    return json.decode(self.body)
end

-- Writes the body of a response. When its handler ends, it is closed, or broken off after a failure.
local Stream = {}
Stream.__index = Stream

--- Sends a piece of the body. While more than 256 KiB are unsent, it waits until the client has read more.
---@param chunk string
---@return true|nil
---@return leat.error? err kind "closed": the client has disconnected; "too_large": the piece is over 64 MiB
function Stream:write(chunk)
    check.own(self, Stream, "stream:write")
    return await(self.request:write_start(chunk))
end

--- Ends the body as complete. This happens by itself when the handler returns. If the handler fails, the
--- connection is broken off instead.
function Stream:close()
    check.own(self, Stream, "stream:close")
    self.request:finish()
end

--- Breaks the connection off, so that the client sees that the body is incomplete.
function Stream:abort()
    check.own(self, Stream, "stream:abort")
    self.request:abort()
end

local RESPONSE = { status = "number", headers = "table", body = "string", json = true }
local JSON_TYPE = { ["Content-Type"] = "application/json" }
local TEXT_TYPE = { ["Content-Type"] = "text/plain; charset=utf-8" }

local function with_type(headers, default)
    if not headers then
        return default
    end
    local copy = {}
    for name, value in pairs(headers) do
        if type(name) == "string" and name:lower() == "content-type" then
            return headers
        end
        copy[name] = value
    end
    copy["Content-Type"] = default["Content-Type"]
    return copy
end

local function answer(req, res)
    local body, headers = res.body, res.headers
    if res.json ~= nil then
        if body then
            check.fail "respond: give either body or json, not both"
        end
        local err
        body, err = json.encode(res.json)
        if not body then
            return nil, err
        end
        headers = with_type(headers, JSON_TYPE)
    elseif body and body ~= "" then
        headers = with_type(headers, TEXT_TYPE)
    end
    return req:answer(res.status or 200, headers, body)
end

--- Sends the response now, before the handler returns. What the handler returns later is ignored.
---@param res leat.respond_options status (200), headers (name to value, or to a list of values), body or
---json
---@return true|leat.stream|nil answered true; or, without body and json, a stream with write(chunk),
---close, abort
---@return leat.error? err kind "invalid": a header contains a line end; "too_large": the headers are over
---31 KiB; "closed": the client has disconnected
---
--- Raises if the request already has a response. Content-Length and the other framing headers are
--- ignored, because the server sets them itself.
function Request:respond(res)
    own_request(self, "respond")
    check.options("respond", res, RESPONSE)
    if res.body or res.json ~= nil then
        return answer(self, res)
    end
    local ok, err = self:open(res.status or 200, res.headers)
    if not ok then
        return nil, err
    end
    return setmetatable({ request = self }, Stream)
end

-- ---- the tasks of a server

local function fail(req, status, kind, message)
    if req:phase() == "waiting" then
        answer(req, { status = status, json = { error = { kind = kind, message = message } } })
    else
        req:abort()
    end
end

local function report(self, req, what)
    log.error(("%s: %s %s: %s"):format(self.name, req.method, req.path, what))
end

-- Sends the client the response for a failed handler.
local function failed(self, req, err)
    err = errors.wrap(err)
    if req:phase() == "gone" then
        return -- the client has disconnected
    elseif err.kind == "cancelled" and self.closing then
        return fail(req, 503, "cancelled", "the server is closing")
    end
    report(self, req, tostring(err))
    fail(req, 500, err.kind, errors.text(err.message))
end

local function finish(self, req, res, err)
    local phase = req:phase()
    if res == nil and err ~= nil then
        failed(self, req, err)
    elseif phase == "streaming" then
        req:finish()
    elseif phase == "waiting" then
        if type(res) == "string" then
            res = { body = res }
        elseif type(res) ~= "table" then
            check.fail(("%s: the handler must return a response such as {status=200, body=\"...\"}, a "
                .. "string, or nil and an error, or call req:respond; got %s"):format(self.name,
                check.picture(res, "response")))
        end
        check.options("respond", res, RESPONSE)
        local ok, refused = answer(req, res)
        if not ok and refused.kind ~= "closed" then
            failed(self, req, refused)
        end
    end
end

local function handle(self, req)
    finish(self, req, self.handler(req))
end

-- A bug is raised again at the end of the task, where the reaper finds it with its traceback.
local function serve_one(self, req)
    local ok, raised = xpcall(handle, note, self, req)
    if ok then
        return
    end
    if errors.is(raised) then
        failed(self, req, raised)
    else
        fail(req, 500, "raised", "internal error")
        error(raised, 0)
    end
end

local function observe(self, t, _, status, value)
    if status == "raised" then
        log.error(self.name .. ": a handler raised: " .. errors.text(value))
        for line in native_task.trace(t):gmatch "[^\n]+" do
            log.error(line)
        end
    elseif status == "failed" then
        log.error(("%s: a handler or a task that it started failed: %s"):format(self.name, tostring(value)))
    end
end

-- Returns false if no handler is left: then the task is nil.
local function observe_next(self, t, ...)
    if t then
        observe(self, t, ...)
    end
    return t ~= nil
end

local function reap_one(self)
    if not observe_next(self, await(self.group:next_start())) then
        self.busy:clear()
        await(self.busy:_wait_start())
    end
end

-- Collects the ends of the handlers, so that none of them can end the server.
local function reap(self)
    while true do
        local ok, raised = pcall(reap_one, self)
        if errors.is(raised) then
            error(raised, 0) -- the cancel
        elseif not ok then -- out of memory
            await(native_task.sleep(0))
        end
    end
end

local function take_up(self, req)
    local t = self.group:spawn(0, serve_one, self, req)
    t.name = self._handler_name
    req:bind(t)
    self.busy:set()
end

local function next_request(self)
    if not self.reaper then
        self.group, self.busy = native_task.group(), native_sync.event()
        self.reaper = tasks.spawn(reap, self)
    end
    return await(self.native:accept_start())
end

local drop = native_serve.server_methods.drop

local function pause()
    await(native_task.sleep(0))
end

-- If there is no memory for a request, only that request is lost, and not the server. It may still be in
-- the queue, or have been taken and not bound. Every call here may fail again.
local function accept(self)
    local vain = 0
    while true do
        local ok, req = pcall(next_request, self)
        if ok and req == nil then
            return
        elseif ok then
            vain = 0
            if req then
                pcall(take_up, self, req)
            end
        elseif errors.is(req) or vain == TRIES then
            error(req, 0) -- a cancel; or it failed too often
        else
            vain = vain + 1
            pcall(drop, self.native)
            pcall(pause) -- garbage is collected during this wait
        end
    end
end

local function run(self)
    local ok, err = xpcall(accept, note, self)
    self.closing = true
    if not ok and not errors.is(err) then
        log.error(("%s: it is closed: %s"):format(self.name, tostring(err)))
    end
    self.native:quiesce()
    if self.reaper then
        self.reaper:cancel()
        self.group:cancel "the server was closed"
        repeat
            local more = observe_next(self, await(self.group:await_all_start()))
        until not more
    end
    tasks.shield(FLUSH, function()
        await(self.native:idle_start(FLUSH))
    end)
    self.native:close()
    if not ok then
        error(err, 0)
    end
end

local function begin(self)
    local listener = self.native
    self.url, self.port, self.host = listener.url, listener.port, listener.host
    self.task = tasks.spawn(run, self)
    listener:keep(self.task)
    self.task.name = self.name .. " " .. self.url
    self._handler_name = self.name .. ": a handler"
end

-- ---- servers

local Server = check.class({}, "server")
Server.__index = Server

function Server:__tostring()
    return ("server %s (%s)"):format(self.url, self.closing and "closed" or "listening")
end

--- Stops listening, cancels the handlers that still run, and waits until they have ended.
---@param grace? number seconds in which running handlers may end by themselves; default 0
---@return true
---
--- If a handler calls it, it does not wait, because that handler is cancelled, too.
function Server:close(grace)
    check.own(self, Server, "server:close")
    if grace ~= nil and (type(grace) ~= "number" or not (grace >= 0)) then
        check.fail("close: the grace must be 0 or more seconds, got " .. check.picture(grace, "grace"))
    end
    self.native:quiesce()
    if grace and grace > 0 then
        await(self.native:idle_start(grace))
    end
    self.closing = true
    self.task:cancel "the server was closed"
    local ok, raised = pcall(self.task.await, self.task)
    if not ok and errors.is(raised) then
        error(raised, 0) -- this task was cancelled; a string says that this task is a handler of the server
    end
    return true
end

--- Returns gauges and counters of the server: connections, active and waiting requests; and the totals of
--- accepted connections, requests, and gone (requests whose client disconnected before it had the
--- response).
---@return leat.server_stats
function Server:stats()
    check.own(self, Server, "server:stats")
    return self.native:gauges()
end

local function start(listener, opts)
    local self = setmetatable({ native = listener, handler = opts.handler, closing = false,
        name = opts.name or "serve" }, Server)
    local ok, raised = pcall(begin, self)
    if not ok then -- out of memory
        listener:close()
        error(raised, 0)
    end
    return self
end

local SERVE = { port = "number", host = "string", handler = true, max_body = "number", timeout = "number",
    name = "string" }

--- Starts an HTTP/1.1 server. Each request is a task of its own, and a child of the running task.
---@param opts leat.serve_options handler(req) (required), port (default 0: a free one), host (default
---"127.0.0.1"; an IP address or "localhost"), max_body (bytes, default 64 MiB; larger bodies get a 413),
---timeout (seconds, default 120; see below), name (for messages)
---@return leat.server|nil server url, port, host; close([grace]), stats()
---@return leat.error? err kind "io" if it cannot listen (reason "in_use"), "invalid" for a wrong host
---
--- `req` has method, path (decoded), query (name to value), query_string, target, headers (names in any
--- case), body, remote, version; json(), header_values(name), respond(res). The handler may wait. It
--- returns a table with status, headers, and body or json; or a string; or nil and an error. After an
--- error or a bug the client gets status 500, and the error is logged. To stream, the handler calls
--- req:respond without a body.
---
--- `timeout` closes the connection if the client takes longer for the headers of its next request, or
--- sends or reads nothing for that long. A body must bring at least 500 bytes per second in each such
--- time. When the process has no file descriptors left, the connection that has been idle for longest is
--- closed for a new one.
---
--- When the client disconnects, the handler's task is cancelled. A client that closes only its sending
--- side counts as disconnected. The server, and so the task that started it, runs until close() or a
--- cancel. With virtual time no socket is opened, and only requests of the same process reach the server
--- (see simulate). Raises for wrong options.
--- ```lua
--- local server = assert(leat.serve {
---     handler = function(req)
---         if req.path == "/stream" then
---             local out = assert(req:respond { headers = { ["Content-Type"] = "text/plain" } })
---             for i = 1, 3 do out:write(i .. "\n") sleep(0.001) end
---             return out:close()
---         end
---         return { json = { hello = req.query.name } }
---     end,
--- })
--- local res = assert(request(server.url .. "/?name=Ada"))
--- assert(res:json().hello == "Ada")
--- assert(request(server.url .. "/stream").body == "1\n2\n3\n")
--- server:close()
--- ```
function M.serve(opts)
    if type(opts) ~= "table" then
        check.fail("serve: expected a table such as {port=0, handler=function(req) ... end}, got "
            .. check.picture(opts, "options"))
    end
    check.options("serve", opts, SERVE)
    check.callable("serve", "option 'handler'", opts.handler)
    if opts.timeout and not (opts.timeout > 0) then
        check.fail("serve: option 'timeout' must be more than 0 seconds, got " .. opts.timeout)
    end
    local listener, err = native_serve.listen(opts.host or "127.0.0.1", opts.port or 0,
        opts.max_body or 64 * 1024 * 1024, opts.timeout or 120)
    if not listener then
        return nil, err
    end
    return start(listener, opts)
end

local SIMULATE = { handler = true, max_body = "number", name = "string" }

--- Answers all requests to an origin inside this process, without a socket. The requests go through the
--- same queues, limits, redirects, decoding and streams as others, and reach a handler like the one of
--- `serve`. With `leat --virtual-time`, a test of an outage of half an hour takes milliseconds, and a
--- seed repeats it exactly.
---@param base_url string scheme and host, perhaps a port, and no path: "https://api.example.com"
---@param handler function|leat.simulate_options handler(req), as for serve; or options: handler,
---max_body, name
---@return leat.server|nil server url; close([grace]), stats(), as from serve
---@return leat.error? err kind "invalid" for a URL that is not allowed, or that is simulated already
---(reason "in_use")
---
--- Requests reach the handler only until close(). After that they use the network again; with virtual
--- time they fail with kind "denied". No name is looked up, no connection is made and no certificate is
--- checked. A handler that fails or breaks off looks to the client as it would on a socket. A simulation
--- that is not closed ends with the script, when no task is left that could send a request. Raises for
--- wrong options.
--- ```lua
--- local api = assert(leat.simulate("https://api.example.com", function(req)
---     sleep(0.01)
---     return { json = { path = req.path, host = req.headers.host } }
--- end))
--- local got = request("https://api.example.com/v1/things"):json()
--- assert(got.path == "/v1/things" and got.host == "api.example.com")
--- api:close()
--- ```
function M.simulate(base_url, handler)
    if type(base_url) ~= "string" then
        check.fail("simulate: the first argument must be a URL such as \"https://api.example.com\", got "
            .. check.picture(base_url, "base_url"))
    end
    local opts = handler
    if type(handler) == "table" and not (getmetatable(handler) or {}).__call then
        check.options("simulate", opts, SIMULATE)
    else
        opts = { handler = handler }
    end
    check.callable("simulate", "the handler", opts.handler)
    local scheme, rest = base_url:match "^(%a+)://([^/?#@]+)/?$"
    scheme = scheme and scheme:lower()
    if scheme ~= "http" and scheme ~= "https" then
        check.fail(("simulate: '%s' must be http:// or https:// and a host, perhaps with a port, and no path")
            :format(check.hidden(redact("url", base_url))))
    end
    local listener, err = native_serve.simulate(scheme .. "://" .. rest, opts.max_body or 64 * 1024 * 1024)
    if not listener then
        return nil, err
    end
    return start(listener, opts)
end

return M
