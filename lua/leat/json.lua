-- JSON, strict in both directions and exact: what decode takes apart, encode puts together again.
local check = require "leat.internal.check"
local native_json = require "leat.native.json"
local native_runtime = require "leat.native.runtime"

local M = {}

-- What a script does to a null by mistake says what it is. All light userdata of a state have one metatable,
-- so that of a host is left alone.
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

--- What `null` is decoded to, and encoded from. It is true in a condition: compare with `== json.null`.
--- ```lua
--- assert(json.decode('[null]')[1] == json.null)
--- assert(json.encode { json.null } == "[null]")
--- ```
M.null = native_json.null

--- The JSON text of a value. Tables with the keys 1 to n become arrays, tables with string keys objects,
--- an empty table `{}` unless json.array or decode marked it. What gather, map, batch and pipelines return
--- becomes an array of its n results: a result that is missing is null, and the `errors` of a pipeline are
--- left out (encode them on their own: an object by index). An error value becomes an object of its fields,
--- without `response`. Other tables are read raw: metatables do not matter. Strings must be UTF-8. Numbers
--- come out exact, in as few digits as read back the same.
---@param value any
---@param opts? leat.encode_options sorted=true (keys in byte order, as they always are under a seed or
---virtual time), indent=n (spaces a level, 0 to 16), max_depth=n (512; at most 1000)
---@return string|nil text
---@return leat.error? err
---kind "invalid", with the place of what JSON cannot hold: a function, NaN, a list with holes, mixed
---keys, a cycle, text that is not UTF-8; "too_large" over 256 MiB
---
--- Raises for an option that it does not know.
--- ```lua
--- assert(json.encode({ b = 2, a = { 1, 0.1 } }, { sorted = true }) == '{"a":[1,0.1],"b":2}')
--- local text, err = json.encode { tools = { { run = print } } }
--- assert(text == nil and err.kind == "invalid" and err.message:find(".tools[1].run", 1, true))
--- assert(json.encode(leat.map({ 1, 2, 3 }, function(x) return x ~= 2 and x or nil end)) == "[1,null,3]")
--- ```
function M.encode(value, opts)
    return native_json.encode(value, opts)
end

--- The value of a JSON text, strictly by RFC 8259. Whole numbers are exact to 2^53 either way. An empty
--- array is marked, so that encode writes `[]` again. Of a repeated key the last value counts.
---@param text string
---@param opts? leat.decode_options big="string" hands numbers that a Lua number cannot hold over as text
---(whole ones over 2^53, and those that would be infinite); surrogates: what half a surrogate pair becomes,
---such as `\ud83d` where a text was cut: "replace": U+FFFD, "keep": three bytes that are not UTF-8, so that
---it can be joined with its other half, "strict" (the default): an error; max_depth=n (512; at most 1000);
---builder="cjson" lets lua-cjson build the value where that loses nothing (the result is the same, slower)
---@return any value nil only beside an err: the text `null` gives json.null
---@return leat.error? err
---kind "invalid"; its message has line, column and byte, and err.offset the byte, counted from 1
---
--- Raises if `text` is not a string, or for an option that it does not know.
--- ```lua
--- assert(json.decode('{"n": 12345678901234567890}', { big = "string" }).n == "12345678901234567890")
--- assert(json.decode('"\\ud83d"', { surrogates = "replace" }) == "\239\191\189")
--- local value, err = json.decode '{"a": 01}'
--- assert(value == nil and err.kind == "invalid" and err.offset == 8)
--- ```
function M.decode(text, opts)
    return native_json.decode(text, opts)
end

--- Marks a table as an array, so that it is written `[]` even when empty. Without an argument: a new one.
---@param t? table changed in place; must not have a metatable of its own (raises)
---@return table t
--- ```lua
--- assert(json.encode { stop = json.array() } == '{"stop":[]}')
--- ```
function M.array(t)
    return native_json.array(t)
end

--- Marks a table as an object: whole numbers as keys are then written as text (as in `logit_bias`).
---@param t? table changed in place; must not have a metatable of its own (raises)
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
