-- The types of the tables that Leat takes and returns: options, results, statistics, errors, and the fields of
-- its objects. The reference and the definitions for editors (share/leat/library/leat.lua) are made of these
-- comments and of those above the public functions in lua/leat. Nothing runs this file.
--
-- An option that is added to a function gets a line here; tests/cli/test_editor.sh compares both.

-- ---- errors

---What a function returns beside nil when it fails. `tostring(err)` is fit to show to a person.
---@class leat.error
---@field kind "timeout"|"connect"|"dns"|"tls"|"closed"|"protocol"|"http"|"too_large"|"cancelled"|"circuit_open"|"rate_limited"|"budget"|"invalid"|"io"|"memory"|"denied"|"script"|"raised"|"internal" what kind of failure it is
---@field message string a sentence for a person
---@field reason? string a word that says more than the kind, such as "reset" or "disk_full"
---@field retryable? boolean whether it makes sense to try again
---@field retry_after? number seconds until it makes sense to try again
---@field url? string the URL of the request, without secrets
---@field status? integer the status of the response, for kind "http"
---@field response? leat.response the response, for kind "http"
---@field body? string the beginning of the response's body, for kind "http"
---@field phase? "queue"|"dns"|"connect"|"tls"|"first_byte"|"idle"|"total" what the request was doing
---@field limit? number the limit that passed, in seconds
---@field at? number the moment at which the limit passed, on the clock of leat.now
---@field elapsed? number seconds that the request took
---@field attempts? integer how often it was tried
---@field gave_up? "attempts"|"deadline"|"retry_budget"|"retry_after"|"not_idempotent" why leat.retry stopped
---@field idempotent? boolean false: to send the request again may do harm
---@field not_retried? string why it was not sent again
---@field at_once? boolean the connection was lost before a byte of the answer, so that it may be sent again now
---@field partial? any what had arrived or finished before the failure
---@field cause? any the failure or value that this error stands for
---@field causes? leat.error[] the failures of all competitors (leat.race)
---@field cleanup? any the failure of a clean-up, which came on top
---@field traceback? string where the bug was, for kind "raised"
---@field key? any the key of the source that broke (leat.merge)
---@field file? string the file in which it happened
---@field line? integer the line of that file
---@field offset? integer the byte of the JSON text, counted from 1
---@field code? integer|string a number of libcurl or of the system, or the service's own code
---@field type? string the service's own word for the error (leat.openai)
---@field param? string the parameter that the service refused (leat.openai)

---What leat.error takes. Any other field is kept, too.
---@class leat.error_fields
---@field kind? string one of the kinds of leat.error; "script" by default
---@field message? string a sentence for a person
---@field [string] any

-- ---- tasks

---How a task stands: it has not begun; it may go on; it runs; it waits; its function has ended and its children
---have not; and how it ended.
---@alias leat.task_status "new"|"ready"|"running"|"waiting"|"joining"|"ok"|"failed"|"raised"|"cancelled"

---A task: a function that runs beside others.
---@class leat.task
---@field id integer the number of the task
---@field name string its name, for lists and messages; may be set

---The list that leat.tasks returns. `tostring` makes it a text of one line for each task.
---@class leat.task_list
---@field [integer] leat.task_state

---What one task is doing.
---@class leat.task_state
---@field id integer the number of the task
---@field name string its name
---@field status leat.task_status how it stands
---@field waiting? string what it waits for
---@field detail? string more about that
---@field since? number for how many seconds it has waited
---@field at? string "file:line" where it waits
---@field parent? integer the number of the task that started it
---@field member boolean whether it belongs to a gather, a group or the like

---Figures of the runtime: see leat.stats.
---@class leat.runtime_stats
---@field tasks integer live tasks
---@field spawned integer tasks started so far
---@field resumed integer how often a task has gone on so far
---@field timers integer live timers
---@field handles integer open handles of the loop
---@field external integer waits for events from outside
---@field lua_bytes integer memory of the Lua heap
---@field memory_blocks integer live blocks of memory
---@field memory_bytes integer memory of the Lua heap and of Leat's buffers
---@field memory_peak_bytes integer the most of it so far
---@field engine? leat.network_stats figures of the network, once it was used

