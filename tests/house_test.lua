-- luajit tests/house_test.lua ROOT: reads the sources and fails on what would bend the building: an
-- include of a higher floor, a banned call, a global that can change, a file too long to read.

local root = arg[1] or "."

-- ---- the floors. A file may include its own floor and those that the floor's row lists.

local floors = {
    ground = { uses = {}, system = {} },
    loop = { uses = { "ground" }, system = { "^uv%.h$" } },
    engine = { uses = { "ground", "loop" }, system = { "^uv%.h$", "^curl/", "^zlib%.h$" } },
    tasks = { uses = { "ground", "loop" }, system = { "^uv%.h$", "^lua%.h$", "^lauxlib%.h$" } },
    lua = {
        uses = { "ground", "loop", "engine", "tasks" },
        system = { "^uv%.h$", "^lua%.h$", "^lauxlib%.h$", "^lualib%.h$", "^luajit%.h$", "^openssl/",
            "^lua5.1/lua%-cjson%.h$" },
    },
    host = { uses = { "ground", "loop", "engine", "tasks", "lua", "cli" }, system = { "" } },
    cli = { uses = { "ground", "loop", "engine", "tasks", "lua", "host" }, system = { "" } },
}

-- The folder is the floor. leat.h lies above them, and anybody may read it.
local function floor_of(file)
    if file == "leat.h" then return "host" end
    local folder = file:match("^(%l+)/[%l_%d]+%.[ch]$")
    return floors[folder] and folder
end

-- One file alone may use libmicrohttpd; it begins with this.
local microhttpd_files = "/lua_serve"

-- What the C standard library promises, and POSIX beside it: open to every floor.
local function is_libc(header)
    return header:find("^[%w_]+%.h$") and not header:find("^uv") and not header:find("^lua")
        and not header:find("^lauxlib") and not header:find("^zlib") and not header:find("^microhttpd")
        or header:find("^sys/") or header:find("^netinet/") or header:find("^arpa/") or header:find("^net/")
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
    -- libcurl's own initialisation is per process and not thread-safe: a lock and a count around it.
    ["engine/engine.c"] = true,
    -- A signal handler has nothing but globals to speak to.
    ["cli/cli_signal.c"] = true,
    ["cli/cli_profile.c"] = true,
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

tests["every file in src belongs to a floor"] = function(complain)
    for _, f in ipairs(files) do
        if not floor_of(f.name) then
            complain(f.path, 1, "lies in no folder of src/")
        end
    end
end

tests["no file includes one of a higher floor"] = function(complain)
    for _, f in ipairs(files) do
        local floor = floor_of(f.name)
        local may = { [floor or ""] = true }
        for _, used in ipairs(floor and floors[floor].uses or {}) do may[used] = true end
        for number, line in each_line(f.text) do
            local header = line:match('^%s*#%s*include%s+"([^"]+)"')
            local other = header and floor_of(header)
            if header and floor and not may[other or ""] then
                complain(f.path, number, ("%s floor includes %s (%s)"):format(floor, header, other or "none"))
            end
        end
    end
end

tests["each library is met on its own floor only"] = function(complain)
    for _, f in ipairs(files) do
        local floor = floor_of(f.name)
        for number, line in each_line(f.text) do
            local header = line:match("^%s*#%s*include%s+<([^>]+)>")
            local allowed = not header or not floor or is_libc(header)
                or header == "microhttpd.h" and f.name:find(microhttpd_files)
            for _, pattern in ipairs(floor and floors[floor].system or {}) do
                allowed = allowed or header:find(pattern)
            end
            if not allowed then
                complain(f.path, number, ("<%s> does not belong on the %s floor"):format(header, floor))
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

tests["each public Lua function says what it takes and gives"] = function(complain)
    for _, name in ipairs(list_files("lua/leat", "%.lua$")) do
        local text = read(root .. "/lua/leat/" .. name)
        -- What scripts never see says so: "Internal." at a module's head, "-- Internal: ..." above a
        -- function.
        local head = text:match("^[%-%s][^\n]*\n[^\n]*\n?[^\n]*\n?")
        local before = ""
        for number, line in each_line(text) do
            if head and head:find("Internal%.") then break end
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
