-- A game that streams an answer onto the screen while it animates: love scripts/embed/love "a question".
-- Needs leat.so (cmake --install) and OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL.
local leat = require "leat"

local FRAME_BUDGET = 0.002 -- seconds of each frame for Lua and network
local text, angle = "", 0

local function tell(prompt)
    local stream, err = leat.openai {}:stream(prompt)
    if not stream then
        text = tostring(err)
        return
    end
    for delta in stream do -- waits for the network; the frames go on
        text = text .. delta
    end
    text = text .. "\n\n(" .. stream.usage.completion_tokens .. " tokens)"
end

function love.load(args)
    leat.start(tell, args[1] or "Tell me in three sentences what a leat is")
end

function love.update(dt)
    angle = (angle + dt * math.pi) % (2 * math.pi)
    leat.step(FRAME_BUDGET)
end

function love.draw()
    love.graphics.circle("fill", 60 + 20 * math.cos(angle), 60 + 20 * math.sin(angle), 8)
    love.graphics.printf(text, 120, 40, 640)
end