---Figures of the network: see leat.stats.
---@class leat.network_stats
---@field pending integer requests whose end the script has not taken yet
---@field queued integer requests that wait for a place
---@field active integer requests that have a place
---@field resolving integer names that are being looked up
---@field on_network integer requests that have a connection or wait for one
---@field events_waiting integer requests with news that the script has not taken yet
---@field submitted integer requests so far
---@field succeeded integer those that got a response
---@field failed integer those that got an error
---@field cancelled integer those that were cancelled
---@field redirects integer redirects that were followed
---@field wire_attempts integer how often a request was sent
---@field connects integer connections that were made
---@field bytes_in integer bytes of responses
---@field bytes_out integer bytes of the heads of HTTP/1.1 requests
---@field peak_active integer the most requests that had a place at once

-- ---- many at once

---@class leat.gather_options
---@field settle? boolean true: a failure does not stop the others; each slot of the result is a leat.outcome
---@field limit? integer the most functions that run at once; no limit by default
---@field concurrency? integer another name for limit

---@class leat.map_options
---@field limit? integer the most calls at once; 100 by default
---@field concurrency? integer another name for limit
---@field settle? boolean true: a failure does not stop the others; each slot of the result is a leat.outcome
---@field on_result? fun(index: integer, value: any, err: any) called as each item ends
---@field journal? string|leat.journal_options a file that keeps what has ended, so that a later run goes on

---@class leat.each_options
---@field limit? integer the most calls at once; 100 by default
---@field concurrency? integer another name for limit
---@field journal? string|leat.journal_options a file that keeps what has ended, so that a later run goes on
---@field accept? leat.statuses responses that are not ok and no failures either

---@class leat.as_completed_options
---@field limit? integer the most calls at once; 100 by default
---@field concurrency? integer another name for limit

---@class leat.batch_options
---@field size? integer the items of a batch; 10 by default
---@field interval? number seconds between the end of a batch and the start of the next; 0.5 by default
---@field on_batch? fun(n: integer, results: table) called with the results of each batch
---@field settle? boolean false: stop at the first failure, and return plain values
---@field journal? string|leat.journal_options a file that keeps what has ended, so that a later run goes on
---@field accept? leat.statuses responses that are not ok and no failures either

---@class leat.journal_options
---@field path string the file
---@field key? fun(item: any, index: integer): string the name of an item; its content as JSON by default
---@field config? any any JSON; a file that was begun with another one is refused

---What became of one item.
---@class leat.outcome
---@field ok boolean whether it has succeeded
---@field value? any its result
---@field err? any its failure

---Results by index.
---@class leat.results
---@field n integer how many there are
---@field [integer] any

---What leat.each returns.
---@class leat.counts
---@field ok integer items that have succeeded
---@field failed integer items that have failed
---@field first_error? any the first failure
---@field why_failed leat.reason[] the reasons, the most frequent first
---@field resumed? integer items that an earlier run had done, with a journal
---@field interrupted? boolean Ctrl-C has ended it early, with a journal

---@class leat.reason
---@field reason string such as "status 503" or "timeout (first_byte)"
---@field count integer how many items failed for it

---An iterator over results as they arrive.
---@class leat.as_completed
---@overload fun(): integer?, any, any

---What runs in leat.group.
---@class leat.group

---An iterator over the items of many sources.
---@class leat.merge
---@field broken integer how many sources have broken so far
---@field first_error? leat.error the error of the first of them
---@overload fun(): any, any

---@class leat.merge_options
---@field limit? integer the most sources that are open at once; 100 with an `open` function, else all
---@field concurrency? integer another name for limit
---@field on_error? "raise"|"skip"|fun(err: leat.error, key: any) what to do when a source breaks; "raise" by default

-- ---- between tasks

---A counting semaphore.
---@class leat.semaphore
---@field limit integer all permits
---@field available integer free permits
---@field waiting integer tasks that wait for one

---A queue between tasks.
---@class leat.queue
---@field size integer items in it
---@field capacity number the most it holds; math.huge: no limit
---@field closed boolean whether it was closed

---A flag to wait for.
---@class leat.event

-- ---- HTTP

---Statuses: "2xx", a number, a list of both, or a function of the response.
---@alias leat.statuses string|integer|(string|integer)[]|fun(res: leat.response): boolean

---@class leat.timeouts
---@field queue? number seconds to wait for a place; no limit by default
---@field connect? number seconds to connect, TLS included; 10 by default
---@field first_byte? number seconds to the first byte of the answer; 120 by default
---@field idle? number seconds without any byte; 120 by default
---@field total? number seconds for the whole; no limit by default

---@class leat.auth
---@field bearer? string a token
---@field basic? string[]|string {"user", "password"} or "user:password"

