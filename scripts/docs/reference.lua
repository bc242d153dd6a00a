-- The reference's pages as Markdown: one for each public module, from the comments above its functions.
local sources = require "sources"

local M = {}

-- {module, title, what it is for}, in the order of the table of contents.
M.MODULES = {
    { "task", "Tasks", "Run functions side by side; wait, limit, cancel and clean up." },
    { "gather", "Many at once", "Run many functions, or one function over many items, with a limit." },
    { "merge", "Merging streams", "Read many streams or iterators at once." },
    { "sync", "Semaphores, queues, events", "Coordinate tasks." },
    { "http", "HTTP", "Requests, clients and responses." },
    { "retry", "Retry", "Try again what may succeed then." },
    { "breaker", "Circuit breaker", "Stop calling a service that is down." },
    { "limiter", "Rate limiter", "Keep to a number of requests or tokens per minute." },
    { "adaptive", "Adaptive concurrency", "Find out how many calls at once a service takes." },
    { "batch", "Batches", "Call items in batches, with a pause between them." },
    { "pipeline", "Pipelines", "All policies in one, with results, statistics and a journal." },
    { "openai", "AI services", "A client of the OpenAI API." },
    { "serve", "Servers", "Answer HTTP requests; simulate a service." },
    { "mock", "Mock server", "An OpenAI-compatible server inside the program: `require \"leat.mock\"`." },
    { "json", "JSON", "Encode and decode JSON, strictly." },
    { "jsonl", "JSON lines", "Read and write files with one JSON value in each line." },
    { "error", "Errors", "What functions return beside nil." },
    { "log", "Log", "Messages on standard error." },
    { "inspect", "Inspect", "Show any value as text." },
    { "util", "Small helpers", "UUIDs, base64, digests, versions." },
    { "stdin", "Standard input", "Read standard input without stopping the other tasks." },
    { "host", "In a host's Lua state", "What `require` gives a program with a LuaJIT of its own." },
}

-- Objects whose methods stand in an inner module.
local HOME = { response = "http", stats = "pipeline", reservation = "limiter", openai = "openai" }

-- Types that several modules use, and where they belong.
local TYPE_HOME = {
    ["leat.error"] = "error", ["leat.error_fields"] = "error", ["leat.statuses"] = "http",
    ["leat.response"] = "http", ["leat.journal_options"] = "gather", ["leat.outcome"] = "gather",
    ["leat.json_null"] = "json", ["leat.stdin"] = "stdin", ["leat.version"] = "util",
}

local is_module = {}
for _, row in ipairs(M.MODULES) do
    is_module[row[1]] = true
end

-- The page that a public name stands on.
function M.page_of(name)
    local module = sources.entry(name).module:match "^leat%.(%w+)$"
    local page = is_module[module] and module or HOME[name:match "^%w+"]
    return assert(page, "no page for " .. name .. ": see HOME in scripts/docs/reference.lua")
end

local function code(text)
    return "`" .. text .. "`"
end

local function cell(text)
    return (text:gsub("|", "\\|"))
end

-- The types that the parts of a comment name.
local function used_types(parts, found)
    for _, part in ipairs(parts) do
        for name in ((part.kind or "") .. " " .. (part.parent or "")):gmatch "leat%.[%w_]+" do
            found[name] = true
        end
    end
end

local function heading(level, name)
    return ("%s %s\n"):format(("#"):rep(level), code(name))
end

