-- Mistakes of newcomers, and their messages. Each case is a script, the line that is at fault (0: the text has
-- it elsewhere), and what the message must contain. The script is slip.lua, and URL a server's address
-- that answers "ok".
local t = require "harness"
local leat = require "leat"

local LEAT = os.getenv "LEAT" or leat.version and "/proc/self/exe"
-- The scripts run in another folder.
local lua_dir = os.getenv "LEAT_LUA_DIR"
local env = lua_dir and not lua_dir:find "^/" and ("LEAT_LUA_DIR=%s/%s "):format(os.getenv "PWD", lua_dir) or ""
local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir " .. folder) == 0)

local function write(name, text)
    local file = assert(io.open(folder .. "/" .. name, "w"))
    file:write(text)
    file:close()
end

local function output_of(command)
    local pipe = io.popen(("cd %s && URL=%s/ok DOWN=%s TLS=%s/ok %stimeout 50 %s 2>&1"):format(folder, t.url,
        t.refused_url, t.tls_url, env, command))
    local text = pipe:read "*a"
    pipe:close()
    return text
end

-- Nothing of the inside of leat, in the message or the traceback.
local function check_inside(text)
    for _, pattern in ipairs { "leat/[%w_/]+%.lua", "%?:", "upvalue", "bad argument", "got a userdata", "_start" } do
        t.ok(not text:find(pattern), "tells of the inside (" .. pattern .. "): " .. text)
    end
end

local function slips(list)
    for _, case in ipairs(list) do
        local name, script, line, wanted = unpack(case, 1, 4)
        t.test(name, function()
            write("slip.lua", script .. "\n")
            local text = output_of(LEAT .. " slip.lua </dev/null")
            local place = line > 0 and "slip.lua:" .. line or "slip.lua:"
            t.ok(text:find(place, 1, true), ("expected %q in %q"):format(place, text))
            for _, part in ipairs(type(wanted) == "table" and wanted or { wanted }) do
                t.ok(text:find(part, 1, true), ("expected %q in %q"):format(part, text))
            end
            check_inside(text)
        end)
    end
end

local NULL = "json.null (a JSON null; it counts as true in a condition"

-- ---- lists of functions, and functions that were called already

