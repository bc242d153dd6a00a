-- Names that other libraries use, and what to write in leat instead. Error messages about an unknown option,
-- field or method use this. The module is loaded when the first such message is made.
local M = {}

-- Each line has the names that other libraries use (without "_", in lower case), and what to write instead. A
-- line applies to functions that have the option in front of ":"; "*" applies to all. The first line that
-- applies is used.
local OPTIONS = [[
data = form: form={name=value}, or body="a text", or json={...}
payload rawbody postdata postfields = body: body="a text", or json={...}, or form={name=value}
content = body: body="a text"
jsonbody jsondata = json: json={...}
params searchparams qs queryparams queryparameters querystring = query: query={name=value}
files file attachments = multipart: multipart={name={file=path}}
followredirects allowredirects followredirect followlocation redirect redirects = follow: follow=true or false
maxredirs redirectlimit = max_redirects: max_redirects=5
cookies cookie = cookies: cookies=true, which keeps the cookies of the server
cookies cookie cookiejar jar = headers: headers={Cookie="name=value"}; leat.client{cookies=true} keeps them
cookiejar jar withcredentials = cookies: cookies=true
token accesstoken bearer bearertoken authtoken apitoken = api_key: api_key="..."
token accesstoken bearer bearertoken authtoken apitoken apikey key = auth: auth={bearer="..."}
token accesstoken authtoken apitoken apikey key = bearer: bearer="..."
username password user pass login basicauth = auth: auth={basic={"user", "password"}}
username password user pass login basicauth = basic: basic={"user", "password"}
maxretries retries maxattempts numretries retrycount retrylimit tries total stop = attempts: attempts=3, which counts the first call too
maxretries retries maxattempts numretries retrycount retrylimit attempts tries = retry: retry={attempts=3}, which counts the first call too
maxretries retries maxattempts numretries retrycount retrylimit attempts retry tries = *: leat.retry{attempts=3}:call(function), or leat.pipeline{retry={attempts=3}}
verify verifyssl sslverify verifytls rejectunauthorized strictssl insecureskipverify validatecerts trustall = insecure: ca_file=path to trust a certificate of your own; insecure=true trusts any
ca cacert cabundle cafile cacerts sslcafile = ca_file: ca_file=path
clientcert certificate certfile sslcert = cert: cert=path and key=path
keyfile sslkey privatekey = key: key=path and cert=path
proxies httpproxy httpsproxy allproxy proxyurl agent httpagent httpsagent dispatcher = proxy: proxy="http://host:port"
timeoutms timeoutmillis timeoutseconds requesttimeout totaltimeout readtimeout connecttimeout connectiontimeout sockettimeout sotimeout responsetimeout deadline maxtime = timeout: timeout=seconds, or timeout={connect=, first_byte=, idle=, total=} in seconds
signal abortsignal canceltoken abort abortcontroller = *: wait_for(seconds, function), or task:cancel()
uri href endpoint address target = url: url="https://..."
baseurl baseuri prefixurl prefix = url: url="https://..." in full; leat.client{base_url="https://..."} has a base
apibase base baseuri prefixurl prefix host endpoint url uri server basepath = base_url: base_url="https://..."
verb httpmethod type = method: method="POST"
http2 httpversions = http_version: http_version="2"
responsetype dataType responseencoding parse = body: res.body for the text, res:json() for the value
raiseforstatus validatestatus throwhttperrors failonstatuscode raiseerrors statuses = expect: expect="2xx"
maxsize maxcontentlength maxbodylength maxresponsesize maxbytes limit = max_body: max_body=bytes
gzip compress compression decompress acceptencoding = compressed: compressed=true or false
useragent accept contenttype referer authorization = headers: headers={["Name"]="value"}
defaultheaders extraheaders header httpheaders = headers: headers={["Name"]="value"}
output outfile saveto dest destination filename download = sink: sink=path
maxconnections poolsize maxsockets limits connectionlimit = max_per_host: max_per_host=10
maxconcurrency maxconcurrent concurrent nworkers numworkers maxworkers workers threads nthreads parallel parallelism poolsize jobs njobs limit maxinflight maxtasks semaphore = concurrency: concurrency=10
maxconcurrency maxconcurrent concurrency concurrent nworkers numworkers maxworkers workers threads nthreads parallel parallelism poolsize jobs njobs maxinflight maxtasks = limit: limit=10
initial initiallimit = start: start=5
maxconcurrency maxlimit limit = max: max=20
ratelimit ratelimiter limiter requestsperminute rpm rps qps tpm requestspersecond throttle = rate: rate={rpm=60}
requestsperminute ratelimit rate perminute maxrequests interval period = rpm: rpm=60, or rps=1
requestspersecond qps persecond = rps: rps=1, or rpm=60
tokensperminute maxtokens tokenlimit = tpm: tpm=90000
maxburst capacity bucketsize = burst: burst=10
backoff mintimeout initialdelay delay wait basedelay waittime initialinterval retrydelay = base: base=1, in seconds
backofffactor multiplier exponentialbase exponent = factor: factor=2
maxdelay maxwait backoffmax maxtimeout maxinterval maxbackoff = max: max=60, in seconds
statusforcelist retryon shouldretry retryif retrycondition retryonstatus retryexceptions statuscodes = when: when=function(value, err) ... end
onfailedattempt beforeretry callback beforesleep = on_retry: on_retry=function
randomize jitterfactor randomizationfactor = jitter: jitter="full" or "none"
failurethreshold failmax errorthreshold maxfailures failures volumethreshold = threshold: threshold=5
resettimeout recoverytimeout timeout cooldown timeoutduration sleepwindow = reset: reset=30, in seconds
halfopenmaxcalls halfopenrequests trialcalls = probes: probes=1
errorthresholdpercentage failureratethreshold errorrate = failure_rate: failure_rate=0.5
batchsize chunksize = batch: batch={size=20, interval=0.3}
batchsize chunksize = size: size=20
checkpoint resume resumefrom statefile savefile cachefile = journal: journal="run.jsonl"
returnexceptions allsettled continueonerror stoponerror raiseerrors ignoreerrors = settle: settle=true
onprogress showprogress tqdm bar verbose = progress: progress=true
ondone oncomplete callback onprogress then = on_result: on_result=function(index, value, err) ... end
onerror errorhandler catch = on_error: on_error=function
engine modelname deployment modelid = model: model="..."
organization org project = headers: headers={["OpenAI-Organization"]="..."}
temperature maxtokens topp system systemprompt messages seed tools responseformat = retry: ai:chat(prompt, {temperature=0, ...}): it is an option of the call
hostname bind interface addr listen = host: host="127.0.0.1"
onrequest callback app fetch routes = handler: handler=function(request) ... end
mode = append: append=true or false
indentation space spaces pretty = indent: indent=2
sortkeys sort = sorted: sorted=true
bigint uselargenumbers parsefloat bignumber = big: big="string"
]]