---@class leat.file_body
---@field file string the path of the file to send

---@class leat.part
---@field file? string the path of the file to send
---@field content? string the content, if it is not a file
---@field filename? string the name that is sent to the server
---@field type? string the content type

---What every request of a client may have.
---@class leat.common_options
---@field query? table<string|integer, any> added to the URL: {name=value}, a list of values, or {{name, value}, ...}
---@field headers? table<string, string|number|(string|number)[]> {name=value}; a list repeats the header
---@field auth? leat.auth credentials
---@field timeout? number|leat.timeouts seconds for the whole, or for each part
---@field expect? leat.statuses|false the statuses that are a success; others are nil, err of kind "http"
---@field max_body? integer the most bytes of a body, after decompression; 64 MiB by default
---@field compressed? boolean false: do not ask for gzip
---@field follow? boolean whether to follow redirects; by default only for GET and HEAD
---@field max_redirects? integer the most redirects; 5 by default
---@field idempotent? boolean true: to send it twice does no harm
---@field ca_file? string certificates to trust instead of the system's
---@field insecure? boolean true: trust any certificate
---@field cert? string a PEM file with the client's certificate
---@field key? string a PEM file with its key
---@field http_version? "1.1"|"2"|"2-prior" the version of HTTP; "2-prior" is HTTP/2 without TLS
---@field max_per_host? integer the most requests to that host at once
---@field proxy? string "http://host:port", "socks5://..." or "socks5h://..."; "" for none
---@field unix_socket? string the path of a socket to connect to
---@field resolve? table<string, string> {["host:port"]="10.1.2.3"}: the address to use instead of a look-up

---A request's options behind its URL, as client:get and the like take them.
---@class leat.call_options: leat.common_options
---@field body? string|leat.file_body|fun(): string|nil text, a file, or a function that gives one piece a call
---@field json? any a value that is sent as JSON
---@field form? table<string|integer, any> a form, as `query`
---@field multipart? table<string|integer, string|number|boolean|leat.part|any[]> {name=value}, a value being text, {file=path}, {content=text} or a list of those
---@field stream? boolean true: the response is returned when its head is in
---@field sink? string a file that the body is written to

---@class leat.request_options: leat.call_options
---@field url string http or https
---@field method? string GET by default, POST if there is a body

---@class leat.client_options: leat.common_options
---@field base_url? string what a relative URL lies beneath
---@field cookies? boolean true: cookies are kept, and sent back

---Requests with defaults in common.
---@class leat.client

---What a request gives. A stream has no `body`; it is read with its methods.
---@class leat.response
---@field status integer the status
---@field ok boolean whether the status is 200 to 299
---@field reason string the text behind the status; may be ""
---@field headers table<string, string> by name in any spelling; repeats are joined by ", "
---@field trailers table<string, string> likewise, what came behind the body
---@field body? string the body, decoded
---@field url string where it came from, after redirects
---@field version string "1.1" or "2"
---@field attempts integer requests that were sent, redirects and resends included
---@field resends? integer how often it was sent again because its connection was lost
---@field timing leat.timing how long each part took
---@field complete? boolean|"unknown" whether all of the body is there; nil while a stream goes on
---@field encoded? string the content-encoding that the body is still in
---@field idempotent? boolean false: to send it again may do harm
---@field method? string the method, beside `idempotent`
---@field not_retried? string why it was not sent again
---@field gave_up? string why leat.retry stopped
---@field sink? string the file that the body was written to
---@field size? integer the bytes of that file
---@field incomplete? leat.sse the event that a stream ended in

---Seconds since the request left the queue; what did not happen is nil.
---@class leat.timing
---@field queued? number the time in the queue
---@field dns? number
---@field connect? number
---@field tls? number
---@field first_byte? number
---@field total? number

---A server-sent event.
---@class leat.sse
---@field data string its data
---@field event string its name; "message" unless the server names it
---@field id? string the last id that was sent

---@class leat.piece_options
---@field max_bytes? integer the most bytes of a line or an event; 8 MiB by default

-- ---- policies

---A policy that tries again.
---@class leat.retry
---@field calls integer calls so far
---@field retries integer further attempts so far

