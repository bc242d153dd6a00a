-- What comes from outside and is read in Lua (retry hints, dates, rows of a batch), changed at random from a
-- seed: nothing raises, and what is told is of its kind. LEAT_MUTATIONS says how many; tests/seeds.sh makes a
-- hundred times as many as run with the other tests.
local leat = require "leat"
local t = require "harness"
local batch_rows = require "leat.cli.batch_rows"
local http_date = require "leat.internal.http_date"
local retry_rules = require "leat.policy.retry_rules"

local total = tonumber(os.getenv "LEAT_MUTATIONS") or 4000
local random = math.random
math.randomseed(tonumber(os.getenv "LEAT_SEED") or 7)

local function any_byte() return string.char(random(0, 255)) end

-- One to four changes: a byte, a hole, a doubled piece, a piece of another one.
local function mutated(corpus)
    local s = corpus[random(#corpus)]
    for _ = 1, random(4) do
        local at, to = random(#s + 1), random(#s + 1)
        local what = random(4)
        if what == 1 then
            s = s:sub(1, at - 1) .. any_byte() .. s:sub(at + 1)
        elseif what == 2 then
            s = s:sub(1, at - 1) .. s:sub(to)
        elseif what == 3 then
            s = s:sub(1, at) .. s:sub(math.min(at, to), math.max(at, to)) .. s:sub(at + 1)
        else
            local other = corpus[random(#corpus)]
            s = s:sub(1, at - 1) .. other:sub(random(#other))
        end
        s = s:sub(1, 4000)
    end
    return s
end

t.test("a retry hint of whatever bytes is a time from now, or none", function()
    local corpus = { "2", "1.5", "-5", "1e14", "abc", "120", "0", "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Fri, 31 Dec 9999 23:59:59 GMT", "0x10",
        "nan", "inf", "1e", "1.", ".5", "" }
    local told = 0
    for _ = 1, total do
        local headers = { ["retry-after"] = mutated(corpus), date = mutated(corpus) }
        if random(3) == 1 then headers["retry-after-ms"] = mutated(corpus) end
        local hint = retry_rules.hint({ status = 429, headers = headers })
        t.ok(hint == nil or type(hint) == "number" and hint >= 0, headers["retry-after"])
        local at = http_date.parse(headers.date)
        t.ok(at == nil or at == at, headers.date)
        told = told + (hint and 1 or 0)
    end
    t.ok(told > total / 20 and told < total, told)
end)

t.test("of any lines that a batch is made of, each is a row or is reported by its number", function()
    local corpus = {
        '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}',
        '{"prompt":"What is a leat?","temperature":0.5,"custom_id":17}',
        '{"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00"}],"model":null,"n":1e2}',
        '"a text in quotes"', "plain text", "[1,2,3]", "null", "\239\187\191{\"prompt\":\"\"}", "{}", " ",
        '{"body":[],"url":"/v1/embeddings"}', '{"body":{"stream":true}}', '{"prompt":{"deep":[[[[]]]]}}',
    }
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    local lines = 0
    for _ = 1, total do
        local line = mutated(corpus):gsub("\n", " ")
        lines = lines + 1
        assert(file:write(line, random(9) == 1 and "\r\n" or "\n"))
    end
    file:close()
    local keyed = { prompt_field = "prompt", key = "custom_id", system = "s" }
    for _, opts in ipairs { { prompt_field = "prompt" }, keyed } do
        local seen, last, rows, bad = {}, 0, 0, 0
        local function is_next(line)
            t.ok(line > last and line <= lines, line)
            last = line
        end
        local next_row = assert(batch_rows.read(path, opts, function(line, why)
            is_next(line)
            t.eq(type(why), "string")
            bad = bad + 1
        end))
        for row in next_row do
            is_next(row.line)
            t.ok(not seen[row.custom_id] or not row.own_name, row.custom_id)
            seen[row.custom_id] = true
            t.eq(leat.json.decode(assert(leat.json.encode(row.body))) ~= nil, true)
            rows = rows + 1
        end
        t.ok(rows > 0 and bad > 0 and rows + bad > lines / 2, rows .. " rows, " .. bad .. " bad")
    end
    os.remove(path)
end)

t.done()
