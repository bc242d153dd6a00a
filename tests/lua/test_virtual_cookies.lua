-- The cookies of a client, from simulated origins: what is sent where, and for how long.
local t = require "harness"
local leat = require "leat"

-- Each origin sends what `set` says of its path, and answers with the cookies it got.
local set = {}
for _, url in ipairs { "http://shop.test", "https://shop.test", "http://w.shop.test", "http://other.test",
    "http://a.co.uk", "http://b.co.uk" } do
    assert(leat.simulate(url, function(req)
        local answer = set[url .. req.path] or {}
        return { status = answer.to and 302 or answer.status, body = req.headers.cookie or "none",
            headers = { ["Set-Cookie"] = answer.cookies, Location = answer.to } }
    end))
    assert(request(url)) -- the tasks that simulate it are there from now on
end

local function client(options)
    options = options or {}
    options.cookies = true
    return assert(leat.client(options))
end

t.test("cookies that a simulated origin sets come back", function()
    local api = client()
    set = { ["http://shop.test/in"] = { cookies = { "a=1; Path=/", "b=2; Path=/x", "c=3; Max-Age=0" } } }
    t.eq(assert(api:get "http://shop.test/in").body, "none")
    t.eq(assert(api:get "http://shop.test/").body, "a=1")
    t.eq(assert(api:get "http://shop.test/x/y?z=/w").body, "b=2; a=1")
    t.eq(assert(api:get "http://shop.test/q/../x").body, "b=2; a=1")
    t.eq(assert(api:get "http://other.test/x").body, "none")
    t.eq(assert(request "http://shop.test/x").body, "none")
    t.eq(assert(client():get "http://shop.test/x").body, "none")
end)

t.test("a failed response sets cookies as well", function()
    local api = client { expect = "2xx" }
    set = { ["http://shop.test/in"] = { cookies = { "a=1" }, status = 503 } }
    t.fails("http", api:get "http://shop.test/in")
    t.eq(assert(api:get "http://shop.test/").body, "a=1")
end)

t.test("each hop of a redirect sends and sets the cookies of its own host", function()
    local api = client()
    set = {
        ["http://shop.test/in"] = { cookies = { "s=1; Path=/" } },
        ["http://other.test/in"] = { cookies = { "o=1; Path=/" } },
        ["http://shop.test/go"] = { cookies = { "hop=1; Path=/" }, to = "http://other.test/back" },
        ["http://other.test/back"] = { cookies = { "hop=2; Path=/" }, to = "http://shop.test/end" },
    }
    assert(api:get "http://shop.test/in")
    assert(api:get "http://other.test/in")
    t.eq(assert(api:get "http://shop.test/go").body, "s=1; hop=1")
    t.eq(assert(api:get "http://other.test/").body, "o=1; hop=2")
end)

t.test("a caller's own cookies go out in one field with those of the jar", function()
    local api = client { headers = { Cookie = "own=1" } }
    set = { ["http://shop.test/in"] = { cookies = { "a=1; Path=/" } },
        ["http://other.test/in"] = { cookies = { "o=1; Path=/" } },
        ["http://shop.test/away"] = { to = "http://other.test/" } }
    t.eq(assert(api:get "http://shop.test/in").body, "own=1")
    t.eq(assert(api:get "http://shop.test/").body, "own=1; a=1")
    t.eq(assert(api:get("http://shop.test/", { headers = { Cookie = "x=2; y=3" } })).body, "x=2; y=3; a=1")
    t.eq(assert(api:get("http://shop.test/", { headers = { Cookie = "" } })).body, "a=1")
    assert(api:get "http://other.test/in")
    t.eq(assert(api:get "http://shop.test/away").body, "o=1", "the caller's own stay with the first origin")
end)

t.test("a cookie ends when the server said", function()
    local api = client()
    local gone = os.date("!%a, %d %b %Y %H:%M:%S GMT", leat.time() + 30)
    set = { ["http://shop.test/in"] = { cookies = { "a=1; Max-Age=60", "b=2; Expires=" .. gone, "c=3" } } }
    assert(api:get "http://shop.test/in")
    t.eq(assert(api:get "http://shop.test/").body, "a=1; b=2; c=3")
    sleep(29)
    t.eq(assert(api:get "http://shop.test/").body, "a=1; b=2; c=3")
    sleep(2)
    t.eq(assert(api:get "http://shop.test/").body, "a=1; c=3")
    sleep(30)
    t.eq(assert(api:get "http://shop.test/").body, "c=3")
end)

t.test("a domain's cookies go to the hosts below it, and none to a public suffix", function()
    local api = client()
    set = {
        ["http://w.shop.test/in"] = { cookies = { "a=1; Domain=shop.test", "b=2; Domain=test",
            "c=3; Domain=other.test" } },
        ["http://a.co.uk/in"] = { cookies = { "d=4; Domain=co.uk", "e=5; Domain=a.co.uk" } },
    }
    assert(api:get "http://w.shop.test/in")
    assert(api:get "http://a.co.uk/in")
    t.eq(assert(api:get "http://w.shop.test/").body, "a=1")
    t.eq(assert(api:get "http://shop.test/").body, "a=1")
    t.eq(assert(api:get "http://other.test/").body, "none")
    t.eq(assert(api:get "http://a.co.uk/").body, "e=5")
    t.eq(assert(api:get "http://b.co.uk/").body, "none")
end)

t.test("a secure cookie is neither sent nor replaced over http", function()
    local api = client()
    set = { ["https://shop.test/in"] = { cookies = { "a=1; Secure; Path=/" } },
        ["http://shop.test/in"] = { cookies = { "a=2; Path=/", "b=3; Secure; Path=/" } } }
    assert(api:get "https://shop.test/in")
    assert(api:get "http://shop.test/in")
    t.eq(assert(api:get "http://shop.test/").body, "none")
    t.eq(assert(api:get "https://shop.test/").body, "a=1")
end)

t.test("a Host of the caller's own names the site of the cookies", function()
    local api = client()
    set = { ["http://shop.test/in"] = { cookies = { "a=1; Domain=real.test; Path=/" } } }
    local headers = { Host = "w.real.test:80" }
    assert(api:get("http://shop.test/in", { headers = headers }))
    t.eq(assert(api:get("http://shop.test/", { headers = headers })).body, "a=1")
    t.eq(assert(api:get "http://shop.test/").body, "none")
end)

t.test("a site keeps fifty cookies, and a request carries 8 KB of them", function()
    local api, cookies = client(), {}
    for i = 1, 60 do cookies[i] = ("n%d=%s"):format(i, ("x"):rep(500)) end
    set = { ["http://shop.test/in"] = { cookies = cookies } }
    assert(api:get "http://shop.test/in")
    local body = assert(api:get "http://shop.test/").body
    t.eq(body:sub(1, 7), "n11=xxx")
    t.eq(select(2, body:gsub("=", "")), 16)
    t.ok(#body <= 8182, #body)
end)

t.done()
