-- A reservation is what a limiter has let pass. It can be corrected or given back.
local check = require "leat.internal.check"
local policy = require "leat.policy.common"

local M = {}

local Reservation = check.class({}, "reservation")
Reservation.__index = Reservation

--- Corrects a reservation to the tokens that the call has really used. The limiter gets unused tokens back.
--- Tokens beyond the reservation are a debt, and later calls wait for it. The last call of settle counts.
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

--- Gives a reservation back, for a call that will not take place.
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

-- Internal: keeps the reservation as it is, because the estimate was right.
function Reservation:_close()
    if not self.closed then
        self.closed = true
        self.limiter.reserved = self.limiter.reserved - self.tokens
    end
end

-- Internal: takes these amounts from the limiter now.
function M.grant(limiter, requests, tokens)
    limiter.requests:charge(requests)
    limiter.tokens:charge(tokens)
    limiter.reserved = limiter.reserved + tokens
    return setmetatable({ limiter = limiter, requests = requests, tokens = tokens }, Reservation)
end

return M