slips {
    { "gather is given two functions",
        "local function f() return 1 end\nlocal r = gather(f, f)", 2,
        "gather takes one list of functions: gather{ f, g }; got a function" },
    { "gather is given two responses",
        "local u = os.getenv 'URL'\nlocal r = gather(request(u), request(u))", 2,
        { "gather takes one list of functions: gather{ f, g }; got a response",
            "write the functions, not what calls of them have returned" } },
    { "gather is given a failed request and another",
        "local r = gather(request(os.getenv 'DOWN'), request(os.getenv 'URL'))", 1,
        "gather takes one list of functions: gather{ f, g }; got nil" },
    { "gather is given a list of responses",
        "local u = os.getenv 'URL'\nlocal r = gather{ request(u), request(u) }", 2,
        "gather: item 1 must be a function, got a response (pass the function itself" },
    { "gather is given two tasks",
        "local r = gather(spawn(sleep, 0), spawn(sleep, 0))", 1,
        "gather takes one list of functions: gather{ f, g }; got a task" },
    { "race is given two functions", "leat.race(function() end, function() end)", 1,
        "race takes one list of functions: race{ f, g }; got a function" },
    { "merge is given two queues", "for v in leat.merge(leat.queue(), leat.queue()) do end", 1,
        "merge takes one list of sources: merge{ a, b }; got a queue" },
    { "map is given the function first", "leat.map(function(x) return x end, { 1, 2 })", 1,
        "map takes the items first: map(items, function)" },
    { "a pipeline is given the function first",
        "local p = leat.pipeline {}\np:run(function(x) return x end, { 1, 2 })", 2,
        "pipeline:run takes the items first: pipeline:run(items, function)" },
    { "map is given a list of functions", "leat.map { function() end }", 1,
        "map takes the items and one function for all of them: map(items, function(item) ... end); "
        .. "gather{ f, g } runs a list of functions" },
    { "as_completed is given a list of functions",
        "for i, v in leat.as_completed { function() end } do end", 1,
        "as_completed takes the items and one function for all of them" },
    { "map is given a table with names", "leat.map({ a = 1, b = 2 }, print)", 1,
        "map: the items must be a list or an iterator function, got a table with the key '" },
    { "map is given a response", "leat.map(request(os.getenv 'URL'), print)", 1,
        "map: the items must be a list or an iterator function, got a response" },
    { "each is given a response", "local res = request(os.getenv 'URL')\nleat.each(res, print)", 2,
        "each: the items must be a list or an iterator function, got a response" },
    { "gather is given functions with names", "gather { a = function() end }", 1,
        "gather: the functions must be a list, got a table with the key 'a'" },
    { "map is given ipairs", "leat.map(ipairs { 1, 2 }, print)", 1,
        "map: give the list itself, not what ipairs or pairs returns: map(list, function)" },
    { "a pipeline is given pairs", "leat.pipeline {}:run(pairs { a = 1 }, print)", 1,
        "pipeline:run: give the list itself, not what ipairs or pairs returns" },
    { "a loop over a queue itself", "local q = leat.queue()\nfor v in q do print(v) end", 2,
        "(in a for loop, a queue is read by: for item in queue:iter() do)" },
    { "a loop over a list itself", "for v in leat.map({ 1 }, function(x) return x end) do end", 1,
        "(in a for loop, a list is read by: for i, item in ipairs(list) do)" },
    { "map is given what a call has returned",
        "local function f() end\nleat.map({ 1, 2 }, (f()))", 2,
        "map: the second argument must be a function, got nil (pass the function itself" },
    { "wait_for is given the function first", "wait_for(function() end, 5)", 1,
        "got a function (the seconds come first: wait_for(5, function))" },
    { "shield is given the function first", "leat.shield(function() end, 5)", 1,
        "got a function (the seconds come first: shield(5, function))" },
    { "wait_for is given a response", "wait_for(5, request(os.getenv 'URL'))", 1,
        "wait_for: the second argument must be a function, got a response (pass the function itself" },
    { "spawn is given what a call has returned", "spawn(sleep(0))", 1,
        "spawn: the first argument must be a function, got true (pass the function itself" },
    { "a semaphore is given what a call has returned", "local sem = semaphore(2)\nsem:with(sleep(0))", 2,
        "with: the first argument must be a function, got true (pass the function itself" },
    { "a retry is given what a call has returned",
        "leat.retry { attempts = 2 }:call(request(os.getenv 'URL'))", 1,
        "retry:call: the first argument must be a function, got a response (pass the function itself" },
    { "a group is given what a call has returned", "leat.group(sleep(0))", 1,
        "group: the argument must be a function, got true (pass the function itself" },
    { "the await is forgotten", "local task = spawn(request, os.getenv 'URL')\nprint(task.body)", 2,
        "task: no field 'body' (name, id, await, cancel, status; task:await() returns the results" },
    { "wrong use in a task of leat's own function has the line of the script",
        "leat.map({ 1, 2 }, sleep)\nlocal task = spawn(sleep, '1')\ntask:await()", 3,
        "sleep: seconds must be a number of seconds, got '1' (a string)" },
}

-- ---- a point for the colon

