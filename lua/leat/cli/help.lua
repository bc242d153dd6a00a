-- The command `leat help`: shows in a shell what help() shows at the prompt.
local help = require "leat.repl.help"

local M = {}

-- Returns the help text of a command. A function may have the same name.
local function command_usage(name)
    if name == "batch" then
        return require("leat.cli.batch").USAGE
    elseif name == "mock" then
        return require("leat.mock.cli").USAGE
    end
end

-- Runs `leat help [name ...]`. Ends the process with status 2 for an unknown name.
function M.main(args)
    if #args == 0 then
        io.stdout:write("\n`leat help NAME` tells more about each of these functions.\n\n", (help.about()))
        return true
    end
    local out = {}
    for _, name in ipairs(args) do
        local usage = command_usage(name)
        local text, known = help.about(name)
        if usage and not help.entry(name) then -- only names that begin like the command are known
            known = false
        end
        if not known and not usage then
            io.stderr:write("leat: help: ", (text:gsub("help%(%)", "leat help")))
            os.exit(2)
        end
        out[#out + 1] = usage
        out[#out + 1] = known and text or nil
    end
    io.stdout:write(table.concat(out, "\n"))
    return true
end

return M
