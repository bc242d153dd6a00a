-- The command line of `leat mock`.
local check = require "leat.internal.check"
local draw = require "leat.mock.random"
local flags = require "leat.cli.flags"

local M = {}

M.USAGE = [[
usage: leat mock [options]     run an OpenAI-compatible server, by default on loopback

  --port N          port; default 8080; 0 takes a free one, which is printed
  --host ADDRESS    address; default 127.0.0.1
  --latency L       seconds until the answer, or until the first token of a stream: 1.5, a
                    range 0.5-2, or tail:1.5 (lognormal, with this median); default 0
  --token-delay S   seconds between the tokens of a stream
  --tokens N        number of tokens in each answer
  --rpm N           requests per minute; more are answered with 429 and Retry-After
  --burst N         how many requests may come at once under --rpm; default: the number
                    for one second
  --tpm N           tokens per minute; a request costs the tokens of its prompt (about one
                    for four bytes) plus its max_tokens
  --token-burst N   how many tokens may come at once under --tpm; default: the number for
                    one second. A larger request passes when no tokens are owed. A request
                    larger than --tpm never passes
  --errors SHARE    share of requests that are answered with 500, such as 0.05
  --broken SHARE    share of answers whose connection breaks, for streams in the middle
  --key KEY         accept only requests with this bearer token
  --seed N          the same seed gives the same latencies and faults
  -h, --help        show this text

It answers POST /v1/chat/completions (whole and streamed), POST /v1/embeddings and GET
/v1/models. GET /mock/stats shows counters: requests by status, the most in flight at
once, tokens charged. POST /mock/reset sets the counters to zero.

example: leat mock --port 8080 --latency 0.5-2 --rpm 600 --errors 0.05
]]

local function number(name, says, row)
    row.name, row.kind, row.says = name, "number", says
    return row
end

local function share(name)
    return number(name, "share from 0 to 1", { most = 1 })
end

local function limit(name)
    return number(name, nil, { above = 0 })
end

local function count(name)
    return number(name, "number from 1 on, without a fraction", { least = 1, whole = true })
end

local function text(name)
    return { name = name, kind = "text" }
end

local HELP = { name = "help", kind = "switch" }

local FLAGS = {
    ["--port"] = number("port", "number from 0 to 65535", { most = 65535, whole = true }),
    ["--host"] = text "host", ["--latency"] = text "latency", ["--key"] = text "key",
    ["--token-delay"] = number("token_delay", nil, {}), ["--tokens"] = count "tokens",
    ["--rpm"] = limit "rpm", ["--burst"] = count "burst",
    ["--tpm"] = limit "tpm", ["--token-burst"] = count "token_burst",
    ["--errors"] = share "errors", ["--broken"] = share "broken",
    ["--seed"] = number("seed", nil, { whole = true }),
    ["-h"] = HELP, ["--help"] = HELP,
}

-- Returns the options that the arguments set; or nil and a message about a wrong argument.
function M.parse(args)
    local opts, rest = flags.parse(args, FLAGS)
    if not opts then
        return nil, rest
    elseif opts.help then
        return { help = true }
    elseif rest[1] then
        return nil, ("unknown option '%s'"):format(check.hidden(rest[1]))
    elseif opts.latency and not draw.latency(opts.latency, draw.generator(1)) then
        return nil, ("--latency takes seconds (1.5), a range (0.5-2) or a long tail (tail:1.5), got '%s'")
            :format(check.hidden(opts.latency))
    end
    opts.port = opts.port or 8080
    return opts
end

return M
