-- leat --virtual-time everything.lua ROOT: calls every public function with arguments of every type in every
-- place, and with every option of every value, and prints what was said. The functions are those that help()
-- knows; the options are those that the messages about an unknown option list. What is new is found here
-- without being named, or asked for by a complaint: see SAMPLES. Run by test_slips.sh and test_secrets.sh.
--
-- SHAPED looks like a secret and may be shown nowhere. PLAIN does not: it stands where the name of the
-- argument says that it is one.
local leat = require "leat"

local root = arg[1] or "."
local SHAPED, PLAIN = os.getenv "SHAPED" or "sk-shaped-0123456789abcdef", os.getenv "PLAIN" or "plaincanary"
local BASE = "http://api.example"

-- ---- the public functions

package.loaded["leat.native.repl"] = {
    sources = function()
        local found = {}
        for path in io.popen("find '" .. root .. "/lua/leat' -name '*.lua' | sort"):lines() do
            local name = path:match "/lua/leat/(.*)%.lua$":gsub("/", ".")
            local file = assert(io.open(path, "rb"))
            found["leat" .. (name == "init" and "" or "." .. name)] = file:read "*a"
            file:close()
        end
        return found
    end,
}
local names = require("leat.repl.help").names()

-- ---- valid calls: a function that gives the object (for a method) and the arguments

local function fail()
    return nil, leat.error { kind = "invalid", message = "no" }
end

local function one()
    return 1
end

-- An iterator that ends; each call of `values` has a new one.
local function three()
    local n = 0
    return function()
        n = n + 1
        return n <= 3 and n or nil
    end
end

leat.simulate(BASE, { handler = function(req)
    if req.path:find "completions" then
        return { json = { choices = { { message = { content = "yes" }, finish_reason = "stop" } } } }
    elseif req.path:find "401" then
        return { status = 401, json = { error = { message = "no" } } }
    end
    return { body = "data: 1\n\n" }
end })

local function response()
    return assert(request(BASE .. "/"))
end

local function stream()
    return assert(request { url = BASE .. "/", stream = true })
end

local function ai()
    return assert(leat.openai { base_url = BASE, model = "m", retry = false, api_key = "k" })
end

local function client()
    return assert(leat.client { base_url = BASE })
end

-- A request as a handler gets it, while the handler runs.
local function incoming(method, ...)
    local args, results = { ... }, nil
    leat.simulate("http://in.example", { handler = function(req)
        results = { n = select("#", pcall(req[method], req, unpack(args))),
            pcall(req[method], req, unpack(args)) }
        return { body = "x" }
    end })
    request "http://in.example/"
    return results
end

local function items()
    return { 1, 2 }
end

