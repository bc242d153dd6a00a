-- openai: a random answer, cut at random into pieces as the families of servers cut theirs, with noise
-- between them, becomes the answer again, and its text the text.
--
--     LEAT_SEEDS=1-10000 build/leat --virtual-time tests/lua/test_virtual_openai_random.lua
local t = require "harness"
local leat = require "leat"
local random = require "random"
local json = leat.json
local null = json.null

local URL = "http://api.test"
local FIRST, LAST = (os.getenv "LEAT_SEEDS" or "1-200"):match "^(%d+)%-(%d+)$"

local WORDS = { "leat", " ", "mill", "ü", "水", "🌊", "\"", "\\", "\n", "{", "}", "[DONE]", "data: ", "null",
    ":" }

local function text_of(draw, most)
    local parts = {}
    for i = 1, draw(0, most) do parts[i] = WORDS[draw(1, #WORDS)] end
    return table.concat(parts)
end

-- ---- answers

local function calls_of(draw)
    local calls = json.array()
    for i = 1, draw(0, 4) do
        calls[i] = { id = "call_" .. i .. draw(0, 99), type = "function",
            ["function"] = { name = "f" .. draw(1, 3),
                arguments = json.encode { text = text_of(draw, 6), n = i } } }
    end
    return calls
end

local function answer_of(draw)
    local choices = {}
    for i = 1, draw(1, 3) do
        local calls = calls_of(draw)
        choices[i] = { index = i - 1, finish_reason = #calls > 0 and "tool_calls" or "stop",
            logprobs = draw(1, 3) == 1 and { content = {} } or null,
            message = { role = "assistant", content = text_of(draw, 12), refusal = null,
                reasoning_content = draw(1, 3) == 1 and text_of(draw, 8) .. "." or nil,
                tool_calls = #calls > 0 and calls or nil } }
        for k = 1, choices[i].logprobs ~= null and draw(1, 5) or 0 do
            choices[i].logprobs.content[k] = { token = "t" .. k, logprob = -k }
        end
    end
    return { id = "c" .. draw(1, 9), object = "chat.completion", created = draw(1, 9), model = "m",
        choices = choices,
        usage = { prompt_tokens = draw(0, 9), completion_tokens = draw(0, 9), total_tokens = 5 } }
end

-- ---- pieces of one choice, in order

-- The text in pieces, in none of which a character is cut; but for some that are cut into their halves. Those
-- are marked, to be written as escapes.
local function cut(draw, text)
    local pieces, piece = {}, ""
    local function flush()
        pieces[#pieces + 1] = piece
        piece = ""
    end
    for char in text:gmatch "[%z\1-\127\192-\255][\128-\191]*" do
        if char == "🌊" and draw(1, 2) == 1 then -- U+1F30A
            piece = piece .. "<D83C>"
            flush()
            piece = "<DF0A>"
        else
            piece = piece .. char
        end
        if draw(1, 3) == 1 then flush() end
    end
    flush()
    return pieces
end

-- How a server sends its calls: in pieces by index, in pieces by id, whole by id at one index, whole without
-- an index, all whole at once.
local STYLES = { "pieces", "ids", "same_index", "no_index", "at_once" }

local function calls_in(draw, style, calls)
    local list, all = {}, {}
    for i, call in ipairs(calls) do
        local f = call["function"]
        local index = style == "pieces" and i - 1 or style == "same_index" and 0 or nil
        if style == "pieces" or style == "ids" then
            list[#list + 1] = { { index = index, id = call.id, type = "function",
                ["function"] = { name = f.name, arguments = "" } } }
            for _, part in ipairs(cut(draw, f.arguments)) do
                local id = style == "ids" and call.id or draw(1, 2) == 1 and "" or nil
                list[#list + 1] = { { index = index, id = id, ["function"] = { arguments = part } } }
            end
        else
            all[i] = { index = index, id = call.id, type = "function",
                ["function"] = { name = f.name, arguments = f.arguments } }
            if style ~= "at_once" then list[#list + 1] = { all[i] } end
        end
    end
    return style == "at_once" and #all > 0 and { all } or list
end

local function pieces_of(draw, choice, style)
    local list, message = { { delta = { role = "assistant", content = "", refusal = null } } }, choice.message
    for _, part in ipairs(message.reasoning_content and cut(draw, message.reasoning_content) or {}) do
        list[#list + 1] = { delta = { reasoning_content = part } }
    end
    for _, part in ipairs(cut(draw, message.content)) do list[#list + 1] = { delta = { content = part } } end
    for _, calls in ipairs(calls_in(draw, style, message.tool_calls or {})) do
        list[#list + 1] = { delta = { tool_calls = calls } }
    end
    for _, entry in ipairs(choice.logprobs ~= null and choice.logprobs.content or {}) do
        list[#list + 1] = { delta = {}, logprobs = { content = { entry } } }
    end
    list[#list + 1] = { delta = {}, finish_reason = choice.finish_reason }
    return list
end

-- ---- the stream

local NOISE = { ": ping\n\n", "data:\n\n", 'data: ""\n\n', "event: ping\ndata: {}\n\n", "data: ping\n\n",
    "\n", "data: {}\n\n", 'data: {"choices":[]}\n\n', "retry: 5\n\n" }

local function event_of(answer, choice, usage)
    local text = json.encode { id = answer.id, object = "chat.completion.chunk", created = answer.created,
        model = "m", choices = choice and { choice } or json.array(), usage = usage or null }
    text = text:gsub("<D83C>", "\\ud83c"):gsub("<DF0A>", "\\udf0a")
    return "data: " .. text .. "\n\n"
end

local function stream_of(draw, answer, style)
    local queues, out, left = {}, {}, 0
    for i, choice in ipairs(answer.choices) do
        queues[i] = pieces_of(draw, choice, style)
        left = left + #queues[i]
    end
    while left > 0 do
        local i = draw(1, #queues)
        local piece = table.remove(queues[i], 1)
        if piece then
            left = left - 1
            piece.index, piece.finish_reason = i - 1, piece.finish_reason or null
            piece.logprobs = piece.logprobs or null
            out[#out + 1] = event_of(answer, piece)
        end
        if draw(1, 4) == 1 then out[#out + 1] = NOISE[draw(1, #NOISE)] end
    end
    out[#out + 1] = event_of(answer, nil, answer.usage)
    out[#out + 1] = draw(1, 3) > 1 and "data: [DONE]\n\n" or ""
    return table.concat(out)
end

t.test("a random answer is the same whole and in pieces", function()
    local body
    local server = assert(leat.simulate(URL, function()
        return { headers = { ["Content-Type"] = "text/event-stream" }, body = body }
    end))
    local ai = assert(leat.openai { base_url = URL, api_key = "key", model = "m", retry = false })
    for seed = tonumber(FIRST), tonumber(LAST) do
        local generator = random(seed)
        local function draw(from, to) return from + generator(to - from + 1) - 1 end
        local answer = answer_of(draw)
        local style = STYLES[seed % #STYLES + 1]
        body = stream_of(draw, answer, style)
        local stream, err = ai:stream "x"
        t.ok(stream, seed .. ": " .. tostring(err))
        local parts = {}
        for delta in stream do parts[#parts + 1] = delta end
        t.eq({ seed, table.concat(parts) }, { seed, answer.choices[1].message.content })
        t.eq({ seed, style, stream.reply }, { seed, style, answer })
        t.eq({ stream.usage, stream.finish_reason }, { answer.usage, answer.choices[1].finish_reason })
    end
    server:close()
end)

t.done()
