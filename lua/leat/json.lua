-- JSON, strict and exact in both directions: encode restores what decode has read.
local check = require "leat.internal.check"
local native_json = require "leat.native.json"
local native_runtime = require "leat.native.runtime"

local M = {}

-- Gives clear messages when a script uses a null by mistake. All light userdata of a Lua state share one
-- metatable, so the one of a host's state is not changed.
local function explain_null(null)
    local mt = { __metatable = "json.null" }
    function mt.__tostring(v)
        return v == null and "json.null" or "userdata"
    end
    local function wrong(what)
        return function()
            check.fail(what .. " json.null (a JSON null; it counts as true in a condition: compare with "
                .. "== json.null)")
        end
    end
    mt.__concat, mt.__call, mt.__len = wrong "attempt to join text to", wrong "attempt to call",
        wrong "attempt to get the length of"
    for _, name in ipairs { "__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm" } do
        mt[name] = wrong "attempt to calculate with"
    end
    mt.__index, mt.__newindex = wrong "attempt to index", wrong "attempt to index"
    debug.setmetatable(null, mt)
end

if not native_runtime.random then -- the state is the runtime's own
    explain_null(native_json.null)
end

--- The value of `null` in JSON, for decode and encode. It counts as true in a condition: compare with `==
--- json.null`.
--- ```lua
--- assert(json.decode('[null]')[1] == json.null)
--- assert(json.encode { json.null } == "[null]")
--- ```
M.null = native_json.null

--- Returns the JSON text of a value. A table with the keys 1 to n becomes an array, a table with string
--- keys an object. An empty table becomes `{}`, unless json.array or decode has marked it. The results of
--- gather, map, batch and pipelines become an array of n results: a missing result becomes null, and the
--- `errors` of a pipeline are left out (encode them separately: they become an object by index). An error
--- value becomes an object of its fields, without `response`. Metatables of other tables are ignored.
--- Strings must be UTF-8. Numbers are exact: as few digits as decode back to the same number.
---@param value any
---@param opts? leat.encode_options sorted=true (keys in byte order; always so with a seed or virtual
---time), indent=n (spaces per level, 0 to 16), max_depth=n (512; at most 1000)
---@return string|nil text
---@return leat.error? err
---kind "invalid", with the place of the value that JSON cannot hold: a function, NaN, a list with holes,
---mixed keys, a cycle, text that is not UTF-8; "too_large" over 256 MiB
---
--- Raises for an unknown option.
--- ```lua
--- assert(json.encode({ b = 2, a = { 1, 0.1 } }, { sorted = true }) == '{"a":[1,0.1],"b":2}')
--- local text, err = json.encode { tools = { { run = print } } }
--- assert(text == nil and err.kind == "invalid" and err.message:find(".tools[1].run", 1, true))
--- assert(json.encode(leat.map({ 1, 2, 3 }, function(x) return x ~= 2 and x or nil end)) == "[1,null,3]")
--- ```
function M.encode(value, opts)
    return native_json.encode(value, opts)
end

--- Decodes a JSON text, strictly as RFC 8259 says. Whole numbers from -2^53 to 2^53 are exact. An empty
--- array is marked, so that encode writes `[]` again. If a key is repeated, the last value counts.
---@param text string
---@param opts? leat.decode_options big="string": numbers that a Lua number cannot hold (whole numbers
---over 2^53, and those that would be infinite) become strings. surrogates: how to decode half of a
---surrogate pair, such as `\ud83d` at the end of a cut text: "strict" (default): an error; "replace":
---U+FFFD; "keep": three bytes that are not UTF-8, so that you can join the halves. max_depth=n (512; at
---most 1000). builder="cjson": lua-cjson builds the value where that loses nothing (same result, slower)
---@return any value nil only together with an err: the text `null` gives json.null
---@return leat.error? err
---kind "invalid"; its message has the line, column and byte; err.offset is the byte, counted from 1
---
--- Raises if `text` is not a string, and for an unknown option.
--- ```lua
--- assert(json.decode('{"n": 12345678901234567890}', { big = "string" }).n == "12345678901234567890")
--- assert(json.decode('"\\ud83d"', { surrogates = "replace" }) == "\239\191\189")
--- local value, err = json.decode '{"a": 01}'
--- assert(value == nil and err.kind == "invalid" and err.offset == 8)
--- ```
function M.decode(text, opts)
    return native_json.decode(text, opts)
end

--- Marks a table as an array, so that it is written as `[]` even if it is empty. Without an argument:
--- makes a new one.
---@param t? table it is changed; raises if it has a metatable of its own
---@return table t
--- ```lua
--- assert(json.encode { stop = json.array() } == '{"stop":[]}')
--- ```
function M.array(t)
    return native_json.array(t)
end

--- Marks a table as an object. Keys that are whole numbers are then written as text (as `logit_bias`
--- needs).
---@param t? table it is changed; raises if it has a metatable of its own
---@return table t
--- ```lua
--- assert(json.encode(json.object { [7] = "seven" }) == '{"7":"seven"}')
--- ```
function M.object(t)
    return native_json.object(t)
end

setmetatable(M, {
    __name = "leat.module", __index = check.foreign("json", "json"),
    __leat_json = "the module json itself (write json.encode(value), with a point),",
})

return M