local function plain(name)
    return (name:lower():gsub("[_%-]", ""))
end

local advice -- name -> list of { option, text }

local function load_options()
    advice = {}
    for names, option, text in OPTIONS:gmatch "([^=\n]+) = ([%w_*]+): ([^\n]+)" do
        for name in names:gmatch "%S+" do
            name = plain(name)
            advice[name] = advice[name] or {}
            table.insert(advice[name], { option, text })
        end
    end
end

--- What to write instead of the option `name` for a function with the options `rows`, or nil.
function M.option(name, rows)
    if not advice then
        load_options()
    end
    for _, entry in ipairs(advice[plain(name)] or {}) do
        if entry[1] == "*" or rows[entry[1]] then
            return entry[2]
        end
    end
end

-- ---- fields and methods

local RESPONSE = {
    text = "the body is res.body", content = "the body is res.body", data = "the body is res.body, and "
    .. "res:json() its value", status_code = "it is res.status", statusCode = "it is res.status",
    status_text = "it is res.reason", statusText = "it is res.reason", code = "it is res.status",
    raise_for_status = "look at res.ok, as in: if not res.ok then ... end",
    elapsed = "it is res.timing.total, in seconds", header = "it is res.headers[\"content-type\"]",
    get_header = "it is res.headers[\"content-type\"]", getHeader = "it is res.headers[\"content-type\"]",
    iter_lines = "it is res:lines(), of a request with stream=true",
    iter_content = "it is res:chunks(), of a request with stream=true",
    iter_bytes = "it is res:chunks(), of a request with stream=true",
    iter_text = "it is res:chunks(), of a request with stream=true",
    decode_json = "it is res:json()", parse_json = "it is res:json()",
}

