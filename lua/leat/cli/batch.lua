-- The command `leat batch`: sends the rows of a file to an API; a run can be resumed.
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
usage: leat batch IN OUT [options]     send each row of IN to the API and write the answers to OUT

  IN     one row per line: {"prompt": "..."}, {"messages": [...]}, plain text, or the format of
         OpenAI's batch API {"custom_id", "method", "url", "body"}; - is standard input
  OUT    the answers, in the output format of OpenAI's batch API; - is standard output. The same
         command continues a run that was interrupted (not with - as OUT)

  --model M           model for rows that do not name one (default OPENAI_MODEL)
  --system TEXT       put this system message before each prompt
  --prompt-field F    field of a row that has the prompt; default prompt
  --key F             field that identifies a row; default custom_id, or else row-LINE
  --concurrency N     how many requests run at once; default auto: as many as the server can serve
  --rpm N --tpm N     limits of requests and tokens per minute; rows wait for them, and do not fail
  --timeout S         seconds for each attempt, default 120
  --retries N         attempts after the first, default 4; up to ten times as many if the server
                      only limits the rate (status 429)
  --patience S        how many seconds the run waits for a server that has answered before and
                      cannot be reached now (connection refused, no address, connect time-out);
                      default 300. Such attempts do not count for --retries, nor do up to ten
                      lost connections per row. After that time the run fails; OUT keeps its
                      answers
  --limit N           send only the first N rows
  --price IN,OUT      prices of a million input and output tokens, such as 0.15,0.60; the summary
                      then shows the cost
  --ordered           write the answers in the order of the rows
  --errors FILE       file for rows that failed; default OUT.errors
  --base-url URL      default OPENAI_BASE_URL, or https://api.openai.com/v1; the key is read from
                      OPENAI_API_KEY
  --dry-run           show what would be sent, and send nothing
  -q                  show no progress and no summary
  -h, --help          show this text

The next run tries failed rows again. Exit status: 0 all rows were answered, 4 some failed,
1 the run failed, 2 wrong usage, 130 interrupted.

example: leat batch questions.jsonl answers.jsonl --model gpt-4o-mini --rpm 500
]]

-- Seconds to wait for a server that has answered before and cannot be reached now.
local PATIENCE = 300
-- Seconds for an attempt, and for its connection alone.
local TIMEOUT, CONNECT = 120, 10

local SAME_FILE = "IN, OUT and the file of errors must be different files"

-- Parses a text such as "0.15,0.60". Returns nil for any other text.
local function price_of(words)
    local input, output = words:match "^%s*([%d.]+)%s*,%s*([%d.]+)%s*$"
    input, output = tonumber(input), tonumber(output)
    return input and output and { prompt = input, completion = output }
end

-- Returns the time limits inside an attempt of `seconds`. The limit for the connection is shorter than the
-- whole, so that a connect time-out shows that nothing was sent.
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

-- Counts the rows of the file, for the progress line. Returns nil for a pipe, which can be read only once.
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

local USUAL = "/v1/"

-- Returns the path of the base URL, with a slash at its end; "/v1/" if it has none.
local function folder_of(base)
    local path = base:gsub("[?#].*$", ""):gsub("/+$", ""):match "^%a[%w+.-]*://[^/]*(/.*)$"
    return path and path .. "/" or USUAL
end

-- Returns the path of a request relative to the base URL, whose own path is `folder`.
local function below(folder, url)
    if url:sub(1, #folder) == folder then
        return url:sub(#folder + 1)
    elseif url:sub(1, #USUAL) == USUAL then
        return url:sub(#USUAL + 1)
    end
    return url:sub(2)
end

-- Returns the same rows. When the run stops, the wait for the next row ends.
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
    local folder = folder_of(ai.base_url)
    local pipe = pipeline.pipeline {
        concurrency = concurrency, timeout = opts.timeout,
        retry = { attempts = math.huge, when = function(res, err, again)
            return out:try_again(res, err, again)
        end, budget = false }, -- one row's failures must not fail others; out:try_again does the rest
        rate = (opts.rpm or opts.tpm) and { rpm = opts.rpm, tpm = opts.tpm } or nil,
        progress = not opts.quiet and progress_of(out, total) or nil,
        journal = out, price = opts.price,
    }
    return pipe:each(function()
        out.service:hold(out)
        return not out.broken and next_row() or nil
    end, function(row)
        return out:send(row, openai.post, ai, below(folder, row.url), row.body,
            { headers = { ["Idempotency-Key"] = row.id } })
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
    say(out.path == "-" and "interrupted" or "interrupted: run the same command again to continue")
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

-- Tells about a run that ends before all rows were sent.
local function say_stopped(out)
    local parts = { plural(out.answered, "row") .. " answered" }
    if out.failed > 0 then
        parts[2] = ("%d failed (%s)"):format(out.failed, out.why_failed:text())
    end
    if out.bad > 0 then
        parts[#parts + 1] = ("%d bad"):format(out.bad)
    end
    say(("stopped: %s%s"):format(table.concat(parts, ", "),
        out.path ~= "-" and "; run the same command again to continue" or ""))
end

-- Returns true if two of the paths lead to the same file, also through links. nil is not a file.
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
    -- IN is opened first, so that a wrong IN does not create OUT.
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
        if not file.identity(input) then -- a pipe, where the next row may take long
            next_row = until_stopped(out, next_row)
        end
        stats, err = run_rows(ai, out, next_row, opts,
            not opts.quiet and count_lines(input, opts.limit) or nil)
        over = true
        return stats, err
    end, function()
        local ok, why = out:close()
        if out.broken then
            ok = true -- the error of the run already says this, or an earlier cause
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

-- The program calls this.
function M.main(args)
    local opts, rest = flags.parse(args, FLAGS)
    if not opts then
        usage_error(rest)
    elseif opts.help then
        io.stdout:write(M.USAGE)
        return true
    elseif #rest ~= 2 then
        usage_error(#rest < 2 and "requires IN and OUT" or ("unexpected argument '%s'"):format(
            check.hidden(rest[3])))
    end
    return run(rest[1], rest[2], opts)
end

return M
