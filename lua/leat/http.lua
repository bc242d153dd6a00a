-- HTTP: request, client, and responses.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local content = require "leat.http.options"
local native = require "leat.native.request"
local error_value = require "leat.error"
local expected = require "leat.internal.expected"
local headers = require "leat.http.headers"
local json = require "leat.json"
local failed = require("leat.native.task").failed
local scope_of = require("leat.policy.common").scope
local unseen = require "leat.internal.unseen"
local url_of = require "leat.internal.url"

local start = native.start

local M = {}

-- ---- responses

--- The result of a request. Fields: status (number), ok (status is 200 to 299), reason (the text after
--- the status; may be ""), body (string, decoded), url (after redirects), version ("1.1", "2"), attempts
--- (requests sent, including redirects and resends), resends (how often the request was sent again
--- because its connection was lost before the first byte of the response; nil: never), headers (names in
--- any case; repeated ones are joined by ", ", but of set-cookie only the first is there), trailers
--- (likewise), timing (seconds from the moment the request left the queue: dns, connect, tls, first_byte,
--- total; and queued, the time in the queue; nil for a phase that did not happen), complete (true;
--- "unknown" if only the closing of the connection marked the end), encoded (the content-encoding of the
--- body if Leat cannot decode it, else nil), idempotent (false if the status is 400 or more and sending
--- the request again may do harm; then `method` is set, too; else nil).
--- ```lua
--- local res = assert(request(url .. "/ok"))
--- assert(res.status == 200 and res.ok and res.headers["Content-Length"] == "3")
--- assert(res.body == "ok\n" and res.timing.total > 0)
--- ```
--- With stream=true, body is nil. Read the response by read, chunks, lines, events, next_event,
--- each_chunk, each_line or each_event, and end it by close. `complete` is nil while the stream goes on;
--- then true, "unknown", or false if the stream broke. `incomplete` is the event in which the stream
--- ended. `trailers` are there at the end.
---@class leat.response
local Response = check.class({
    __leat_json = "a response, which JSON cannot hold (use res.body or res:json()),",
    __leat_crosses = unseen.looked, -- called when a response is passed to the host
}, "response")
local methods = {}

local Timing = { __shown_whole = true }
local PHASES = { "queued", "dns", "connect", "tls", "first_byte", "total" }