local QUEUE = {
    push = "it is queue:put(item)", pop = "it is queue:get()", enqueue = "it is queue:put(item)",
    dequeue = "it is queue:get()", send = "it is queue:put(item)", recv = "it is queue:get()",
    receive = "it is queue:get()", take = "it is queue:get()", add = "it is queue:put(item)",
    shift = "it is queue:get()", put_nowait = "it is queue:try_put(item)",
    get_nowait = "it is queue:try_get()", qsize = "it is queue.size", length = "it is queue.size",
    len = "it is queue.size", empty = "it is queue.size == 0",
}

local SEMAPHORE = {
    lock = "it is sem:with(function), or sem:acquire()", unlock = "it is sem:release()",
    post = "it is sem:release()", wait = "it is sem:acquire()", take = "it is sem:acquire()",
    give = "it is sem:release()", run = "it is sem:with(function)", use = "it is sem:with(function)",
}

local EVENT = { notify = "it is event:set()", fire = "it is event:set()", signal = "it is event:set()",
    isset = "it is event:is_set()", isSet = "it is event:is_set()", reset = "it is event:clear()" }

local JSON = {
    parse = "it is json.decode(text)", loads = "it is json.decode(text)", load = "it is json.decode(text)",
    stringify = "it is json.encode(value)", dumps = "it is json.encode(value)",
    dump = "it is json.encode(value)", new = "it needs no instance: json.encode, json.decode",
    parse_file = "it is json.decode(text) of what file:read(\"*a\") returned",
    empty_array = "it is json.array()",
}

local HEADERS = {
    get = "headers are a table: res.headers[\"content-type\"]",
    get_all = "it is res:header_values(\"set-cookie\")",
    has = "headers are a table: res.headers[\"content-type\"] ~= nil",
}

local LOG = {
    warning = "it is leat.log.warn(message)", err = "it is leat.log.error(message)",
    fatal = "it is leat.log.error(message)", critical = "it is leat.log.error(message)",
    trace = "it is leat.log.debug(message)", log = "it is leat.log.info(message)",
}

local CLIENT = {
    fetch = "it is api:get(url)", del = "it is api:delete(url)", send = "it is api:request{...}",
    close = "a client needs no close: connections are closed when they are no longer used",
}

local OPENAI = {
    chat_completion = "it is ai:chat(prompt)", complete = "it is ai:chat(prompt)",
    completion = "it is ai:chat(prompt)", completions = "it is ai:chat(prompt)",
    create = "it is ai:chat(prompt)", ask = "it is ai:chat(prompt)", generate = "it is ai:chat(prompt)",
    embeddings = "it is ai:embed(text)", embedding = "it is ai:embed(text)",
    chat_stream = "it is ai:stream(prompt)", stream_chat = "it is ai:stream(prompt)",
    responses = "it is ai:chat(prompt)",
}

local LEAT = {
    get = "it is request(url)", post = "it is request{url=, json=}",
    put = "it is request{url=, method=\"PUT\"}",
    patch = "it is request{url=, method=\"PATCH\"}", delete = "it is request{url=, method=\"DELETE\"}",
    head = "it is request{url=, method=\"HEAD\"}", fetch = "it is request(url)", http = "it is request(url)",
    session = "it is leat.client{...}", Session = "it is leat.client{...}",
    create_task = "it is spawn(function)", async = "it is spawn(function)", go = "it is spawn(function)",
    thread = "it is spawn(function)", fork = "it is spawn(function)",
    await = "it is task:await(), a method of what spawn returns",
    all = "it is gather{ f, g }", wait_all = "it is gather{ f, g }", all_settled = "it is gather({ f, g }, "
    .. "{settle=true})", any = "it is leat.race{ f, g }", first = "it is leat.race{ f, g }",
    parallel = "it is leat.map(items, function), or gather{ f, g }",
    pmap = "it is leat.map(items, function)",
    for_each = "it is leat.each(items, function)", foreach = "it is leat.each(items, function)",
    mutex = "it is semaphore(1)", lock = "it is semaphore(1)", channel = "it is leat.queue()",
    timeout_after = "it is wait_for(seconds, function)", with_timeout = "it is wait_for(seconds, function)",
    rate_limiter = "it is leat.limiter{rpm=60}", ratelimiter = "it is leat.limiter{rpm=60}",
    circuit_breaker = "it is leat.breaker{threshold=5}", wait = "it is sleep(seconds)",
    set_timeout = "it is spawn(function() sleep(seconds) ... end)", delay = "it is sleep(seconds)",
    dump = "it is leat.inspect(value)", pretty = "it is leat.inspect(value)",
    pp = "it is leat.inspect(value)",
    print = "it is print(value), or leat.inspect(value)", on_exit = "it is leat.finally(function, clean_up)",
    exit = "it is os.exit(status)", main = "a script needs no main: write its lines",
}

