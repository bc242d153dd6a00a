-- For hosts that bring their own Lua state and load leat.so: who turns the crank.
local lazy_require = require "leat.internal.lazy_require"
local check = require "leat.internal.check"
local native = require "leat.native.task"

local M = {}

local host = package.preload["leat.native.host"] and lazy_require "leat.native.host"

local function needed(who, instead)
    if not host then
        check.fail(who .. ": for programs that load leat.so; here leat or its host turns the crank: " ..
            instead)
    end
    return host
end

--- Runs `fn(...)` as a task and blocks the host until it and its children have ended. For a host's Lua state
--- (leat.so); the tasks of leat.start go on meanwhile.
---@param fn function
---@param ... any its arguments
---@return any ... its values; or nil, err
---
--- A bug is raised again, with its traceback. If it waits for what nothing could ever bring, the result is
--- nil, err (`reason` "stuck") with the list of who waits for what. Raises inside a task.
--- ```lua
--- local get = function(address) return leat.request(address).status end
--- -- in luajit: local status, err = leat.run(get, url .. "/ok")
--- assert(get(url .. "/ok") == 200) -- in a script of leat's own, which is a task already
--- ```
function M.run(fn, ...)
    return needed("run", "call the function").run(fn, ...)
end

--- Starts `fn(...)` as a task that goes on by leat.step. For a host's Lua state (leat.so).
---@param fn function
---@param ... any its arguments
---@return leat.task task with status, cancel, name, id; `await` inside other tasks; and result
---
--- `task:result()`, once its status is ok, failed, raised or cancelled: its values, or nil, err; a bug is
--- raised again. A bug that nobody awaits is raised by leat.step.
--- ```lua
--- local function tell(name) sleep(0.01) return "hello " .. name end
--- -- in Neovim or LÖVE: greeting = leat.start(tell, "world"), and later greeting:result()
--- assert(spawn(tell, "world"):await() == "hello world")
--- ```
function M.start(fn, ...)
    return needed("start", "use spawn").start(fn, ...)
end

--- Runs Lua and network for about `budget` seconds, without blocking; for a host's frame. A single stretch of
--- Lua between two waits is not cut short.
---@param budget? number seconds, default 0.002; 0: the least that can be done
---@return "ready"|"idle"|"done" next "ready": there is more to do now; "idle": all tasks wait; "done":
---there is none
---
--- Raises inside a task, and what a task of leat.start has raised and nobody awaits.
--- ```lua
--- -- function love.update() leat.step(0.002) end
--- assert(not pcall(leat.step)) -- leat steps its own scripts
--- ```
function M.step(budget)
    return needed("step", "it goes on by itself").step(budget)
end

--- For a host with a poll of its own: readable when leat.step has something to do.
---@return number descriptor to be watched only; it stays the same
--- ```lua
--- -- vim.loop.new_poll(leat.backend_fd()):start("r", vim.schedule_wrap(function() leat.step() end))
--- assert(not pcall(leat.backend_fd)) -- leat polls for its own scripts
--- ```
function M.backend_fd()
    return needed("backend_fd", "it goes on by itself").backend_fd()
end

--- Within how many seconds leat.step wants to be called, whatever happens to the descriptor.
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