local SAMPLES = {
    adaptive = function() return { max = 3 } end,
    ["adaptive:call"] = function() return leat.adaptive {}, one end,
    ["adaptive:history"] = function() return leat.adaptive {} end,
    as_completed = function() return items(), one, {} end,
    ["as_completed:close"] = function() return leat.as_completed(items(), one) end,
    backend_fd = function() end,
    ["base64.decode"] = function() return "Zm9v", {} end,
    ["base64.encode"] = function() return "foo", {} end,
    batch = function() return items(), { interval = 0 }, one end,
    breaker = function() return { threshold = 3 } end,
    ["breaker:call"] = function() return leat.breaker {}, one end,
    ["breaker:state"] = function() return leat.breaker {} end,
    client = function() return { base_url = BASE } end,
    ["client:request"] = function() return client(), { url = "/x" } end,
    deadline = function() end,
    each = function() return items(), one, {} end,
    error = function() return { kind = "invalid", message = "no" } end,
    event = function() end,
    finally = function() return one, one, 1 end,
    gather = function() return { one, one }, {} end,
    group = function() return one end,
    hmac = function() return "k", "bytes", {} end,
    inspect = function() return { 1 }, {} end,
    is_stopping = function() end,
    ["json.array"] = function() return {} end,
    ["json.decode"] = function() return "[]", {} end,
    ["json.encode"] = function() return { 1 }, {} end,
    ["json.object"] = function() return {} end,
    ["jsonl.read"] = function() return "/dev/null", {} end,
    ["jsonl.writer"] = function() return "/dev/null", {} end,
    limiter = function() return { rpm = 60 } end,
    ["limiter:call"] = function() return leat.limiter {}, one end,
    ["limiter:learn"] = function() return leat.limiter {}, {} end,
    ["limiter:reserve"] = function() return leat.limiter {}, {} end,
    ["limiter:set"] = function() return leat.limiter {}, {} end,
    ["limiter:stats"] = function() return leat.limiter {} end,
    map = function() return items(), one, {} end,
    merge = function() return { leat.queue() }, {} end,
    ["merge:close"] = function() return leat.merge { leat.queue() } end,
    now = function() end,
    openai = function() return { base_url = BASE, model = "m", api_key = "k", retry = false } end,
    ["mock.start"] = function() return { simulate = "http://mock.example" } end,
    ["openai:chat"] = function() return ai(), "hello", {} end,
    ["openai:embed"] = function() return ai(), "hello", {} end,
    ["openai:models"] = function() return ai() end,
    ["openai:stream"] = function() return ai(), "hello", {} end,
    pipeline = function() return { concurrency = 2 } end,
    ["pipeline:call"] = function() return leat.pipeline {}, one end,
    ["pipeline:each"] = function() return leat.pipeline {}, items(), one end,
    ["pipeline:run"] = function() return leat.pipeline {}, items(), one end,
    ["pipeline:stats"] = function() return leat.pipeline {} end,
    queue = function() return 3 end,
    ["queue:iter"] = function() return leat.queue() end,
    race = function() return { one } end,
    request = function() return { url = BASE .. "/" } end,
    ["reservation:cancel"] = function() return assert(leat.limiter({}):reserve {}) end,
    ["reservation:settle"] = function() return assert(leat.limiter({}):reserve {}), 1 end,
    ["response:events"] = function() return stream() end,
    ["response:chunks"] = function() return stream() end,
    ["response:lines"] = function() return stream() end,
    ["response:read"] = function() return stream() end,
    ["response:next_event"] = function() return stream() end,
    ["response:close"] = function() return stream() end,
    ["response:each_chunk"] = function() return stream(), one end,
    ["response:each_line"] = function() return stream(), one end,
    ["response:each_event"] = function() return stream(), one end,
    ["response:header_values"] = function() return response(), "a" end,
    ["response:json"] = function() return response(), {} end,
    retry = function() return { attempts = 2 } end,
    ["retry:call"] = function() return leat.retry { attempts = 1 }, fail end,
    run = function() end,
    semaphore = function() return 2 end,
    ["semaphore:acquire"] = function() return semaphore(1), 1 end,
    ["semaphore:with"] = function() return semaphore(1), one end,
    serve = function() return { handler = one } end,
    sha256 = function() return "a", {} end,
    shield = function() return 1, one end,
    simulate = function() return "http://another.example", { handler = one } end,
    sleep = function() return 0 end,
    spawn = function() return one end,
    start = function() return one end,
    stats = function() end,
    step = function() return 0 end,
    tasks = function() end,
    time = function() end,
    timeout = function() end,
    uuid = function() end,
    wait_for = function() return 1, one end,
}

local function object(make)
    return function() return make(), 1 end
end

for _, name in ipairs { "get", "post", "put", "patch", "delete", "head" } do
    SAMPLES["client:" .. name] = function() return client(), "/x", {} end
end
for _, name in ipairs { "debug", "info", "warn", "error" } do
    SAMPLES["log." .. name] = function() return "a message", {} end
end
for _, name in ipairs { "get", "put", "try_get", "try_put", "close" } do
    SAMPLES["queue:" .. name] = object(leat.queue)
end
for _, name in ipairs { "set", "clear", "is_set", "wait" } do
    SAMPLES["event:" .. name] = object(leat.event)
end
for _, name in ipairs { "release", "resize", "try_acquire" } do
    SAMPLES["semaphore:" .. name] = object(function() return semaphore(2) end)
end
for _, name in ipairs { "await", "cancel", "status" } do
    SAMPLES["task:" .. name] = object(function() return spawn(one) end)
end
for _, name in ipairs { "write", "flush", "close" } do
    SAMPLES["writer:" .. name] = object(function() return leat.jsonl.writer "/dev/null" end)
end
SAMPLES["stats:check"] = function()
    local _, stats = leat.pipeline({}):run({ 1 }, one)
    return stats, {}
end

-- What is a value, is tested elsewhere, or exists only in a handler.
local SKIPPED = {
    ["json.null"] = true, response = true, stopping = true, ["stdin:lines"] = true, ["stdin:read"] = true,
    ["group:spawn"] = true, ["group:cancel"] = true, ["req:json"] = true, ["req:respond"] = true,
    ["server:close"] = true, ["server:stats"] = true, ["stream:write"] = true, ["stream:close"] = true,
    ["stream:abort"] = true,
}

