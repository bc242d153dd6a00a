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

local FLAGS = {
    ["--port"] = "port", ["--host"] = "host", ["--latency"] = "latency", ["--rpm"] = "rpm",
    ["--burst"] = "burst", ["--tpm"] = "tpm", ["--token-burst"] = "token_burst", ["--errors"] = "errors",
    ["--broken"] = "broken", ["--seed"] = "seed", ["--tokens"] = "tokens",
    ["--token-delay"] = "token_delay", ["--key"] = "key",
}
local WHOLE = { port = true, burst = true, token_burst = true, seed = true, tokens = true }
local POSITIVE = { rpm = true, burst = true, tpm = true, token_burst = true, tokens = true }

-- Returns the options that the arguments set; or nil and a message about a wrong argument.
function M.parse(args, types)
    local opts = { port = 8080 }
    local i = 1
    while args[i] do
        local flag, value = args[i], nil
        if flag:find "^%-%-[^=]+=" then
            flag, value = flag:match "^(%-%-[^=]+)=(.*)$"
        end
        local name = FLAGS[flag]
        if not name then
            local near = check.suggest(flag, FLAGS)
            return nil, ("unknown option '%s'%s"):format(check.hidden(flag),
                near and " (did you mean '" .. near .. "'?)" or "")
        end
        if not value then
            i = i + 1
            value = args[i]
            local forgotten = types[name] ~= "number" and flags.no_value(flag, value)
            if forgotten then
                return nil, forgotten
            end
        end
        if value == nil then
            return nil, flag .. " needs a value"
        elseif types[name] == "number" then
            local n = tonumber(value)
            if not n or n < 0 or n ~= n or WHOLE[name] and n % 1 ~= 0 or name == "port" and n > 65535 then
                return nil, ("%s takes a number%s, got '%s'"):format(flag,
                    name == "port" and " from 0 to 65535" or "", check.hidden(value))
            elseif (name == "errors" or name == "broken") and n > 1 then
                return nil, ("%s takes a share from 0 to 1, got '%s'"):format(flag, value)
            elseif POSITIVE[name] and n == 0 then
                return nil, ("%s takes a number above 0"):format(flag)
            end
            value = n
        elseif name == "latency" and not draw.latency(value, draw.generator(1)) then
            return nil, ("--latency takes seconds (1.5), a range (0.5-2) or a long tail (tail:1.5), got '%s'")
                :format(check.hidden(value))
        end
        opts[name] = value
        i = i + 1
    end
    return opts
end

return M
