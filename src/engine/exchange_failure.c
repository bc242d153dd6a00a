#include "engine/exchange.h"
#include "ground/redact.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static uint64_t at(uint64_t from_ns, uint64_t limit_ms)
{
    if (limit_ms == 0 || limit_ms > (NEVER_NS - from_ns) / NS_PER_MS)
        return NEVER_NS;
    return from_ns + limit_ms * NS_PER_MS;
}

/* Where a connection that is not there yet stands. */
static enum err_phase connect_phase(const struct exchange *x)
{
    if (x->state == EXCHANGE_RESOLVING)
        return PHASE_DNS;
    /* curl notes the time of the connect only when the handshake is over as well. */
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    bool connected =
        x->connect_fd >= 0 && getpeername(x->connect_fd, (struct sockaddr *)&peer, &len) == 0;
    return connected && x->url->origin->https ? PHASE_TLS : PHASE_CONNECT;
}

uint64_t failure_due(const struct exchange *x, enum err_phase *phase, uint64_t *limit_ms)
{
    const struct transfer_limits *l = &x->transfer->spec.limits;
    uint64_t due = NEVER_NS;
    *phase = PHASE_NONE;
    *limit_ms = 0;
    switch (x->state) {
    case EXCHANGE_IDLE:
        return NEVER_NS;
    case EXCHANGE_QUEUED:
        *phase = PHASE_QUEUE;
        *limit_ms = l->queue_ms;
        due = at(x->entered_ns, l->queue_ms);
        break;
    case EXCHANGE_RESOLVING:
    case EXCHANGE_CONNECTING:
        *phase = PHASE_CONNECT;
        *limit_ms = l->connect_ms;
        due = at(x->admitted_ns, l->connect_ms);
        break;
    case EXCHANGE_WAITING:
        *phase = x->uploading ? PHASE_IDLE : PHASE_FIRST_BYTE;
        *limit_ms = x->uploading ? l->idle_ms : l->first_byte_ms;
        if (!x->starved)
            due = at(x->uploading ? x->activity_ns : x->sent_ns, *limit_ms);
        break;
    case EXCHANGE_RECEIVING:
        *phase = PHASE_IDLE;
        *limit_ms = l->idle_ms;
        /* While it is our side that holds things up the silence is not the peer's. */
        if (!x->paused && !x->starved && x->held.len == 0)
            due = at(x->activity_ns, l->idle_ms);
        break;
    }
    bool head_missing =
        x->state >= EXCHANGE_RESOLVING && !(x->state > EXCHANGE_WAITING && x->head_done);
    uint64_t head = x->started_ns && head_missing ? at(x->started_ns, l->head_ms) : NEVER_NS;
    if (head < due) {
        *phase = x->state < EXCHANGE_WAITING ? PHASE_CONNECT : PHASE_FIRST_BYTE;
        *limit_ms = l->head_ms;
        due = head;
    }
    uint64_t total = x->started_ns ? at(x->started_ns, l->total_ms) : NEVER_NS;
    if (total < due) {
        *phase = PHASE_TOTAL;
        *limit_ms = l->total_ms;
        due = total;
    }
    return due;
}

/* "POST http://host:1/path?key=***", cut to fit. */
static const char *request_text(const struct exchange *x, char out[static 160])
{
    char url[120];
    const char *text = x->url ? x->url->url : x->transfer->spec.url;
    redact_url(url, sizeof url, text, strlen(text));
    snprintf(out, 160, "%.20s %s", x->method, url);
    return out;
}

