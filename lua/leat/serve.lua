-- An HTTP server: each request is a task. On libmicrohttpd (src/server/).
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

-- Seconds that responses which are complete get to be sent before the connections are closed.
local FLUSH = 2

-- How often a server tries in vain to take up a request before it closes.
local TRIES = 100

-- ---- requests

local Request = native_serve.request_methods

-- These are userdata, whose metatable is not to be had from here.
local function own_request(self, name)
    if type(self) ~= "userdata" then
        check.fail(("request:%s: call it with a colon on the request that the handler was given, as in "
            .. "req:%s(...)"):format(name, name))
    end
end

--- The request's body as JSON.
---@return any value nil only beside an err
---@return leat.error? err kind "invalid"
function Request:json()
    own_request(self, "json")
    return json.decode(self.body)
end

-- Writes a response's body; closed, or broken off, when its handler ends.
local Stream = {}
Stream.__index = Stream

--- Sends a piece of the body. Waits while more than 256 KiB are unsent, until the client has read on.
---@param chunk string
---@return true|nil
---@return leat.error? err kind "closed": the client went away; "too_large": a piece over 64 MiB
function Stream:write(chunk)
    check.own(self, Stream, "stream:write")
    return await(self.request:write_start(chunk))
end

--- Ends the body properly. A handler that returns does it too; one that fails breaks the connection.
function Stream:close()
    check.own(self, Stream, "stream:close")
    self.request:finish()
end

--- Breaks the connection, so that the client sees that the body was cut short.
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

--- Answers now, before the handler returns; what it returns then is ignored.
---@param res leat.respond_options status (200), headers (name to value, or to a list of values), body or json
---@return true|leat.stream|nil answered true; without body and json a stream with write(chunk), close, abort
---@return leat.error? err kind "invalid" for a header with a line end; "too_large" where the headers, with
--- those of the request, are over 31 KiB; "closed": the client went away
---
--- Raises when the request has its response already. Content-Length and the other headers of framing are
--- the server's own: they are left out.
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

-- What a handler's failure is to the client.
local function failed(self, req, err)
    err = errors.wrap(err)
    if req:phase() == "gone" then
        return -- nobody is there to be told
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

-- A bug goes on to the end of the task, where the reaper finds it with its traceback.
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

-- The task is nil when no handler is left.
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

-- Takes note of how handlers end, so that none of them can end the server.
local function reap(self)
    while true do
        local ok, raised = pcall(reap_one, self)
        if errors.is(raised) then
            error(raised, 0) -- the cancel
        elseif not ok then -- for want of memory
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

-- Where there is no memory for a request, that is lost, not the server: one that is still in line, or was
-- taken and not bound. Whatever fails here may fail again.
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
            error(req, 0) -- the cancel; or it will not get better
        else
            vain = vain + 1
            pcall(drop, self.native)
            pcall(pause) -- garbage is collected then
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

--- Stops listening, cancels the handlers that still run, and waits for their end.
---@param grace? number seconds that running handlers get to end by themselves; default 0
---@return true
---
--- Called by a handler, it does not wait (the handler is one of those that are cancelled).
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
        error(raised, 0) -- our own cancel; a string says that we are inside one of its handlers
    end
    return true
end

--- Gauges and counters: connections, active and waiting requests; accepted connections, requests, and
--- gone (requests whose client went away before it had its response).
---@return leat.server_stats
function Server:stats()
    check.own(self, Server, "server:stats")
    return self.native:gauges()
end

local function start(listener, opts)
    local self = setmetatable({ native = listener, handler = opts.handler, closing = false,
        name = opts.name or "serve" }, Server)
    local ok, raised = pcall(begin, self)
    if not ok then -- for want of memory
        listener:close()
        error(raised, 0)
    end
    return self
end

local SERVE = { port = "number", host = "string", handler = true, max_body = "number", timeout = "number",
    name = "string" }

--- Starts an HTTP/1.1 server; each request is a task of its own, below the running task.
---@param opts leat.serve_options handler(req) (required), port (0: a free one), host ("127.0.0.1"; an IP
--- address or "localhost"), max_body (bytes, default 64 MiB; more is answered with 413), timeout (s,
--- default 120: how long a client may take for the head of its next request, or move nothing else; in each
--- such time a body must bring at least 500 bytes a second), name (for messages). With all descriptors
--- taken, the connection that has been idle for longest makes room for a new one
---@return leat.server|nil server url, port, host; close([grace]), stats()
---@return leat.error? err kind "io" where it cannot listen (reason "in_use"), "invalid" for the host
---
--- `req` has method, path (decoded), query (name to value), query_string, target, headers (any case), body,
--- remote, version; json(), header_values(name), respond(res). The handler may wait. It returns a table
--- with status, headers, and body or json; or a string; or nil and an error, which is answered with 500 and
--- logged like a bug. To stream, it calls req:respond without a body. When the client goes away the
--- handler's task is cancelled; closing only its sending side counts as that. The server, and so the task
--- that started it, runs until close() or a cancel. Under virtual time no socket is opened: only requests
--- of the same process find the server (see simulate). Wrong options raise.
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

--- Answers the requests to an origin in this process, without a socket: they take the same way as any,
--- through queues, limits, redirects, decoding and streams, and end at a handler as `serve` takes it. With
--- `leat --virtual-time` an outage of half an hour is a test of milliseconds, and a seed repeats it exactly.
---@param base_url string "https://api.example.com": scheme and host, perhaps a port, and no path
---@param handler function|leat.simulate_options handler(req), as for serve; or options: handler, max_body,
---name
---@return leat.server|nil server url; close([grace]), stats(), as of serve
---@return leat.error? err kind "invalid" for a URL that cannot be, or that is simulated already (reason
---"in_use")
---
--- Requests only find it while it is open; after that they meet the network again, or, under virtual time,
--- fail with kind "denied". No name is looked up, no connection made, no certificate checked, no cookie
--- kept. A handler that fails or breaks off looks to the asker as on a socket. Left open it ends with the
--- script, once nobody is left who could ask. Wrong options raise.
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
