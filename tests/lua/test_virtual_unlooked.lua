-- A script goes on with nil because something had failed and nobody looked at err: the bug says what failed,
-- and where.
local t = require "harness"
local leat = require "leat"

leat.simulate("https://a.test", function(req)
    if req.path == "/gone" then
        return { status = 404, body = '{"message":"no such thing"}' }
    end
    return "fine"
end)
assert(request "https://a.test/")

-- The message of the bug in `source`, run as a script of its own. GONE is a URL that cannot be reached.
local function bug_of(source)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write((source:gsub("GONE", '"https://nowhere.test/"')))
    file:close()
    local chunk = assert(loadfile(path))
    local result = leat.gather({ chunk }, { settle = true })[1]
    t.ok(os.remove(path))
    t.eq(result.ok, false)
    return result.err.message:gsub(path:gsub("%W", "%%%0"), "s.lua")
end

local function says(source, words)
    local message = bug_of(source)
    t.ok(message:find(words, 1, true), message .. "\nshould hold: " .. words)
end

local function says_nothing(source)
    local message = bug_of(source)
    t.ok(not message:find("had failed", 1, true), message)
end

t.test("a field of a failed request's response: the bug says where the request was, and why", function()
    says('local res = request GONE\nprint(res.status)',
        "s.lua:2: attempt to index local 'res' (a nil value); the request at s.lua:1 had failed: ")
    says('local api = leat.client { base_url = GONE }\nlocal data = api:get("x"):json()',
        "the request at s.lua:2 had failed: no real connection is made")
    says('local function get(u)\n  local r = request(u)\n  return r\nend\nlocal page = get(GONE)\n'
        .. "print(#page.body)", "the request at s.lua:2 had failed")
    says('res = request "no-scheme"\nlocal n = 1 + res', "the request at s.lua:1 had failed: ")
    says('local res = request { url = "https://a.test/gone", expect = 200 }\nprint(res.body)',
        "had failed: the server answered with status 404 Not Found: no such thing")
    says('local s = request { url = GONE, stream = true }\nfor line in s:lines() do print(line) end',
        "the request at s.lua:1 had failed")
end)

t.test("a nil that is passed, measured, joined or compared: the bug names the failed request", function()
    local start = 'local res = request GONE\n'
    for _, use in ipairs { "for k in pairs(res) do end", "local s = 'x' .. res", "local n = #res",
        "local b = res < 3", "json.decode(res)", "local n = res * 2", "ipairs(res)",
        "local s = ('x'):rep(res)" } do
        says(start .. use, "the request at s.lua:1 had failed")
    end
end)

t.test("failures of gather, map, race, wait_for and await are named in the same way", function()
    local failing = 'function() return request GONE end'
    says("local r = gather { " .. failing .. " }\nprint(r[1])", "the gather at s.lua:1 had failed")
    says("local r = leat.map({ 1 }, " .. failing .. ")\nprint(r[1])", "the map at s.lua:1 had failed")
    says("local r = leat.race { " .. failing .. " }\nprint(r.x)",
        "the race at s.lua:1 had failed: all 1 failed")
    says("local r = leat.wait_for(0.1, sleep, 5)\nprint(r.x)", "the wait_for at s.lua:1 had failed: ")
    says("local x = spawn(" .. failing .. "):await()\nprint(x.x)", "the await at s.lua:1 had failed")
end)

t.test("a variable that was set by the failed request, though other things came in between", function()
    says('local a = request GONE\nlocal b = request "https://a.test/"\nsleep(1)\nlocal s = b.status\n'
        .. "print(a.status)", "the request at s.lua:1 had failed")
end)

t.test("a bug that has nothing to do with the failed request does not mention it", function()
    local start = 'local res, err = request GONE\n'
    says_nothing(start .. "error 'my own'")
    says_nothing(start .. "sleep(1)\nlocal x\nprint(x.y)")
    says_nothing(start .. "request 'https://a.test/'\nlocal t = {}\nprint(t.name.first)")
    says_nothing("spawn(function() return request GONE end)\nsleep(1)\nlocal x\nprint(x.y)")
    says_nothing("local x\nprint(x.y)")
end)

t.test("a bug that a policy passes on names the failed request once", function()
    local message = bug_of('leat.retry { attempts = 1 }:call(function()\n  local res = request GONE\n'
        .. "  return res.body\nend)")
    t.ok(message:find("s.lua:3: attempt to index local 'res'", 1, true), message)
    t.eq(select(2, message:gsub("had failed", "")), 1)
end)

t.done()