slips {
    { "sem.acquire()", "local sem = semaphore(2)\nsem.acquire()", 2,
        "expected a semaphore, got nil (its methods are called with a colon: semaphore:method())" },
    { "event.wait()", "local e = leat.event()\ne.wait()", 2, "expected an event, got nil (its methods are" },
    { "queue.put(1)", "local q = leat.queue()\nq.put(1)", 2, "expected a queue, got 1 (its methods are called" },
    { "res.json()", "local res = request(os.getenv 'URL')\nprint(res.json())", 2, "res:json" },
    { "api.get(url)", "local api = leat.client { base_url = os.getenv 'URL' }\napi.get '/'", 2,
        "client:get: call it with a colon on a client, as in api:get(...)" },
    { "ai.chat(prompt)", "local ai = leat.openai { api_key = 'k', model = 'm' }\nai.chat 'hello'", 2,
        "chat: call it with a colon, as in ai:chat(...)" },
    { "pipe.run(items, fn)", "local pipe = leat.pipeline {}\npipe.run({ 1 }, print)", 2,
        "pipeline:run: call it with a colon, as in pipeline:run(...)" },
    { "g.spawn(fn)", "leat.group(function(g) g.spawn(sleep, 1) end)", 1,
        "g:spawn: call it with a colon, as in g:spawn(...)" },
    { "writer.write(row)", "local w = leat.jsonl.writer 'out.jsonl'\nw.write { 1 }", 2,
        "writer:write: call it with a colon, as in writer:write(...)" },
}

-- ---- a JSON null

slips {
    { "a null is joined to a text", "local v = json.decode '{\"name\": null}'\nprint('name: ' .. v.name)", 2,
        "attempt to join text to " .. NULL },
    { "a null is indexed", "local v = json.decode '{\"user\": null}'\nprint(v.user.name)", 2,
        "attempt to index " .. NULL },
    { "a null is calculated with", "local v = json.decode '{\"n\": null}'\nprint(v.n + 1)", 2,
        "attempt to calculate with " .. NULL },
    { "a null is a URL", "local v = json.decode '{\"next\": null}'\nrequest(v.next)", 2,
        "request: expected a URL or a table such as {url=\"https://...\"}, got " .. NULL },
    { "a null is a header",
        "request { url = os.getenv 'URL', headers = { A = json.null } }", 1,
        "request: header 'A' must be a string, a number or a list of them, got " .. NULL },
    { "a null is a part of the query", "request { url = os.getenv 'URL', query = { a = json.null } }", 1,
        "request: query parameter 'a' must be a string, a number, a boolean or a list of them, got " .. NULL },
    { "a null is a timeout", "request { url = os.getenv 'URL', timeout = json.null }", 1,
        "request: option 'timeout' must be a number of seconds, got " .. NULL },
    { "a null is a time", "sleep(json.null)", 1, "sleep: seconds must be a number of seconds, got " .. NULL },
    { "a null is a prompt", "local ai = leat.openai { api_key = 'k', model = 'm' }\nai:chat(json.null)", 2,
        "chat: expected a prompt or {messages={...}}, got " .. NULL },
    { "a null is decoded", "json.decode(json.null)", 1, "json.decode: text must be a string, got " .. NULL },
    { "a null is a number of permits", "semaphore(json.null)", 1, "got " .. NULL },
    { "a null is an option", "leat.pipeline { concurrency = json.null }", 1, "got " .. NULL },
}

-- ---- the names of other libraries

-- What each of these names says instead, as an option of the function that makes the message.
local function unknown(call, name, instead)
    local url = call == "request" and "url = 'http://127.0.0.1/', " or ""
    return { ("%s{%s=}"):format(call, name), ("%s { %s%s = 1 }"):format(call, url, name), 1,
        { ("unknown option '%s': write "):format(name), instead, "Options: " } }
end

