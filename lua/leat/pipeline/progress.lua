-- Shows the progress of a pipeline: a live line on a terminal, otherwise a line from time to time. It is
-- written to stderr, or to the log of the host if the host has one.
local check = require "leat.internal.check"
local native = require "leat.native.util"
local policy = require "leat.policy.common"
local tally = require "leat.pipeline.stats"
local task = require "leat.task"

local seconds = tally.seconds

local M = {}
local Progress = {}
Progress.__index = Progress

local WIDTH = 79
local INFO = 1 -- of the log's levels
local LIVE, PLAIN = 0.1, 5 -- seconds between two lines

local ROWS = {
    sink = "function", terminal = "boolean", color = "boolean", interval = "number", total = "number",
    others = "function", waiting = "function", attach = "function",
}

-- Makes a table of ROWS from the option `progress`: such a table, true, or a function that receives the text.
function M.options(given)
    if given == true then
        return {}
    elseif type(given) ~= "table" then
        check.callable("pipeline", "option 'progress', unless a boolean or a table,", given)
        return { sink = given }
    end
    check.options("pipeline: progress", given, ROWS)
    policy.positive("pipeline: progress", given, "interval")
    policy.number("pipeline: progress", given, "total")
    return given
end

local function log_text(text)
    native.log(INFO, (text:gsub("\n$", "")))
end

-- given: the option `progress`, as M.options takes it. `counts` are the stats of the run; `total` is the
-- number of items, or nil if it is not known. others() returns how many of these are not items of the
-- pipeline. waiting() returns a text about what the run waits for, or nil. attach(progress) is called once,
-- so that others can call poke.
function M.new(given, counts, total)
    given = M.options(given)
    local terminal = given.terminal
    local to_log = not given.sink and native.log_is_hosts()
    if to_log then
        terminal = false
    elseif terminal == nil then
        terminal = not given.sink and native.isatty(2) and os.getenv "TERM" ~= "dumb"
    end
    local color = given.color
    if color == nil then
        color = terminal and (os.getenv "NO_COLOR" or "") == ""
    end
    local self = setmetatable({
        on_stderr = terminal and not given.sink,
        sink = given.sink or to_log and log_text or function(text)
            io.stderr:write(text)
            io.stderr:flush()
        end,
        terminal = terminal, color = color, interval = given.interval or terminal and LIVE or PLAIN,
        counts = counts, total = total or given.total, others = given.others, waiting = given.waiting,
        began = task.now(), last = terminal and -math.huge or task.now(),
    }, Progress)
    if given.attach then
        given.attach(self)
    end
    return self
end

local function line_of(self)
    local c = self.counts
    local called, elapsed = c.ok + c.failed + c.skipped, task.now() - self.began
    local done = called + c.resumed + (self.others and self.others() or 0)
    if self.whole then
        self.total = done
    end
    local rate = elapsed > 0 and called / elapsed or 0
    local p50, p95 = c:quantiles(0.5, 0.95)
    local parts = {
        self.total and ("%d/%d"):format(done, self.total) or ("%d done"):format(done),
        tally.figure(rate) .. "/s",
        ("%d in flight"):format(c.call),
    }
    if p50 then
        parts[#parts + 1] = ("p50 %s p95 %s"):format(seconds(p50), seconds(p95))
    end
    if c.retried > 0 then
        parts[#parts + 1] = c.retried == 1 and "1 retry" or ("%d retries"):format(c.retried)
    end
    if c.failed > 0 then
        local why = self.ended and not self.terminal and ": " .. c.why_failed:text() or ""
        parts[#parts + 1] = ("%d failed%s"):format(c.failed, why)
    end
    local left = self.total and self.total - done
    local waiting = self.waiting and not self.ended and self.waiting()
    if waiting then
        parts[#parts + 1] = waiting
    elseif self.ended or left == 0 then -- also if it ends before the last item
        parts[#parts + 1] = "in " .. seconds(elapsed)
    elseif left and left > 0 and rate > 0 then
        parts[#parts + 1] = "ETA " .. seconds(left / rate)
    end
    local line = table.concat(parts, "  ")
    if self.terminal and #line > WIDTH then
        line = line:sub(1, WIDTH)
    end
    if self.color and c.failed > 0 then
        line = line:gsub("%d+ failed", "\27[31m%0\27[0m")
    end
    return line
end

local function show(self)
    self.last = task.now()
    local line = line_of(self)
    self.sink(self.terminal and "\r" .. line .. "\27[K" or line .. "\n")
    self.shown = line
    if self.on_stderr then
        native.line_open(not self.over)
    end
end

-- Something has changed. If this comes too soon after the last line, the next line is shown when the interval
-- has passed.
function Progress:poke()
    local due = self.last + self.interval
    if task.now() >= due then
        show(self)
    elseif not self.timer then
        self.timer = task.spawn(function()
            task.sleep_until(due)
            self.timer = nil
            show(self)
        end)
        self.timer.name = "progress"
    end
end

-- Shows the first line, before any item has ended.
function Progress:begin()
    if self.terminal then
        self.last = task.now()
        self:poke()
    end
end

-- Shows the last line, which stays on the screen. `whole`: the run has ended normally, so the total is known.
function Progress:finish(whole)
    self.over, self.whole = true, whole and self.total ~= nil
    if self.timer then
        self.timer:cancel()
        self.timer = nil
    end
    self.ended = true
    if self.terminal then
        show(self)
        self.sink "\n"
        if self.counts.failed > 0 then -- the line itself has no room for the reasons
            self.sink(("%d failed: %s\n"):format(self.counts.failed, self.counts.why_failed:text()))
        end
    elseif self.shown ~= line_of(self) then
        show(self)
    end
end

return M
