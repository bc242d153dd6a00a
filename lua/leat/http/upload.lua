-- Bodies that are not a string (files, functions, multipart forms): they are sent piece by piece and are
-- never in memory as a whole. Also response bodies that are written to a file.
local await = require "leat.internal.await"
local check = require "leat.internal.check"
local native_request = require "leat.native.request"
local errors = require "leat.error"
local file = require "leat.internal.file"
local native_task = require "leat.native.task"
local native_util = require "leat.native.util"

local PIECE = 64 * 1024

local M = {}

-- ---- sources: { length, next() -> bytes | nil | nil, err; close() }

local function close_nothing() end

local function of_file(path)
    local f, err = file.open(path, "r")
    if not f then
        return nil, err
    end
    local length
    length, err = f:size()
    if not length then
        return nil, err
    end
    return {
        length = length,
        next = function()
            return f:read(PIECE)
        end,
        close = function()
            f:close()
        end,
    }
end

local function of_string(text)
    local sent = false
    return {
        length = #text,
        close = close_nothing,
        next = function()
            if not sent then
                sent = true
                return text
            end
        end,
    }
end

local function close_all(sources)
    for _, source in ipairs(sources) do
        source.close()
    end
end

-- A source that reads several sources one after the other.
local function of_sources(sources)
    local length, i = 0, 1
    for _, source in ipairs(sources) do
        length = length + source.length
    end
    return {
        length = length,
        close = function()
            close_all(sources)
        end,
        next = function()
            while sources[i] do
                local bytes, err = sources[i].next()
                if bytes ~= nil or err ~= nil then
                    return bytes, err
                end
                i = i + 1
            end
        end,
    }
end

-- ---- multipart/form-data (RFC 7578)

local PART = { file = "string", content = "string", filename = "string", type = "string" }

-- Encodes a name as browsers do (WHATWG HTML, multipart/form-data encoding algorithm).
local function quoted(text)
    return (text:gsub("[\r\n\"]", { ["\r"] = "%0D", ["\n"] = "%0A", ['"'] = "%22" }))
end

local function part_of(name, value)
    local kind = type(value)
    if kind == "number" or kind == "boolean" then
        value, kind = tostring(value), "string"
    end
    if kind == "string" then
        return { name = name, content = value }
    elseif kind ~= "table" then
        check.fail(("request: multipart '%s' must be a string, a number, a boolean or a table such as "
            .. "{file=path}, got %s"):format(check.hidden(name), check.picture(value, "multipart")))
    end
    check.options("request: multipart '" .. check.hidden(name) .. "'", value, PART)
    if (value.file == nil) == (value.content == nil) then
        check.fail(("request: multipart '%s' must have either file=path or content=text"):format(
            check.hidden(name)))
    end
    if value.type and value.type:find "[%z\1-\31\127]" then
        return nil, errors.new { kind = "invalid", message = "multipart: the type of '"
            .. quoted(check.hidden(name)) .. "' holds a control byte" }
    end
    return {
        name = name, content = value.content, file = value.file, type = value.type,
        filename = value.filename or value.file and value.file:match "[^/]*$",
    }
end