local CALLS_ITS_OWN = "request(url) is built in"
local JSON_IS_BUILT_IN = "json.encode and json.decode are built in"

local MODULES = {
    ["socket.http"] = CALLS_ITS_OWN, ["ssl.https"] = CALLS_ITS_OWN, requests = CALLS_ITS_OWN,
    http = CALLS_ITS_OWN, ["http.request"] = CALLS_ITS_OWN, ["resty.http"] = CALLS_ITS_OWN,
    lcurl = CALLS_ITS_OWN, cURL = CALLS_ITS_OWN, ["lua-requests"] = CALLS_ITS_OWN,
    ["socket.url"] = CALLS_ITS_OWN, httpclient = CALLS_ITS_OWN,
    socket = "request(url), sleep(seconds) and leat.now() are built in",
    copas = "spawn, gather and sleep are built in", cqueues = "spawn, gather and sleep are built in",
    luv = "spawn, gather and sleep are built in", lanes = "spawn, gather and sleep are built in",
    effil = "spawn, gather and sleep are built in", json = JSON_IS_BUILT_IN, dkjson = JSON_IS_BUILT_IN,
    rapidjson = JSON_IS_BUILT_IN, ["lua-cjson"] = JSON_IS_BUILT_IN, rxi_json = JSON_IS_BUILT_IN,
    lunajson = JSON_IS_BUILT_IN, JSON = JSON_IS_BUILT_IN, inspect = "leat.inspect is built in",
    pprint = "leat.inspect is built in", serpent = "leat.inspect is built in",
    openai = "leat.openai{...} is built in", base64 = "leat.base64 is built in",
    mime = "leat.base64 is built in", uuid = "leat.uuid() is built in", md5 = "leat.sha256 is built in",
    sha2 = "leat.sha256 is built in", ["openssl.hmac"] = "leat.hmac is built in",
}

local CLASSES = {
    response = RESPONSE, queue = QUEUE, semaphore = SEMAPHORE, event = EVENT, log = LOG, json = JSON,
    headers = HEADERS, client = CLIENT, openai = OPENAI, leat = LEAT,
}

--- What to write instead of `name`, a field or method that the class does not have, or nil.
function M.member(class, name)
    return CLASSES[class][name]
end

--- What leat has instead of the module `name`, or nil.
function M.module(name)
    return MODULES[name]
end

local MODULE_CALLS = {
    leat = "leat.map, leat.retry ...; help() at the prompt lists them",
    json = "json.decode(text), json.encode(value)", log = "leat.log.info(message) and the like",
    jsonl = "leat.jsonl.read(path), leat.jsonl.writer(path)",
    base64 = "leat.base64.encode(bytes), leat.base64.decode(text)", stdin = "leat.stdin:lines()",
}

--- A suggestion for the text of an error that Lua raised, or nil.
function M.bug(line)
    local name = line:match "attempt to call global '([%w_]+)' %(a nil value%)"
    if name then
        local leat = package.loaded.leat
        local known = type(leat) == "table" and not LEAT[name] and leat[name] ~= nil
        return known and "it is leat." .. name or LEAT[name]
    end
    name = line:match "attempt to index %w+ '([%w_]+)' %(a function value%)"
    if name then
        return ("'%s' is a function: call it, as in x:%s()"):format(name, name)
    end
    local value
    name, value = line:match "attempt to call %w+ '([%w_]+)' %(a (%w+) value%)"
    if value == "table" and MODULE_CALLS[name] then
        return "it is a table of functions: " .. MODULE_CALLS[name]
    elseif name and (value == "string" or value == "number" or value == "boolean" or value == "table") then
        return ("'%s' is a %s, not a function: write it without the parentheses"):format(name, value)
    elseif line:find("attempt to call a userdata value", 1, true) then
        return "in a for loop, a queue is read by: for item in queue:iter() do"
    elseif line:find("attempt to call a table value", 1, true) then
        return "in a for loop, a list is read by: for i, item in ipairs(list) do"
    elseif line:find("field 'body' (a nil value)", 1, true) then
        return "the response to a request with stream=true has no body: read it with its methods, such as "
            .. "res:lines()"
    end
end

return M
