-- What a request says of a wrong scheme, certificate, proxy or socket: in the user's words, and what to do.
local t = require "harness"
local leat = require "leat"

local function says(words, spec)
    local res, err = request(spec)
    t.ok(res == nil, "it must fail: " .. tostring(res))
    local text = tostring(err)
    t.ok(text:find(words, 1, true), text .. "\nshould hold: " .. words)
    t.ok(#err.message < 256 and not text:find("libcurl failed", 1, true), text)
    return err
end

t.test("a certificate whose CA is not known: name it by ca_file=", function()
    local err = says("not trusted: name its CA with ca_file=", t.tls_url .. "/ok")
    t.eq({ err.kind, err.reason, err.retryable }, { "tls", "verify", false })
    says("its CA is not in the file that ca_file= names", { url = t.tls_url .. "/ok",
        ca_file = t.client_cert })
end)

t.test("the error says that a certificate is for another name, or out of date", function()
    says("it is for other names than 127.0.0.1", { url = t.tls_wrong_host_url .. "/ok", ca_file = t.ca_file })
    says("certificate has expired", { url = t.tls_expired_url .. "/ok", ca_file = t.ca_file })
end)

t.test("files of certificates that cannot be used are named", function()
    for _, path in ipairs { "/nonexistent/ca.pem", "/etc/passwd" } do
        says("ca_file= names " .. path, { url = t.tls_url .. "/ok", ca_file = path })
    end
    says("cert= or key= cannot be used (/no.pem, /no.key)", { url = t.mtls_url .. "/ok", ca_file = t.ca_file,
        cert = "/no.pem", key = "/no.key" })
end)

t.test("a server that wants a client certificate: cert= and key=", function()
    says("client certificate (cert= and key=)", { url = t.mtls_url .. "/ok", ca_file = t.ca_file })
end)

t.test("http:// spoken to a port with TLS: write https://", function()
    says("if it speaks TLS, write https://", (t.tls_url:gsub("^https", "http")) .. "/ok")
    says("if it speaks TLS, write https://",
        (t.tls_url:gsub("^https://127.0.0.1", "http://adv.lo.test")) .. "/")
end)

t.test("https:// spoken to a port without TLS: write http://", function()
    local server = assert(leat.serve { handler = function() return "plain" end })
    says("not trusted", t.tls_url .. "/ok") -- a slow machine needs long for the system's certificates
    says("if it speaks plain HTTP, write http://", { url = (t.url:gsub("^http", "https")) .. "/ok",
        timeout = { connect = 2 } }) -- it waits for more, so the whole limit passes
    says("if it speaks plain HTTP, write http://", { url = (server.url:gsub("^http", "https")),
        timeout = { connect = 10 } })
    server:close()
end)

t.test("a server that has answered is not suspected of another scheme", function()
    local url = t.url:gsub("127%.0%.0%.1", leat.uuid() .. ".lo.test")
    says("; if it speaks TLS, write https://", url .. "/empty-reply")
    t.ok(request(url .. "/ok"))
    local err = says("closed without an answer", url .. "/empty-reply")
    t.ok(not err.message:find("https://", 1, true), err.message)
end)

t.test("a proxy or a socket that cannot be reached is named, not the server", function()
    local err = says("cannot connect to the proxy http://***@127.0.0.1:1: Connection refused",
        { url = t.url .. "/ok", proxy = "http://user:secret@127.0.0.1:1" })
    t.ok(not tostring(err):find("secret", 1, true), tostring(err))
    says("no address for the proxy http://nosuchproxy.invalid:3128", { url = t.url .. "/ok",
        proxy = "http://nosuchproxy.invalid:3128" })
    says("the certificate of the proxy https://", { url = t.url .. "/ok", proxy = t.tls_url })
    says("cannot connect to the unix socket /nonexistent/x.sock: No such file or directory",
        { url = "http://localhost/ok", unix_socket = "/nonexistent/x.sock" })
end)

t.test("HTTP/2 without TLS to a server that does not know it", function()
    says("it may not speak HTTP/2 without TLS", { url = t.url:gsub("127%.0%.0%.1", leat.uuid() .. ".lo.test")
        .. "/ok", http_version = "2-prior", timeout = 5 })
end)

t.done()
