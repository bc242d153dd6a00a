-- The prompt. Its root task reads lines and prints. A second task runs the lines one after the other. It
-- lives until a Ctrl-C ends it, so that a line can use what an earlier line has opened. Tasks that the lines
-- spawn belong to the root: they run while the user types, and the failure of such a task is printed once.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local chunk = require "leat.repl.chunk"
local native_repl = require "leat.native.repl"
local errors = require "leat.error"
local inspect = require("leat.inspect").inspect
local leat = require "leat"
local secrets = require "leat.repl.secrets"
local native_task = require "leat.native.task"

local raw_spawn = native_task.spawn

local M = {}

local repl = { number = 1, kept = {}, hidden = {}, failed = false }

-- ---- printing: values go to standard output; errors too, or to standard error if the input is a pipe

local function paint(code, text)
    return repl.colors and "\27[" .. code .. "m" .. text .. "\27[0m" or text
end

local function complain(text)
    repl.failed = true
    local out = repl.mode == "pipe" and io.stderr or io.stdout
    out:write(paint("31", secrets.scrubbed(text)), "\n")
    out:flush()
end

local function say(text)
    io.stdout:write(text, "\n")
    io.stdout:flush()
end

local function text_of(value)
    if errors.is(value) then
        return tostring(value)
    end
    return type(value) == "string" and value or inspect(value)
end

-- The traceback without the REPL's own frames. A chunk is a function inside a function of the REPL.
local function traceback(trace)
    trace = trace:gsub("^in task %d+ %([^\n]*%):\n", ""):gsub("\n?in task %d+ %([^\n]*%):$", "")
    return (trace:gsub("in function '__line'", "in the line"):gsub("^\n", ""))
end

local function show_bug(value, trace)
    local text = "error: " .. text_of(value)
    text = text .. check.hint(text)
    trace = trace and traceback(trace) or ""
    complain(trace:find "%S" and text .. "\n" .. trace or text)
end

local function show_values(values)
    if values.n == 0 then
        return
    elseif values[1] == nil and values[2] ~= nil then
        rawset(_G, "_err", values[2])
        return complain("error: " .. text_of(values[2]))
    end
    for i = 1, values.n do
        say(inspect(values[i], { colors = repl.colors, width = native_repl.width() }))
    end
    rawset(_G, "_", values[1])
    rawset(_G, "_" .. repl.number, values[1])
end

-- ---- the task that runs the lines

local function pack(...)
    return { n = select("#", ...), ... }
end

-- The protected call ends before anything is printed, because a __tostring that fails is a bug of the line
-- too.
local function run(__line, ...)
    local function body(...)
        local values = pack(__line(...))
        show_values(values)
    end
    local ok, value = xpcall(body, native_task.note, ...)
    if ok then
        return
    elseif errors.is(value) then
        rawset(_G, "_err", value)
        if value.kind == "cancelled" and native_repl.cancelled() then
            return -- the root reports it when this task has ended
        end
        return complain("error: " .. text_of(value))
    end
    show_bug(value, native_repl.noted(value))
end

local function line_runner(id, jobs)
    while true do
        local job = jobs:get()
        run(job.fn, unpack(job, 1, job.n))
        if not native_repl.cancelled() then -- otherwise this task ends
            native_repl.post("done", id)
        end
    end
end

local function new_foreground()
    local id = (repl.foreground_id or 0) + 1
    local jobs = leat.queue()
    local t = raw_spawn(line_runner, id, jobs)
    t.name = "the prompt's lines"
    repl.foreground_id, repl.foreground, repl.jobs = id, t, jobs
    repl.hidden[t.id] = true
    local watcher = raw_spawn(function()
        local ok, _, err = pcall(t.await, t)
        native_repl.post("ended", id, ok and errors.is(err) and err.reason or "")
    end)
    repl.hidden[watcher.id] = true
end

-- ---- background tasks

-- Replaces leat's spawn: tasks that the lines start belong to the root.
local function spawn(fn, ...)
    if native_task.current() ~= repl.foreground then
        return raw_spawn(fn, ...)
    end
    check.callable("spawn", "the first argument", fn)
    local t = repl.group:spawn(0, fn, ...)
    repl.idle:clear()
    repl.spawned:set()
    return t
