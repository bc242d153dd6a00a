-- Makes the manual pages when the program is built: leat(1) from the help texts of the program, and leat(3)
-- from the comments above the public functions.
local help = require "leat.repl.help"
local version = require("leat.native.version").leat

local M = {}

local function escaped(text)
    return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([.'])", "\\&%1"):gsub("\n([.'])", "\n\\&%1"))
end

-- Shows lines unchanged.
local function verbatim(text)
    return ".PP\n.nf\n" .. escaped(text:gsub("%s+$", "")) .. "\n.fi\n"
end

local function section(title, body)
    return ".SH " .. title .. "\n" .. body
end

local function head(number, what, says)
    return ('.TH LEAT %d "" "leat %s" "%s"\n'):format(number, version, what)
        .. section("NAME", escaped("leat - " .. says) .. "\n")
end

-- Makes leat(1) from the help texts of the program and of its commands.
function M.command(main, batch, mock)
    return head(1, "User Commands", "runs concurrent HTTP pipelines written in Lua")
        .. section("SYNOPSIS", verbatim(main:match "^usage: (.-)\n\n" and main:match "^(.-)\n\n"))
        .. section("DESCRIPTION", escaped [[
A script is written as if each call finished before the next one begins. Thousands of such calls run at the
same time. Without a script, and on a terminal, leat opens a prompt; help() there lists all functions.
]])
        .. section("OPTIONS", verbatim(main:match "\n\n(.*)$"))
        .. section("LEAT BATCH", verbatim(batch))
        .. section("LEAT MOCK", verbatim(mock))
        .. section("ENVIRONMENT", escaped [[
leat.openai and leat batch use OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL as defaults.
OPENAI_BASE_URL_FILE and OPENAI_API_KEY_FILE may name files that contain the values. leat also uses
http_proxy, https_proxy, no_proxy and NO_COLOR.
]])
        .. section("SEE ALSO", "\\fBleat\\fR(3)\n")
end

-- Makes leat(3).
function M.reference()
    local out = {
        head(3, "Lua Functions", "what scripts can call"),
        section("DESCRIPTION", escaped [[
These functions are fields of the table that require "leat" returns, which is also the global leat. request,
gather, semaphore, wait_for, sleep, spawn and json are globals, too. A function that can fail returns its
value, or nil and an error with a kind and a message. Times are in seconds.
]]),
        ".SH FUNCTIONS\n",
    }
    for _, name in ipairs(help.names()) do
        local signature, text = help.describe(name):match "^([^\n]*)\n(.*)$"
        out[#out + 1] = ".SS " .. escaped(signature) .. "\n" .. verbatim((text:gsub("^\n+", "")))
    end
    out[#out + 1] = section("SEE ALSO", "\\fBleat\\fR(1)\n")
    return table.concat(out)
end

return M