-- ---- calling

local function shown(what, ...)
    local n = select("#", ...)
    for i = 1, n do
        local v = select(i, ...)
        if type(v) == "table" and getmetatable(v) ~= nil or type(v) == "string" then
            local text = tostring(v)
            print(what, i, text)
            if type(v) == "table" and v.kind and v.message then
                print(what, i, leat.inspect(v))
            end
        end
    end
end

-- What a call raises, with what it is about: these must name the script, and nothing inside leat.
local complaints = 0

local function complain(what, text)
    complaints = complaints + 1
    io.stderr:write("COMPLAINT ", what, ": ", tostring(text), "\n")
end

local INSIDE = {
    "leat/[%w_/]+%.lua", "'%?'", " %?: ", "upvalue", "userdata", "bad argument", "_start", "native%.",
    "<lightuser", "to index a", "to call a", "perform arithmetic", "to concatenate", "to compare", "local '",
    "field '_", "%(null%)", "%[C%]", "nil value",
}

local function judge(what, raised)
    if leat.inspect(raised):find "^{" then -- an error value
        raised = tostring(raised)
    end
    local text = tostring(raised):match "^[^\n]*"
    if type(raised) == "table" then
        return
    end
    if not text:find "^%S*everything%.lua:%d+: " then
        complain(what, "does not begin with the script's line: " .. text)
    end
    for _, pattern in ipairs(INSIDE) do
        if text:find(pattern) then
            complain(what, "tells of the inside (" .. pattern .. "): " .. text)
        end
    end
end

-- These return what they were given.
local RETURNS = { inspect = true, ["json.encode"] = true, ["base64.encode"] = true }

local function call(what, fn, n, args)
    local results = {}
    local function run()
        local function finish(...)
            results = { n = select("#", ...), ... }
            return true
        end
        -- Not a tail call: the line of the script is asked for.
        local function within()
            finish(xpcall(function()
                return fn(unpack(args, 1, n))
            end, function(raised)
                print("TRACE", debug.traceback(tostring(raised)))
                return raised
            end))
        end
        wait_for(5, within)
    end
    local ok, raised = pcall(leat.group, run)
    if not ok then
        shown(what, raised)
        judge(what, raised)
    end
    if not RETURNS[what] then
        shown(what, unpack(results, 1, results.n or 0))
    end
    if results[1] == false then
        judge(what, results[2])
    end
    return results
end

-- In these the values of names that say nothing are shown: in the URL of a trace.
local VISIBLE = { query = true, form = true, multipart = true }

local function values()
    return {
        SHAPED, { SHAPED }, { [SHAPED] = SHAPED }, { [SHAPED] = true }, { name = SHAPED }, -7, 0.5, 0 / 0,
        true, json.null, three(), spawn(one), response(), leat.error { kind = "io", message = "x" }, { 1, 2 },
        {}, false, "Bearer " .. SHAPED, "http://user:" .. SHAPED .. "@api.example/?key=" .. SHAPED,
        { { SHAPED, SHAPED } }, leat.queue(), "a\0b\n" .. SHAPED, { [SHAPED] = print },
        { [SHAPED] = { [SHAPED] = { print } } }, { [1] = SHAPED, [3] = SHAPED }, { { [SHAPED] = 0 / 0 } },
    }
end

-- The same for PLAIN.
local function plain_values(option)
    if VISIBLE[option] then
        return {
            PLAIN, { PLAIN }, { api_key = { PLAIN, {} } }, { token = PLAIN }, { { "password", PLAIN } },
        }
    end
    return {
        PLAIN, { PLAIN }, { [PLAIN] = PLAIN }, { name = { PLAIN, PLAIN } }, "user:" .. PLAIN,
        { bearer = PLAIN }, { bearer = { PLAIN } }, { basic = PLAIN }, { basic = { PLAIN } },
        { basic = { "u", PLAIN } }, { basic = { [PLAIN] = 1 } }, { Authorization = PLAIN },
        { Authorization = { { PLAIN } } }, { { PLAIN } }, "http://u:" .. PLAIN .. "@127.0.0.1:1",
        "u:" .. PLAIN .. "@h",
    }
end

local function function_of(name)
    local class, method = name:match "^([^:]*):(.*)$"
    if class then
        return function(self, ...)
            return self[method](self, ...)
        end
    end
    local value = name:find "^mock%." and { mock = require "leat.mock" } or leat
    for part in name:gmatch "[^.]+" do
        value = value[part]
    end
    return value
end

