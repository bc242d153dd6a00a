-- luajit tests/house_test.lua ROOT: reads the sources and fails on what would bend the building: a
-- file that needs one of a higher floor, a circle of files, a function that is declared elsewhere, a
-- banned call, a global that can change, a file too long to read, a script that requires an inside.

local root = arg[1] or "."

-- ---- the floors: the folders of src/. A file may use what lies on its own floor and on those that the
-- floor's row lists, never what lies above it. leat.h, above them all, is open to everybody.

local floors = {
    ground = "",
    loop = "ground",
    engine = "ground loop",
    tasks = "ground loop",
    server = "ground loop",
    lua = "ground loop engine tasks server",
    host = "ground loop engine tasks server lua",
    cli = "ground loop engine tasks server lua host",
}

-- Each library's headers, and the folders (or files) that may include them.
local libraries = {
    { "^uv%.h$", "loop cli/cli.c" }, -- cli.c: its version
    -- cli_alloc.c gives libcurl its allocator before anything else runs; the rest are versions.
    { "^curl/", "engine cli/cli_alloc.c cli/cli.c host/runtime_modules.c" },
    { "^nghttp2/", "engine" },
    { "^libpsl%.h$", "engine" },
    { "^zlib%.h$", "engine cli/cli.c host/runtime_modules.c" }, -- versions
    -- lua: digests and signatures for scripts.
    { "^openssl/", "engine lua cli/cli.c host/runtime_modules.c" },
    { "^lua%.h$", "tasks lua host cli" },
    { "^lauxlib%.h$", "tasks lua host cli" },
    { "^lualib%.h$", "lua host cli" },
    { "^luajit%.h$", "lua host cli" },
    { "^lua5.1/lua%-cjson%.h$", "lua host/runtime_modules.c" },
    { "^histedit%.h$", "cli/repl_edit.c cli/repl_screen.h" },
}

local function words(text)
    local set = {}
    for word in text:gmatch("%S+") do set[word] = true end
    return set
end
for floor, uses in pairs(floors) do
    floors[floor] = words(uses)
    floors[floor][floor] = true
end

-- Of a path below src/; nil: it lies in no floor's folder.
local function floor_of(file)
    local folder = file:match("^(%l+)/[%l_%d]+%.[ch]$")
    return floors[folder] and folder
end

-- ---- banned calls: pattern, what to do instead, and the files (patterns) that may

local function in_floors(...)
    local allowed = {}
    for _, floor in ipairs { ... } do allowed[floor] = true end
    return function(file) return allowed[floor_of(file)] end
end
local function in_files(...)
    local patterns = { ... }
    return function(file)
        for _, pattern in ipairs(patterns) do
            if file:find(pattern) then return true end
        end
    end
end
local function nowhere() return false end

-- The resolver's helper threads may outlive the runtime, and with it its allocator; the command line
-- has none yet when it reads its arguments.
local raw_allocation = in_files("/mem%.c$", "/resolver", "/cli", "/host_")

local function calls_lua(file)
    local floor = floor_of(file)
    return file == "tasks/sched.c" or floor == "lua" or floor == "host" or floor == "cli"
end

local banned = {
    { "strcpy", "memcpy with a length", nowhere },
    { "strcat", "a struct buf", nowhere },
    { "strncpy", "memcpy with a length", nowhere },
    { "sprintf", "snprintf", nowhere },
    { "vsprintf", "vsnprintf", nowhere },
    { "atoi", "strtol with its end checked", nowhere },
    { "atol", "strtol with its end checked", nowhere },
    { "atof", "strtod with its end checked", nowhere },
    { "strtok", "strcspn", nowhere },
    { "gets", "fgets", nowhere },
    { "alloca", "mem_alloc", nowhere },
    { "malloc", "mem_alloc", raw_allocation },
    { "calloc", "mem_calloc", raw_allocation },
    { "realloc", "mem_realloc", raw_allocation },
    { "free", "mem_free", raw_allocation },
    { "strdup", "mem_strndup", nowhere },
    { "strndup", "mem_strndup", nowhere },
    { "lua_resume", "the scheduler", in_files("/sched%.c$") },
    { "lua_call", "a task", calls_lua },
    { "lua_pcall", "a task", calls_lua },
    { "lua_cpcall", "a task", calls_lua },
    { "curl_multi_[%w_]+", "the engine", in_floors("engine") },
    { "curl_easy_[%w_]+", "the engine", in_floors("engine") },
}