local function parts_of(form)
    local parts = {}
    local function add(name, value)
        local part, err = part_of(name, value)
        parts[#parts + 1] = part
        return part, err
    end
    for i = 1, #form do -- {{name, value}, ...} keeps its order
        local pair = form[i]
        if type(pair) ~= "table" or type(pair[1]) ~= "string" or pair[2] == nil then
            check.fail(("request: multipart field %d must be a pair such as {\"name\", value}, got %s")
                :format(i, check.picture(pair, "multipart")))
        end
        local part, err = add(pair[1], pair[2])
        if not part then
            return nil, err
        end
    end
    local names = {}
    for name in pairs(form) do
        if type(name) == "string" then
            names[#names + 1] = name
        elseif type(name) ~= "number" or name < 1 or name > #form or name % 1 ~= 0 then
            check.fail("request: the name of a multipart field must be a string, got "
                .. check.picture(name, "multipart"))
        end
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local value = form[name]
        local several = type(value) == "table" and value[1] ~= nil and value or { value }
        check.list("request: multipart '" .. check.hidden(name) .. "'", several)
        for _, one in ipairs(several) do
            local part, err = add(name, one)
            if not part then
                return nil, err
            end
        end
    end
    return parts
end

local function head_of(part, boundary)
    local head = ('--%s\r\nContent-Disposition: form-data; name="%s"'):format(boundary, quoted(part.name))
    if part.filename then
        head = head .. ('; filename="%s"'):format(quoted(part.filename))
    end
    local kind = part.type or part.filename and "application/octet-stream"
    return head .. (kind and "\r\nContent-Type: " .. kind or "") .. "\r\n\r\n"
end

-- The body of a form and its content-type. The body is a string if everything is in memory; otherwise it is a
-- source.
function M.multipart(form)
    local parts, err = parts_of(form)
    if not parts then
        return nil, err
    end
    local boundary = "leat-" .. native_util.uuid():gsub("-", "")
    local sources, texts, streamed = {}, {}, false
    for _, part in ipairs(parts) do
        local body
        if part.file then
            body, err = of_file(part.file)
            if not body then
                close_all(sources)
                return nil, err
            end
            streamed = true
        else
            body = of_string(part.content)
        end
        local head = head_of(part, boundary)
        sources[#sources + 1] = of_string(head)
        sources[#sources + 1] = body
        sources[#sources + 1] = of_string "\r\n"
        texts[#texts + 1] = head .. (part.content or "") .. "\r\n"
    end
    local tail = "--" .. boundary .. "--\r\n"
    sources[#sources + 1] = of_string(tail)
    texts[#texts + 1] = tail
    local content_type = "multipart/form-data; boundary=" .. boundary
    if streamed then
        return of_sources(sources), content_type
    end
    return table.concat(texts), content_type
end

-- ---- other bodies

local FILE = { file = "string" }

-- The source of a body that is not a string; nil, err if its file cannot be opened.
function M.source(body)
    if type(body) == "function" then
        return { length = math.huge, next = body, close = close_nothing }
    end
    local name = type(body) == "table" and next(body)
    if not (name and (body.file or type(name) == "string" and check.suggest(name, FILE))) then
        check.fail("request: option 'body' must be a string, {file=path} or a function, got "
            .. check.picture(body, "body") .. (type(body) == "table" and " (json= and form= take one)" or ""))
    end
    check.options("request: body", body, FILE)
    return of_file(body.file)
end

-- ---- sending

local function give_up(handle, kind, message)
    native_request.give_up(handle, errors.new { kind = kind, message = message })
    return true
end

local function feed_all(handle, source)
    local sent = 0
    while true do
        local bytes, err = source.next()
        if bytes == nil then
            if err ~= nil then
                native_request.give_up(handle, errors.wrap(err))
                return true
            elseif sent < source.length and source.length < math.huge then
                return give_up(handle, "io", ("the body ended after %d of %d bytes"):format(sent,
                    source.length))
            end
            native_request.feed_end(handle)
            return true
        elseif type(bytes) ~= "string" then
            return false, "request: the body's function must return strings, and nil at the end; got "
                .. check.picture(bytes, "bytes")
        end
        sent = sent + #bytes
        if sent > source.length then
            return give_up(handle, "io", ("the body is longer than the %d bytes it had at first"):format(
                source.length))
        end
        local going
        going, err = await(native_request.feed(handle, bytes))
        if going == nil then
            native_request.give_up(handle, err)
        end
        if not going then
            return true
        end
    end
end

-- The task that sends the body. If the script's function returns an error, it becomes the error of the
-- request. If the function has a bug, the bug is kept and raised in the task that made the request.
local function feeder(handle, source, trouble)
    local ok, done, wrong_use = xpcall(feed_all, native_task.note, handle, source)
    source.close()
    if not ok and errors.is(done) then
        native_request.give_up(handle, done) -- if this task was cancelled, so was the request
    elseif done == "not enough memory" then
        give_up(handle, "memory", "not enough memory in the body's function")
    elseif not ok or not done then
        trouble.bug, trouble.wrong_use = done, wrong_use
        native_request.give_up(handle, errors.raised(wrong_use or done))
    end
    return true
end

local function finish(feeding, source, trouble, streaming, handle, ...)
    if not streaming or (...) == nil then
        native_request.close(handle)
        feeding:cancel "the request is over"
        local _, ended_by = feeding:await()
        source.close()
        if (...) == nil and ended_by and ended_by.kind == "budget" then
            return nil, ended_by -- the same as the request's own, and it says where
        end
    end
    if trouble.wrong_use then
        check.fail(trouble.wrong_use)
    elseif trouble.bug ~= nil then
        error(trouble.bug, 0)
    end
    return ...
end

-- Calls `start` with the handle while another task sends the body from `source`.
function M.perform(source, handle, streaming, spec, defaults, url, method, content_type, auth, jar, once)
    local trouble = {}
    local feeding = native_task.spawn(feeder, handle, source, trouble)
    native_request.fed_by(handle, feeding)
    return finish(feeding, source, trouble, streaming, handle, await(native_request.start(spec, defaults, url,
        method, nil, content_type, auth, handle, source.length, jar, once)))
end

-- ---- response bodies

local function copy(res, f)
    local size = 0
    while true do
        local bytes, err = res:read()
        if bytes == nil then
            if err ~= nil then
                return nil, err
            end
            local ok
            ok, err = f:sync()
            return ok and size, err
        end
        size = size + #bytes
        local ok
        ok, err = f:write(bytes)
        if not ok then
            return nil, err
        end
    end
end

-- Writes the body of a streamed response to `path`. The file has either its old content or all of the new
-- one.
function M.sink(res, path)
    local part = ("%s.part-%s"):format(path, native_util.uuid():sub(1, 8))
    local f, err = file.open(part, "x")
    if not f then
        res:close()
        return nil, err
    end
    local ok, size
    ok, size, err = xpcall(copy, native_task.note, res, f)
    local closed, why = f:close()
    if ok and size and not closed then
        size, err = nil, why
    end
    local complete = res.complete
    res:close()
    if ok and size then
        ok, size, err = pcall(function()
            local renamed, problem = file.rename(part, path)
            return renamed and size, problem
        end)
        if ok and size then
            res.complete, res.sink, res.size = complete, path, size
            return res
        end
    end
    file.unlink_now(part)
    if not ok then
        error(size, 0)
    end
    return nil, err
end

-- Reads all of a streamed response. Used for an error answer that came instead of the expected body.
function M.whole(res)
    local parts = {}
    while true do
        local bytes, err = res:read()
        if bytes == nil then
            if err ~= nil then
                return nil, err
            end
            break
        end
        parts[#parts + 1] = bytes
    end
    local complete = res.complete
    res:close()
    res.body, res.complete, res._stream = table.concat(parts), complete, nil
    return res
end

return M
