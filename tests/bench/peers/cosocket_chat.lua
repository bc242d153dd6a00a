-- The job of tests/bench/chat.lua with nginx's Lua module: a timer of a worker process, light threads,
-- ngx.socket.tcp with its pool of kept connections, and lua-cjson. tests/bench/suite.sh makes the nginx.conf,
-- which calls this with HOST, PORT, PATH, COUNT and IN_FLIGHT.
local ngx = _G.ngx
local cjson = require "cjson"

local function peak_kb()
    for line in io.lines "/proc/self/status" do
        local kb = line:match "^VmHWM:%s*(%d+)"
        if kb then return tonumber(kb) end
    end
end

return function(host, port, path, count, in_flight)
    local head = table.concat({
        "POST " .. path .. " HTTP/1.1", "Host: " .. host .. ":" .. port, "Content-Type: application/json",
        "Content-Length: ",
    }, "\r\n")
    local pool = { pool_size = in_flight }

    local function chat(i)
        local body = cjson.encode {
            model = "gpt-4o-mini",
            messages = {
                { role = "system", content = "You are a helpful assistant. Answer in one sentence." },
                { role = "user", content = "Explain in one sentence what " .. i .. " is" },
            },
            temperature = 0.7,
            max_tokens = 64,
            stream = false,
            user = "bench",
        }
        local socket = ngx.socket.tcp()
        assert(socket:connect(host, port, pool))
        assert(socket:send { head, #body, "\r\n\r\n", body })
        local status = assert(socket:receive "*l")
        assert(status:find("^HTTP/1.1 200"), status)
        local length
        repeat
            local field = assert(socket:receive "*l")
            length = length or field:match "^[Cc]ontent%-[Ll]ength:%s*(%d+)"
        until field == ""
        local reply = cjson.decode(assert(socket:receive(tonumber(length))))
        assert(socket:setkeepalive(600000, in_flight))
        return assert(reply.choices[1].message.content)
    end

    local next_item = 0
    local function work()
        while next_item < count do
            next_item = next_item + 1
            chat(next_item)
        end
        return true
    end

    assert(ngx.timer.at(0, function()
        local threads = {}
        ngx.update_time()
        local began = ngx.now()
        for k = 1, in_flight do
            threads[k] = ngx.thread.spawn(work)
        end
        local failed = 0
        for k = 1, in_flight do
            local ran, ok = ngx.thread.wait(threads[k])
            if not (ran and ok) then failed = failed + 1 end
        end
        ngx.update_time()
        io.stdout:write(("requests=%d failed=%d wall_s=%.3f cpu_us_per_request=%.2f peak_rss_kb=%d\n"):format(
            count, failed, ngx.now() - began, os.clock() / count * 1e6, peak_kb()))
        io.stdout:flush()
        os.exit(failed == 0 and 0 or 1)
    end))
end
