-- Identifiers, encodings and digests that clients of web APIs need.
local check = require "leat.internal.check"
local native = require "leat.native.util"

local M = {}

local function text_of(who, what, value)
    if type(value) ~= "string" then
        check.fail(("%s: %s must be a string, got %s"):format(who, what, check.picture(value, what)))
    end
    return value
end

--- Returns a random UUID (version 4). It uses the system's randomness; with --seed or --virtual-time the
--- run's own generator, so that a run can be repeated exactly.
---@return string uuid 36 characters, lower case
--- ```lua
--- assert(#leat.uuid() == 36 and leat.uuid() ~= leat.uuid())
--- ```
function M.uuid()
    return native.uuid()
end

M.base64 = {}

--- Returns the Base64 text of a string of bytes.
---@param bytes string
---@param opts? leat.base64_encode_options url=true: the alphabet for URLs and file names; pad=false: no `=`
---at the end (the default with url=true)
---@return string text
--- ```lua
--- assert(leat.base64.encode("any carnal pleas") == "YW55IGNhcm5hbCBwbGVhcw==")
--- assert(leat.base64.encode("\255\239", { url = true }) == "_-8")
--- ```
function M.base64.encode(bytes, opts)
    text_of("base64.encode", "bytes", bytes)
    if opts == nil then
        return native.base64_encode(bytes, false, true)
    end
    check.options("base64.encode", opts, { url = "boolean", pad = "boolean" })
    local pad = opts.pad
    if pad == nil then
        pad = not opts.url
    end
    return native.base64_encode(bytes, opts.url == true, pad)
end

--- Returns the bytes of a Base64 text. The text must be exact: no white space, nothing after the end, no
--- extra bits. The padding may be missing as a whole.
---@param text string
---@param opts? leat.base64_decode_options url=true: the alphabet for URLs and file names
---@return string|nil bytes
---@return leat.error? err kind "invalid"
--- ```lua
--- assert(leat.base64.decode("Zm9v") == "foo")
--- local bytes, err = leat.base64.decode("Zm9v\n")
--- assert(bytes == nil and err.kind == "invalid")
--- ```
function M.base64.decode(text, opts)
    text_of("base64.decode", "text", text)
    check.options("base64.decode", opts, { url = "boolean" })
    return native.base64_decode(text, opts ~= nil and opts.url == true)
end

local function digest_options(who, opts, rows)
    check.options(who, opts, rows)
    return opts ~= nil and opts.raw == true
end

--- Returns the SHA-256 digest of a string.
---@param bytes string
---@param opts? leat.sha256_options raw=true: 32 bytes instead of 64 hex digits
---@return string digest
--- ```lua
--- assert(leat.sha256("abc"):sub(1, 16) == "ba7816bf8f01cfea")
--- ```
function M.sha256(bytes, opts)
    text_of("sha256", "bytes", bytes)
    return native.sha256(bytes, digest_options("sha256", opts, { raw = "boolean" }))
end

local ALGORITHMS = { sha1 = true, sha256 = true, sha384 = true, sha512 = true }

--- Returns a keyed digest (HMAC), for example to sign requests.
---@param key string
---@param bytes string
---@param opts? leat.hmac_options algorithm="sha256" (or sha1, sha384, sha512); raw=true: bytes instead of
---hex digits
---@return string digest
--- ```lua
--- assert(leat.hmac("key", "message"):sub(1, 16) == "6e9ef29b75fffc5b")
--- ```
function M.hmac(key, bytes, opts)
    text_of("hmac", "key", key)
    text_of("hmac", "bytes", bytes)
    local raw = digest_options("hmac", opts, { raw = "boolean", algorithm = "string" })
    local algorithm = opts and opts.algorithm or "sha256"
    if not ALGORITHMS[algorithm] then
        check.fail("hmac: algorithm must be sha1, sha256, sha384 or sha512, got "
            .. check.picture(algorithm, "algorithm"))
    end
    return native.hmac(key, bytes, algorithm, raw)
end

return M
