-- Functions of the host, at once and later, from its thread and another: values both ways, failures, cancels.
local sent = { 1, "two", { deep = { true, 2.5 } }, name = ("é"):rep(100) }
local got = expect(host.echo(sent))
expect(got[2] == "two" and got[3].deep[2] == 2.5 and got.name == sent.name)
local none, err = host.fail "no luck"
expect(none == nil and err.kind == "io" and tostring(err):find("no luck", 1, true), err)
local ok, bug = pcall(host.echo, print)
expect(not ok and tostring(bug):find("cannot", 1, true), bug)

local all = expect(gather {
    function() return host.later "at once" end,
    function() return host.later(5) end,
    function() return host.later(sent) end,
})
expect(all[1] == "at once" and all[2] == 5 and all[3].name == sent.name)
none, err = host.later()
expect(none == nil and err.kind == "invalid", err)

local before = host.abandoned()
none, err = wait_for(0.001, host.never)
expect(none == nil and err.kind == "timeout", err)
local task = spawn(host.never)
sleep(0)
task:cancel()
none, err = task:await()
expect(none == nil and err.kind == "cancelled", err)
expect(host.abandoned() == before + 2, "a cancel was not told")
return true