-- Globals that may change, each with its reason.
local allowed_globals = {
    -- libcurl is initialised once for the whole process.
    ["engine/engine.c"] = true,
    -- A signal handler has nothing but globals to speak to.
    ["cli/cli_signal.c"] = true,
    ["host/profiler.c"] = true,
    -- As in cli_signal.c; and LuaJIT's profiler serves one state of a process.
    ["host/time_limit.c"] = true,
    -- A freed runtime has no place of its own to remember that in; debug builds only.
    ["host/runtime_grave.c"] = true,
    -- libcurl's allocator functions get no argument of ours.
    ["cli/cli_alloc.c"] = true,
}

local max_lines = 650

-- ---- reading

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

local function list_files(folder, pattern)
    local list = {}
    local pipe = assert(io.popen("cd '" .. root .. "/" .. folder .. "' && find . -type f | sort"))
    for name in pipe:lines() do
        name = name:sub(3)
        if name:find(pattern) then list[#list + 1] = name end
    end
    pipe:close()
    return list
end

-- The text with comments and the insides of literals blanked out; lines keep their numbers.
local function code_only(text)
    local out, at = {}, 1
    local function blank(s) return (s:gsub("[^\n]", " ")) end
    while at <= #text do
        local from = text:find("[/\"']", at)
        if not from then break end
        out[#out + 1] = text:sub(at, from - 1)
        local two, to = text:sub(from, from + 1), from
        if two == "/*" then
            to = select(2, text:find("*/", from + 2, true)) or #text
        elseif two == "//" then
            to = (text:find("\n", from, true) or #text + 1) - 1
        elseif two:sub(1, 1) ~= "/" then
            local quote, i = two:sub(1, 1), from + 1
            while i <= #text and text:sub(i, i) ~= quote do
                i = i + (text:sub(i, i) == "\\" and 2 or 1)
            end
            to = i
        end
        local piece = text:sub(from, to)
        out[#out + 1] = (to > from) and blank(piece) or piece
        at = to + 1
    end
    out[#out + 1] = text:sub(at)
    return table.concat(out)
end

local files = {}
for _, name in ipairs(list_files("src", "%.[ch]$")) do
    local text = read(root .. "/src/" .. name)
    files[#files + 1] = { name = name, path = "src/" .. name, text = text, code = code_only(text) }
end

local function each_line(text)
    local number = 0
    return coroutine.wrap(function()
        for line in (text .. "\n"):gmatch("(.-)\n") do
            number = number + 1
            coroutine.yield(number, line)
        end
    end)
end

-- ---- the tests: each is given a function that takes a complaint

local tests = {}

-- A node of the graph is a .c file together with its header: the path below src/ without the ending.
local function node_of(name) return (name:gsub("%.[ch]$", "")) end

local by_name, by_node = {}, {}
for _, f in ipairs(files) do
    by_name[f.name] = f
    local node = node_of(f.name)
    by_node[node] = by_node[node] or {}
    by_node[node][f.name:match("%.([ch])$")] = f
end

-- {name, line} of each function that a .c file defines for others, or a header declares.
local function functions_of(f)
    local list = {}
    local code = "\n" .. f.code:gsub("\n%s*#[^\n]*", "\n")
    local pattern = f.name:find("%.c$") and "\n()(%a[%w_ %*\n]-)([%w_]+)%b()%s*\n{"
        or "\n()(%a[%w_ %*\n]-)([%w_]+)%b()[%s%w_%(%),]*;"
    for at, before, name in code:gmatch(pattern) do
        if not before:find("static") and not before:find("typedef") then
            local _, line = code:sub(1, at - 1):gsub("\n", "")
            list[#list + 1] = { name = name, line = line }
        end
    end
    return list
end

-- What begins the program, or is looked up by its name.
local function is_entry(name) return name == "main" or name == "luaopen_leat" or name:find("^leat_") end

local defined_in = {} -- function -> node
for _, f in ipairs(files) do
    if f.name:find("%.c$") then
        for _, fn in ipairs(functions_of(f)) do
            if fn.name ~= "main" then defined_in[fn.name] = node_of(f.name) end
        end
    end
end

-- Each use of another node: {to, line, what}, by an include or by a function's name.
local function uses_of(f)
    local list = {}
    local node = node_of(f.name)
    for number, line in each_line(f.text) do
        local header = line:match('^%s*#%s*include%s+"([^"]+)"')
        if header and node_of(header) ~= node then
            list[#list + 1] = { to = node_of(header), line = number, what = header }
        end
    end
    if f.name:find("%.h$") then return list end
    local own = {}
    for name in f.code:gmatch("\nstatic[%w_ %*\n]-([%w_]+)%b()%s*\n{") do own[name] = true end
    for number, line in each_line(f.code) do
        -- Neither members nor types are functions.
        line = line:gsub("%->%s*[%w_]+", ""):gsub("%.[%a_][%w_]*", ""):gsub("struct%s+[%w_]+", "")
        for name in line:gmatch("[%a_][%w_]*") do
            local to = defined_in[name]
            if to and to ~= node and not own[name] then
                list[#list + 1] = { to = to, line = number, what = name }
            end
        end
    end
    return list
end

local uses = {} -- file name -> list
for _, f in ipairs(files) do uses[f.name] = uses_of(f) end

-- The circles of a graph {node = {node = true}}: its strongly connected parts of more than one node.
local function circles_of(edges)
    local count, stack, on_stack, index, low, found = 0, {}, {}, {}, {}, {}
    local function visit(v)
        count = count + 1
        index[v], low[v] = count, count
        stack[#stack + 1], on_stack[v] = v, true
        for w in pairs(edges[v]) do
            if edges[w] and not index[w] then visit(w) end
            if on_stack[w] then low[v] = math.min(low[v], low[w]) end
        end
        if low[v] < index[v] then return end
        local part = {}
        repeat
            part[#part + 1] = table.remove(stack)
            on_stack[part[#part]] = nil
        until part[#part] == v
        table.sort(part)
        if #part > 1 then found[#found + 1] = part end
    end
    local nodes = {}
    for node in pairs(edges) do nodes[#nodes + 1] = node end
    table.sort(nodes)
    for _, node in ipairs(nodes) do
        if not index[node] then visit(node) end
    end
    return found
end

tests["every file of src/ lies in the folder of its floor"] = function(complain)
    local places = {}
    for _, f in ipairs(files) do
        local base = f.name:match("[^/]+$")
        if f.name ~= "leat.h" and not floor_of(f.name) then
            complain(f.path, 1, "lies in no floor's folder: " .. table.concat(
                { "ground", "loop", "engine", "tasks", "server", "lua", "host", "cli" }, ", "))
        elseif places[base] then
            complain(f.path, 1, "there is a " .. places[base] .. " already: names are unique in src/")
        end
        places[base] = f.name
    end
end

tests["an include is a path from src/"] = function(complain)
    for _, f in ipairs(files) do
        for number, line in each_line(f.text) do
            local header = line:match('^%s*#%s*include%s+"([^"]+)"')
            if header and not by_name[header] then
                complain(f.path, number, header .. ": there is no such file in src/")
            end
        end
    end
end

tests["no file needs one of a higher floor"] = function(complain)
    for _, f in ipairs(files) do
        local floor = floor_of(f.name)
        for _, use in ipairs(floor and uses[f.name] or {}) do
            local other = use.to:match("^(%l+)/")
            if other and not floors[floor][other] then
                complain(f.path, use.line, ("%s needs %s of %s, a floor above or beside it"):format(
                    floor, use.what, other))
            end
        end
    end
end

tests["no files need each other in a circle"] = function(complain)
    local edges = {}
    for node in pairs(by_node) do edges[node] = {} end
    for _, f in ipairs(files) do
        for _, use in ipairs(uses[f.name]) do edges[node_of(f.name)][use.to] = true end
    end
    for _, circle in ipairs(circles_of(edges)) do
        complain("src/" .. circle[1], 1, "a circle: " .. table.concat(circle, " "))
        for _, node in ipairs(circle) do
            for _, f in pairs(by_node[node]) do
                for _, use in ipairs(uses[f.name]) do
                    for _, other in ipairs(circle) do
                        if use.to == other then
                            complain(f.path, use.line, ("needs %s of %s"):format(use.what, other))
                        end
                    end
                end
            end
        end
    end
end

tests["each .c that others use has one header, its own"] = function(complain)
    for _, f in ipairs(files) do
        if f.name ~= "leat.h" then
            local of = by_node[node_of(f.name)]
            local other = {}
            local mine = f.name:find("%.c$") and (of.h and functions_of(of.h) or {}) or {}
            for _, fn in ipairs(mine) do other[fn.name] = true end
            for _, fn in ipairs(functions_of(f)) do
                if f.name:find("%.h$") and defined_in[fn.name] and defined_in[fn.name] ~= node_of(f.name) then
                    complain(f.path, fn.line, ("%s is declared here and defined in %s.c"):format(
                        fn.name, defined_in[fn.name]))
                elseif f.name:find("%.c$") and not is_entry(fn.name) and not other[fn.name] then
                    complain(f.path, fn.line, fn.name .. " is not declared in the header of this file")
                end
            end
        end
    end
end

-- By the name of the file, or by its first words where it is a part of something: task_wait.c has
-- task_park. "lua_" only keeps names of files unique.
tests["a function begins with the name of its file"] = function(complain)
    local function fits(name, base)
        local short = base:gsub("^lua_", "")
        if name == "lua_open_" .. short or name:find("^" .. base) then return true end
        local begin
        for word in short:gmatch("[^_]+") do
            begin = begin and begin .. "_" .. word or word
            if name:find("^" .. begin .. "_") then return true end
        end
    end
    for _, f in ipairs(files) do
        if f.name:find("%.c$") then
            local base = f.name:match("([^/]+)%.c$")
            for _, fn in ipairs(functions_of(f)) do
                if not is_entry(fn.name) and not fits(fn.name, base) then
                    complain(f.path, fn.line, ("%s does not begin with %s_"):format(fn.name, base))
                end
            end
        end
    end
end

tests["each library is met on its own floor only"] = function(complain)
    for _, f in ipairs(files) do
        for number, line in each_line(f.text) do
            local header = line:match("^%s*#%s*include%s+<([^>]+)>")
            for _, row in ipairs(header and libraries or {}) do
                local may = words(row[2])
                if header:find(row[1]) and not may[floor_of(f.name)] and not may[f.name] then
                    complain(f.path, number, ("<%s> belongs to %s"):format(header, row[2]))
                end
            end
            -- Whatever else is in a folder must be POSIX's.
            local known = not header or not header:find("/") or header:find("^sys/")
                or header:find("^netinet/") or header:find("^arpa/") or header:find("^net/")
            for _, row in ipairs(libraries) do known = known or header:find(row[1]) end
            if not known then
                complain(f.path, number, ("<%s> is of a library that has no floor"):format(header))
            end
        end
    end
end

tests["no banned function is called"] = function(complain)
    for _, f in ipairs(files) do
        for number, line in each_line(f.code) do
            line = line:gsub("[%.>]%s*[%w_]+%s*%(", "(") -- calls through a member are others' names
            for _, row in ipairs(banned) do
                local name, instead, may = row[1], row[2], row[3]
                if line:find("%f[%w_]" .. name .. "%s*%(") and not may(f.name) then
                    complain(f.path, number, ("%s: use %s"):format(name, instead))
                end
            end
        end
    end
end

tests["nothing global can change"] = function(complain)
    for _, f in ipairs(files) do
        if not allowed_globals[f.name] then
            for number, line in each_line(f.code) do
                local declared = line:match("^%s*static%s+([^=;%(]*)[=;]")
                local constant = declared and (declared:find("%f[%w]const%f[%W][^%*]*$")
                    or declared:find("%f[%w]_Atomic%f[%W].*const"))
                if declared and not constant and not declared:find("%f[%w]inline%f[%W]") then
                    complain(f.path, number, "a static variable that can change: keep state in the runtime")
                end
            end
        end
    end
end

tests["each header says what it owns, and is read once"] = function(complain)
    for _, f in ipairs(files) do
        if f.name:find("%.h$") then
            if not f.text:find("^/%*") then complain(f.path, 1, "a header opens with a comment") end
            -- (Hosts' compilers may not know the pragma.)
            local once = f.name == "leat.h" and "\n#ifndef LEAT_H\n#define LEAT_H\n" or "\n#pragma once\n"
            if not f.text:find(once) then complain(f.path, 1, "#pragma once is missing") end
        end
    end
end

tests["files stay short enough to be read"] = function(complain)
    for _, f in ipairs(files) do
        local _, lines = f.text:gsub("\n", "")
        if lines > max_lines then
            complain(f.path, lines, ("%d lines, at most %d"):format(lines, max_lines))
        end
    end
end

-- Scripts cannot require what stands in subfolders. These files there hold methods that scripts call.
local public_in_subfolders = { ["http/stream.lua"] = true, ["policy/reservation.lua"] = true }

tests["each public Lua function says what it takes and gives"] = function(complain)
    for _, name in ipairs(list_files("lua/leat", "%.lua$")) do
        local before = ""
        local checked = not name:find("/", 1, true) or public_in_subfolders[name]
        local text = checked and read(root .. "/lua/leat/" .. name) or ""
        -- What scripts never see says so: "Internal." in the first line of a file of the top folder,
        -- "-- Internal: ..." above a function.
        local internal = text:find("^[^\n]*Internal%.\n")
        for number, line in each_line(internal and "" or text) do
            local public = line:match("^function (%u[%w_%.]*[%.:]%a[%w_]*)%s*%(")
            if public and not before:find("^%-%-%-") and not before:find("^%-%- Internal") then
                complain("lua/leat/" .. name, number, public .. " has no --- comment above it")
            end
            before = line
        end
    end
end

-- The words that the sources give as an error's reason. Others have reasons of their own, which no
-- script sees: a limit's changes, and the batch command, whose messages say it.
local function reasons()
    local found = {}
    local function note(text, path, pattern)
        for at, call in text:gmatch("()" .. pattern) do
            local _, line = text:sub(1, at):gsub("\n", "")
            for word in call:gmatch('"(%l[%l_]*)"') do
                found[word] = found[word] or { path = path, line = line + 1 }
            end
        end
    end
    for _, f in ipairs(files) do
        note(f.text, f.path, "(err_reason%b())")
        note(f.text, f.path, "(set_closed%(x, [^,]*)")
    end
    for _, name in ipairs(list_files("lua/leat", "%.lua$")) do
        if not name:find("^cli/batch") and name ~= "adaptive.lua" then
            note(read(root .. "/lua/leat/" .. name), "lua/leat/" .. name, '%f[%w]reason = ("[%l_]+")')
        end
    end
    return found
end

tests["each kind of error, and each reason, is asserted by name in some test"] = function(complain)
    local kinds = read(root .. "/lua/leat/error.lua"):match("%[%[(.-)%]%]")
    local kind_of, wanted = {}, reasons()
    for kind in kinds:gmatch("%S+") do
        kind_of[kind] = true
        wanted[kind] = { path = "lua/leat/error.lua", line = 1 }
    end
    for _, name in ipairs(list_files("tests", "%.%l+$")) do
        if name:find("^%l+/test_") or name:find("^embed/") then
            for _, line in each_line(read(root .. "/tests/" .. name)) do
                for word in line:gmatch("[\"'](%l[%l_]*)[\"']") do
                    if kind_of[word] then wanted[word] = nil end
                end
                for word in (line:find "reason" and line or ""):gmatch("%l[%l_]*") do
                    if not kind_of[word] then wanted[word] = nil end
                end
                for kind, word in line:gmatch("(%l[%l_]*)[\"', \t]+(%l[%l_]*)") do
                    if kind_of[kind] then wanted[word] = nil end
                end
            end
        end
    end
    for word, at in pairs(wanted) do
        complain(at.path, at.line, ("no test has '%s' beside its kind, or as a 'reason'"):format(word))
    end
end

-- Between two readings of the clock time passes: `sleep(at - now())` raises where `at` has just gone by.
tests["no wait is computed from a second reading of the clock"] = function(complain)
    for _, name in ipairs(list_files("lua/leat", "%.lua$")) do
        for number, line in each_line(read(root .. "/lua/leat/" .. name)) do
            local code = line:gsub("%-%-.*$", "")
            for call, arguments in code:gmatch "([%w_]+)(%b())" do
                local waits = call == "sleep" or call == "shield" or call:find "wait" or call:find "acquire"
                if waits and arguments:find "%-%s*[%w_.]*now%(%)" then
                    complain("lua/leat/" .. name, number, "use task.sleep_until")
                end
            end
        end
    end
end

-- ---- the Lua half: the top of lua/leat/ is what scripts may require, folders are the inside

local lua_modules = {} -- name -> {path, text}
for _, name in ipairs(list_files("lua/leat", "%.lua$")) do
    local module = "leat." .. name:gsub("%.lua$", ""):gsub("/", ".")
    lua_modules[module == "leat.init" and "leat" or module] = {
        path = "lua/leat/" .. name,
        text = read(root .. "/lua/leat/" .. name),
    }
end

local function is_public(module) return lua_modules[module] and not module:find("^leat%.[%l_]+%.") end

-- Calls fn(line, module, indented) for each `require "leat..."` of a text.
local function each_require(text, fn)
    for number, line in each_line(text) do
        for before, module in line:gmatch("()require%s*%(?%s*[\"'](leat[%l%d_.]*)[\"']") do
            if not module:find("%.$") then -- else the rest is computed
                fn(number, module, line:find("^%s") ~= nil, line:sub(1, before - 1))
            end
        end
    end
end

tests["scripts, hosts and examples require public modules only"] = function(complain)
    local function look(path, text, only)
        each_require(text, function(number, module, _, before)
            if (not only or before:find(only)) and not is_public(module) then
                complain(path, number, module .. (lua_modules[module] and " is internal" or ": none such"))
            end
        end)
    end
    for _, name in ipairs(list_files("scripts", "")) do
        -- Those that write the pages are tools of the project's own.
        if not name:find("^docs/") and name ~= "manual.sh" then
            look("scripts/" .. name, read(root .. "/scripts/" .. name))
        end
    end
    for _, name in ipairs(list_files("tests/embed", "%.%l+$")) do
        look("tests/embed/" .. name, read(root .. "/tests/embed/" .. name))
    end
    look("README.md", read(root .. "/README.md"))
    for _, module in pairs(lua_modules) do look(module.path, module.text, "^%s*%-%-%-") end
end

tests["what the Lua half requires is there"] = function(complain)
    for _, module in pairs(lua_modules) do
        each_require(module.text, function(number, name, _, before)
            if not before:find("%-%-") and not lua_modules[name] and not name:find("^leat%.native%.") then
                complain(module.path, number, name .. ": no such module")
            end
        end)
    end
end

tests["no Lua modules require each other in a circle as they load"] = function(complain)
    local edges = {}
    for name, module in pairs(lua_modules) do
        edges[name] = {}
        each_require(module.text, function(_, other, indented)
            if not indented and lua_modules[other] and other ~= name then edges[name][other] = true end
        end)
    end
    for _, circle in ipairs(circles_of(edges)) do
        complain(lua_modules[circle[1]].path, 1, "a circle: " .. table.concat(circle, " "))
    end
end

-- ---- ARCHITECTURE.md

-- Whether a file defines a function: `name` alone, also as a part of a Lua module or class.
local function defines(path, text, name)
    if path:find("%.lua$") then
        return text:find("function [%w_.]-[.:]?%f[%w_]" .. name .. "%s*%(")
            or text:find("%f[%w_]" .. name .. " = ")
    end
    return ("\n" .. text):find("\n[%a_][%w_ *]-%f[%w_]" .. name .. "%b()%s*\n?{")
end

-- In a paragraph or a row of a list, a name belongs to the file that was named before it: `name()` is a
-- function that this file defines, `name` a word of it. NAME stands for a name to choose.
tests["ARCHITECTURE.md names files and functions that exist"] = function(complain)
    local fenced, path, text, named = false, nil, nil, 0
    for number, line in each_line(read(root .. "/ARCHITECTURE.md")) do
        if line:find("^```") then fenced = not fenced end
        if line == "" or line:find("^[-|]") or line:find("^%d+%.") then path, text = nil, nil end
        for word in (fenced and "" or line):gmatch("`([^`]+)`") do
            local name = word:match("^([%a_][%w_]*)%(%)$")
            local term = word:match("^struct ([%w_]+)$") or word:match("^([%a_][%w_]*)$")
            if word:find("NAME") or word:find("%*") then
                path, text = nil, nil
            elseif word:find("^[%w_/.-]+%.%l+$") then
                path, text = word, nil
                local file = io.open(root .. "/" .. word, "rb")
                if file then
                    text = file:read("*a")
                    file:close()
                    named = named + 1
                else
                    complain("ARCHITECTURE.md", number, word .. ": there is no such file")
                end
            elseif word:find("/$") then
                if #list_files(word, "") == 0 then
                    complain("ARCHITECTURE.md", number, word .. ": there is no such folder")
                end
            elseif name and not path then
                complain("ARCHITECTURE.md", number, word .. ": no file is named before it")
            elseif name and text and not defines(path, text, name) then
                complain("ARCHITECTURE.md", number, word .. " is not defined in " .. path)
            elseif term and text and not text:find("%f[%w_]" .. term .. "%f[^%w_]") then
                complain("ARCHITECTURE.md", number, word .. ": not a word of " .. path)
            elseif term and not path and term:find("_") and not defined_in[term] then
                complain("ARCHITECTURE.md", number, word .. ": no file is named before it")
            end
        end
    end
    if named < 40 then complain("ARCHITECTURE.md", 1, "it names only " .. named .. " files") end
end

tests["the pages for newcomers name files that exist"] = function(complain)
    for _, page in ipairs { "README.md", "CONTRIBUTING.md", "SECURITY.md" } do
        local _, lines = read(root .. "/" .. page):gsub("\n", "")
        if page == "README.md" and lines > 160 then
            complain(page, lines, ("%d lines, at most 160"):format(lines))
        end
        for number, line in each_line(read(root .. "/" .. page)) do
            for before, path in line:gmatch("(.?)%f[%w_]([%l_]+/[%w_/.-]*)") do
                local top = path:match("^%l+")
                path = path:gsub("[./]+$", "")
                if words("src lua tests scripts")[top] and not before:find("[/.]") then
                    local file = io.open(root .. "/" .. path) -- opens a folder, too
                    if file then file:close() end
                    if not file then complain(page, number, path .. ": there is no such file") end
                end
            end
        end
    end
end

-- ---- run

local names, passed, failed = {}, 0, 0
for name in pairs(tests) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
    local complaints = 0
    tests[name](function(file, line, what)
        complaints = complaints + 1
        print(("  %s:%d: %s"):format(file, line, what))
    end)
    if complaints == 0 then passed = passed + 1 else failed = failed + 1 end
    print((complaints == 0 and "ok " or "FAIL ") .. name)
end
print(passed .. " passed, " .. failed .. " failed")
os.exit(failed == 0 and #files > 0 and 0 or 1)