void failure_timeout(const struct exchange *x, uint64_t now_ns, struct err *err)
{
    static const char *const words[PHASE_COUNT] = {
        [PHASE_QUEUE] = "no place became free",
        [PHASE_DNS] = "the name was not found",
        [PHASE_CONNECT] = "no connection",
        [PHASE_TLS] = "the TLS handshake did not end",
        [PHASE_FIRST_BYTE] = "no answer",
        [PHASE_IDLE] = "nothing moved",
        [PHASE_TOTAL] = "not done",
    };
    enum err_phase phase;
    uint64_t limit_ms;
    char request[160];
    failure_due(x, &phase, &limit_ms);
    if (phase == PHASE_CONNECT)
        phase = connect_phase(x);
    char proxy[160], through[180] = "";
    if ((phase == PHASE_CONNECT || phase == PHASE_TLS) && x->url && failure_proxy_text(x, proxy))
        snprintf(through, sizeof through, " through %s", proxy);
    const char *hint = phase == PHASE_TLS && !through[0] && x->url && !x->url->origin->answered
                           ? "; if it speaks plain HTTP, write http://"
                           : "";
    err_set(err, ERR_TIMEOUT, "%s%s within %g s%s (%s)", words[phase] ? words[phase] : "not done",
            through, (double)limit_ms / 1000.0, hint, request_text(x, request));
    err->phase = phase;
    err->limit_ms = limit_ms;
    err->retryable = true;
    UNUSED(now_ns);
}

/* Who answers, for messages. */
static const char *speaker(const struct exchange *x, char out[static 320])
{
    char proxy[160];
    if (failure_proxy_is_peer(x) && failure_proxy_text(x, proxy))
        snprintf(out, 320, "%.150s, asked through %.150s,", x->url->origin->key, proxy);
    else
        snprintf(out, 320, "%.300s", x->url->origin->key);
    return out;
}

static void set_closed(const struct exchange *x, const char *reason, const char *how,
                       struct err *err)
{
    char request[160], who[320];
    err_set(err, ERR_CLOSED, "%s %s (%s)", speaker(x, who), how, request_text(x, request));
    err_reason(err, reason);
    err->retryable = true;
}

static void set_protocol(const struct exchange *x, const char *what, struct err *err)
{
    char request[160], who[320];
    err_set(err, ERR_PROTOCOL, "%s sent %s (%s)", speaker(x, who), what, request_text(x, request));
}

static void set_denied(const struct exchange *x, struct err *err)
{
    char request[160];
    err_set(err, ERR_DENIED, "the address of %s may not be connected to (%s)", x->url->origin->key,
            request_text(x, request));
    err_reason(err, "target");
}

/* What a connection was tried to, for messages: "http://host:80", or what leads there. */
static const char *peer_text(const struct exchange *x, char out[static 160])
{
    const struct transfer_spec *spec = &x->transfer->spec;
    if (spec->unix_socket)
        snprintf(out, 160, "the unix socket %.120s", spec->unix_socket);
    else if (!failure_proxy_text(x, out))
        snprintf(out, 160, "%.150s", x->url->origin->key);
    return out;
}

static void set_connect(const struct exchange *x, struct err *err)
{
    long os = 0;
    char request[160], detail[128], peer[160];
    if (x->target_denied) {
        set_denied(x, err);
        return;
    }
    curl_easy_getinfo(x->easy, CURLINFO_OS_ERRNO, &os);
    const char *why = "no connection";
    if (os == 0)
        os = x->socket_error;
    bool too_many = os == EMFILE || os == ENFILE;
    enum err_kind kind = too_many ? ERR_IO : os == ENOMEM ? ERR_MEMORY : ERR_CONNECT;
    if (os)
        why = strerror_r((int)os, detail, sizeof detail);
    err_set(err, kind, "cannot connect to %s: %s (%s)", peer_text(x, peer), why,
            request_text(x, request));
    err->retryable = true;
    err->phase = PHASE_CONNECT;
    if (too_many)
        err_reason(err, "too_many_files");
    else if (failure_proxy_text(x, peer))
        err_reason(err, "proxy");
    else if (os == ECONNREFUSED)
        err_reason(err, "refused");
}

static void set_resolve(const struct exchange *x, CURLcode code, struct err *err)
{
    char request[160], peer[160];
    /* A SOCKS proxy's name is no proxy's to libcurl; the target's is looked up by the proxy. */
    bool proxy = code == CURLE_COULDNT_RESOLVE_PROXY || failure_proxy_text(x, peer);
    err_set(err, ERR_DNS, "no address for %s (%s)",
            proxy ? peer_text(x, peer) : x->url->origin->host, request_text(x, request));
    err->phase = PHASE_DNS;
    if (proxy)
        err_reason(err, "proxy");
}

