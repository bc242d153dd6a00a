-- What shows people what happens: errors, logs, tables, lists of tasks, figures. And helpers of leat.util.
local err = leat.error { kind = "http", message = "no", url = "http://user:secret@host/?key=secret",
    status = 503, causes = { leat.error { kind = "io", message = "deeper" } } }
expect(not tostring(err):find "secret")
leat.log.warn("it says", { err = err, api_key = "secret" })
leat.log.debug "nobody hears"
local odd = { 1, "two", { three = { 4, { 5 } } }, [true] = err, f = print, long = ("x"):rep(500) }
odd.self = odd
expect(#leat.inspect(odd) > 50)

local waiting = spawn(sleep, 60)
waiting.name = "sleeper"
local sem = semaphore(1)
local held = spawn(function() sem:with(sleep, 60) end)
local wants = spawn(function() sem:acquire() end)
sleep(0.001)
for _, task in ipairs { waiting, held, wants } do
    if task:status() ~= "waiting" then
        expect(task:await())
    end
end
local shown = tostring(leat.tasks())
expect(shown:find("sleeper", 1, true) and shown:find("acquire", 1, true))
for _, task in ipairs { waiting, held, wants } do
    task:cancel()
    task:await()
end
expect(leat.stats().engine.pending == 0 and leat.now() >= 0 and leat.time() > 0)

expect(#leat.uuid() == 36)
local text = ("binary\0\255"):rep(50)
expect(leat.base64.decode(leat.base64.encode(text)) == text)
expect(#leat.sha256(text) == 64 and #leat.hmac("key", text) == 64)
local module = expect(loadstring "local leat = ... return leat.map({ 1 }, function(x) sleep(0) return x end)")
expect(expect(module(leat))[1] == 1)
local lost
local ok, why = pcall(require, "nothing.of.this.name")
expect(not ok and why:find("not found", 1, true), why)
ok, why, lost = pcall(request, { url = "http://x/", methd = "GET" })
expect(not ok and tostring(why):find("did you mean", 1, true), why, lost)
ok, why = pcall(sleep, -1)
expect(not ok and tostring(why):find("sleep", 1, true), why)
return true