---@class leat.retry_options
---@field attempts? integer the calls in all; 3 by default
---@field base? number seconds: the longest wait after the first attempt; 1 by default
---@field factor? number by how much the wait grows with each attempt; 2 by default
---@field max? number seconds: the longest wait; 60 by default
---@field jitter? "full"|"none" "none": the whole wait instead of a random part of it
---@field base_429? number seconds: the base after a 429; twice the base by default
---@field max_retry_after? number seconds: what is asked to wait longer fails at once; 120 by default
---@field budget? boolean|number|leat.retry_budget the most retries among all calls; false: no limit
---@field idempotent? boolean whether it may be sent twice; by default the request itself says it
---@field key? fun(...): any what a limit holds for, from the arguments of the call
---@field when? fun(value: any, err: any, default: boolean): boolean decides whether to try again
---@field on_retry? fun(attempt: integer, err_or_response: any, delay: number) called before each wait

---@class leat.retry_budget
---@field ratio? number retries as a share of the calls; 0.2 by default
---@field floor? number retries beside that share; 10 by default
---@field max? number the most retries that may be saved up; 20 by default

---A policy that stops calling what does not work.
---@class leat.breaker
---@field refused integer calls that it has refused

---@class leat.breaker_options
---@field threshold? integer failures in a row that open the circuit; 5 by default
---@field failure_rate? number the share of failed calls that opens it
---@field min_calls? integer calls that the share is taken of at least; 10 by default
---@field window? number seconds over which the share is taken; 60 by default
---@field reset? number seconds until it lets probes through; 30 by default
---@field probes? integer probes at a time, and successes that close it; 1 by default
---@field classify? fun(value: any, err: any): "failure"|"success"|nil judges a call
---@field on_change? fun(old: string, new: string) called at each change of state

---A policy that keeps to a rate.
---@class leat.limiter

---@class leat.rates
---@field rpm? number requests per minute
---@field rps? number requests per second
---@field tpm? number tokens per minute
---@field burst? number requests that may pass at once after a pause
---@field token_burst? number tokens that may pass at once after a pause

---@class leat.limiter_options: leat.rates
---@field max_wait? number seconds: who would wait longer fails at once
---@field tokens? number|fun(...): number what a call is expected to use; 0 by default
---@field usage? fun(value: any, second: any): number|nil what a call has used, from what it returned
---@field learn? boolean false: ignore the headers of responses

---@class leat.reserve_options
---@field requests? number 1 by default
---@field tokens? number what the call is expected to use; 0 by default
---@field max_wait? number seconds

---A place of a limiter.
---@class leat.reservation

---@class leat.limiter_stats
---@field rpm number requests per minute; math.huge: no limit
---@field tpm number tokens per minute; math.huge: no limit
---@field waiting integer calls that wait
---@field reserved number tokens that are reserved and not yet settled
---@field free_requests number requests that may pass at once
---@field free_tokens number tokens that may pass at once

---A policy that lets as many calls run at once as the service takes.
---@class leat.adaptive
---@field limit integer how many may run at once now
---@field in_flight integer how many run now

---@class leat.adaptive_options
---@field min? integer the least limit; 1 by default
---@field start? integer the limit at the beginning; 5 by default
---@field max? integer the largest limit; 20 by default
---@field decrease? number what the limit is multiplied by at a sign of congestion; 0.5 by default
---@field classify? fun(value: any, err: any): string|nil "success", a word that says why to slow down, or nil

---@class leat.limit_change
---@field at number on the clock of leat.now
---@field limit integer the limit from then on
---@field reason string why

-- ---- pipelines

---All policies in one.
---@class leat.pipeline

---@class leat.pipeline_options
---@field concurrency? integer|"adaptive"|leat.adaptive_options|leat.adaptive slots; 5 by default
---@field rate? leat.limiter_options|leat.limiter rates to keep to
---@field timeout? number seconds for each attempt
---@field deadline? number seconds for each item, with all attempts and waits
---@field retry? leat.retry_options|leat.retry|boolean how to try again; false: not at all
---@field breaker? leat.breaker_options|leat.breaker|boolean when to stop calling; none by default
---@field batch? leat.pipeline_batch|false batches with a pause between them
---@field progress? boolean|leat.progress_options|fun(text: string) true: a live line on standard error
---@field accept? leat.statuses responses that are not ok and no failures either
---@field on_result? fun(index: integer, value: any, err: any, item: any) called as each item ends
---@field journal? string|leat.journal_options a file that keeps what has ended, so that a later run goes on
---@field price? leat.price prices of a million tokens, for the cost in the statistics

---@class leat.pipeline_batch
---@field size? integer items of a batch; 10 by default
---@field interval? number seconds between batches; 0.5 by default