static bool said(const struct exchange *x, const char *words)
{
    return strstr(x->curl_text, words) != NULL;
}

/* What is wrong with the server's certificate, and what to do; NULL: libcurl says it. */
static const char *certificate_fault(const struct exchange *x, char out[static 160])
{
    const struct transfer_spec *spec = &x->transfer->spec;
    if (said(x, "issuer certificate") || said(x, "self-signed") || said(x, "self signed") ||
        said(x, "unable to verify the first")) {
        snprintf(out, 160, "%s %s",
                 said(x, "self") ? "it is self-signed and not trusted:" : "its CA is not trusted:",
                 spec->ca_file ? "its CA is not in the file that ca_file= names"
                               : "name its CA with ca_file=");
        return out;
    }
    if (said(x, "certificate subject name") || said(x, "does not match")) {
        snprintf(out, 160, "it is for other names than %.100s", x->url->origin->host);
        return out;
    }
    return NULL;
}

/* What to do where no TLS came about; NULL: libcurl's words must do. */
static const char *handshake_fault(const struct exchange *x, CURLcode code, char out[static 160])
{
    const struct transfer_spec *spec = &x->transfer->spec;
    if (code == CURLE_SSL_CACERT_BADFILE && spec->ca_file) {
        snprintf(out, 160,
                 "ca_file= names %.80s, which holds no certificates in PEM form, or cannot "
                 "be read",
                 spec->ca_file);
        return out;
    }
    if (code == CURLE_SSL_CERTPROBLEM && spec->cert) {
        snprintf(out, 160, "cert= or key= cannot be used (%.50s%s%.50s): both must be PEM files",
                 spec->cert, spec->key ? ", " : "", spec->key ? spec->key : "");
        return out;
    }
    if (said(x, "certificate required") || said(x, "handshake failure")) {
        snprintf(out, 160, "%.70s%s", x->curl_text,
                 spec->cert ? "" : ": it may want a client certificate (cert= and key=)");
        return out;
    }
    if (said(x, "wrong version number") || said(x, "unknown protocol") ||
        said(x, "packet length too long") || said(x, "http request"))
        return "it does not speak TLS; if it speaks plain HTTP, write http://";
    if (code == CURLE_SSL_CONNECT_ERROR && !x->url->origin->answered &&
        (said(x, "SYSCALL") || said(x, "reset") || said(x, "unexpected eof")))
        return "it broke off the handshake; if it speaks plain HTTP, write http://";
    return NULL;
}

static void set_tls(const struct exchange *x, CURLcode code, struct err *err)
{
    char request[160], text[160];
    bool verify = code == CURLE_PEER_FAILED_VERIFICATION;
    char peer[160];
    const char *with = failure_tls_to_proxy(x) ? peer_text(x, peer) : x->url->origin->key;
    const char *fault = verify ? certificate_fault(x, text) : handshake_fault(x, code, text);
    const char *detail = x->curl_text[0] ? x->curl_text : curl_easy_strerror(code);
    if (fault)
        err_set(err, ERR_TLS, "%s %s: %s (%s)", verify ? "the certificate of" : "TLS failed with",
                with, fault, request_text(x, request));
    else
        err_set(err, ERR_TLS, "%s %s: %.70s (%s)",
                verify ? "the certificate is not valid for" : "TLS failed with", with, detail,
                request_text(x, request));
    err->phase = PHASE_TLS;
    if (verify)
        err_reason(err, "verify");
    /* A handshake that was cut off may work the next time; a refused certificate will not. */
    err->retryable = !verify && (said(x, "SYSCALL") || said(x, "reset"));
}

static void set_truncated(const struct exchange *x, struct err *err)
{
    const struct transfer_result *r = &x->transfer->result;
    char how[96];
    if (!x->head_done) {
        set_closed(x, "reset", "closed without an answer", err);
        return;
    }
    if (r->expected_bytes >= 0)
        snprintf(how, sizeof how, "closed after %lld of %lld body bytes", (long long)r->got_bytes,
                 (long long)r->expected_bytes);
    else
        snprintf(how, sizeof how, "closed after %lld body bytes, before the end",
                 (long long)r->got_bytes);
    set_closed(x, "truncated", how, err);
}

