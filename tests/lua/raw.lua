-- A client of bare bytes, for what no proper client does.
local t = require "harness"
local ffi = require "ffi"
local bit = require "bit"

ffi.cdef [[
    struct leat_test_in { unsigned short family, port; unsigned char ip[4]; char zero[8]; };
    int socket(int, int, int);
    int connect(int, const void *, unsigned);
    long send(int, const void *, size_t, int);
    long recv(int, void *, size_t, int);
    int shutdown(int, int);
    int close(int);
    int setsockopt(int, int, int, const void *, unsigned);
]]

local Raw = {}
Raw.__index = Raw

-- Connects to a server of leat.serve. Its receive buffer can be made small.
local function raw(server, small_buffer)
    local fd = ffi.C.socket(2, 1, 0)
    if small_buffer then
        ffi.C.setsockopt(fd, 1, 8, ffi.new("int[1]", 4096), 4) -- SO_RCVBUF
    end
    local to = ffi.new("struct leat_test_in", { family = 2 })
    to.port = bit.bor(bit.lshift(bit.band(server.port, 255), 8), bit.rshift(server.port, 8))
    to.ip[0], to.ip[3] = 127, 1
    assert(ffi.C.connect(fd, to, 16) == 0)
    return setmetatable({ fd = fd, parts = {}, got = "", ended = false }, Raw)
end

function Raw:send(text)
    local sent = tonumber(ffi.C.send(self.fd, text, #text, 0x4000))
    t.ok(sent == #text or self.may_reset, sent)
    return self
end

-- Sends as much as the kernel takes at once, and returns how much.
function Raw:send_some(text)
    return math.max(0, tonumber(ffi.C.send(self.fd, text, #text, 0x4040)))
end

local buffer = ffi.new "char[65536]"
local MSG_DONTWAIT = 0x40

-- Reads what is there; `got` has all of it so far.
function Raw:poll()
    local parts = self.parts
    while not self.ended do
        local n = tonumber(ffi.C.recv(self.fd, buffer, 65536, MSG_DONTWAIT))
        if n > 0 then
            parts[#parts + 1] = ffi.string(buffer, n)
        elseif n < 0 and ffi.errno() == 11 then
            return
        else
            self.ended = n == 0 and "closed" or "reset"
        end
    end
end

-- Waits until `pattern` was received.
function Raw:expect(pattern)
    return t.wait_until(function()
        self:poll()
        self.got = table.concat(self.parts)
        return self.got:match(pattern)
    end)
end

function Raw:wait_end()
    t.wait_until(function()
        self:poll()
        return self.ended
    end)
    self.got = table.concat(self.parts)
    return self.ended
end

function Raw:half_close()
    ffi.C.shutdown(self.fd, 1)
    return self
end

function Raw:close() ffi.C.close(self.fd) end

return raw
