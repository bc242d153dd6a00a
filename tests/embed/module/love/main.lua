-- Runs guest.lua in LÖVE, or the example, whose screen is a table here. LEAT_ROOT is the source tree.
local root = os.getenv "LEAT_ROOT"

local function finish(ok, err)
    io.stdout:write(ok and "love ok\n" or tostring(err) .. "\n")
    os.exit(ok and 0 or 1, true) -- closes the state
end

if os.getenv "LEAT_GUEST" then
    finish(xpcall(dofile, debug.traceback, root .. "/tests/embed/module/guest.lua"))
end

local shown, positions, frames = {}, {}, 0
local function nothing() end
love.graphics = {
    isActive = function() return true end,
    getBackgroundColor = function() return 0, 0, 0, 1 end,
    origin = nothing,
    clear = nothing,
    circle = function(_, x, y) positions[x .. " " .. y] = true end,
    printf = function(text) shown[#shown + 1] = text end,
}

dofile(root .. "/scripts/embed/love/main.lua")

function love.graphics.present()
    frames = frames + 1
    local text = shown[#shown]
    if not text:find "tokens" then
        return
    end
    finish(pcall(function()
        assert(text:find "^Answer to: what is a leat%?\n\n%(%d+ tokens%)$", text)
        local texts, places = 0, 0
        for i = 2, #shown do
            if shown[i] ~= shown[i - 1] then
                texts = texts + 1
                assert(shown[i]:sub(1, #shown[i - 1]) == shown[i - 1])
            end
        end
        for _ in pairs(positions) do
            places = places + 1
        end
        assert(texts > 2, "the answer came in one piece")
        assert(frames > texts and places > 2, "the frames stood still")
    end))
end