/* A server that has never answered in HTTP, and now has not either. */
static bool may_speak_tls(const struct exchange *x)
{
    const struct origin *g = x->url->origin;
    return !g->https && !g->answered && x->bytes_in == 0 && !x->transfer->spec.unix_socket &&
           !exchange_proxied(x);
}

/* What to try with a server that has never answered, and closes. */
static const char *silence(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    if (may_speak_tls(x) && spec->http_version == HTTP_VERSION_2_PRIOR)
        return "closed without an answer; it may not speak HTTP/2 without TLS";
    if (may_speak_tls(x))
        return "closed without an answer; if it speaks TLS, write https://";
    if (g->https && !g->answered && !spec->cert)
        return "closed without an answer; it may want a client certificate (cert= and key=)";
    return "closed without an answer";
}

/* CURLE_RECV_ERROR and CURLE_GOT_NOTHING stand for several things; curl's text tells them apart. */
static void set_receive(const struct exchange *x, struct err *err)
{
    if (strstr(x->curl_text, "chunk"))
        set_protocol(x, "a broken chunked body", err);
    else if (strstr(x->curl_text, "Too large response headers"))
        err_set(err, ERR_TOO_LARGE, "header bytes from %s: more than %d", x->url->origin->key,
                HEADER_BYTES_MAX);
    else if (said(x, "certificate required"))
        set_closed(x, "reset", "wants a client certificate (cert= and key=)", err);
    else if (x->head_done)
        set_closed(x, "reset", "broke off the connection", err);
    else
        set_closed(x, "reset", silence(x), err);
}

void failure_describe(const struct exchange *x, const struct err *why, struct err *err)
{
    char request[160];
    *err = *why;
    size_t len = strlen(err->message);
    snprintf(err->message + len, sizeof err->message - len, " (%s)", request_text(x, request));
}

/* The connection ended before a byte of the response. */
static void set_lost(const struct exchange *x, struct err *err)
{
    if (x->reused && !x->transfer->spec.once && !exchange_idempotent(x))
        set_closed(x, "reset",
                   "closed a kept connection after the request was sent; it is not sent twice",
                   err);
    else
        set_closed(x, "reset", silence(x), err);
}

/* What the reader of messages found (http1_parse.h), after "http://host:port sent ". */
static const struct {
    const char *reason, *what;
} malformed[] = {
    {"header_name", "a line that is not a header"},
    {"header_value", "a control byte in a header value"},
    {"nul", "a NUL byte in its headers"},
    {"folded_line", "a folded header line"},
    {"bare_cr", "a CR without a LF"},
    {"bare_lf", "a broken chunked body: a LF without a CR"},
    {"content_length", "a Content-Length that is not a number, or two that differ"},
    {"transfer_encoding", "a Transfer-Encoding that does not end with chunked"},
    {"chunk_size", "a broken chunked body: the size of a chunk is no number"},
    {"chunk_extension", "a broken chunked body: a chunk extension is invalid or too long"},
    {"chunk_end", "a broken chunked body: a chunk is longer than its size"},
    {"unexpected_101", "a 101 (another protocol) that was not asked for"},
};

static const struct {
    const char *reason, *what;
    int limit;
} oversized[] = {
    {"too_many_headers", "headers", HEADERS_MAX},
    {"head_too_large", "header bytes", HEADER_BYTES_MAX},
    {"line_too_long", "bytes in one header", HEADER_LINE_MAX},
    {"too_many_informational", "informational responses", INFORMATIONAL_MAX},
};

