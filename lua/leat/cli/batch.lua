-- The command `leat batch`: a file of rows through the API into a file of answers, resumable. Internal.
local batch_out = require "leat.cli.batch_output"
local batch_rows = require "leat.cli.batch_rows"
local check = require "leat.internal.check"
local errors = require "leat.error"
local file = require "leat.internal.file"
local flags = require "leat.cli.flags"
local json = require "leat.json"
local openai = require "leat.openai"
local pipeline = require "leat.pipeline"
local policy = require "leat.policy.common"
local sync = require "leat.sync"
local task = require "leat.task"

local M = {}

M.USAGE = [[
usage: leat batch IN OUT [options]     rows in, answers out; the same command again goes on

  IN     a row a line: {"prompt": "..."}, {"messages": [...]}, plain text, or lines of OpenAI's
         batch API {"custom_id", "method", "url", "body"}; - is standard input
  OUT    lines of OpenAI's batch output, one for each row answered; - is standard output,
         which cannot be resumed

  --model M           for rows without one (OPENAI_MODEL)
  --system TEXT       a system message before each prompt
  --prompt-field F    where the prompt stands; default prompt
  --key F             the field that names a row; default custom_id, or else row-LINE
  --concurrency N     at once; default auto: as many as the server bears
  --rpm N --tpm N     requests and tokens per minute; the run waits, it does not fail
  --timeout S         for each attempt, default 120
  --retries N         attempts after the first, default 4; up to ten times as many where a
                      limit of the rate is all that is in the way (status 429)
  --patience S        how long the run waits for a server that has answered before and cannot be
                      reached now (connection refused, no address, connect time-out); default
                      300. Such attempts do not count for --retries, nor do up to ten lost
                      connections of a row. After that time the run fails; OUT keeps its answers
  --limit N           the first N rows only
  --price IN,OUT      of a million tokens, for the cost in the summary, such as 0.15,0.60
  --ordered           answers in the order of the rows
  --errors FILE       rows that failed; default OUT.errors
  --base-url URL      OPENAI_BASE_URL, or https://api.openai.com/v1; the key: OPENAI_API_KEY
  --dry-run           says what would be done, and sends nothing
  -q                  no progress
  -h, --help          this text

Rows that failed are tried again by the next run. Exit status: 0 all answered, 4 some failed,
1 the run failed, 2 wrong usage, 130 interrupted.

example: leat batch questions.jsonl answers.jsonl --model gpt-4o-mini --rpm 500
]]

-- Seconds to wait for a service that was there and is not.
local PATIENCE = 300
-- Seconds for an attempt, and of these for its connection.
local TIMEOUT, CONNECT = 120, 10

local SAME_FILE = "IN, OUT and the file of errors must be different files"

-- "0.15,0.60"; nil: it is no such text.
local function price_of(words)
    local input, output = words:match "^%s*([%d.]+)%s*,%s*([%d.]+)%s*$"
    input, output = tonumber(input), tonumber(output)
    return input and output and { prompt = input, completion = output }
end

-- The limits within an attempt of so many seconds. That for the connection is below the whole, so that it is
-- known that nothing was sent.
local function timeouts_of(seconds)
    return { connect = math.min(CONNECT, 0.9 * seconds), first_byte = seconds, idle = seconds }
end

local function number(name, least, whole)
    return { name = name, kind = "number", least = least, whole = whole }
end

local function text(name)
    return { name = name, kind = "text" }
end

local function switch(name)
    return { name = name, kind = "switch" }
end

local FLAGS = {
    ["--model"] = text "model", ["--system"] = text "system",
    ["--prompt-field"] = text "prompt_field", ["--price"] = text "price", ["--key"] = text "key",
    ["--errors"] = text "errors", ["--base-url"] = text "base_url",
    ["--concurrency"] = { name = "concurrency", kind = "number", least = 1, most = 100000, whole = true,
        word = "auto", says = "whole number from 1, or auto" },
    ["--rpm"] = number("rpm", 1), ["--tpm"] = number("tpm", 1), ["--timeout"] = number("timeout", 0.001),
    ["--retries"] = number("retries", 0, true), ["--patience"] = number("patience", 0),
    ["--limit"] = number("limit", 1, true),
    ["--ordered"] = switch "ordered", ["--dry-run"] = switch "dry_run", ["-q"] = switch "quiet",
    ["-h"] = switch "help", ["--help"] = switch "help",
}

local function say(message)
    io.stderr:write("leat: ", message, "\n")
