-- `leat mock`: an OpenAI-compatible server for tests and first steps. Options make it slow, limit its rate,
-- make it fail or break streams. The same seed gives the same behaviour.
local answer = require "leat.mock.answer"
local check = require "leat.internal.check"
local chat = require "leat.mock.chat"
local draw = require "leat.mock.random"
local errors = require "leat.error"
local json = require "leat.json"
local limits = require "leat.mock.rate_limits"
local serve = require "leat.serve"
local tasks = require "leat.task"

local failure = chat.failure

local M = {}

local function clear(self)
    self.requests, self.by_status = 0, json.object {}
    self.peak, self.cancelled, self.streams, self.bytes, self.broken_off = self.in_flight, 0, 0, 0, 0
    self.charged = 0
end

-- Applies the rate limits to `asked`. Returns the headers of the answer, and the refusal if a limit refuses
-- it.
local function admit(self, asked)
    local headers, refused = limits.admit(self.limits, asked.model, asked.cost)
    if not refused then
        self.charged = self.charged + asked.cost
    end
    return headers, refused
end

local function completions(self, req)
    local body = json.decode(req.body)
    local wrong = chat.check(body)
    if wrong then
        return wrong
    end
    local asked = chat.read(body)
    local headers, refused = admit(self, asked)
    if refused then
        return refused
    end
    -- Both numbers are drawn for every request, so that one option does not change what the others draw.
    local fails, breaks = self.random() < self.errors, self.random() < self.broken
    local seconds = self.latency()
    if seconds > 0 then
        tasks.sleep(seconds)
    end
    if fails then
        return failure(500, "The server had an error while processing your request. Sorry about that!",
            "server_error", nil, nil, headers)
    end
    local streamed = body.stream == true
    if breaks then
        self.broken_off = self.broken_off + 1
        if not streamed then
            return req:abort()
        end
    end
    local a = chat.answer(self, asked, streamed)
    if streamed then
        local options = body.stream_options
        local with_usage = type(options) == "table" and options.include_usage == true
        return answer.stream(self, req, a, headers, with_usage, breaks)
    end
    return answer.whole(self, req, a, headers)
end

local function models()
    local list = {}
    for i, id in ipairs { "gpt-4o", "gpt-4o-mini", "mock" } do
        list[i] = { id = id, object = "model", created = 1715367049, owned_by = "leat" }
    end
    return { json = { object = "list", data = list } }
end

local function embeddings(self, req)
    local asked, wrong = chat.read_embeddings(json.decode(req.body))
    if not asked then
        return wrong
    end
    local headers, refused = admit(self, asked)
    return refused or chat.embeddings(asked, headers)
end

local function stats(self)
    return {
        json = {
            requests = self.requests,
            by_status = self.by_status,
            in_flight = self.in_flight,
            peak_in_flight = self.peak,
            cancelled = self.cancelled,
            broken = self.broken_off,
            streams = self.streams,
            bytes = self.bytes,
            tokens_charged = self.charged,
            connections = self.server:stats().connections,
        },
    }
end

local ROUTES = {
    ["/v1/chat/completions"] = { POST = completions },
    ["/v1/embeddings"] = { POST = embeddings },
    ["/v1/models"] = { GET = models },
    ["/mock/stats"] = { GET = stats },
    ["/mock/reset"] = {
        POST = function(self)
            clear(self)
            return { json = { ok = true } }
        end,
    },
}

local function route(self, req)
    local path, method = req.path, req.method
    local methods = ROUTES[path]
    if self.key and path:sub(1, 4) == "/v1/" and req.headers.authorization ~= "Bearer " .. self.key then
        return failure(401, "Incorrect API key provided.", nil, nil, "invalid_api_key")
    elseif not methods then
        return failure(404, ("Unknown request URL: %s %s. Please check the URL for typos.")
            :format(method, path), nil, nil, "unknown_url")
    elseif not methods[method] then
        return failure(405, ("Not allowed to %s on %s."):format(method, path), nil, nil,
            "method_not_supported", { Allow = (next(methods)) })
    end
    return methods[method](self, req)
end

local function leave(self, ok, res, err)
    self.in_flight = self.in_flight - 1
    if not ok then
        if errors.is(res) and res.kind == "cancelled" then
            self.cancelled = self.cancelled + 1
        end
        error(res, 0)
    end
    if type(res) == "table" then
        answer.count(self, res.status or 200)
    elseif res == nil and errors.is(err) and err.kind == "closed" then
        self.cancelled = self.cancelled + 1
    end
    return res, err
