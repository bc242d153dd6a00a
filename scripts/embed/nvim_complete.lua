-- A Neovim plugin: `:Complete` sends the current line to an AI service and streams the answer into the buffer
-- below it, while one types on. Needs leat.so (cmake --install) and OPENAI_BASE_URL, OPENAI_API_KEY,
-- OPENAI_MODEL. Try it: nvim -c 'luafile scripts/embed/nvim_complete.lua'
local leat = require "leat"

-- Neovim's loop watches leat's: a step where there is something to do, within 5 ms of the editor's time.
local poll, timer = vim.loop.new_poll(leat.backend_fd()), vim.loop.new_timer()
local watch

local function step()
    local ok, next = pcall(leat.step, 0.005)
    if not ok then
        vim.notify(tostring(next), vim.log.levels.ERROR)
    end
    if next ~= "done" then
        watch()
    end
end

local function wake()
    poll:stop()
    timer:stop()
    vim.schedule(step) -- a task may then call Neovim
end

function watch()
    poll:start("r", wake)
    local seconds = leat.timeout()
    if seconds then
        timer:start(math.ceil(seconds * 1000), 0, wake)
    end
end

local marks = vim.api.nvim_create_namespace "leat"

local function stream_into(buffer, mark, prompt)
    local stream, err = leat.openai {}:stream(prompt)
    if not stream then
        error(err)
    end
    for text in stream do
        local at = vim.api.nvim_buf_get_extmark_by_id(buffer, marks, mark, {}) -- moves with what is typed
        vim.api.nvim_buf_set_text(buffer, at[1], at[2], at[1], at[2], vim.split(text, "\n", { plain = true }))
    end
end

vim.api.nvim_create_user_command("Complete", function()
    local buffer, row = vim.api.nvim_get_current_buf(), vim.api.nvim_win_get_cursor(0)[1]
    local prompt = vim.api.nvim_get_current_line()
    vim.api.nvim_buf_set_lines(buffer, row, row, false, { "" })
    local mark = vim.api.nvim_buf_set_extmark(buffer, marks, row, 0, {})
    leat.start(function()
        local ok, err = pcall(stream_into, buffer, mark, prompt)
        if not ok then
            vim.notify(tostring(err), vim.log.levels.ERROR)
        end
    end)
    watch()
end, { desc = "Stream an answer to the current line into the buffer" })