slips {
    { "an option is misspelt", "request { url = os.getenv 'URL', heders = {} }", 1,
        { "request: unknown option 'heders' (did you mean 'headers'?). Options: auth, body, ca_file, cert," } },
    { "an option is spelt as elsewhere", "leat.openai { apiKey = 'k' }", 1,
        "openai: unknown option 'apiKey' (did you mean 'api_key'?). Options: api_key, base_url" },
    { "two options are as near", "leat.limiter { rpx = 5 }", 1, "(did you mean 'rpm' or 'rps'?). Options: burst" },
    unknown("request", "data", "form={name=value}, or body="),
    unknown("request", "params", "query={name=value}"),
    unknown("request", "files", "multipart={name={file=path}}"),
    unknown("request", "follow_redirects", "follow=true or false"),
    unknown("request", "allow_redirects", "follow=true or false"),
    unknown("request", "cookies", "headers={Cookie="),
    unknown("request", "token", "auth={bearer="),
    unknown("request", "api_key", "auth={bearer="),
    unknown("request", "username", "auth={basic={"),
    unknown("request", "retries", "leat.retry{attempts=3}:call(function)"),
    unknown("request", "content", "body=\"a text\""),
    unknown("request", "verify", "ca_file=path to trust a certificate of your own; insecure=true trusts any"),
    unknown("request", "rejectUnauthorized", "insecure=true"),
    unknown("request", "proxies", "proxy=\"http://host:port\""),
    unknown("request", "agent", "proxy="),
    unknown("request", "timeout_ms", "timeout=seconds"),
    unknown("request", "signal", "wait_for(seconds, function), or task:cancel()"),
    unknown("request", "raise_for_status", "expect=\"2xx\""),
    unknown("request", "validateStatus", "expect=\"2xx\""),
    unknown("request", "user_agent", "headers={[\"Name\"]="),
    unknown("leat.client", "prefix_url", "base_url="),
    unknown("leat.client", "jar", "cookies=true"),
    unknown("leat.openai", "token", "api_key="),
    unknown("leat.openai", "max_retries", "retry={attempts=3}, which counts the first call too"),
    unknown("leat.openai", "temperature", "ai:chat(prompt, {temperature=0, ...})"),
    unknown("leat.openai", "organization", "headers={[\"OpenAI-Organization\"]="),
    unknown("leat.openai", "engine", "model="),
    unknown("leat.pipeline", "max_concurrency", "concurrency=10"),
    unknown("leat.pipeline", "n_workers", "concurrency=10"),
    unknown("leat.pipeline", "retries", "retry={attempts=3}"),
    unknown("leat.pipeline", "rpm", "rate={rpm=60}"),
    unknown("leat.pipeline", "checkpoint", "journal=\"run.jsonl\""),
    unknown("leat.retry", "max_retries", "attempts=3, which counts the first call too"),
    unknown("leat.retry", "backoff", "base=1, in seconds"),
    unknown("leat.retry", "status_forcelist", "when=function"),
    unknown("leat.limiter", "requests_per_minute", "rpm=60, or rps=1"),
    unknown("leat.limiter", "tokens_per_minute", "tpm=90000"),
    unknown("leat.breaker", "failure_threshold", "threshold=5"),
    unknown("leat.breaker", "recovery_timeout", "reset=30, in seconds"),
    { "map's max_workers", "leat.map({ 1 }, print, { max_workers = 5 })", 1, "write concurrency=10" },
    { "gather's return_exceptions", "gather({}, { return_exceptions = true })", 1, "write settle=true" },
    { "uri for url", "request { uri = os.getenv 'URL' }", 1, "request: unknown option 'uri': write url=" },
    { "the fields of the body as options", "request { url = os.getenv 'URL', name = 'a' }", 1,
        { "request: unknown option 'name' (options: auth,", "to send data, write json={...}, form={...} or body=" } },
    { "request('GET', url)", "request('GET', os.getenv 'URL')", 1,
        "request: the method goes into the table: request{method=\"GET\", url=...}" },
    { "request(url, options)", "request(os.getenv 'URL', { timeout = 5 })", 1,
        "request: options go into one table with the URL: request{url=..., ...}" },
    { "semaphore{max=5}", "semaphore { max = 5 }", 1, "semaphore takes a number: semaphore(5); got a table" },
    { "limiter(60)", "leat.limiter(60)", 1, "limiter: options must be a table, got 60 (as in leat.limiter{rpm=60})" },
    { "retry(function)", "leat.retry(print)", 1,
        "retry: options must be a table, got a function (as in leat.retry{attempts=3})" },
    { "api:post(url, text)", "local api = leat.client { base_url = os.getenv 'URL' }\napi:post('/', 'text')", 2,
        "(as in api:post(url, {json={...}}))" },
    { "leat.get", "local res = leat.get 'http://x/'", 1, "leat has no 'get': it is request(url)" },
    { "leat.post", "local res = leat.post('http://x/', {})", 1, "leat has no 'post': it is request{url=, json=}" },
    { "res.text", "local res = request(os.getenv 'URL')\nprint(res.text)", 2,
        "a response has no 'text': the body is res.body" },
    { "res.status_code", "local res = request(os.getenv 'URL')\nprint(res.status_code)", 2,
        "a response has no 'status_code': it is res.status" },
    { "res.content", "local res = request(os.getenv 'URL')\nprint(res.content)", 2,
        "a response has no 'content': the body is res.body" },
    { "res.headers:get(name)", "local res = request(os.getenv 'URL')\nprint(res.headers:get 'etag')", 2,
        "headers are a table: res.headers[\"content-type\"]" },
    { "res:body()", "local res = request(os.getenv 'URL')\nprint(res:body())", 2,
        "('body' is a string, not a function: write it without the parentheses)" },
    { "res.json.name", "local res = request(os.getenv 'URL')\nprint(res.json.name)", 2,
        "('json' is a function: call it, as in x:json())" },
    { "the body of a stream", "local r = request { url = os.getenv 'URL', stream = true }\nprint(#r.body)", 2,
        "a request with stream=true has no body: read it with its methods" },
    { "json.parse", "local v = json.parse '{}'", 1, "json has no 'parse': it is json.decode(text)" },
    { "json.stringify", "print(json.stringify {})", 1, "json has no 'stringify': it is json.encode(value)" },
    { "json.loads", "local v = json.loads '{}'", 1, "json has no 'loads': it is json.decode(text)" },
    { "json.dumps", "print(json.dumps {})", 1, "json has no 'dumps': it is json.encode(value)" },
    { "json.decode(res)", "json.decode((request(os.getenv 'URL')))", 1,
        "json.decode: text must be a string, got a response (write res:json())" },
    { "task:join()", "spawn(sleep, 0):join()", 1, "task: no field 'join' (name, id, await," },
    { "task:result()", "print(spawn(sleep, 0):result())", 1, "task:await() returns the results" },
    { "queue:push(item)", "leat.queue():push(1)", 1, "a queue has no 'push': it is queue:put(item)" },
    { "queue:pop()", "leat.queue():pop()", 1, "a queue has no 'pop': it is queue:get()" },
    { "sem:lock()", "semaphore(1):lock()", 1, "a semaphore has no 'lock': it is sem:with(function), or sem:acquire()" },
    { "a function of leat as a global", "local r = map({ 1 }, print)", 1,
        "attempt to call global 'map' (a nil value) (it is leat.map)" },
    { "fetch(url)", "local r = fetch 'http://x/'", 1, "(it is request(url))" },
    { "leat.log.warning", "leat.log.warning 'x'", 1, "leat.log has no 'warning': it is leat.log.warn(message)" },
    { "a pipeline's retry as a number", "leat.pipeline { retry = 3 }", 1, "got 3 (as in retry={attempts=3})" },
    { "a pipeline's rate as a number", "leat.pipeline { rate = 60 }", 1, "got 60 (as in rate={rpm=60})" },
    { "leat:map", "leat:map({ 1 }, print)", 1, "got the module itself (its functions are called with a point" },
    { "leat:request", "leat:request(os.getenv 'URL')", 1,
        "request: expected a URL or a table such as {url=\"https://...\"}, got the module itself (its functions" },
    { "json:decode", "json:decode '{}'", 1, "json.decode: text must be a string, got the module itself" },
    { "json:encode", "print((assert(json:encode {})))", 0, "the module json itself (write json.encode(value)" },
    { "leat.log(message)", "leat.log 'hello'", 1,
        "it is a table of functions: leat.log.info(message) and the like" },
    { "json(text)", "json '{}'", 1, "it is a table of functions: json.decode(text), json.encode(value)" },
    { "require 'socket.http'", "local http = require 'socket.http'", 1,
        "require: module 'socket.http' not found (request(url) is built in)" },
    { "require 'dkjson'", "local http = require 'dkjson'", 1, "(json.encode and json.decode are built in)" },
}