---@class leat.progress_options
---@field sink? fun(text: string) where the text goes; standard error by default
---@field terminal? boolean whether that is a terminal
---@field color? boolean whether to use colours
---@field interval? number seconds between two updates
---@field total? integer how many items there will be
---@field others? fun(): integer how many of the total are no items of the pipeline
---@field waiting? fun(): string|nil what the run waits for
---@field attach? fun(progress: table) called once, with the object that shows the progress

---@class leat.price
---@field prompt? number of a million tokens of prompts
---@field completion? number of a million tokens of answers

---Results by index; what has failed is in `errors`, by index, too.
---@class leat.pipeline_results: leat.results
---@field errors table<integer, any> the failures

---What a pipeline has counted and measured. `tostring` makes a summary of it.
---@class leat.stats
---@field items integer items so far
---@field ok integer items that have succeeded
---@field failed integer items that have failed
---@field skipped integer items that were never called
---@field resumed integer items that an earlier run had done
---@field calls integer calls so far
---@field retried integer calls that were not the first of their item
---@field in_flight integer calls that run now
---@field why_failed leat.reason[] the reasons, the most frequent first
---@field why_skipped leat.reason[] likewise
---@field tokens number tokens in all
---@field prompt_tokens number tokens of the prompts
---@field completion_tokens number tokens of the answers
---@field cost? number by the pipeline's `price`
---@field wall number seconds in which something was under way
---@field serial number seconds that the calls would take one after the other
---@field rate number items per second
---@field p50? number seconds: half of the calls took no longer
---@field p95? number seconds: 95 % of the calls took no longer
---@field p99? number seconds: 99 % of the calls took no longer
---@field bottleneck? "service"|"concurrency"|"rate"|"retry"|"batch"|"items" what held it up the longest
---@field bounds table<string, number> seconds by what held it up
---@field interrupted? boolean Ctrl-C has ended the run early

---The least of ok, items, rate and success_rate; the most of the others.
---@class leat.thresholds
---@field items? number
---@field ok? number
---@field rate? number
---@field success_rate? number ok as a share of the items that were called
---@field failed? number
---@field skipped? number
---@field resumed? number
---@field retried? number
---@field calls? number
---@field tokens? number
---@field prompt_tokens? number
---@field completion_tokens? number
---@field cost? number
---@field wall? number
---@field serial? number
---@field p50? number
---@field p95? number
---@field p99? number

-- ---- AI services

---A client of the OpenAI API.
---@class leat.openai
---@field base_url string where it sends requests, without secrets
---@field model? string the model that it names
---@field retry? leat.retry|false how it tries again

---@class leat.openai_options
---@field base_url? string OPENAI_BASE_URL by default, or https://api.openai.com/v1
---@field api_key? string OPENAI_API_KEY by default
---@field model? string OPENAI_MODEL by default
---@field timeout? number|leat.timeouts seconds
---@field headers? table<string, string|number|(string|number)[]> headers of every request
---@field retry? leat.retry_options|leat.retry|boolean how to try again; 3 attempts by default; false: not at all
---@field client? leat.client_options any other option of leat.client

---Fields of the request's JSON; all but timeout and headers are sent as they are.
---@class leat.chat_options
---@field timeout? number|leat.timeouts seconds
---@field headers? table<string, string|number|(string|number)[]> headers of this request
---@field model? string the model, if it is not the client's
---@field temperature? number
---@field max_tokens? integer
---@field tools? table[]
---@field response_format? table
---@field [string] any

---The decoded answer of the service.
---@class leat.reply
---@field id? string
---@field model? string
---@field choices? table[]
---@field usage? leat.usage
---@field data? table[] the embeddings or models
---@field [string] any

---@class leat.usage
---@field prompt_tokens? integer
---@field completion_tokens? integer
---@field total_tokens? integer

---An iterator over the pieces of an answer.
---@class leat.chat_stream
---@field usage? leat.usage at the end
---@field finish_reason? string at the end
---@field reply? leat.reply what `chat` would have returned, at the end
---@field close fun(self: leat.chat_stream) ends it early
---@overload fun(): string?

-- ---- servers

---A server of leat.serve or leat.simulate.
---@class leat.server
---@field url string its address
---@field host? string the address that it listens on
---@field port? integer the port that it listens on

