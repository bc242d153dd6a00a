-- Up to three attempts with growing, random waits between them, longer after a 429, or as long as the server
-- says. The last error is returned at once.
-- usage: leat scripts/retry.lua [base in seconds]
local leat = require "leat"
local chat = require "chat"

local retry = leat.retry {
    attempts = 3,
    base = tonumber((...)) or 1,
    on_retry = function(attempt, err, delay)
        print(("attempt %d failed (%s), the next in %.2f s"):format(attempt, tostring(err), delay))
    end,
}

local text, err = retry:call(chat, "Explain in one sentence what a leat is")
if not text then
    return nil, err
end
print(text)
