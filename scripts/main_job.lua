-- A hundred prompts, at most five at a time, each with a limit and up to three attempts; progress while it
-- runs, and the figures at the end.
local leat = require "leat"
local chat = require "chat"

local prompts = {}
for i = 1, 100 do
    prompts[i] = "Explain in one sentence what " .. i .. " is"
end

local stats = { ok = 0, failed = 0, retried = 0, busy = 0 }

-- Transient failures are tried again after 1, 2 ... seconds with full jitter, a 429 after twice that.
local function ask(prompt)
    for attempt = 1, 3 do
        local started = leat.now()
        local text, err = wait_for(15, chat, prompt)
        stats.busy = stats.busy + leat.now() - started
        local transient = err and (err.retryable or err.status == 429 or (err.status or 0) >= 500)
        if not transient or attempt == 3 then
            return text, err
        end
        stats.retried = stats.retried + 1
        sleep(math.random() * 2 ^ (attempt - 1) * (err.status == 429 and 2 or 1))
    end
end

local started = leat.now()
local answers = leat.map(prompts, ask, {
    limit = 5,
    settle = true,
    on_result = function(_, text, err)
        local key = text and "ok" or "failed"
        stats[key] = stats[key] + 1
        local done = stats.ok + stats.failed
        if done % 20 == 0 then
            io.stderr:write(("%3d of %d done, %.1f s\n"):format(done, #prompts, leat.now() - started))
        end
        if err then
            io.stderr:write(tostring(err), "\n")
        end
    end,
})
local took = leat.now() - started

print(("ok %d   failed %d   retried %d"):format(stats.ok, stats.failed, stats.retried))
print(("took %.1f s, %.2f requests/s; one after the other: %.1f s"):format(took, #prompts / took, stats.busy))
print("the first answer: " .. tostring(answers[1].value or answers[1].err))
if stats.failed > 0 then
    return nil, leat.error { kind = "script", message = stats.failed .. " prompts without an answer" }
end