---@class leat.serve_options
---@field handler fun(req: leat.req): any, any answers a request: a table, a text, or nil and an error
---@field port? integer 0 by default: a free one
---@field host? string an IP address or "localhost"; "127.0.0.1" by default
---@field max_body? integer the most bytes of a request's body; 64 MiB by default
---@field timeout? number seconds that a client may be silent; 120 by default
---@field name? string the server's name in messages

---@class leat.simulate_options
---@field handler fun(req: leat.req): any, any answers a request: a table, a text, or nil and an error
---@field max_body? integer the most bytes of a request's body; 64 MiB by default
---@field name? string the server's name in messages

---@class leat.mock_options
---@field port? integer 0 by default: a free one
---@field host? string "127.0.0.1" by default
---@field latency? number|string seconds: 1.5, "0.5-2", or "tail:1.5", a lognormal with that median
---@field rpm? number requests per minute; more are answered with 429
---@field burst? integer requests that may come at once; a second's worth by default
---@field tpm? number tokens per minute
---@field token_burst? integer tokens that may come at once; a second's worth by default
---@field errors? number the share of requests that is answered with 500
---@field broken? number the share of answers whose connection breaks
---@field tokens? integer the length of each answer
---@field token_delay? number seconds between the tokens of a stream
---@field key? string requests must carry it as a bearer token
---@field seed? number the same seed draws the same latencies and faults
---@field simulate? string a URL in whose place it answers, instead of listening

---A request that a handler answers.
---@class leat.req
---@field method string
---@field path string decoded
---@field query table<string, string> by name
---@field query_string string as it was sent
---@field target string path and query as they were sent
---@field headers table<string, string> by name in any spelling
---@field body string
---@field remote string the address of the client
---@field version string "1.0" or "1.1"
---@field header_values fun(self: leat.req, name: string): string[] all values of a header
---@field abort fun(self: leat.req) breaks the connection

---@class leat.respond_options
---@field status? integer 200 by default
---@field headers? table<string, string|string[]> name to value, or to a list of values
---@field body? string
---@field json? any sent as JSON

---The body of a response that is sent piece by piece.
---@class leat.stream

---@class leat.server_stats
---@field connections integer open connections
---@field active integer requests that are answered now
---@field waiting integer requests that wait for their handler
---@field accepted integer connections so far
---@field requests integer requests so far
---@field gone integer requests whose client went away before it had its response

-- ---- the rest

---What JSON's null is decoded to. It is true in a condition: compare with `== json.null`.
---@class leat.json_null: userdata

---Standard input.
---@class leat.stdin

---@class leat.encode_options
---@field sorted? boolean true: keys in byte order
---@field indent? integer spaces a level, 0 to 16
---@field max_depth? integer the deepest nesting, at most 1000; 512 by default

---@class leat.decode_options
---@field big? "string" numbers that a Lua number cannot hold become text
---@field surrogates? "replace"|"keep"|"strict" what half a surrogate pair becomes; "strict" by default: an error
---@field max_depth? integer the deepest nesting, at most 1000; 512 by default
---@field builder? "cjson" lua-cjson builds the value

---@class leat.jsonl_read_options
---@field on_error? fun(err: leat.error, text: string) called for each bad line; the reading goes on
---@field max_line? integer the most bytes of a line; 16 MiB by default

---@class leat.jsonl_writer_options
---@field append? boolean true: keep what is in the file
---@field sync? boolean true: a write returns when its line is on the disk

---Writes lines of JSON.
---@class leat.writer

---@class leat.inspect_options
---@field depth? integer 6 by default
---@field width? integer columns; 80 by default
---@field max_items? integer items a level; 100 by default
---@field max_string? integer bytes of a string; 400 by default
---@field max_bytes? integer bytes of the whole, about; 20,000 by default
---@field colors? boolean true: colours for a terminal

---@class leat.base64_encode_options
---@field url? boolean true: the alphabet for URLs and file names
---@field pad? boolean false: no `=` at the end

---@class leat.base64_decode_options
---@field url? boolean true: the alphabet for URLs and file names

---@class leat.sha256_options
---@field raw? boolean true: 32 bytes instead of 64 hex digits

---@class leat.hmac_options
---@field algorithm? "sha1"|"sha256"|"sha384"|"sha512" "sha256" by default
---@field raw? boolean true: bytes instead of hex digits

---The versions of Leat and of its libraries.
---@class leat.version
---@field leat string
---@field luajit string
---@field libuv string
---@field libcurl string
---@field zlib string
---@field openssl string