function Timing:__tostring()
    local parts = {}
    for _, phase in ipairs(PHASES) do
        if self[phase] then
            parts[#parts + 1] = ("%s %.4f s"):format(phase, self[phase])
        end
    end
    return table.concat(parts, ", ")
end

local function timing_of(packed)
    return setmetatable(native.timing(packed), Timing)
end

-- These fields are made at their first use, because most scripts do not use them.
local lazy = {}

function lazy.headers(res)
    return headers.from(res._head)
end

function lazy.trailers(res)
    return headers.from(res._tail)
end

function lazy.timing(res)
    return timing_of(res._times)
end

-- For a stream these fields change while it goes on.
local moving = {}

function moving.complete(handle)
    return (native.state(handle))
end

function moving.incomplete(handle)
    return (select(4, native.state(handle)))
end

function moving._stray(handle) -- for leat.openai: text that a server wrote between its events
    return (select(5, native.state(handle)))
end

function moving.trailers(handle)
    local _, rows = native.state(handle)
    return headers.from(rows)
end

function moving.timing(handle, res)
    local _, _, packed = native.state(handle)
    return timing_of(packed or res._times)
end

for _, name in ipairs { "read", "chunks", "lines", "events", "next_event", "close", "each_chunk", "each_line",
    "each_event" } do
    methods[name] = function(...)
        local method = require("leat.http.stream")[name]
        methods[name] = method
        return method(...)
    end
end

-- Fields that many responses do not have: for these __index returns nil at once.
local ABSENT = {
    body = true, idempotent = true, encoded = true, incomplete = true, complete = true, sink = true,
    size = true, _stray = true, _stream = true, _tail = true, _head = true, _times = true,
}
local foreign_field = check.foreign "response"

function Response.__index(res, name)
    local method = methods[name]
    if method then
        return method
    end
    local handle = rawget(res, "_stream")
    if handle and moving[name] then
        return moving[name](handle, res)
    end
    if name == "status" or name == "ok" then -- these are hidden until a script reads them
        unseen.looked(res)
        return rawget(res, name)
    end
    local make = lazy[name]
    if make then
        local value = make(res)
        rawset(res, name, value)
        return value
    elseif not ABSENT[name] then
        foreign_field(res, name)
    end
end

function Response.__tostring(res)
    local size = res.body and #res.body .. " bytes" or res.complete and "streamed" or "streaming"
    return ("response %d%s, %s, %.3f s"):format(res.status,
        res.reason ~= "" and " " .. res.reason or "", size, res.timing.total or res.timing.first_byte or 0)
end

--- Returns all values of a header, in the order in which they arrived.
---@param name string in upper or lower case
---@return string[] values empty if there is no such header
--- ```lua
--- local res = assert(request(url .. "/repeated-headers"))
--- local cookies = res:header_values("Set-Cookie")
--- assert(#cookies == 2 and cookies[2] == "b=2")
--- ```
function methods:header_values(name)
    if type(name) ~= "string" then
        check.fail("header_values: the name must be a string, got " .. check.picture(name, "name"))
    end
    name = name:lower()
    local values = {}
    for row, value in (self._head or ""):gmatch "([^%z]*)%z([^%z]*)%z" do
        if row:lower() == name then
            values[#values + 1] = value
        end
    end
    return values
end

--- Decodes the body as JSON.
---@param opts? leat.decode_options as for json.decode
---@return any value
---@return leat.error? err kind "invalid" if the body is not JSON; "protocol" (reason "decode") if its
---content-encoding is unknown
--- ```lua
--- local res = assert(request { url = url .. "/echo", json = { n = 1 } })
--- assert(res:json().method == "POST")
--- local value, err = assert(request(url .. "/ok")):json()
--- assert(value == nil and err.kind == "invalid")
--- ```
function methods:json(opts)
    check.own(self, Response, "res:json")
    if self._stream then
        check.fail "json: the body of this response is read as a stream (stream=true)"
    end
    if self.encoded then
        return nil, error_value.new { kind = "protocol", reason = "decode", status = self.status,
            message = "the body is in the unknown content-encoding '" .. self.encoded .. "'" }
    end
    local value, err = json.decode(self.body, opts)
    if value == nil and err then
        err.message = ("the body (status %d, %d bytes) is not JSON: %s"):format(self.status, #self.body,
            err.message)
        err.status = self.status
        return nil, err
    end
    return value
end

-- Returns true if the request must not be resent after a lost connection, because a retry policy around it
-- counts attempts: a resend would be in none of its numbers. A scope with a `resent` function counts
-- resends, so it allows them. The second result is true if the policy tries again because a kept connection
-- was lost: then a new one is used.
local function once()
    local scope = scope_of()
    while scope and not scope.resent do
        if scope.retries then
            return true, scope.lost
        end
        scope = scope.outer
    end
    return false
end

local function tell_resends(n)
    local scope = scope_of()
    while scope and not scope.resent do
        scope = scope.outer
    end
    if scope then
        scope:resent(n)
    end
end

-- Makes the results of a finished request from its values, in the order in which C passes them.
local function respond(status, reason, body, url, version, attempts, head, tail, times, unknown_end,
        unknown_encoding, harmful, resends)
    if resends or status == nil and reason.resends then
        tell_resends(resends or reason.resends)
    end
    if status == nil then
        return nil, reason
    end
    local res = setmetatable({
        status = status, ok = status >= 200 and status < 300, reason = reason, body = body, url = url,
        version = version, attempts = attempts, resends = resends, complete = not unknown_end or "unknown",
        _head = head, _tail = tail, _times = times,
    }, Response)
    if unknown_encoding then
        res.encoded = res.headers["content-encoding"] or "?"
    end
    if harmful and status >= 400 then -- for retry: a request with this method must not be sent twice
        res.idempotent, res.method = false, harmful
    end
    if not res.ok then
        unseen.hide(res)
    end
    return res
end

local function respond_stream(handle, ...)
    local res, err = respond(...)
    if res == nil then
        return nil, err
    end
    res._stream, res.complete = handle, nil
    native.bind(handle, res)
    return res
end

-- ---- requests

-- ---- what the caller expects

local compiled = {} -- by statuses such as "2xx"

-- Returns a function that says whether the caller expects a response.
local function expectation(who, value)
    if type(value) ~= "string" and type(value) ~= "number" then
        return expected.compile(value, who, "expect")
    end
    compiled[value] = compiled[value] or expected.compile(value, who, "expect")
    return compiled[value]
end

-- Records the secrets of a request whose response may become an error: the response could repeat them.
local function note_secrets(res, expects, spec, client, url)
    if res and not rawget(res, "ok") and (expects or rawget(res, "_place")) then
        expected.note_secrets(res, url, spec, client and client._options)
    end
end

local function refuse(res)
    local err = expected.refusal(res)
    failed(err, "request")
    return nil, err
end

-- Sends the requests that need more than one wait: streams, uploads and sinks.
local function perform_long(spec, defaults, url, method, body, content_type, auth, jar, expects, client)
    local handle = native.handle()
    local streaming = spec.stream or spec.sink ~= nil
    local res, err
    if type(body) == "table" then
        local function respond_here(...)
            if streaming then
                return respond_stream(handle, ...)
            end
            return respond(...)
        end
        res, err = respond_here(require("leat.http.upload").perform(body, handle, streaming, spec, defaults,
            url, method, content_type, auth, jar, once()))
    else
        res, err = respond_stream(handle, await(start(spec, defaults, url, method, body, content_type, auth,
            handle, nil, jar, once())))
    end
    note_secrets(res, expects, spec, client, url)
    if not res then
        return nil, err
    elseif expects and not expects(res) then
        return refuse(res)
    elseif spec.sink == nil then
        return res
    elseif rawget(res, "ok") then -- rawget: the script has not looked at it yet
        return require("leat.http.upload").sink(res, spec.sink)
    end
    return require("leat.http.upload").whole(res)
end

local function wrong_url(spec, url)
    for name in pairs(url == nil and spec or {}) do
        local instead = type(name) == "string"
            and require("leat.internal.foreign").option(name, { url = true })
        if instead then
            check.fail(("request: unknown option %s: write %s"):format(check.picture(name), instead))
        end
    end
    check.fail("request: option 'url' must be a string, got " .. check.picture(url, "url"))
end

-- Sends the request that `spec` (a table or nil) describes. `client` may be nil.
local function perform(spec, client, method, url)
    local body, content_type, auth, defaults, jar, expects, err
    if type(url) ~= "string" then
        wrong_url(spec, url)
    end
    if client then
        url, defaults = client:_aim(url)
        jar, expects = client._jar, client._expects
    end
    if spec then
        if spec.expect ~= nil then
            expects = spec.expect and expectation("request", spec.expect)
        end
        if spec.query ~= nil then
            url = url_of.with_query(url, content.table("query", spec.query))
        end
        if spec.auth ~= nil then
            auth, err = content.authorization(spec.auth)
            if not auth then
                return nil, err
            end
        end
        if spec.json ~= nil or spec.form ~= nil or spec.multipart ~= nil
            or spec.body ~= nil and type(spec.body) ~= "string" then
            body, content_type = content.encode(spec)
            if not body then
                return nil, content_type
            end
        end
        if spec.stream or spec.sink ~= nil or type(body) == "table" then
            return perform_long(spec, defaults, url, method, body, content_type, auth, jar, expects, client)
        end
    end
    local res
    res, err = respond(await(start(spec, defaults, url, method, body, content_type, auth, nil, nil, jar,
        once())))
    note_secrets(res, expects, spec, client, url)
    if not res then
        return nil, err
    elseif expects and not expects(res) then
        return refuse(res)
    end
    return res
end

--- Sends an HTTP request and waits for the response.
---@param target string|leat.request_options a URL, or a table of options:
---
--- * `url`: http or https. `query` {name=value} is added to it. A list as value repeats the name; {{name,
---   value}, ...} keeps the order.
--- * `method`: default GET, or POST if there is a body. `headers` {name=value}; a list as value repeats the
---   header.
--- * The body, one of: `body`, a string, or {file=path}, or a function that returns one piece per call and
---   nil at the end (it may wait; a file or function body is never in memory as a whole); `json`, any
---   value; `form`, as `query`; `multipart` {name=value} (RFC 7578). A value of multipart is a text,
---   {file=path}, {content=text}, or a list of these; the tables may have filename and type. All but `body`
---   set the content-type, unless `headers` has one.
--- * `stream` true: request returns when the response's headers have arrived; read the body with the
---   response's methods. If `timeout` is a plain number, it then limits the time to the headers, and each
---   time without data.
--- * `sink` path: the body is written to this file and not kept in memory. It is written to a temporary
---   file in the same folder, and renamed when it is complete and on the disk. The response has `sink` and
---   `size`. If the status is not 2xx, the file is not touched, and res.body has the body.
--- * `expect`: which statuses are a success: "2xx", a number, a list of both, or a function of the
---   response. Every other final response (after redirects) is a failure of kind `http`: nil, err with
---   err.status, err.response, err.body (the beginning of the body, without your secrets), and a message
---   with the server's words. For a stream, the beginning is read and the stream closed; a sink is not
---   written. A policy around the request sees err.status, so it retries a 503. `expect=false` turns off
---   the `expect` of the client.
--- * `auth`: {bearer="token"} or {basic={"user", "password"}}.
--- * `timeout`: seconds for the whole request, or {queue, connect, first_byte, idle, total}. Defaults:
---   connect 10, first_byte 120, idle 120, no limit for total and queue. Except for `queue`, they count
---   from the moment the request leaves the queue. A wait_for around the request counts the time in the
---   queue, too.
--- * `max_body`: bytes after decompression (64 MiB). `compressed` false: do not ask for gzip.
--- * `follow`: follow redirects (default: for GET and HEAD), at most `max_redirects` (5). If a redirect
---   leads to another origin, only the headers accept, accept-language, user-agent and content-type are
---   sent there.
--- * `idempotent` true: sending the request twice does no harm. This is the default for GET, HEAD, PUT,
---   DELETE, OPTIONS, and with an Idempotency-Key. Such a request is sent once more if its connection is
---   lost before the first byte of the response. Inside leat.retry, or a pipeline with retry, it fails
---   instead (with err.at_once), and the policy sends it again as one of its attempts.
--- * `ca_file`: a file of CA certificates to trust. Default: the files that the environment variables
---   SSL_CERT_FILE and SSL_CERT_DIR name, or the system's. `insecure` true: accept every certificate.
---   `cert` and `key`: PEM files of a client certificate.
--- * `http_version`: "1.1", "2" or "2-prior" (HTTP/2 without TLS). Requests and
---   streams share an HTTP/2 connection; a slow reader delays no other request.
---   `max_per_host`: at most this many requests to the host at once.
--- * `proxy`: "http://host:port", "socks5://..." or "socks5h://..." (the proxy looks up the names);
---   user:password@ may stand before the host. "" uses no proxy, even if the environment names one. A
---   failure of the proxy has the reason "proxy" and names it. If a proxy refuses the credentials, the
---   request is not sent again.
--- * `unix_socket`: path of a socket to connect to. `resolve` {["host:port"]="10.1.2.3"}: use this address
---   instead of a DNS look-up; TLS and the Host header still use the name.
---@return leat.response|nil res with any status, unless `expect` names the statuses that are a success
---@return leat.error? err kinds: http (a status that `expect` does not allow), invalid (for example a URL
---or a header that cannot be sent), timeout (err.phase, err.limit), connect, dns, tls, closed (reason
---"reset" or "truncated"), protocol, too_large, denied, memory; with err.url, err.retryable,
---err.elapsed, err.attempts, err.idempotent (false if sending the request again may do harm), and
---err.partial if a part of the body arrived
---
--- Raises for an unknown option or one of a wrong type. If the task is cancelled, the connection is
--- closed and the cancel is raised.
--- ```lua
--- local res = assert(request(url .. "/ok"))
--- assert(res.body == "ok\n")
---
--- local echo = assert(request {
---     url = url .. "/echo", query = { page = 2 }, headers = { ["X-Trace"] = "abc" },
---     json = { question = "why?" }, timeout = 5,
--- }):json()
--- assert(echo.method == "POST" and echo.query == "page=2" and echo.body == '{"question":"why?"}')
---
--- local none, err = request "no-scheme.example/"
--- assert(none == nil and err.kind == "invalid")
---
--- none, err = request { url = url .. "/status?code=404", expect = "2xx" }
--- assert(none == nil and err.kind == "http" and err.status == 404 and err.response.status == 404)
--- ```
function M.request(target, extra)
    if type(target) == "table" and getmetatable(target) == nil then
        return perform(target, nil, nil, target.url)
    elseif type(target) ~= "string" then
        check.fail("request: expected a URL or a table such as {url=\"https://...\"}, got "
            .. check.picture(target, "target"))
    elseif type(extra) == "string" and target:find "^%u+$" then
        check.fail(("request: the method goes into the table: request{method=\"%s\", url=...}"):format(
            target))
    elseif type(extra) == "table" then -- other types: for example the index that map passes
        check.fail "request: options go into one table with the URL: request{url=..., ...}"
    end
    return perform(nil, nil, nil, target)
end

-- ---- clients

---@class leat.client
local Client = check.class({ __leat_json = "a client, which JSON cannot hold," }, "client")
Client.__index = Client
setmetatable(Client, { __index = check.foreign "client" })

function Client:__tostring()
    return "client" .. (self._origin and " of " .. self._origin or "")
end

local find = string.find

-- The full URL of a request of this client, and the defaults that may be sent to it.
local function aim(self, url)
    if self._base then
        -- The fast way for most paths: append them to the base. Such a URL always has the base's origin.
        if find(url, "^[%w_%-][%w_%-/]*$") then
            url = self._folder .. url
            return self._query and url_of.with_query(url, self._query) or url, self._defaults
        end
        url = url_of.beneath(self._base, url)
    end
    if self._query then
        url = url_of.with_query(url, self._query)
    end
    if self._origin and url_of.origin(url) ~= self._origin then
        return url, self._abroad
    end
    return url, self._defaults
end

-- The same. Many requests in a row have the same URL, so the last one is kept.
function Client:_aim(url)
    if url ~= self._last_url then
        self._full_url, self._last_defaults = aim(self, url)
        self._last_url = url
    end
    return self._full_url, self._last_defaults
end

local function without(options, names)
    local out = {}
    for name, value in pairs(options) do
        if not names[name] then
            out[name] = value
        end
    end
    return out
end

--- Makes a client: requests that share default options. Methods: get, post, put, patch, delete, head
--- (url, options), and request (like leat.request).
---@param options leat.client_options any option of `request` except url, method, the body, stream and
---sink. `cookies` true: the client stores cookies and sends them back, for as long as it lives (see
---below). `base_url`: relative URLs are below it: "chat" with "https://host/v1" (or
---"https://host/v1/") is "https://host/v1/chat"; "/chat" is "https://host/chat", as RFC 3986 says. An
---option of a single request overrides the client's, header by header and timeout by timeout; queries
---are joined
---@return leat.client|nil client
---@return leat.error? err kind "invalid" if base_url or a header cannot be sent
---
--- With a base_url, the client's headers and auth are sent only to its origin. Requests to other origins
--- get neither. Raises for an unknown option or one of a wrong type.
---
--- Cookies follow RFC 6265 and what browsers have added: the prefixes `__Host-` and `__Secure-` hold, and no
--- cookie is for a public suffix such as co.uk. A Secure cookie comes and goes over https only; http to
--- localhost, 127.0.0.1 and [::1] counts as https. SameSite is ignored. A domain has at most 50 cookies and a
--- client 3,000; those whose last use is the longest ago go first. A cookie has at most 4 KB. A request
--- carries at most 150 of them, and 8 KB. A Cookie header of the script's own comes first in the same line;
--- it stays behind when a redirect leaves its origin. A Host header names the site of the cookies.
--- ```lua
--- local api = assert(leat.client { base_url = url, headers = { Accept = "application/json" } })
--- local res = assert(api:post("echo", { json = { name = "leat" } }))
--- assert(res:json().headers.accept == "application/json")
--- assert(api:get("/status", { query = { code = 404 } }).status == 404)
--- ```
function M.client(options)
    check.table("client", "options", options)
    local base = options.base_url
    local self = setmetatable({ _base = base, _options = options }, Client)
    if options.expect then
        self._expects = expectation("client", options.expect)
    end
    local auth, err
    -- All options are checked here, so that a wrong one raises now and not in the first request.
    self._defaults, err = native.prepare(options, type(base) == "string" and base or "http://localhost/")
    if not self._defaults then
        return nil, err
    end
    if base then
        self._origin = url_of.origin(base)
        self._folder = url_of.beneath(base, "x"):sub(1, -2)
    end
    if options.auth then
        auth, err = content.authorization(options.auth)
        if not auth then
            return nil, err
        end
        self._defaults, err = native.prepare(options, base or "http://localhost/", auth)
        if not self._defaults then
            return nil, err
        end
    end
    self._abroad, err = native.prepare(without(options, { headers = true, base_url = true }),
        "http://localhost/")
    if not self._abroad then
        return nil, err
    end
    if options.cookies then
        self._jar, err = native.jar()
        if not self._jar then
            return nil, err
        end
    end
    if options.query then
        url_of.with_query("", options.query) -- raises here and not in the first request
        self._query = without(options.query, {})
    end
    return self
end

local function check_client(self, name)
    if getmetatable(self) ~= Client then
        check.fail(("client:%s: call it with a colon on a client, as in api:%s(...)"):format(name, name))
    end
end

-- Adds one of the methods get, post ...: `method` is fixed, the URL is the first argument.
local function verb(name)
    local method = name:upper()
    Client[name] = function(self, url, options)
        check_client(self, name)
        if type(url) ~= "string" then
            check.fail(("client:%s: the URL must be a string, got %s"):format(name,
                check.picture(url, "url")))
        elseif options ~= nil and type(options) ~= "table" then
            check.fail(("client:%s: options must be a table, got %s (as in api:%s(url, {json={...}}))")
                :format(name, check.picture(options, "auth"), name))
        elseif options and (options.url ~= nil or options.method ~= nil) then
            check.fail(("client:%s: the options must not have a url or a method"):format(name))
        end
        return perform(options, self, method, url)
    end
end

for _, name in ipairs { "get", "post", "put", "patch", "delete", "head" } do
    verb(name)
end

--- Sends a request with this client's defaults: get, post, put, patch, delete or head.
---@param url string relative to base_url, if there is one
---@param options? leat.call_options as for `request`, without url and method
---@return leat.response|nil res
---@return leat.error? err
--- ```lua
--- local api = assert(leat.client { base_url = url, timeout = 5 })
--- assert(api:get("ok").body == "ok\n")
--- assert(api:post("echo", { json = { n = 1 } }):json().method == "POST")
--- ```
-- Client:get is made above.
-- Client:post is made above.
-- Client:put is made above.
-- Client:patch is made above.
-- Client:delete is made above.
-- Client:head is made above.

--- Sends any request with this client's defaults.
---@param target string|leat.request_options as for `request`
---@return leat.response|nil res
---@return leat.error? err
--- ```lua
--- local api = assert(leat.client { base_url = url })
--- assert(api:request { url = "echo", method = "OPTIONS" }:json().method == "OPTIONS")
--- ```
function Client:request(target)
    check_client(self, "request")
    if type(target) == "table" then
        return perform(target, self, nil, target.url)
    end
    return perform(nil, self, nil, target)
end

return M
