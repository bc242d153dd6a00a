-- In Neovim: guest.lua, then the example plugin and twenty requests at once, while the editor's timer ticks.
-- LEAT_ROOT is the source tree, LEAT_URL a mock server.
local root, url = os.getenv "LEAT_ROOT", os.getenv "LEAT_URL"

local function test()
    dofile(root .. "/tests/embed/module/guest.lua")
    local leat = require "leat"
    dofile(root .. "/scripts/embed/nvim_complete.lua")

    local ticks, timer = 0, vim.loop.new_timer()
    timer:start(0, 1, function() ticks = ticks + 1 end)
    local function wait(what, ready)
        assert(vim.wait(30000, ready, 1), what)
    end
    local function text()
        return table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), "\n")
    end

    vim.api.nvim_buf_set_lines(0, 0, -1, false, { "what is a leat?", "the end" })
    local pieces, last = 0, nil
    vim.cmd "Complete"
    vim.api.nvim_buf_set_lines(0, 0, 0, false, { "typed meanwhile" })
    local began = ticks
    wait("the answer", function()
        local now = text()
        pieces = pieces + (now ~= last and 1 or 0)
        last = now
        return leat.stats().tasks == 0
    end)
    assert(text() == "typed meanwhile\nwhat is a leat?\nAnswer to: what is a leat?\nthe end", text())
    assert(pieces > 2, "the answer came in one piece")
    assert(ticks > began + 2, "the editor stood still")

    -- By the same watch: what starts behind it is seen by itself.
    assert(leat.run(leat.request, { url = url .. "/mock/reset", method = "POST" }).ok)
    local handles = {}
    vim.cmd "Complete"
    for i = 1, 20 do
        handles[i] = leat.start(leat.request, { url = url .. "/v1/chat/completions", method = "POST",
            json = { model = "m", messages = { { role = "user", content = "hello" } } } })
    end
    began = ticks
    wait("twenty answers", function() return leat.stats().tasks == 0 end)
    for i = 1, 20 do
        assert(handles[i]:result().status == 200)
    end
    assert(ticks > began + 2, "the editor stood still")
    assert(leat.run(leat.request, url .. "/mock/stats"):json().peak_in_flight == 21)

    -- Nobody listens there: a message, and the editor lives on.
    local told
    vim.notify = function(message) told = message end
    vim.loop.os_setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    vim.cmd "Complete"
    wait("the message", function() return told and leat.stats().tasks == 0 end)
    assert(told:find "connect", told)
    timer:stop()
    for _ = 1, 5 do
        leat.start(leat.request, url .. "/v1/models") -- in flight when the editor ends
    end
    leat.step(0)
end

local ok, err = xpcall(test, debug.traceback)
io.stdout:write(ok and "nvim ok\n" or err .. "\n")
vim.cmd(ok and "qa!" or "cq")
