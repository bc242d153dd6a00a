-- Every public function says in the comment above it what it takes, what it returns, and shows an example.
-- (What only writes a message returns nothing.)
-- (That the examples work is tests/cli/test_examples.sh's to show.)
local t = require "harness"
local leat = require "leat"

local root = arg[0]:match "^(.*)/tests/lua/[^/]*$" or "."

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

-- The comments of a module: by the name that follows them ("sleep", "Client:get"), their text.
local function comments(module)
    local docs, block = {}, {}
    for line in (read(root .. "/lua/leat/" .. module .. ".lua") .. "\n"):gmatch "(.-)\n" do
        local doc = line:match "^%-%-%- ?(.*)" or line:match "^%-%-%-(.*)"
        if doc then
            block[#block + 1] = doc
        else
            local name = line:match "^local function ([%w_]+)" or line:match "^function ([%w_.:]+)%s*%("
                or line:match "^([%w_.]+)%s*="
            if name and #block > 0 then
                docs[name:gsub("^M[.:]", "")] = table.concat(block, "\n")
            end
            block = {}
        end
    end
    return docs
end

local init = read(root .. "/lua/leat/init.lua")
local public = {} -- name in leat -> {module, name there}
for name, module, field in init:gmatch '([%w_]+) = { "leat%.([%w_]+)", "([%w_]+)" }' do
    public[name] = { module, field }
end
for name, module, field in init:gmatch "\n%s+([%w_]+) = ([%w_]+)%.([%w_]+)," do
    public[name] = { module, field }
end
-- Fields that are modules: each function of theirs.
for name, module in init:gmatch '\n%s+([%w_]+) = { "leat%.([%w_]+)" }' do
    for field, value in pairs(leat[name]) do
        if type(value) == "function" then
            public[name .. "." .. field] = { module, field }
        end
    end
end

t.test("what leat offers is all found here", function()
    local n = 0
    for name in pairs(public) do
        local value = leat[name:match "^[^.]+"]
        t.ok(value ~= nil, name)
        n = n + 1
    end
    t.ok(n >= 30, "only " .. n)
    for _, name in ipairs { "sleep", "gather", "request", "semaphore", "json.encode", "log.info" } do
        t.ok(public[name], name)
    end
end)

local cache = {}
local names = {}
for name in pairs(public) do
    names[#names + 1] = name
end
table.sort(names)
for _, name in ipairs(names) do
    local module, field = public[name][1], public[name][2]
    local value = leat
    for part in name:gmatch "[^.]+" do
        value = value[part]
    end
    if type(value) == "function" then
        t.test("leat." .. name .. " has an example, and says what it takes and returns", function()
            cache[module] = cache[module] or comments(module)
            local doc = cache[module][field]
            t.ok(doc, "no comment above " .. field .. " in lua/leat/" .. module .. ".lua")
            t.ok(doc:find("```lua\n.+```"), "no example")
            if (debug.getinfo(value, "u").nparams or 0) > 0 then
                t.ok(doc:find("@param", 1, true), "no ---@param")
            end
            t.ok(module == "log" or doc:find("@return", 1, true), "no ---@return")
        end)
    end
end

t.done()
