-- Five failures in a row open the circuit: what comes then is refused without a call. When the time is up one
-- call is let through, and what becomes of it decides.
-- usage: leat scripts/breaker.lua [reset in seconds]
local leat = require "leat"
local chat = require "chat"

local reset = tonumber((...)) or 30
local breaker = leat.breaker {
    threshold = 5,
    reset = reset,
    on_change = function(old, new)
        print("the circuit was " .. old .. " and is " .. new)
    end,
}

local function try(i)
    local text, err = breaker:call(chat, "Explain in one sentence what " .. i .. " is")
    print(i, text or tostring(err))
end

for i = 1, 10 do
    try(i)
end
if breaker:state() == "open" then
    sleep(reset)
    try(11)
end
