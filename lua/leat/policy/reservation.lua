-- What a limiter has let pass, to be corrected or given back.
local check = require "leat.internal.check"
local policy = require "leat.policy.common"

local M = {}

local Reservation = check.class({}, "reservation")
Reservation.__index = Reservation

--- Corrects a reservation: the tokens that the call has really used. What was too much is given back, what
--- was too little is owed. The last word counts.
---@param tokens number
--- ```lua
--- local limiter = leat.limiter { tpm = 60000, token_burst = 1000 }
--- local place = assert(limiter:reserve { tokens = 800 })
--- place:settle(300)
--- assert(limiter:stats().free_tokens >= 700)
--- ```
function Reservation:settle(tokens)
    policy.own(self, Reservation, "reservation:settle")
    if type(tokens) ~= "number" or not (tokens >= 0 and tokens < math.huge) then
        check.fail("settle: the tokens must be a number of at least 0, got "
            .. check.picture(tokens, "tokens"))
    end
    local limiter = self.limiter
    limiter.tokens:charge(tokens - self.tokens)
    self:_close()
    self.tokens = tokens
    limiter.changed:set()
end

--- Gives a reservation back: there will be no call.
--- ```lua
--- local limiter = leat.limiter { rpm = 60 }
--- limiter:reserve():cancel()
--- assert(limiter:stats().free_requests == 1)
--- ```
function Reservation:cancel()
    policy.own(self, Reservation, "reservation:cancel")
    self.limiter.requests:charge(-self.requests)
    self:settle(0)
    self.requests = 0
end

-- Internal: the estimate was right.
function Reservation:_close()
    if not self.closed then
        self.closed = true
        self.limiter.reserved = self.limiter.reserved - self.tokens
    end
end

-- Internal: so much passes now.
function M.grant(limiter, requests, tokens)
    limiter.requests:charge(requests)
    limiter.tokens:charge(tokens)
    limiter.reserved = limiter.reserved + tokens
    return setmetatable({ limiter = limiter, requests = requests, tokens = tokens }, Reservation)
end

return M
