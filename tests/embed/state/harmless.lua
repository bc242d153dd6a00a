-- Calls, with odd arguments, every function of leat's that can be reached from the global `kept`, when the
-- runtime is gone: that gives errors, and no crash.
local called, seen, ours = 0, {}, {}

local function try(f, self)
    for _, args in ipairs { {}, { self }, { self, 1 }, { print }, { "x", print }, { self, print },
        { { port = 0, handler = print } }, { "http://127.0.0.1:1/", print }, { 0.1 } } do
        pcall(f, unpack(args))
        called = called + 1
    end
end

local function walk(v, owner, depth)
    local kind = type(v)
    if v == nil or depth > 8 or seen[v] then
        return
    end
    seen[v] = true
    if kind == "function" then
        if not ours[v] then
            try(v, owner)
        end
    elseif kind == "table" or kind == "userdata" then
        local mt = debug.getmetatable(v)
        pcall(tostring, v)
        for _, f in pairs(mt or {}) do
            if f ~= mt.__gc then
                walk(f, v, depth + 1)
            end
        end
        for _, f in pairs(kind == "table" and v or {}) do
            walk(f, v, depth + 1)
        end
    end
end

for _, lib in pairs { _G, string, table, math, os, io, debug, coroutine, package, jit, bit } do
    seen[lib] = true
    for _, f in pairs(lib) do
        ours[f] = true
    end
end
seen[package.loaded], seen[package.preload] = true, true
seen[kept], seen[shout] = nil, nil
local again = kept.leat
for name in ([[
    request map gather semaphore queue event retry breaker limiter adaptive batch openai pipeline json jsonl
    serve simulate uuid base64 sha256 inspect log stdin client race group merge stats tasks
]]):gmatch "%a+" do
    pcall(function()
        return again[name]
    end)
end
ours[shout] = nil
walk(kept, nil, 0)
walk(shout, nil, 0)
assert(called > 500, called)
local ok, err = pcall(shout, "x")
assert(not ok and err:find "the runtime has been closed", err)
kept, again = nil, nil
collectgarbage()
collectgarbage()