end

local function handle(self, req)
    if req.path:sub(1, 6) == "/mock/" then
        return route(self, req)
    end
    self.requests = self.requests + 1
    self.in_flight = self.in_flight + 1
    self.peak = math.max(self.peak, self.in_flight)
    return leave(self, pcall(route, self, req))
end

local START = {
    host = "string", port = "number", latency = true, rpm = "number", burst = "number", tpm = "number",
    token_burst = "number", errors = "number", broken = "number", seed = "number", tokens = "number",
    token_delay = "number", key = "string", simulate = "string",
}

local function share(name, value)
    if value ~= nil and not (value >= 0 and value <= 1) then
        check.fail(("mock: %s must be a share from 0 to 1, got %s"):format(name, check.picture(value, name)))
    end
    return value or 0
end

--- Starts an OpenAI-compatible server. It has the paths /v1/chat/completions, /v1/embeddings, /v1/models,
--- /mock/stats and /mock/reset.
---@param opts? leat.mock_options port (0: a free one), host ("127.0.0.1"), latency (seconds: 1.5,
---"0.5-2", or "tail:1.5", a lognormal distribution with that median), rpm (requests per minute; more get
---a 429) and burst (how many may come at once; default: those of one second), tpm and token_burst (the
---same for tokens; a request costs the tokens of its prompt, about one per four bytes, plus max_tokens),
---errors (the share of requests that get a 500), broken (the share of answers whose connection breaks,
---for streams in the middle), tokens (length of each answer), token_delay (seconds between the tokens of
---a stream), key (required as bearer token), seed, simulate (a URL such as "https://api.openai.com": the
---mock does not listen, but answers the requests to that URL, see leat.simulate)
---@return leat.server|nil server as from leat.serve
---@return leat.error? err
---
--- The answer to a prompt is "Answer to: " and the prompt. A request that needs more tokens than
--- token_burst passes when no tokens are owed. One that needs more than tpm never passes. Raises for
--- wrong options.
--- ```lua
--- local mock = assert(require("leat.mock").start { latency = 0.01 })
--- local res = assert(request {
---     url = mock.url .. "/v1/chat/completions", method = "POST",
---     json = { model = "mock", messages = { { role = "user", content = "hello" } } },
--- })
--- assert(res:json().choices[1].message.content == "Answer to: hello")
--- mock:close()
--- ```
function M.start(opts)
    opts = check.options("mock", opts, START)
    local random = draw.generator(math.floor(opts.seed or 1))
    local latency = draw.latency(opts.latency or 0, random)
    if not latency then
        check.fail("mock: latency must be seconds (1.5), a range (\"0.5-2\") or a long tail (\"tail:1.5\"), "
            .. "got " .. check.picture(opts.latency, "latency"))
    end
    local self = {
        random = random,
        latency = latency,
        limits = limits.new(opts),
        errors = share("errors", opts.errors),
        broken = share("broken", opts.broken),
        tokens = opts.tokens and check.count("mock", "tokens", opts.tokens, 1),
        token_delay = opts.token_delay or 0,
        key = opts.key,
        in_flight = 0,
        answers = 0,
    }
    clear(self)
    local function handler(req)
        return handle(self, req)
    end
    local server, err
    if opts.simulate then
        server, err = serve.simulate(opts.simulate, { name = "mock", handler = handler })
    else
        server, err = serve.serve { port = opts.port, host = opts.host, name = "mock", handler = handler }
    end
    self.server = server
    return server, err
end

--- The command `leat mock`: serves until it is interrupted. Ends the process with status 2 for wrong
--- arguments.
---@param args table list of strings
function M.main(args)
    local cli = require "leat.mock.cli"
    local opts, wrong = cli.parse(args)
    if not opts then
        io.stderr:write("leat mock: ", wrong, " (see leat mock --help)\n")
        os.exit(2)
    elseif opts.help then
        io.stdout:write(cli.USAGE)
        return true
    end
    local server, err = M.start(opts)
    if not server then
        return nil, err
    end
    io.stdout:write("leat mock: listening on ", server.url, "\n")
    io.stdout:flush()
    return true
end

return M
