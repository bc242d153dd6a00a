#!/bin/bash
# The definitions for editors: they name what the program has, with the types that it takes.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

begin "the definitions are written, and are Lua"
mkdir library
try "$LEAT" "$root/scripts/docs/editor.lua" library
expect_status 0
for file in leat leat/mock; do
    try luajit -b library/$file.lua parsed
    expect_status 0
done
grep -q '^---@meta leat$' library/leat.lua || fail "they do not say that they are definitions"
grep -q '^return leat$' library/leat.lua || fail "require \"leat\" would give nothing"
grep -q ' $' library/leat.lua && fail "spaces at the end of lines: $(grep -c ' $' library/leat.lua)"

# What an editor reads in them: `classes` (name -> {parent, fields}), `functions` ("leat.map", "leat.task:await")
# and `values` ("leat.json").
cat >definitions.lua <<'LUA'
local D = { classes = {}, functions = {}, values = {}, aliases = {}, globals = {} }
local class, params, variable = nil, {}, {}
local parts = require("leat.repl.annotations").parts
local function read(line)
    local name, parent = line:match "^%-%-%-@class ([%w_.]+):? ?([%w_.]*)$"
    local alias = line:match "^%-%-%-@alias ([%w_.]+) "
    local tag = line:match "^%-%-%-(@%l+ .*)$"
    local owner, method, arguments = line:match "^function ([%w_.]+)[.:]([%w_]+)%((.-)%) end$"
    if name then
        class = { name = name, parent = parent ~= "" and parent or nil, fields = {} }
        if D.classes[name] then print(name, "is defined twice") end
        D.classes[name] = class
    elseif alias then
        D.aliases[alias] = line
    elseif tag and tag:find "^@field" then
        local part = parts({ tag })[1]
        class.fields[part.name or "?"] = part
    elseif tag and (tag:find "^@param" or tag:find "^@return") then
        params[#params + 1] = parts({ tag })[1]
    elseif owner then
        local key = (variable[owner] or owner) .. (line:find(":" .. method, 1, true) and ":" or ".") .. method
        if D.functions[key] then print(key, "is defined twice") end
        D.functions[key] = { arguments = arguments, parts = params }
        params = {}
    elseif line:find "^local %w" then
        variable[line:match "^local ([%w_]+)"] = class.name
    elseif line:find "^leat%.[%w_.]+ = " then
        D.values[line:match "^([%w_.]+)"] = true
    elseif line:find "^[%w_]+ = leat%." then
        D.globals[line:match "^[%w_]+"] = true
    end
end

for line in io.lines "library/leat.lua" do read(line) end
for line in io.lines "library/leat/mock.lua" do read(line) end

-- The fields of a class, with those of its parents.
function D.fields(name)
    local all = {}
    while D.classes[name] do
        for field, part in pairs(D.classes[name].fields) do all[field] = all[field] or part end
        name = D.classes[name].parent
    end
    return all
end

return D
LUA

begin "each name, option, field and result has a type, and each type is there"
cat >types.lua <<'LUA'
local D = require "definitions"
local KNOWN = {}
for word in ("any nil boolean string number integer function table true false userdata fun self"):gmatch "%S+" do
    KNOWN[word] = true
end
local function look(where, kind)
    if not kind or kind == "" then
        return print(where, "has no type")
    end
    local bare = kind:gsub('"[^"]*"', ""):gsub("[%w_]+: ", "")
    for word in bare:gmatch "[%a_][%w_.]*" do
        if not KNOWN[word] and not D.classes[word] and not D.aliases[word] then
            print(where, "has an unknown type: " .. word)
        end
    end
end
local n = 0
for name, class in pairs(D.classes) do
    n = n + 1
    if class.parent and not D.classes[class.parent] and class.parent ~= "userdata" then print(name, class.parent) end
    for field, part in pairs(class.fields) do look(name .. "." .. field, part.kind) end
end
for name, fn in pairs(D.functions) do
    local given, returns = {}, 0
    for _, part in ipairs(fn.parts) do
        look(name .. " " .. (part.name or part.what), part.kind)
        if part.what == "param" then given[#given + 1] = part.name else returns = returns + 1 end
    end
    if table.concat(given, ", ") ~= fn.arguments then print(name, "takes", fn.arguments) end
end
if n < 60 then print("only", n, "classes") end
LUA
try "$LEAT" types.lua
expect_status 0
expect_equal "$(cat out)" ""

begin "the definitions have what the program has, and nothing else"
cat >names.lua <<'LUA'
local D = require "definitions"
local complete = require "leat.repl.complete"
-- What Tab offers of a value.
local function offers(value, mark)
    subject = value
    local inserted, listed = complete.complete("subject" .. mark, {}, 1)
    local names = {}
    for name in (listed ~= "" and listed or inserted):gmatch "[%w_]+" do names[name] = true end
    return names
end
local server = assert(leat.serve { handler = function(req)
    for name, part in pairs(D.classes["leat.req"].fields) do
        if req[name] == nil then print("leat.req", name, "is not there") end
    end
    for name in pairs(D.functions) do
        local method = name:match "^leat%.req:(.*)$"
        if method and type(req[method]) ~= "function" then print(name, "is not there") end
    end
    local out = req:respond {}
    for _, method in ipairs { "write", "close", "abort" } do
        if type(out[method]) ~= "function" or not D.functions["leat.stream:" .. method] then print("stream", method) end
    end
    return out:close()
end })
local mock = assert(require("leat.mock").start())
local ai = leat.openai { base_url = mock.url .. "/v1", api_key = "test", model = "mock" }
local pipe = leat.pipeline { price = { prompt = 1 } }
local results, stats = pipe:run({ 1, 2 }, function(x) if x == 2 then return nil, "two" end return x end)
local plain = assert(request(mock.url .. "/v1/models"))
local _, refused = request "http://127.0.0.1:1/"
local chat = ai:stream "hello"
for _ in chat do end
local group
leat.group(function(g) group = g end)
local objects = {
    semaphore = semaphore(1), queue = leat.queue(), event = leat.event(), task = spawn(sleep, 0),
    client = leat.client {}, openai = ai, pipeline = pipe, retry = leat.retry {}, breaker = leat.breaker {},
    limiter = leat.limiter { rpm = 1 }, adaptive = leat.adaptive {}, server = server, merge = leat.merge {},
    response = plain, error = refused, reservation = leat.limiter():reserve(), stats = stats,
    pipeline_results = results, writer = leat.jsonl.writer "rows.jsonl", group = group, chat_stream = chat,
    as_completed = leat.as_completed({}, print), timing = plain.timing, version = leat.version, stdin = leat.stdin,
    task_state = leat.tasks()[1], runtime_stats = leat.stats(), limiter_stats = leat.limiter():stats(),
    network_stats = leat.stats().engine, server_stats = server:stats(),
    counts = leat.each({ 1 }, function() return true end),
    reason = stats.why_failed[1], limit_change = leat.adaptive():history()[1],
    outcome = gather({ function() return 1 end }, { settle = true })[1],
    results = gather { function() return 1 end }, usage = chat.usage, reply = chat.reply,
}
local LUA_TYPE = { string = "string", integer = "number", number = "number", boolean = "boolean" }
local INNER = { ["server:handler"] = true, ["as_completed:next_job"] = true, ["chat_stream:tell"] = true,
    ["chat_stream:next_event"] = true }
for class, object in pairs(objects) do
    local full = "leat." .. class
    if not D.classes[full] then print(full, "is not there") end
    for name, part in pairs(D.fields(full)) do
        local value = object[name]
        if name:find "^%[" then value = part.optional and nil or true end
        local want = LUA_TYPE[part.kind]
        if value == nil and not part.optional and part.name ~= "[string]" then
            print(full, name, "is nil")
        elseif value ~= nil and want and not name:find "^%[" and type(value) ~= want then
            print(full, name, "is a " .. type(value))
        end
    end
    for name in pairs(offers(object, ":")) do
        local field = D.fields(full)[name]
        if not INNER[class .. ":" .. name] and not D.functions[full .. ":" .. name] and not (field and field.kind:find "fun") then
            print(full .. ":" .. name, "is not defined")
        end
    end
    for name in pairs(D.functions) do
        local owner, method = name:match "^(leat%.[%w_]+):(.*)$"
        if owner == full and type(object[method]) ~= "function" then print(name, "does not exist") end
    end
end
-- Each class with methods was looked at.
for name in pairs(D.functions) do
    local class = name:match "^leat%.([%w_]+):"
    if class and not objects[class] and class ~= "req" and class ~= "stream" then print("no object of", class) end
end
-- The module and its tables of functions.
for name in pairs(offers(leat, ".")) do
    local value = leat[name]
    if type(value) == "function" and not D.functions["leat." .. name] then
        print("leat." .. name, "is not defined")
    elseif type(value) ~= "function" and not D.values["leat." .. name] then
        print("leat." .. name, "has no type")
    end
    for inner, v in pairs(type(value) == "table" and name ~= "stdin" and name ~= "version" and value or {}) do
        if type(v) == "function" and not D.functions["leat." .. name .. "." .. inner] then
            print("leat." .. name .. "." .. inner, "is not defined")
        end
    end
end
local modules = { mock = require "leat.mock" } -- those that are required on their own
for name in pairs(D.functions) do
    local value = not name:find ":" and leat or nil
    for word in (value and name or ""):gmatch "%.([%w_]+)" do
        value = value and (value == leat and modules[word] or value[word])
    end
    if value == nil and not name:find ":" then print(name, "does not exist") end
end
for name in pairs(D.globals) do
    if _G[name] == nil then print(name, "is no global") end
end
for name, value in pairs(leat) do
    if rawequal(_G[name], value) and name ~= "inspect" and not D.globals[name] then print(name, "is a global") end
end
objects.writer:close()
server:close()
mock:close()
LUA
echo 'dofile "names.lua"' | "$LEAT" repl 2>err | grep -v '^nil$' >out
expect_equal "$(cat out err)" ""

begin "each function takes the options that its class has, and values of their types"
cat >options.lua <<'LUA'
local D = require "definitions"
local id = function(x) return x end
local api, limiter = leat.client { base_url = "http://127.0.0.1:1" }, leat.limiter { rpm = 60000 }
local pipe = leat.pipeline {}
local _, stats = pipe:run({ 1 }, id)
local res = assert(leat.serve { handler = function() return "x" end })
local function stream() return request { url = res.url, stream = true } end
local function closed(server) if server then server:close() end end
local CALLS = {
    request_options = function(o) o.url = o.url or "http://127.0.0.1:1/" return request(o) end,
    call_options = function(o) return api:get("/", o) end,
    client_options = function(o) return leat.client(o) end,
    gather_options = function(o) return gather({}, o) end,
    map_options = function(o) return leat.map({}, id, o) end,
    each_options = function(o) return leat.each({}, id, o) end,
    as_completed_options = function(o) return leat.as_completed({}, id, o) end,
    merge_options = function(o) return leat.merge({}, o) end,
    batch_options = function(o) return leat.batch({}, o, id) end,
    journal_options = function(o) o.path = o.path or "journal" return leat.map({}, id, { journal = o }) end,
    retry_options = function(o) return leat.retry(o) end,
    retry_budget = function(o) return leat.retry { budget = o } end,
    breaker_options = function(o) return leat.breaker(o) end,
    limiter_options = function(o) return leat.limiter(o) end,
    rates = function(o) return limiter:set(o) end,
    reserve_options = function(o) return leat.limiter({ rpm = 6000 }):reserve(o) end,
    adaptive_options = function(o) return leat.adaptive(o) end,
    pipeline_options = function(o) return leat.pipeline(o):run({}, id) end,
    pipeline_batch = function(o) return leat.pipeline { batch = o } end,
    progress_options = function(o) return leat.pipeline { progress = o } end,
    price = function(o) return leat.pipeline { price = o } end,
    thresholds = function(o) return stats:check(o) end,
    openai_options = function(o) return leat.openai(o) end,
    serve_options = function(o) o.handler = o.handler or id return closed(leat.serve(o)) end,
    simulate_options = function(o) o.handler = o.handler or id return closed(leat.simulate("http://x.test", o)) end,
    encode_options = function(o) return json.encode({}, o) end,
    decode_options = function(o) return json.decode("1", o) end,
    jsonl_read_options = function(o) return leat.jsonl.read("nowhere", o) end,
    jsonl_writer_options = function(o) return leat.jsonl.writer("rows", o):close() end,
    inspect_options = function(o) return leat.inspect({}, o) end,
    sha256_options = function(o) return leat.sha256("s", o) end,
    hmac_options = function(o) return leat.hmac("k", "s", o) end,
    base64_encode_options = function(o) return leat.base64.encode("s", o) end,
    base64_decode_options = function(o) return leat.base64.decode("aa", o) end,
    piece_options = function(o) return stream():lines(o) end,
    mock_options = function(o) return closed(require("leat.mock").start(o)) end,
    timeouts = function(o) return request { url = "http://127.0.0.1:1/", timeout = o } end,
    auth = function(o) return request { url = "http://127.0.0.1:1/", auth = o } end,
    file_body = function(o) o.file = o.file or "nowhere" return request { url = "http://127.0.0.1:1/", body = o } end,
    part = function(o) o.content = not o.file and (o.content or "x") or nil
        return request { url = "http://127.0.0.1:1/", multipart = { a = o } } end,
    respond_options = false, error_fields = false, chat_options = false, -- these take any name
    common_options = false,
}
-- Text, to see a type in; a value of it.
local SAMPLES = { boolean = true, string = "text", integer = 1, number = 1, fun = id, table = {} }
for class in pairs(D.classes) do
    local name = class:match "^leat%.(.*)$"
    local call = name and CALLS[name]
    if name and name:find "_options$" and call == nil then print("nothing is known about", class) end
    if call then
        local fields = D.fields(class)
        local ok, err = pcall(call, { no_such_option = 1 })
        local list = tostring(err):match "[oO]ptions: ([%l%d_, ]+)" or tostring(err):match "%(([%l_, ]+)%)"
        local accepted = {}
        for option in (list or ""):gmatch "[%w_]+" do accepted[option] = true end
        if name == "call_options" then accepted.url, accepted.method = nil, nil end
        if not list and name ~= "timeouts" then print(class, "takes any option?", ok, err) end
        for option in pairs(accepted) do
            if not fields[option] then print(class, option, "has no type") end
        end
        for option, part in pairs(fields) do
            if list and not accepted[option] then print(class, option, "is not accepted") end
            -- What has no such type is refused, or fails; what has one is not refused for its type.
            local taken, what = pcall(call, { [option] = coroutine.create(id) })
            if taken and what ~= nil and not part.kind:find "any" then print(class, option, "takes a coroutine") end
            for word, sample in pairs(SAMPLES) do
                local kinds = part.kind:gsub("fun%b().*$", "fun"):gsub('"[^"]*"', ""):gsub("%b()", "")
                    :gsub("%b<>", "")
                if ("|" .. kinds .. "|"):find("|" .. word .. "|", 1, true) then
                    local fine, refusal = pcall(call, { [option] = sample })
                    local text = tostring(refusal)
                    if not fine and text:find("'" .. option .. "' must be a %l+, got") then
                        print(class, option, part.kind, "is refused", text)
                    end
                end
            end
        end
    end
end
res:close()
print "all looked at" -- the status is 3, for the thresholds
LUA
try "$LEAT" options.lua
expect_equal "$(cat out)" "all looked at"

begin "an option or a method without a type would be noticed"
sed -i -e '/^---@field max_redirects/d' -e 's/^function queue:iter/function queue:itter/' \
    -e 's/^---@field settle? boolean/---@field settle? string/' library/leat.lua
try "$LEAT" options.lua
expect_out "max_redirects	has no type"
expect_out "settle	string	is refused"
echo 'dofile "names.lua"' | "$LEAT" repl >out 2>&1
expect_out "leat.queue:iter	is not defined"
expect_out "leat.queue:itter	does not exist"
finish
