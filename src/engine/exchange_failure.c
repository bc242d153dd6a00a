#include "engine/exchange_failure.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "ground/redact.h"
#include <string.h>

/* Where a connection that is not there yet stands. */
static enum err_phase connect_phase(const struct exchange *x)
{
    if (x->state == EXCHANGE_RESOLVING)
        return PHASE_DNS;
    return exchange_is_securing(x) ? PHASE_TLS : PHASE_CONNECT;
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

/* "the proxy http://host:port"; NULL: none makes the connection. */
static const char *proxy_text(const struct exchange *x, char out[static 160])
{
    if (!x->pool || !x->proxy)
        return NULL;
    char shown[120];
    redact_url(shown, sizeof shown, x->proxy, strlen(x->proxy));
    snprintf(out, 160, "the proxy %s", shown);
    return out;
}

void exchange_failure_timeout(const struct exchange *x, struct err *err)
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
    exchange_due(x, &phase, &limit_ms);
    if (phase == PHASE_CONNECT)
        phase = connect_phase(x);
    char proxy[160], through[180] = "";
    if ((phase == PHASE_CONNECT || phase == PHASE_TLS || x->seeks_proxy) && x->url &&
        proxy_text(x, proxy))
        snprintf(through, sizeof through, " through %s", proxy);
    const char *hint = phase == PHASE_TLS && !through[0] && x->url && !x->url->origin->answered
                           ? "; if it speaks plain HTTP, write http://"
                           : "";
    err_set(err, ERR_TIMEOUT, "%s%s within %g s%s (%s)", words[phase] ? words[phase] : "not done",
            through, (double)limit_ms / 1000.0, hint, request_text(x, request));
    err->phase = phase;
    err->limit_ms = limit_ms;
    err->retryable = true;
}

/* Names the peer that answers, for messages. */
static const char *speaker(const struct exchange *x, char out[static 320])
{
    char proxy[160];
    if (x->pool && exchange_asks_proxy(x) && proxy_text(x, proxy))
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

/* True if the server has never answered in HTTP, and did not now. */
static bool may_speak_tls(const struct exchange *x)
{
    const struct origin *g = x->url->origin;
    return !g->https && !g->answered && x->bytes_in == 0 && !x->transfer->spec.unix_socket &&
           !x->proxy;
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

void exchange_failure_describe(const struct exchange *x, const struct err *why, struct err *err)
{
    char request[160];
    *err = *why;
    size_t len = strlen(err->message);
    snprintf(err->message + len, sizeof err->message - len, " (%s)", request_text(x, request));
}

void exchange_failure_lookup(const struct exchange *x, const struct err *why, struct err *err)
{
    char proxy[160], request[160];
    *err = *why;
    if (!x->seeks_proxy || !proxy_text(x, proxy))
        return;
    /* Any other error is about this machine: no memory, no threads, no descriptors. */
    if (why->kind == ERR_DNS && why->code != 0)
        err_set(err, ERR_DNS, "no address for %s (%s)", proxy, request_text(x, request));
    else if (why->kind == ERR_INVALID)
        err_set(err, ERR_INVALID, "%s cannot be used: its host is not a name (%s)", proxy,
                request_text(x, request));
    else
        return;
    err_reason(err, "proxy");
    err->phase = why->phase;
    err->code = why->code;
    err->retryable = why->retryable;
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

void exchange_failure_too_large(const struct exchange *x, const char *what, size_t limit,
                                struct err *err)
{
    err_set(err, ERR_TOO_LARGE, "%s from %s: more than %zu", what, x->url->origin->key, limit);
}

static const struct {
    const char *reason, *what;
    size_t limit;
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
            exchange_failure_too_large(x, oversized[i].what, oversized[i].limit, err);
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

static void set_broken_stream(const struct exchange *x, const struct err *why, struct err *err)
{
    char how[128];
    snprintf(how, sizeof how, "broke off the HTTP/2 stream: %.80s", why->message);
    set_closed(x, "reset", how, err);
    err->code = why->code;
}

void exchange_failure_of_hop(const struct exchange *x, enum hop_end end, const struct err *why,
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
        if (why->kind == ERR_PROTOCOL && why->reason[0])
            set_malformed(x, why, err);
        else if (why->kind == ERR_PROTOCOL)
            set_protocol(x, why->message, err);
        else if (why->kind == ERR_CLOSED)
            set_broken_stream(x, why, err);
        else
            exchange_failure_describe(x, why, err);
        break;
    }
}
