-- The table that `require "leat"` returns.
local gather = require "leat.gather"
local sync = require "leat.sync"
local task = require "leat.task"

local leat = {
    sleep = task.sleep,
    spawn = task.spawn,
    wait_for = task.wait_for,
    shield = task.shield,
    finally = task.finally,
    now = task.now,
    time = task.time,
    deadline = task.deadline,
    tasks = task.tasks,
    stats = task.stats,
    gather = gather.gather,
    map = gather.map,
    each = gather.each,
    as_completed = gather.as_completed,
    race = gather.race,
    group = gather.group,
    semaphore = sync.semaphore,
    queue = sync.queue,
    event = sync.event,
    error = require("leat.error").new,
}

--- Set by the first Ctrl-C. Long work that watches it can stop starting new things and come to an end.
leat.stopping = require("leat.core.sync").event(true)

-- Loaded on first use: a script pays only for what it asks for.
local lazy = {
    request = { "leat.http", "request" },
    client = { "leat.http", "client" },
    json = { "leat.json" },
    serve = { "leat.serve", "serve" },
    uuid = { "leat.util", "uuid" },
    base64 = { "leat.util", "base64" },
    sha256 = { "leat.util", "sha256" },
    hmac = { "leat.util", "hmac" },
    log = { "leat.log" },
    stdin = { "leat.stdin" },
    version = { "leat.core.version" },
}

local builtin_require = require

setmetatable(leat, {
    __index = function(t, name)
        local where = lazy[name]
        if not where then
            return nil
        end
        local value = builtin_require(where[1])
        if where[2] then
            value = value[where[2]]
        end
        rawset(t, name, value)
        return value
    end,
})

return leat