-- ---- wrong types

slips {
    { "auth is a text", "request { url = os.getenv 'URL', auth = 'Bearer hunter2' }", 1,
        "request: option 'auth' must be a table, got a string (not shown: it may hold a secret)" },
    { "headers are a text", "request { url = os.getenv 'URL', headers = 'Authorization: Bearer x' }", 1,
        "request: option 'headers' must be a table, got a string (not shown: it may hold a secret)" },
    { "headers are a list", "request { url = os.getenv 'URL', headers = { 'A: b' } }", 1,
        "request: the name of a header must be a string, got 1" },
    { "the body is a table", "request { url = os.getenv 'URL', body = { a = 1 } }", 1,
        "request: option 'body' must be a string, {file=path} or a function, got a table (json= and form= take" },
    { "a time with its unit", "request { url = os.getenv 'URL', timeout = '5s' }", 1,
        "request: option 'timeout' must be a number of seconds, got '5s'" },
    { "a number as a text", "leat.map({ 1 }, print, { limit = '5' })", 1,
        "map: option 'limit' must be a number, got '5' (a string)" },
    { "a limit without its name", "leat.map({ 1 }, print, 5)", 1,
        "map: options must be a table, got 5 (as in leat.map(items, function, {limit=5}))" },
    { "an environment variable that is not set", "request(os.getenv 'NOT_SET_ANYWHERE')", 1,
        "request: expected a URL or a table such as {url=\"https://...\"}, got nil" },
    { "a key that is not set", "leat.hmac(os.getenv 'NOT_SET_ANYWHERE', 'x')", 1,
        "hmac: key must be a string, got nil" },
    { "openai is given the key itself", "local ai = leat.openai 'not-so-secret'", 1,
        "openai: options must be a table, got a string (not shown: it may hold a secret) (as in leat.openai{" },
    { "no model", "local ai = leat.openai { api_key = 'k' }\nai:chat 'hello'", 2,
        "chat: no model: give it to leat.openai, to the call, or in OPENAI_MODEL" },
    { "nil into a queue", "leat.queue():put()", 1, "put: nil cannot be put into a queue" },
    { "a wait in a comparator", "table.sort({ 2, 1 }, function(a, b) sleep(0) return a < b end)", 1,
        "sleep: cannot wait inside sort" },
    { "a yield of a task", "coroutine.yield()", 1,
        "coroutine.yield: called outside a coroutine of the script's own" },
    { "serve is given the handler itself", "leat.serve(function(req) end)", 1,
        "serve: expected a table such as {port=0, handler=function(req) ... end}, got a function" },
    { "a threshold is misspelt",
        "local _, stats = leat.pipeline {}:run({ 1 }, function() return 1 end)\nstats:check { fialed = 0 }", 2,
        "check: unknown option 'fialed' (did you mean 'failed'?)" },
    { "a kind of error is misspelt", "return nil, (leat.error { kind = 'tiemout' })", 1,
        "error: unknown kind 'tiemout' (kinds: timeout connect" },
    { "a journal is given a response",
        "local function get() return request(os.getenv 'URL') end\nleat.map({ 1 }, get, { journal = 'j.jsonl' })", 2,
        "journal: the function returned a response, which a journal cannot store: return res.body or res:json()" },
    { "a writer is given a response",
        "local w = leat.jsonl.writer 'out.jsonl'\nassert(w:write(request(os.getenv 'URL')))", 2,
        "got a response, which a writer cannot store: write res.body or res:json()" },
    { "not leat.stopping", "leat.stopping:set()\nwhile not leat.stopping do sleep(1) end", 2,
        "leat.stopping is an event and always counts as true: write leat.is_stopping()" },
    { "lines of a response that is no stream",
        "local res = request(os.getenv 'URL')\nfor line in res:lines() do print(line) end", 2, "stream=true" },
}

