-- For host programs that load leat.so into their own Lua state: functions that run Leat's event loop.
local lazy_require = require "leat.internal.lazy_require"
local check = require "leat.internal.check"
local native = require "leat.native.task"

local M = {}

local host = package.preload["leat.native.host"] and lazy_require "leat.native.host"

local function needed(who, instead)
    if not host then
        check.fail(who .. ": only for programs that load leat.so; here the event loop runs already: " ..
            instead)
    end
    return host
end

--- Runs `fn(...)` as a task and blocks the host until it and its children have ended. Tasks of leat.start
--- run meanwhile, too. Only for a host's Lua state (leat.so).
---@param fn function
---@param ... any its arguments
---@return any ... the values of fn; or nil, err
---
--- A bug in fn is raised again, with its traceback. If the task waits for something that can never
--- happen, the result is nil, err with `reason` "stuck"; the message lists which task waits for what.
--- Raises if it is called inside a task.
--- ```lua
--- local get = function(address) return leat.request(address).status end
--- -- in luajit: local status, err = leat.run(get, url .. "/ok")
--- assert(get(url .. "/ok") == 200) -- in a script of leat's own, which is a task already
--- ```
function M.run(fn, ...)
    return needed("run", "call the function").run(fn, ...)
end

--- Starts `fn(...)` as a task that leat.step runs. Only for a host's Lua state (leat.so).
--- (leat.so).
---@param fn function
---@param ... any its arguments
---@return leat.task task with status, cancel, name, id; `await` inside other tasks; and result
---
--- `task:result()` may be called when the task's status is ok, failed, raised or cancelled. It returns
--- the task's values, or nil, err; a bug is raised again. leat.step raises a bug if nobody awaits the
--- task.
--- ```lua
--- local function tell(name) sleep(0.01) return "hello " .. name end
--- -- in Neovim or LÖVE: greeting = leat.start(tell, "world"), and later greeting:result()
--- assert(spawn(tell, "world"):await() == "hello world")
--- ```
function M.start(fn, ...)
    return needed("start", "use spawn").start(fn, ...)
end

--- Runs tasks and network I/O for about `budget` seconds, without blocking. A host calls it once per
--- frame. A task that computes without waiting is not interrupted, so the call can take longer.
---@param budget? number seconds, default 0.002; 0 does as little as possible
---@return "ready"|"idle"|"done" next "ready": there is more to do now; "idle": all tasks wait; "done": no
---task is left
---
--- Raises if it is called inside a task. It also raises the bug of a task of leat.start that nobody awaits.
--- ```lua
--- -- function love.update() leat.step(0.002) end
--- assert(not pcall(leat.step)) -- leat steps its own scripts
--- ```
function M.step(budget)
    return needed("step", "it goes on by itself").step(budget)
end

--- Returns a file descriptor for a host with its own poll loop. It is readable when leat.step has work to
--- do.
---@return number descriptor only watch it, do not read or close it; it never changes
--- ```lua
--- -- vim.loop.new_poll(leat.backend_fd()):start("r", vim.schedule_wrap(function() leat.step() end))
--- assert(not pcall(leat.backend_fd)) -- leat polls for its own scripts
--- ```
function M.backend_fd()
    return needed("backend_fd", "it goes on by itself").backend_fd()
end

--- Returns the longest time until the next leat.step, even if the descriptor is not readable.
---@return number|nil seconds 0: now; nil: only when the descriptor is readable
--- ```lua
--- -- timer:start(math.ceil((leat.timeout() or 3600) * 1000), 0, step)
--- assert(not pcall(leat.timeout))
--- ```
function M.timeout()
    return needed("timeout", "it goes on by itself").timeout()
end

if host then
    native.task_methods.result = host.result
end

return M
