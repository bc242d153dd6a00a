-- Two pipelines that are joined by a queue: the first one asks questions, the second one works on the answers
-- while the first one still asks. After the first Ctrl-C the first one starts nothing new, and the second one
-- works off what is left in the queue.
-- usage: leat scripts/two_stages.lua [questions]
local leat = require "leat"
local chat = require "chat"

local ask = leat.pipeline { concurrency = 5 }
local translate = leat.pipeline { concurrency = 2 }
local answers = leat.queue(10) -- a full queue holds the first pipeline up

local questions = {}
for i = 1, tonumber((...)) or 30 do
    questions[i] = "Explain in one sentence what " .. i .. " is"
end

local function ask_all()
    return ask:each(questions, function(question)
        local answer, err = chat(question)
        if not answer then
            return nil, err
        end
        return answers:put(answer)
    end)
end

local stats = assert(gather {
    function()
        return leat.finally(ask_all, function()
            answers:close() -- however the first one ends: the second one must not wait for more
        end)
    end,
    function()
        return translate:each(answers:iter(), function(answer)
            return chat("Translate into French: " .. answer)
        end)
    end,
})
print("asked: " .. stats[1].ok .. ", translated: " .. stats[2].ok)