-- ---- what the world did, and nobody looked

slips {
    { "the field of a response that failed", "local res = request(os.getenv 'DOWN')\nprint(res.body)", 2,
        "the request at slip.lua:1 had failed: cannot connect to" },
    { "a file of lines that is not there", "for row in leat.jsonl.read 'no/such.jsonl' do end", 1,
        { "slip.lua:1 had failed: cannot open no/such.jsonl: No such file or directory" } },
    { "a file to write in a folder that is not there",
        "local w = leat.jsonl.writer 'no/such/out.jsonl'\nw:write { 1 }", 2,
        "slip.lua:1 had failed: cannot open no/such/out.jsonl: No such file or directory" },
    { "a certificate that is not trusted", "assert(request(os.getenv 'TLS'))", 1, "name its CA with ca_file=" },
    { "http to a port of https", "assert(request((os.getenv('TLS'):gsub('^https', 'http'))))", 1,
        "if it speaks TLS, write https://" },
    { "https to a port of http",
        "local url = os.getenv('URL'):gsub('^http', 'https')\n"
        .. "assert(request { url = url, timeout = { connect = 2 } })", 2,
        "if it speaks plain HTTP, write http://" },
    { "a command is waited for while other tasks are ready",
        "local other = spawn(function() while true do sleep(0.001) end end) sleep(0)\n"
        .. "os.execute 'sleep 0.3'\nother:cancel()", 2,
        "os.execute blocked all tasks for over 100 ms while others were ready" },
    { "the output of a command is waited for while other tasks are ready",
        "local other = spawn(function() while true do sleep(0.001) end end) sleep(0)\n"
        .. "print(io.popen('sleep 0.3; echo done'):read())\nother:cancel()", 2,
        "blocked all tasks for over 100 ms while others were ready" },
    { "every item of a pipeline had a bad status",
        "local url = os.getenv 'URL' .. '/none'\n"
        .. "leat.pipeline {}:run({ 1, 2 }, function() return request(url) end)", 2,
        "no item of the pipeline at slip.lua:2 succeeded: 2 failed: 2 × status 404" },
    { "the return is forgotten", "leat.map({ 1, 2 }, function(x) local y = x end)", 1,
        "all 2 results are nil: the function at slip.lua:1 returned no value for any item" },
    { "two permits of one by one task", "local sem = semaphore(1)\nsem:acquire()\nsem:acquire()", 3,
        { "stuck: every task waits, and nothing can wake one", "held by task 1 since slip.lua:2" } },
    { "a task that awaits itself", "local t\nt = spawn(function() t:await() end)\nt:await()", 2,
        "would wait for itself" },
}

