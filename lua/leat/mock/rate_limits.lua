-- The rate limits of the mock (requests and tokens per minute), and its refusals of requests above a limit.
local chat = require "leat.mock.chat"
local check = require "leat.internal.check"
local tasks = require "leat.task"

local floor, max, ceil, huge = math.floor, math.max, math.ceil, math.huge

local M = {}

-- ---- a bucket: the generic cell rate algorithm (ITU-T I.371, virtual scheduling)

local Bucket = {}
Bucket.__index = Bucket

function M.bucket(per_minute, burst)
    return setmetatable({
        per_minute = per_minute,
        burst = burst,
        interval = 60 / per_minute,
        due = -huge, -- when the next unit would come if all came evenly
    }, Bucket)
end

-- The seconds until the bucket is full again.
function Bucket:owed()
    return max(0, self.due - tasks.now())
end

-- The seconds until `n` units may pass. A request for more than the burst may pass when nothing is owed.
function Bucket:wait(n)
    local wait = self:owed() - max(0, self.burst - n) * self.interval
    return wait > 1e-9 and wait or 0
end

function Bucket:take(n)
    self.due = max(self.due, tasks.now()) + n * self.interval
end

function Bucket:left()
    return max(0, floor(self.burst - self:owed() / self.interval + 1e-9))
end

-- ---- the two limits

local function bucket_of(opts, name, burst_name)
    local burst = opts[burst_name] and check.count("mock", burst_name, opts[burst_name], 1)
    local rate = opts[name]
    if rate == nil then
        return nil
    elseif not (rate > 0 and rate < huge) then
        check.fail(("mock: %s must be over 0, got %s"):format(name, check.picture(rate, name)))
    end
    return M.bucket(rate, burst or max(1, floor(rate / 60)))
end

-- Makes the limits from the options of mock.start.
function M.new(opts)
    return {
        requests = bucket_of(opts, "rpm", "burst"),
        tokens = bucket_of(opts, "tpm", "token_burst"),
        request_id = 0,
    }
end

local function whole_ms(seconds)
    return ceil(seconds * 1000 - 1e-6) -- a computed 0.05 s may be slightly more
end

-- A duration in the API's format: 120ms, 1.5s, 6m0s.
local function duration(seconds)
    if seconds < 1 then
        return ("%dms"):format(whole_ms(seconds))
    elseif seconds < 60 then
        return ("%gs"):format(whole_ms(seconds) / 1000)
    end
    return ("%dm%ds"):format(floor(seconds / 60), floor(seconds % 60))
end

local function headers_of(self)
    self.request_id = self.request_id + 1
    local headers = { ["x-request-id"] = ("req_mock%08d"):format(self.request_id) }
    for _, what in ipairs { "requests", "tokens" } do
        local bucket = self[what]
        if bucket then
            headers["x-ratelimit-limit-" .. what] = bucket.per_minute
            headers["x-ratelimit-remaining-" .. what] = bucket:left()
            headers["x-ratelimit-reset-" .. what] = duration(bucket:owed())
        end
    end
    return headers
end

local UNITS = { requests = "requests per min (RPM)", tokens = "tokens per min (TPM)" }

-- Returns the headers for the answer, and the answer itself.
local function refusal(self, what, wrong, model, n, advice, wait)
    local headers = headers_of(self)
    if wait then
        headers["Retry-After"] = ceil(wait - 1e-9)
        headers["retry-after-ms"] = whole_ms(wait)
    end
    local message = ("%s for %s on %s: Limit %d, Requested %d. %s"):format(wrong, model, UNITS[what],
        self[what].per_minute, n, advice)
    return headers, chat.failure(429, message, what, nil, "rate_limit_exceeded", headers)
end

-- Charges a request of `n` tokens. Returns the headers for its answer. If the request is above a limit, it is
-- charged to neither limit, and the refusing answer is returned too.
function M.admit(self, model, n)
    local requests, tokens = self.requests, self.tokens
    if tokens and n > tokens.per_minute then
        return refusal(self, "tokens", "Request too large", model, n,
            "The input or output tokens must be reduced in order to run successfully.")
    end
    local wait, longer = requests and requests:wait(1) or 0, tokens and tokens:wait(n) or 0
    if longer > wait then
        return refusal(self, "tokens", "Rate limit reached", model, n,
            ("Please try again in %s."):format(duration(longer)), longer)
    elseif wait > 0 then
        return refusal(self, "requests", "Rate limit reached", model, 1,
            ("Please try again in %s."):format(duration(wait)), wait)
    end
    if requests then
        requests:take(1)
    end
    if tokens then
        tokens:take(n)
    end
    return headers_of(self)
end

return M