end

local function collect()
    while true do
        local t, _, status, value = await(repl.group:next_start())
        if not t then
            repl.idle:set()
            repl.spawned:clear()
            repl.spawned:wait()
        elseif not native_repl.awaited(t) and status == "raised" then
            complain(("task %d (%s) failed"):format(t.id, t.name))
            show_bug(value, native_task.trace(t))
        elseif not native_repl.awaited(t) and status == "failed" then
            complain(("task %d (%s) failed: %s"):format(t.id, t.name, text_of(value)))
        elseif status == "cancelled" and type(value) == "table" and value.message == "interrupted" then
            complain(("\ntask %d (%s) was interrupted"):format(t.id, t.name))
        end
    end
end

-- ---- reading

local function prompt()
    repl.reading = true
    local text = repl.pending and (" "):rep(#tostring(repl.number)) .. "| " or repl.number .. "> "
    if repl.mode == "edit" then
        return native_repl.prompt(text)
    elseif repl.mode == "plain" then
        io.stdout:write(text)
        io.stdout:flush()
    end
    if not repl.plain_reader then
        repl.plain_reader = true
        local reader = raw_spawn(function()
            local line, err = leat.stdin:read()
            if err then
                complain("error: " .. text_of(err))
            end
            repl.plain_reader = false
            native_repl.post(line and "line" or "eof", 0, line)
        end)
        repl.hidden[reader.id] = true
    end
end

local function start_job(fn, ...)
    if not repl.foreground then
        new_foreground()
    end
    repl.running, repl.interrupted = true, false
    local job = pack(...)
    job.fn = fn
    repl.jobs:put(job)
end

local function finish_job()
    repl.running = false
    repl.number = repl.number + 1
    prompt()
end

local on = {}

function on.line(_, line)
    repl.reading, repl.leaving = false, false
    local text = repl.pending and repl.pending .. "\n" .. line or line
    if not repl.pending and not text:find "%S" then
        return prompt()
    end
    local fn, err, unfinished = chunk.compile(text, "=[" .. repl.number .. "]", repl.kept)
    repl.pending = unfinished and text or nil
    if unfinished then
        return prompt()
    end
    native_repl.remember(text, text ~= repl.last and not secrets.found(text))
    repl.last = text
    local word = text:match "^%s*(%a+)%s*$"
    if (word == "exit" or word == "quit") and rawget(_G, word) == M.commands[word] then
        return on.eof()
    end
    if fn then
        return start_job(fn)
    end
    complain("error: " .. err)
    finish_job()
end

function on.eof()
    repl.reading = false
    if repl.pending then
        if repl.mode ~= "pipe" then
            repl.pending = nil
            say ""
            return prompt()
        end
        complain("error: " .. select(2, loadstring(repl.pending, "=[" .. repl.number .. "]")))
    end
    local running = repl.group:count()
    if running == 0 or repl.leaving or repl.mode == "pipe" then
        if repl.mode ~= "pipe" then
            say ""
        end
        repl.left = true
        return nil
    end
    repl.leaving = true
    say(("\n%d task%s still running (see tasks()). Ctrl-D again cancels and leaves."):format(running,
        running == 1 and " is" or "s are"))
    prompt()
end

function on.dropped()
    repl.reading, repl.pending, repl.leaving = false, nil, false
    prompt()
end

function on.interrupt()
    if repl.reading then
        if repl.mode == "edit" then
            return
        end
        -- The terminal has deleted the line itself
        repl.pending, repl.leaving = nil, false
        say ""
        return prompt()
    elseif not repl.running then
        return
    elseif repl.interrupted then
        say "its clean-up goes on in the background"
        repl.foreground = nil
        return finish_job()
    end
    repl.interrupted = true
    say "" -- after the terminal's ^C
    repl.foreground:cancel("interrupted")
end

function on.done(id)
    if id == repl.foreground_id and repl.running then
        finish_job()
    end
end

function on.ended(id, reason)
    if id ~= repl.foreground_id or not repl.foreground then
        return
    end
    repl.foreground = nil
    if repl.running then
        complain((repl.interrupted and "" or "\n") .. "interrupted"
            .. (reason == "cancel_ignored" and " (it did not stop and was abandoned)" or ""))
        finish_job()
    end
end

function on.complete(number, text)
    local complete = require("leat.repl.complete").complete
    local ok, insert, list = pcall(complete, text, repl.kept, native_repl.width())
    native_repl.answer(number, ok and insert or "", ok and list or "")
end

-- ---- commands

local function shown_tasks()
    local list = leat.tasks()
    for i = #list, 1, -1 do
        local t = list[i]
        if repl.hidden[t.id] and (t.id ~= repl.foreground.id or not repl.running) then
            table.remove(list, i)
        end
    end
    return list
end

local function add_commands()
    local help = require "leat.repl.help"
    M.commands = {
        help = help.help,
        tasks = function()
            local list = shown_tasks()
            for i = #list, 1, -1 do
                if list[i].id == repl.foreground.id then
                    table.remove(list, i) -- the current line
                end
            end
            say(#list > 0 and tostring(list) or "no task is running")
        end,
        cancel = function(id)
            local t = native_task.is_task(id) and id
                or not repl.hidden[id] and native_repl.find(tonumber(id) or 0)
            if not t then
                return nil, errors.new { kind = "invalid", message = "no task has the id " .. tostring(id)
                    .. "; tasks() shows those that run" }
            end
            t:cancel()
        end,
        exit = function(code)
            os.exit(code)
        end,
    }
    M.commands.quit = M.commands.exit
    for name, fn in pairs(M.commands) do
        if rawget(_G, name) == nil then
            rawset(_G, name, fn)
        end
    end
end

-- ---- the start

local function start_first(what, args)
    local first = table.remove(args, 1)
    local fn, err
    if what == "script" then
        local file
        file, err = io.open(first, "rb")
        local text = file and file:read "*a"
        if file then
            file:close()
        end
        if text and text:sub(1, 1) == "\27" then
            err = first .. ": is bytecode; only text scripts are run"
        elseif text then
            fn, err = loadstring((text:gsub("^#[^\n]*", "")), "@" .. first)
        end
    else
        fn, err = loadstring(first, "=(command line)")
    end
    rawset(_G, "arg", args)
    args[0] = what == "script" and first or "(command line)"
    if not fn then
        complain("error: " .. tostring(err or first .. " cannot be read"))
        return prompt()
    end
    repl.number = 0
    start_job(fn, unpack(args))
end

local function loop(what, args)
    if what then
        start_first(what, args)
    else
        prompt()
    end
    while not repl.left do
        local kind, number, text = await(native_repl.next_start())
        local handle = on[kind]
        local ok, err = xpcall(handle or tostring, native_task.note, number, text)
        if not ok then -- mostly not enough memory; the prompt continues
            complain("error: " .. text_of(err))
            if not repl.reading and not repl.running and not repl.left then
                prompt()
            end
        end
    end
end

-- The command line calls this with the arguments and the kind of the first one ("script", "code" or nil).
function M.main(args, what)
    local me = native_task.current()
    me.name = "the prompt"
    repl.hidden[me.id] = true
    repl.mode = assert(native_repl.open())
    repl.colors = repl.mode == "edit" and (os.getenv "NO_COLOR" or "") == ""
    repl.group, repl.spawned, repl.idle = native_task.group(), leat.event(), leat.event()
    native_task.spawn = spawn
    local collector = raw_spawn(collect)
    repl.hidden[collector.id] = true
    rawset(_G, "inspect", rawget(_G, "inspect") or leat.inspect)
    new_foreground()
    add_commands()
    if repl.mode ~= "pipe" then
        say(("leat %s (%s)"):format(leat.version.leat, leat.version.luajit))
        say "help() tells what there is, help(request) about one thing; Ctrl-D leaves."
    end
    local ok, err = xpcall(loop, native_task.note, what, args)
    native_repl.close()
    if not ok then
        error(err, 0)
    end
    if repl.mode == "pipe" then
        repl.idle:wait() -- waits until they end, like the tasks of a script
    else
        repl.group:cancel("the prompt was left")
    end
    if repl.foreground then
        repl.foreground:cancel()
    end
    collector:cancel()
    if repl.mode == "pipe" and repl.failed then
        os.exit(1)
    end
end

return M