-- The options of a function that takes a table of them at `place`: those that it lists.
local function options_of(what, fn, sample, place)
    local args = { sample() }
    local given = {}
    for key, value in pairs(type(args[place]) == "table" and args[place] or {}) do
        given[key] = value
    end
    given.zzzunknown = 1
    args[place] = given
    local results = call(what .. " unknown", fn, math.max(select("#", sample()), place), args)
    local message = results[1] == false and tostring(results[2]) or ""
    local list = message:match "[Oo]ptions: ([%w_, ]+)%)?"
    local options = {}
    for option in (list or ""):gmatch "[%w_]+" do
        options[#options + 1] = option
    end
    return options
end

local util = require "leat.native.util"
local MUST_HIDE = { auth = true, headers = true, api_key = true, bearer = true, basic = true, proxy = true,
    key = true, query = true, form = true, multipart = true }

local tried = 0

-- The options of a table within the options, such as auth or a timeout.
local function try_nested(name, option, fn, n, sample, place)
    local function with(value)
        local args = { sample() }
        local given = {}
        for key, v in pairs(type(args[place]) == "table" and args[place] or {}) do
            given[key] = v
        end
        given[option] = value
        args[place] = given
        tried = tried + 1
        return call(name .. " " .. option, fn, n, args)
    end
    local results = with { zzzunknown = 1 }
    local list = results[1] == false and tostring(results[2]):match "zzzunknown'.*[Oo]ptions: ([%w_, ]+)%)?"
    for inner in (list or ""):gmatch "[%w_]+" do
        local place_of_secret = util.picture(PLAIN, option .. " " .. inner):find(PLAIN, 1, true) == nil
        for _, v in ipairs { SHAPED, { SHAPED }, { [SHAPED] = SHAPED }, json.null, { 1 }, -1, one, true } do
            with { [inner] = v }
        end
        for _, v in ipairs(place_of_secret and { PLAIN, { PLAIN }, { [PLAIN] = PLAIN }, 123456789 } or {}) do
            with { [inner] = v }
        end
    end
end

local function try_options(name, fn, sample, place)
    local options = options_of(name, fn, sample, place)
    local known = {}
    for _, option in ipairs(options) do
        known[option] = true
    end
    for option in pairs(require("leat.repl.help").option_names(name)) do -- where any is passed on
        options[#options + 1] = not known[option] and option or nil
    end
    local n = math.max(select("#", sample()), place)
    for _, option in ipairs(options) do
        try_nested(name, option, fn, n, sample, place)
        local list = values()
        local secret = util.picture(PLAIN, option):find(PLAIN, 1, true) == nil
        if MUST_HIDE[option] and not secret then
            complain(name, "option " .. option .. " does not count as one that may hold a secret")
        end
        if secret then
            for _, v in ipairs(plain_values(option)) do
                list[#list + 1] = v
            end
        end
        for i = 1, 40 do
            if list[i] ~= nil then
                local args = { sample() }
                local given = {}
                for key, value in pairs(type(args[place]) == "table" and args[place] or {}) do
                    given[key] = value
                end
                given[option] = list[i]
                args[place] = given
                tried = tried + 1
                call(name .. " " .. option, fn, n, args)
            end
        end
    end
    return #options
end

for _, name in ipairs(names) do
    local sample = SAMPLES[name]
    if not sample and not SKIPPED[name] then
        complain(name, "is new: give it a valid call in SAMPLES of tests/cli/everything.lua")
    elseif sample then
        local fn = function_of(name)
        local n = select("#", sample())
        local options = 0
        for place = 1, math.max(n, 1) + 1 do
            for _, v in pairs(name:find ":" and place == 1 and {} or values()) do
                local args = { sample() }
                args[place] = v
                tried = tried + 1
                call(name, fn, math.max(n, place), args)
            end
            local given = select(place, sample())
            if type(given) == "table" and getmetatable(given) == nil then
                options = options + try_options(name, fn, sample, place)
            end
        end
        local method = name:match ":(.*)$"
        if method then -- called with a point, on nothing and on what has no such method
            local f = (sample())[method]
            for _, self in ipairs { {}, 5, SHAPED, json.null, one, leat.queue(), spawn(one), { SHAPED } } do
                call(name .. " point", f, 1, { self })
            end
            call(name .. " point", f, 0, {})
        end
        for missing = method and 2 or 1, n do
            call(name .. " missing", fn, missing - 1, { sample() })
        end
        print("DONE", name, options)
    end
end
incoming("respond", { body = { SHAPED } })
print("TRIED", tried)
print("COMPLAINTS", complaints)
