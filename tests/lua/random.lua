--- The random numbers of the tests: `local random = require "random" (seed)`. `random()` is in [0, 1),
--- `random(n)` in 1..n. A seed repeats its sequence on every machine.
---
--- This is sfc32 by Chris Doty-Humphrey, from his PractRand. It only adds, shifts and exclusive-ors 32-bit
--- integers, which doubles hold exactly. (A multiplication of two 32-bit integers in doubles loses bits
--- beyond 2^53: a generator made of that soon runs in a short cycle.)
local bit = require "bit"

local bxor, lshift, rshift, rol, tobit = bit.bxor, bit.lshift, bit.rshift, bit.rol, bit.tobit

local function generator(seed)
    local a, b, c, counter = tobit(seed % 2 ^ 32), tobit(math.floor(seed / 2 ^ 32)), 0x5eed, 1
    local function next_bits()
        local sum = tobit(a + b + counter)
        counter = tobit(counter + 1)
        a = bxor(b, rshift(b, 9))
        b = tobit(c + lshift(c, 3))
        c = tobit(rol(c, 21) + sum)
        return sum % 2 ^ 32
    end
    for _ = 1, 15 do -- or neighbouring seeds begin alike
        next_bits()
    end
    return function(n)
        local unit = next_bits() / 2 ^ 32
        return n and math.floor(unit * n) + 1 or unit
    end
end

return generator
