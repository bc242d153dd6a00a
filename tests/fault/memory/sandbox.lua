-- A script in the sandbox, under a time limit: what is denied, patterns with a budget, text made to code.
local denials = { "return io.open", "return os.getenv 'A'", "return require 'ffi'", "return debug.sethook" }
for _, denied in ipairs(denials) do
    local ok, value = pcall(expect(loadstring(denied)))
    expect(not ok or value == nil, value)
end
local none, why = load "\27LJ"
expect(none == nil and why, why)
expect(("key=value; other=thing"):gsub("(%w+)=(%w+)", "%2=%1") == "value=key; thing=other")
expect(("x"):rep(100):find("x-x-x-$"))
expect(table.concat({ ("a,b,c"):match "(%a),(%a),(%a)" }) == "abc")
local list = { 3, 1, 2 }
table.sort(list, function(a, b) return a > b end)
expect(list[1] == 3 and list[3] == 1)
local generate = coroutine.wrap(function()
    for i = 1, 3 do
        sleep(0)
        coroutine.yield(i)
    end
end)
expect(generate() + generate() + generate() == 6)
return true
