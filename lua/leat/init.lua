-- The table that `require "leat"` returns.
local lazy_require = require "leat.internal.lazy_require"
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
}

-- Loaded on first use, {module, field}: a script pays only for what it asks for.
local lazy = {
    error = { "leat.error", "new" },
    gather = { "leat.gather", "gather" },
    map = { "leat.gather", "map" },
    each = { "leat.gather", "each" },
    as_completed = { "leat.gather", "as_completed" },
    merge = { "leat.merge", "merge" },
    race = { "leat.gather", "race" },
    group = { "leat.gather", "group" },
    semaphore = { "leat.sync", "semaphore" },
    queue = { "leat.sync", "queue" },
    event = { "leat.sync", "event" },
    stopping = { "leat.sync", "stopping" },
    is_stopping = { "leat.sync", "is_stopping" },
    request = { "leat.http", "request" },
    client = { "leat.http", "client" },
    retry = { "leat.retry", "retry" },
    breaker = { "leat.breaker", "breaker" },
    limiter = { "leat.limiter", "limiter" },
    adaptive = { "leat.adaptive", "adaptive" },
    batch = { "leat.batch", "batch" },
    openai = { "leat.openai", "openai" },
    pipeline = { "leat.pipeline", "pipeline" },
    json = { "leat.json" },
    jsonl = { "leat.jsonl" },
    serve = { "leat.serve", "serve" },
    simulate = { "leat.serve", "simulate" },
    uuid = { "leat.util", "uuid" },
    base64 = { "leat.util", "base64" },
    sha256 = { "leat.util", "sha256" },
    hmac = { "leat.util", "hmac" },
    inspect = { "leat.inspect", "inspect" },
    log = { "leat.log" },
    stdin = { "leat.stdin" },
    run = { "leat.host", "run" },
    start = { "leat.host", "start" },
    step = { "leat.host", "step" },
    backend_fd = { "leat.host", "backend_fd" },
    timeout = { "leat.host", "timeout" },
    version = { "leat.native.version" },
}

setmetatable(leat, {
    __name = "leat.module",
    __index = function(t, name)
        local where = lazy[name]
        if not where then
            return lazy_require "leat.internal.check".foreign("leat", "leat")(t, name)
        end
        local value = lazy_require(where[1])
        if where[2] then
            value = value[where[2]]
        end
        rawset(t, name, value)
        return value
    end,
})

return leat