-- ---- where else they may be

t.test("a slip in leat -e has its place too", function()
    local text = output_of(LEAT .. " -e 'gather(print, print)'")
    t.ok(text:find("(command line):1: gather takes one list of functions: gather{ f, g }", 1, true), text)
    check_inside(text)
end)

t.test("a slip at the prompt has its line too, and what may be meant", function()
    write("lines", "gather(print, print)\nx = 1\nmap({}, print)\njson.parse '{}'\n")
    local text = output_of(LEAT .. " repl <lines")
    t.ok(text:find("[1]:1: gather takes one list of functions: gather{ f, g }; got a function", 1, true), text)
    t.ok(text:find("[3]:1: attempt to call global 'map' (a nil value) (it is leat.map)", 1, true), text)
    t.ok(text:find("[4]:1: json has no 'parse': it is json.decode(text)", 1, true), text)
    check_inside(text)
end)

t.test("unknown fields that no other library has are nil as ever", function()
    t.eq({ leat.no_such, json.no_such, semaphore(1).no_such, leat.queue().no_such, leat.event().no_such },
        {})
    local res = assert(request(t.url .. "/ok"))
    t.eq({ res.no_such, res.headers.no_such, res.headers["x-no"] }, {})
end)

os.execute("rm -rf " .. folder)
t.done()
