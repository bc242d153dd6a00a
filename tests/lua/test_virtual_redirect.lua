-- Where a redirect, or a path of a client with a base_url, leads: RFC 3986, 5.4, and more.
local t = require "harness"
local leat = require "leat"

local BASE = "http://a/b/c/d;p?q"

-- All examples of 5.4.1 and 5.4.2 that lead to something that can be asked for.
local EXAMPLES = {
    { "g", "/b/c/g" }, { "./g", "/b/c/g" }, { "g/", "/b/c/g/" }, { "/g", "/g" }, { "?y", "/b/c/d;p?y" },
    { "g?y", "/b/c/g?y" }, { "#s", "/b/c/d;p?q#s" }, { "g#s", "/b/c/g#s" }, { "g?y#s", "/b/c/g?y#s" },
    { ";x", "/b/c/;x" }, { "g;x", "/b/c/g;x" }, { "g;x?y#s", "/b/c/g;x?y#s" }, { "", "/b/c/d;p?q" },
    { ".", "/b/c/" }, { "./", "/b/c/" }, { "..", "/b/" }, { "../", "/b/" }, { "../g", "/b/g" },
    { "../..", "/" }, { "../../", "/" }, { "../../g", "/g" },
    { "../../../g", "/g" }, { "../../../../g", "/g" }, { "/./g", "/g" }, { "/../g", "/g" },
    { "g.", "/b/c/g." }, { ".g", "/b/c/.g" }, { "g..", "/b/c/g.." }, { "..g", "/b/c/..g" },
    { "./../g", "/b/g" }, { "./g/.", "/b/c/g/" }, { "g/./h", "/b/c/g/h" }, { "g/../h", "/b/c/h" },
    { "g;x=1/./y", "/b/c/g;x=1/y" }, { "g;x=1/../y", "/b/c/y" }, { "g?y/./x", "/b/c/g?y/./x" },
    { "g?y/../x", "/b/c/g?y/../x" }, { "g#s/./x", "/b/c/g#s/./x" }, { "g#s/../x", "/b/c/g#s/../x" },
}

local location, hops

local function answer()
    hops = hops + 1
    return hops == 1 and { status = 302, headers = { Location = location } } or "there"
end

leat.simulate("http://a", answer)
leat.simulate("http://g", answer)

local function follow(reference, from)
    location, hops = reference, 0
    return request(from or BASE)
end

assert(follow "g") -- what simulate needs is there from now on

t.test("a redirect leads where the examples of RFC 3986, 5.4 say", function()
    for _, example in ipairs(EXAMPLES) do
        local res = assert(follow(example[1]))
        t.eq(res.url, "http://a" .. example[2])
        t.eq(hops, 2)
    end
    t.eq(assert(follow "http:g").url, "http://a/b/c/g")
    t.eq(assert(follow "//g").url, "http://g/")
    t.eq(assert(follow "//g?y#s").url, "http://g/?y#s")
end)

t.test("an empty or fragment-only Location leads to the same page, without losing its query", function()
    for _, from in ipairs { "http://a/b?x=/y/z", "http://a/?q", "http://a/b/c/", "http://a/" } do
        t.eq(assert(follow("", from)).url, from)
        t.eq(assert(follow("#top", from .. "#old")).url, from .. "#top")
    end
    hops = 0
    location = ""
    local res = assert(request { url = BASE, method = "POST", body = "x", follow = true })
    t.eq({ res.url, hops }, { BASE, 2 })
end)

t.test("a redirect to what is no http or https URL is denied", function()
    for _, reference in ipairs { "g:h", "mailto:someone@a", "file:///etc/passwd", "javascript:alert(1)" } do
        local res, err = follow(reference)
        t.fails("denied", res, err)
        t.ok(tostring(err):find("not http or https", 1, true), tostring(err))
    end
end)

t.test("redirects and a client's paths are resolved alike, whatever the reference", function()
    local url = require "leat.internal.url"
    local state = 7
    local function random(n)
        state = (state * 1103515245 + 12345) % 2147483648
        return math.floor(state / 65536) % n + 1
    end
    local pieces = { "g", ".", "..", "/", "?y", ";x", "#s", "//", "..", "/", "c", ":" }
    local bases = { BASE, "http://a/b/c/d?x=/y/z", "http://a/", "http://a/b//c/d", "http://a/b?q#f/x" }
    for _ = 1, 500 do
        local base, reference = bases[random(#bases)], ""
        for _ = 1, random(6) do
            reference = reference .. pieces[random(#pieces)]
        end
        local expected = url.resolve(base, reference)
        if expected:find "^http://a/" then
            local res, err = follow(reference, base)
            t.eq(res and res.url or tostring(err), (expected:gsub("[?#]+$", ""):gsub("%?#", "#")))
        end
    end
end)

t.test("a client's path is taken beneath its base_url by the same rules", function()
    local url = require "leat.internal.url"
    for _, example in ipairs(EXAMPLES) do
        t.eq(url.resolve(BASE, example[1]), "http://a" .. example[2])
    end
    t.eq(url.resolve(BASE, "g:h"), "g:h")
    t.eq(url.resolve(BASE, "//g"), "http://g")
    local api = assert(leat.client { base_url = "http://a/v1" })
    for path, expected in pairs { chat = "/v1/chat", ["/chat"] = "/chat", ["../v2"] = "/v2",
        ["?x"] = "/v1/?x", ["./a/../b"] = "/v1/b", [""] = "/v1" } do
        hops = 1
        t.eq(assert(api:get(path)).url, "http://a" .. expected)
    end
end)

t.done()