local function put_text(out, part)
    out[#out + 1] = table.concat(part.lines, "\n")
    out[#out + 1] = ""
end

-- A parameter or a result, as an item of a list.
local function put_row(out, part, before)
    local param = part.what == "param"
    if not before or before.what ~= part.what then
        out[#out + 1] = "\n" .. (param and "**Takes**" or "**Returns**") .. "\n"
    end
    local text = table.concat(part.lines, "\n  "):gsub("^%s+", "")
    local name = part.name
    if not param and part.label and #part.label > 1 then
        name = part.label
        text = text:gsub("^[%w_.]+%s*", "")
    end
    out[#out + 1] = ("- %s%s%s%s"):format(name and code(name) .. ", " or "",
        part.optional and "optional, " or "", code(part.kind), text ~= "" and ": " .. text or "")
end

local function put_function(out, name)
    local parts = sources.entry(name).parts
    out[#out + 1] = heading(2, name)
    out[#out + 1] = "```lua\n" .. sources.signature(name:find "[.:]" and name or M.spelling(name), parts)
        .. "\n```\n"
    local before
    for _, part in ipairs(parts) do
        if part.what == "param" or part.what == "return" then
            put_row(out, part, before)
        else
            out[#out + 1] = ""
            if part.what == "text" then
                put_text(out, part)
            elseif part.what == "example" then
                out[#out + 1] = "**Example**\n\n```lua\n" .. table.concat(part.lines, "\n") .. "\n```\n"
            end
        end
        before = part
    end
    out[#out + 1] = ""
end

local GLOBAL = { request = 1, gather = 1, semaphore = 1, wait_for = 1, sleep = 1, spawn = 1, response = 1 }

-- How a script calls it: `sleep`, `leat.map`.
function M.spelling(name)
    if GLOBAL[name] or name:find ":" or name:find "^json%." then
        return name
    end
    return "leat." .. name
end

local function put_type(out, block)
    out[#out + 1] = heading(3, block.name)
    local fields = {}
    for _, part in ipairs(block.parts) do
        if part.what == "text" then
            put_text(out, part)
        elseif part.what == "class" and part.parent and part.parent ~= "userdata" then
            out[#out + 1] = ("Has all fields of %s, and these:\n"):format(code(part.parent))
        elseif part.what == "alias" then
            out[#out + 1] = code(part.rest:match "^%S+%s+(.*)$") .. "\n"
        elseif part.what == "field" and part.name then
            fields[#fields + 1] = part
        end
    end
    if #fields > 0 then
        out[#out + 1] = "| field | type | |\n|---|---|---|"
        for _, part in ipairs(fields) do
            out[#out + 1] = ("| %s | %s%s | %s |"):format(code(part.name), code(cell(part.kind)),
                part.optional and ", optional" or "", cell(table.concat(part.lines, " ")))
        end
        out[#out + 1] = ""
    end
end

-- The pages: {name, title, about, text}; and the names that each has an anchor for.
function M.pages(folder)
    local by_page, type_page, blocks = {}, {}, sources.types(folder)
    local block_of = {}
    for _, block in ipairs(blocks) do
        block_of[block.name] = block
    end
    for _, name in ipairs(sources.names()) do
        local page = M.page_of(name)
        by_page[page] = by_page[page] or {}
        table.insert(by_page[page], name)
    end
    for _, list in pairs(by_page) do -- functions before methods
        table.sort(list, function(a, b)
            local a_method, b_method = a:find ":" ~= nil, b:find ":" ~= nil
            if a_method ~= b_method then
                return b_method
            end
            return a < b
        end)
    end
    for name, page in pairs(TYPE_HOME) do
        type_page[name] = page
    end
    -- A type stands on the page of the function that takes or makes it, or else on the first that uses it.
    for _, row in ipairs(M.MODULES) do
        for _, name in ipairs { "leat." .. row[1], "leat." .. row[1] .. "_options" } do
            type_page[name] = type_page[name] or block_of[name] and row[1]
        end
    end
    local function settle(parts, page)
        local used = {}
        used_types(parts, used)
        for name in pairs(used) do
            if block_of[name] and not type_page[name] then
                type_page[name] = page
                settle(block_of[name].parts, page)
            end
        end
    end
    for _, row in ipairs(M.MODULES) do
        for _, name in ipairs(by_page[row[1]] or {}) do
            local class = sources.class_of(name)
            if class and not type_page[class] then
                type_page[class] = row[1]
            end
            settle(sources.entry(name).parts, row[1])
        end
        for _, block in ipairs(blocks) do
            if type_page[block.name] == row[1] then
                settle(block.parts, row[1])
            end
        end
    end
    local pages = {}
    for _, row in ipairs(M.MODULES) do
        local out = { ("# %s\n\n%s\n"):format(row[2], row[3]) }
        for _, name in ipairs(by_page[row[1]] or {}) do
            put_function(out, name)
        end
        local first = true
        for _, block in ipairs(blocks) do
            if type_page[block.name] == row[1] then
                if first then
                    out[#out + 1] = "## Types\n"
                    first = false
                end
                put_type(out, block)
            end
        end
        pages[#pages + 1] = { name = row[1], title = row[2], about = row[3], text = table.concat(out, "\n") }
    end
    for _, block in ipairs(blocks) do
        assert(type_page[block.name], "no page for the type " .. block.name)
    end
    return pages
end

return M
