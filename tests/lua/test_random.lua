-- The random numbers that the other tests draw: a seed that runs in a short cycle, or like another one,
-- would test little.
local t = require "harness"
local generator = require "random"

t.test("a seed repeats its numbers, and each seed has its own", function()
    local begins, twice = {}, 0
    for seed = 0, 20000 do
        local random, again = generator(seed), generator(seed)
        local begin = {}
        for i = 1, 3 do
            begin[i] = random()
            t.ok(begin[i] == again() and begin[i] >= 0 and begin[i] < 1)
        end
        local key = table.concat(begin, " ")
        twice = twice + (begins[key] and 1 or 0)
        begins[key] = true
    end
    t.eq(twice, 0)
    t.ok(generator(1)() ~= generator(1 + 2 ^ 32)(), "all of a large seed counts")
end)

t.test("no seed comes back to where it was within a program's length", function()
    for seed = 1, 2000 do
        local random = generator(seed)
        local seen, repeats = {}, 0
        for _ = 1, 500 do
            local draw = random()
            repeats = repeats + (seen[draw] and 1 or 0)
            seen[draw] = true
        end
        t.ok(repeats <= 1, "seed " .. seed) -- 32 bits: two draws may be equal, by chance
    end
end)

t.test("each face of a die comes as often as the others, within a seed and over the first draws", function()
    local function even(draw)
        local faces = {}
        for i = 1, 12000 do
            local face = draw(i)
            faces[face] = (faces[face] or 0) + 1
        end
        t.eq(#faces, 12)
        for face = 1, 12 do -- 1,000 each; 200 are six times the deviation to expect
            t.ok(math.abs(faces[face] - 1000) < 200, ("%d: %d"):format(face, faces[face]))
        end
    end
    local random = generator(7)
    even(function() return random(12) end)
    even(function(seed) return generator(seed)(12) end)
    even(function(seed)
        local one = generator(seed)
        one(12)
        return one(12)
    end)
end)

t.done()
