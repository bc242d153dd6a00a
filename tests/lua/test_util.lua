-- The helpers of day one: identifiers, encodings, digests, the log. (Standard input: tests/cli.)
local t = require "harness"
local leat = require "leat"

t.test("a uuid is a version 4 one, and no two are the same", function()
    local seen = {}
    for _ = 1, 1000 do
        local id = leat.uuid()
        if not id:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$") then
            t.ok(false, id)
        end
        t.ok(not seen[id], "twice: " .. id)
        seen[id] = true
    end
end)

t.test("base64 gives the values of RFC 4648", function()
    local vectors = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=",
        foobar = "Zm9vYmFy", ["\0"] = "AA==", ["\255\255\254"] = "///+" }
    for bytes, text in pairs(vectors) do
        t.eq(leat.base64.encode(bytes), text)
        t.eq(leat.base64.decode(text), bytes)
        t.eq(leat.base64.decode((text:gsub("=", ""))), bytes)
    end
    t.eq(leat.base64.encode("\255\255\254f", { url = true }), "___-Zg")
    t.eq(leat.base64.encode("\255\255\254f", { url = true, pad = true }), "___-Zg==")
    t.eq(leat.base64.encode("f", { pad = false }), "Zg")
    t.eq(leat.base64.decode("___-Zg", { url = true }), "\255\255\254f")
end)

t.test("base64 brings every byte back", function()
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    local bytes = table.concat(all)
    for len = 0, 256 do
        local part = bytes:sub(1, len)
        t.eq(leat.base64.decode(leat.base64.encode(part)), part)
        t.eq(leat.base64.decode(leat.base64.encode(part, { url = true }), { url = true }), part)
    end
end)

t.test("base64 that is not exactly base64 fails", function()
    for _, text in ipairs { "Z", "Zg=", "Zg===", "Zg==Zg==", "=", "==", "Zm9v\n", " Zm9v", "Zm-v", "Zm_v",
        "Zh==", "Zm9=", "Z=g=", "Zm9v=", "Zm9v====", "\255\255\255\255", "Zg==\n" } do
        local bytes, err = leat.base64.decode(text)
        t.fails("invalid", bytes, err)
    end
    t.fails("invalid", leat.base64.decode("+/+/", { url = true }))
end)

t.test("sha256 and hmac give the published values", function()
    t.eq(leat.sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    t.eq(leat.sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    t.eq(leat.base64.encode(leat.sha256("abc", { raw = true })),
        "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")
    -- RFC 4231, test case 2, and RFC 2202 for SHA-1
    local data = "what do ya want for nothing?"
    t.eq(leat.hmac("Jefe", data), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    t.eq(leat.hmac("Jefe", data, { algorithm = "sha1" }), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    t.eq(leat.hmac("Jefe", data, { algorithm = "sha512" }):sub(1, 32), "164b7a7bfcf819e2e395fbe73b56e0a3")
    t.eq(#leat.hmac("", "", { raw = true }), 32)
end)

t.test("wrong use of the helpers raises and names the argument", function()
    t.raises("base64.encode: bytes must be a string, got nil", leat.base64.encode)
    t.raises("base64.encode: unknown option 'ulr'", leat.base64.encode, "", { ulr = true })
    t.raises("base64.decode: text must be a string, got 3", leat.base64.decode, 3)
    t.raises("sha256: bytes must be a string", leat.sha256, {})
    t.raises("hmac: key must be a string", leat.hmac)
    t.raises("hmac: bytes must be a string", leat.hmac, "k")
    t.raises("hmac: algorithm must be sha1, sha256", leat.hmac, "k", "", { algorithm = "md5" })
    t.raises("log.info: fields must be a table, got 'x'", leat.log.info, "m", "x")
    t.raises("stdin:read: expected 'l', 'a' or a number", function() leat.stdin:read "n" end)
    t.raises("stdin:lines: max_bytes must be a whole number", function() leat.stdin:lines(0) end)
end)

t.test("a set of fingerprints uses 104 bits of the SHA-256 of a text", function()
    local function half(hex, from)
        return tonumber(hex:sub(from, from + 11), 16) * 16 + tonumber(hex:sub(from + 13, from + 13), 16)
    end
    for _, text in ipairs { "", "abc", ("x"):rep(1000) } do
        local hex = leat.sha256(text)
        t.eq({ require("leat.native.util").fingerprint(text) }, { half(hex, 1), half(hex, 15) })
    end
    local set = require("leat.internal.fingerprint_set").new()
    t.eq({ set:has "a", set:add "a", set:add "a", set:has "a", set:has "b", set.count },
        { false, true, false, true, false, 1 })
end)

t.done()
