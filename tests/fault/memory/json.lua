-- Large values to JSON and back, by both builders, and texts that are none.
local rows = {}
for i = 1, 60 do
    rows[i] = { id = i, name = ("é\n"):rep(i), at = i / 7, list = json.array {}, map = json.object {},
        deep = { { { i } } }, none = json.null, ["key" .. i] = i % 2 == 0 }
end
local text = expect(json.encode(rows, { sorted = true, indent = 2 }))
local short = expect(json.encode(rows))
expect(#short < #text)
for _, options in ipairs { {}, { builder = "cjson" }, { big = "string" } } do
    local back = expect(json.decode(text, options))
    expect(#back == 60 and back[60].name == rows[60].name and back[7].at == 1 and back[9].none == json.null)
    expect(expect(json.encode(back, { sorted = true, indent = 2 })) == text)
end
expect(expect(json.decode('{"big":12345678901234567890}', { big = "string" })).big == "12345678901234567890")
local many = expect(json.decode("[" .. ("[1.5],"):rep(2000) .. "0]"))
expect(#many == 2001 and expect(json.encode(many)) == "[" .. ("[1.5],"):rep(2000) .. "0]")
for _, bad in ipairs { "", "[1,]", '{"a":1', '"\255"', "[" .. ("["):rep(2000) } do
    local none, err = json.decode(bad)
    expect(none == nil and err.kind == "invalid", err)
end
local loop = {}
loop.loop = loop
local none, err = json.encode(loop)
expect(none == nil and err.kind == "invalid", err)
none, err = json.encode { fn = print }
expect(none == nil and err.kind == "invalid", err)
return true