end

local function usage_error(message)
    io.stderr:write("leat: batch: ", message, " (see leat batch --help)\n")
    os.exit(2)
end

-- The rows of the file, for the progress line; nil where that cannot be known: what is read from a pipe is
-- gone.
local function count_lines(path, limit)
    local f = path ~= "-" and file.identity(path) and file.open(path, "r")
    if not f then
        return nil
    end
    local n, last = 0, "\n"
    while true do
        local piece = f:read(262144)
        if not piece or piece == "" then
            break
        end
        local _, ends = piece:gsub("\n", "")
        n, last = n + ends, piece:sub(-1)
    end
    f:close()
    n = n + (last ~= "\n" and 1 or 0)
    return limit and math.min(n, limit) or n
end

-- The path of a request below the base address.
local function below(base, url)
    local prefix = (base:gsub("[?#].*$", ""):gsub("/+$", ""):match "^%a[%w+.-]*://[^/]*(/.*)$") or ""
    if prefix ~= "" and url:sub(1, #prefix + 1) == prefix .. "/" then
        return url:sub(#prefix + 2)
    end
    return url:match "^/v1/(.*)$" or url:sub(2)
end

-- The same rows; where the run is stopped, the wait for the next one ends.
local function until_stopped(out, next_row)
    return function()
        local row, done
        local reading = task.spawn(policy.run, function()
            done = true
            out.moved:set()
        end, function()
            row = next_row()
        end)
        while not done and not out.broken do
            out.moved:clear()
            out.moved:wait()
        end
        if done then
            local _, err = reading:await()
            if err ~= nil then
                error(err, 0)
            end
            return row
        end
        reading:cancel()
    end
end

local function progress_of(out, total)
    local service = out.service
    return {
        total = total, others = function() return out.bad end,
        waiting = function() return service:text() end,
        attach = function(progress) service.progress = progress end,
    }
end

local function run_rows(ai, out, next_row, opts, total)
    local concurrency = opts.concurrency
    if concurrency == nil or concurrency == "auto" then
        concurrency = "adaptive"
    end
    local pipe = pipeline.pipeline {
        concurrency = concurrency, timeout = opts.timeout,
        retry = { attempts = math.huge, when = function(res, err, again)
            return out:try_again(res, err, again)
        end, budget = false }, -- the rows are not to fail for each other; out sees to the rest
        rate = (opts.rpm or opts.tpm) and { rpm = opts.rpm, tpm = opts.tpm } or nil,
        progress = not opts.quiet and progress_of(out, total) or nil,
        journal = out, price = opts.price,
    }
    return pipe:each(function()
        out.service:hold(out)
        return not out.broken and next_row() or nil
    end, function(row)
        return out:send(row, function()
            return openai.post(ai, below(ai.base_url, row.url), row.body,
                { headers = { ["Idempotency-Key"] = row.id } })
        end)
    end)
end

local function plural(n, word)
    return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

local function dry_run(out, next_row, ai)
    local rows, first = 0, nil
    for row in next_row do
        if not out:known(row) then
            rows = rows + 1
            first = first or row
        elseif out.broken then
            return nil, out.broken
        end
    end
    say(("%s to send to %s, %d done before, %d bad"):format(plural(rows, "row"), ai.base_url, out.before,
        out.bad))
    if first then
        io.stdout:write(('{"body":%s,"custom_id":%s,"method":"POST","url":%s}\n'):format(first.body,
            json.encode(first.custom_id), json.encode(first.url)))
    end
    return true
end

local function say_interrupted(out)
    say(out.path == "-" and "interrupted" or "interrupted: run the same command again to go on")
end

-- 1234567 -> "1,234,567"
local function grouped(n)
    local digits = ("%.0f"):format(n)
    while digits:find "^%d%d%d%d" do
        digits = digits:gsub("^(%d+)(%d%d%d)", "%1,%2")
    end
    return digits
end

local function say_tokens(stats)
    if stats.tokens > 0 then
        io.stderr:write(("tokens: %s (prompts %s, answers %s)%s\n"):format(grouped(stats.tokens),
            grouped(stats.prompt_tokens), grouped(stats.completion_tokens),
            stats.cost and ("; cost: %.6g"):format(stats.cost) or ""))
    end
end

local function conclude(out, stats, opts)
    local failed = stats.failed + stats.skipped
    local parts = { plural(stats.ok, "row") .. " answered" }
    if stats.resumed > 0 then
        parts[#parts + 1] = ("%d done before"):format(stats.resumed)
    end
    if failed > 0 then
        parts[#parts + 1] = ("%d failed"):format(failed)
    end
    if out.bad > 0 then
        parts[#parts + 1] = ("%d bad"):format(out.bad)
    end
    if (failed > 0 or out.bad > 0) and out.errors_path then
        parts[#parts + 1] = "see " .. out.errors_path
    end
    if not opts.quiet then
        say(table.concat(parts, ", "))
        say_tokens(stats)
        if stats.calls > 0 then
            io.stderr:write((tostring(stats):gsub("^[^\n]*\n", "")), "\n")
        end
    end
    if stats.interrupted then
        say_interrupted(out)
    elseif failed > 0 or out.bad > 0 then
        os.exit(4)
    end
    return true
end

-- Where the run ends before its rows do.
local function say_stopped(out)
    local parts = { plural(out.answered, "row") .. " answered" }
    if out.failed > 0 then
        parts[2] = ("%d failed (%s)"):format(out.failed, out.why_failed:text())
    end
    if out.bad > 0 then
        parts[#parts + 1] = ("%d bad"):format(out.bad)
    end
    say(("stopped: %s%s"):format(table.concat(parts, ", "),
        out.path ~= "-" and "; the same command goes on" or ""))
end

-- Whether two of the files are one, by whatever names and links. A nil is none.
local function any_same(...)
    local seen = {}
    for i = 1, 3 do
        local path = select(i, ...)
        local identity = path and (file.identity(path) or path)
        if identity and seen[identity] then
            return true
        end
        seen[identity or i] = true
    end
    return false
end

local function run(input, output, opts)
    opts.prompt_field = opts.prompt_field or "prompt"
    opts.model = opts.model or os.getenv "OPENAI_MODEL"
    local price = opts.price and price_of(opts.price)
    if opts.price and not price then
        usage_error(("--price takes two prices, such as 0.15,0.60, got '%s'"):format(
            check.hidden(opts.price)))
    end
    opts.price = price
    local errors_path = opts.errors or output ~= "-" and output .. ".errors" or nil
    if any_same(input == "-" and "/dev/stdin" or input, output == "-" and "/dev/stdout" or output,
        errors_path) then
        usage_error(SAME_FILE)
    end
    opts.timeout = opts.timeout or TIMEOUT
    local ai, err = openai.openai { base_url = opts.base_url, timeout = timeouts_of(opts.timeout) }
    if not ai then
        return nil, err
    end
    local out
    -- The rows first: a wrong IN must leave no OUT behind.
    local next_row
    next_row, err = batch_rows.read(input, opts, function(line, message, custom_id)
        out:bad_row(line, message, custom_id)
    end)
    if not next_row then
        return nil, err
    end
    local window = type(opts.concurrency) == "number" and 10 * opts.concurrency or 1000
    out, err = batch_out.open(output, errors_path, { ordered = opts.ordered, window = window,
        dry_run = opts.dry_run, url = ai.base_url, retries = opts.retries or 4,
        patience = opts.patience or PATIENCE })
    if not out then
        if err.reason == "same_file" then
            usage_error(SAME_FILE)
        end
        return nil, err
    elseif opts.dry_run then
        return dry_run(out, next_row, ai)
    end
    local stats, over
    stats, err = task.finally(function()
        if not file.identity(input) then -- a pipe, from which nothing may come for long
            next_row = until_stopped(out, next_row)
        end
        stats, err = run_rows(ai, out, next_row, opts,
            not opts.quiet and count_lines(input, opts.limit) or nil)
        over = true
        return stats, err
    end, function()
        local ok, why = out:close()
        if out.broken then
            ok = true -- why the run has ended says that already, or something that came before
        end
        if not over and sync.stopping:is_set() then
            say_interrupted(out)
        end
        return ok, why
    end, 60)
    if not stats then
        if errors.is(err) and err.reason ~= "changed" then
            say_stopped(out)
        end
        return nil, err
    end
    return conclude(out, stats, opts)
end

-- Internal: what the program calls.
function M.main(args)
    local opts, rest = flags.parse(args, FLAGS)
    if not opts then
        usage_error(rest)
    elseif opts.help then
        io.stdout:write(M.USAGE)
        return true
    elseif #rest ~= 2 then
        usage_error(#rest < 2 and "takes IN and OUT" or ("unexpected argument '%s'"):format(
            check.hidden(rest[3])))
    end
    return run(rest[1], rest[2], opts)
end

return M