static void set_malformed(const struct exchange *x, const struct err *why, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(oversized); i++) {
        if (strcmp(why->reason, oversized[i].reason) == 0) {
            err_set(err, ERR_TOO_LARGE, "%s from %s: more than %d", oversized[i].what,
                    x->url->origin->key, oversized[i].limit);
            return;
        }
    }
    const char *what = may_speak_tls(x)
                           ? "something that is not HTTP; if it speaks TLS, write https://"
                           : "something that is not HTTP";
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        if (strcmp(why->reason, malformed[i].reason) == 0)
            what = malformed[i].what;
    }
    set_protocol(x, what, err);
    err_reason(err, why->reason);
}

void failure_of_hop(const struct exchange *x, enum hop_end end, const struct err *why,
                    struct err *err)
{
    err_clear(err);
    switch (end) {
    case HOP_DONE:
    case HOP_STOPPED:
        ASSERT(false);
        break;
    case HOP_UNSENT:
    case HOP_LOST:
        set_lost(x, err);
        break;
    case HOP_REFUSED:
        set_closed(x, "reset", "refused the request without reading it", err);
        break;
    case HOP_CUT:
        set_truncated(x, err);
        break;
    case HOP_RESET:
        if (x->head_done)
            set_closed(x, "reset", "broke off the connection", err);
        else
            set_truncated(x, err);
        break;
    case HOP_FAILED:
        if (why->kind == ERR_PROTOCOL)
            set_malformed(x, why, err);
        else
            failure_describe(x, why, err);
        break;
    }
}

/* HTTP/2. libcurl's words name the error code that the server gave. */
static void set_stream(const struct exchange *x, struct err *err)
{
    char how[128] = "broke off the HTTP/2 stream";
    const char *cleanly = strstr(x->curl_text, "cleanly: ");
    if (cleanly)
        snprintf(how, sizeof how, "broke off the HTTP/2 stream: %.80s", cleanly + 9);
    set_closed(x, "reset", how, err);
}

void failure_from_curl(const struct exchange *x, CURLcode code, struct err *err)
{
    char request[160];
    uint64_t now = loop_now_ns(x->engine->loop);
    err_clear(err);
    if (failure_from_proxy(x, code, err)) {
        err->code = (int)code;
        return;
    }
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        set_connect(x, err);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        set_resolve(x, code, err);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        failure_timeout(x, now, err);
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED:
        set_tls(x, code, err);
        break;
    case CURLE_ABORTED_BY_CALLBACK:
        if (x->resend_refused && x->refused)
            set_closed(x, "reset", "refused the request without reading it", err);
        else if (x->resend_refused)
            set_closed(x, "reset",
                       "closed a kept connection after the request was sent; it is not sent twice",
                       err);
        break;
    case CURLE_PARTIAL_FILE:
        if (x->head_done)
            set_truncated(x, err);
        else
            set_receive(x, err);
        break;
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
        set_receive(x, err);
        break;
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        set_stream(x, err);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* an answer that is no HTTP/1 or /2, as the scheme is known */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        set_protocol(x,
                     may_speak_tls(x)
                         ? "something that is not HTTP; if it speaks TLS, write https://"
                         : "something that is not HTTP",
                     err);
        break;
    case CURLE_OUT_OF_MEMORY:
        /* curl's word, too, for a header line above its own limit of 100 KB. */
        if (x->state >= EXCHANGE_WAITING && !x->head_done)
            err_set(err, ERR_TOO_LARGE, "bytes in one header from %s: more than %d",
                    x->url->origin->key, HEADER_LINE_MAX);
        else
            err_set(err, ERR_MEMORY, "no memory for a transfer (%s)", request_text(x, request));
        break;
    case CURLE_BAD_FUNCTION_ARGUMENT: /* libcurl's word for a line that is not a header */
        if (x->hop_attempts > 0)
            set_protocol(x, x->head_done ? "a broken chunked body" : "a line that is not a header",
                         err);
        break;
    case CURLE_URL_MALFORMAT:
        err_set(err, ERR_INVALID, "url: not usable (%s)", request_text(x, request));
        break;
    default:
        break;
    }
    if (err->kind == ERR_NONE)
        err_set(err, ERR_INTERNAL, "libcurl failed: %s (%s)",
                x->curl_text[0] ? x->curl_text : curl_easy_strerror(code),
                request_text(x, request));
    err->code = (int)code;
}
