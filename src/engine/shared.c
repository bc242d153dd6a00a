#include "engine/shared.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_report.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "engine/request_fields.h"
#include "engine/response.h"
#include <nghttp2/nghttp2.h>
#include <string.h>
#include <strings.h>

enum {
    LOOK_S = 10,       /* how often a connection is looked at */
    FEW_STREAMS = 100, /* RFC 9113 6.5.2: a server should allow no fewer */
};
#define IDLE_MAX_NS (118 * NS_PER_S)
/* Trailers may follow a body that is whole by its length. Some servers never end the stream. */
#define END_WAIT_NS (250 * NS_PER_MS)

static void on_ready(struct channel *c, bool can_read, bool can_write)
{
    struct shared *s = c->user;
    struct engine *e = s->engine;
    s->is_new = false;
    http2_ready(s->session, can_read, can_write); /* it may be over then */
    e->upcalls->pump(e);
}

/* ---- sending: once in a turn ---- */

static void to_send(struct http2 *h, void *owner)
{
    struct shared *s = owner;
    struct engine *e = s->engine;
    UNUSED(h);
    if (!list_linked(&s->to_flush))
        list_push_back(&e->to_flush, &s->to_flush);
    if (!e->flush_timer.active)
        loop_timer_start(e->loop, &e->flush_timer, loop_now_ns(e->loop));
}

void shared_on_flush(struct timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, flush_timer);
    struct list now;
    list_init(&now);
    list_append_all(&now, &e->to_flush);
    for (struct list *node; (node = list_pop_front(&now));) {
        struct shared *s = CONTAINER_OF(node, struct shared, to_flush);
        s->is_new = false;
        http2_flush(s->session);
    }
    e->upcalls->pump(e);
}

/* ---- its life ---- */

static void close_shared(struct shared *s)
{
    struct engine *e = s->engine;
    loop_timer_stop(e->loop, &s->timer);
    list_unlink(&s->node);
    list_unlink(&s->of_all);
    list_unlink(&s->to_flush);
    http2_close(s->session);
    pool_close_channel(s->channel);
    mem_free(e->mem, s);
}

static void over(struct http2 *h, void *owner)
{
    UNUSED(h);
    close_shared(owner);
}

/* A peer that has been silent while requests wait is asked whether it is there. */
static void on_look(struct timer *t)
{
    struct shared *s = CONTAINER_OF(t, struct shared, timer);
    struct engine *e = s->engine;
    uint64_t now = loop_now_ns(e->loop), bytes = s->channel->conn.bytes_in;
    bool in_use = http2_open_streams(s->session) > 0;
    bool silent = bytes == s->heard_bytes;
    if (in_use || !silent)
        s->quiet_since_ns = now;
    s->heard_bytes = bytes;
    if (!in_use && now - s->quiet_since_ns >= IDLE_MAX_NS) {
        close_shared(s);
        return;
    }
    loop_timer_start(e->loop, &s->timer, now + LOOK_S * NS_PER_S);
    if (in_use && silent) {
        http2_on_silence(s->session); /* it may be over then */
        e->upcalls->pump(e);
    }
}

static const struct http2_ops session_ops = {.to_send = to_send, .over = over};

struct shared *shared_open(struct engine *e, struct channel *c, struct err *err)
{
    struct shared *s = mem_calloc(e->mem, sizeof *s);
    if (!s) {
        err_set(err, ERR_MEMORY, "no memory for a connection");
        pool_close_channel(c);
        return NULL;
    }
    list_init(&s->node);
    list_init(&s->of_all);
    list_init(&s->to_flush);
    timer_init(&s->timer, on_look);
    s->engine = e;
    s->channel = c;
    s->is_new = true;
    c->user = s;
    c->on_ready = on_ready;
    if (http2_open(&s->session, &c->conn, e->loop, e->mem, &session_ops, s, err) != ERR_NONE) {
        list_unlink(&s->to_flush);
        pool_close_channel(c);
        mem_free(e->mem, s);
        return NULL;
    }
    s->quiet_since_ns = loop_now_ns(e->loop);
    loop_timer_start(e->loop, &s->timer, s->quiet_since_ns + LOOK_S * NS_PER_S);
    list_push_back(&c->pool->shared, &s->node);
    list_push_back(&e->shared, &s->of_all);
    return s;
}

struct shared *shared_with_room(struct pool *pool, bool only_new)
{
    for (struct list *node = pool->shared.next, *next; node != &pool->shared; node = next) {
        struct shared *s = CONTAINER_OF(node, struct shared, node);
        next = node->next;
        if (!http2_can_take(s->session) || (only_new && !s->is_new))
            continue;
        /* Its end may have come while nothing was read: it must not get a request then. */
        if (s->is_new || http2_can_take_now(s->session))
            return s;
    }
    return NULL;
}

bool shared_takes_few(const struct pool *pool)
{
    LIST_FOR(node, &pool->shared)
    {
        if (http2_limit(CONTAINER_OF(node, struct shared, node)->session) < FEW_STREAMS)
            return true;
    }
    return false;
}

void shared_close_all(struct engine *e)
{
    while (!list_empty(&e->shared))
        close_shared(CONTAINER_OF(e->shared.next, struct shared, of_all));
}

/* ---- an exchange's stream ---- */

static struct exchange *of(struct http2_stream *s)
{
    return CONTAINER_OF(s, struct exchange, stream);
}

static void on_status(struct http2_stream *s, int status)
{
    struct exchange *x = of(s);
    response_note_bytes(x, 0);
    response_take_status(x, "2", status, "");
}

static bool on_field(struct http2_stream *s, const char *name, size_t name_len, const char *value,
                     size_t value_len, bool is_trailer)
{
    struct exchange *x = of(s);
    response_note_bytes(x, name_len + value_len);
    return response_take_field(x, name, name_len, value, value_len, is_trailer);
}

static uint64_t end_due(const struct exchange *x)
{
    const struct transfer_result *r = &x->transfer->result;
    bool whole =
        x->head_done && !x->paused && r->expected_bytes >= 0 && r->got_bytes == r->expected_bytes;
    return whole ? x->activity_ns + END_WAIT_NS : NEVER_NS;
}

static bool on_head_end(struct http2_stream *s)
{
    struct exchange *x = of(s);
    if (!response_take_head_end(x))
        return false;
    if (end_due(x) != NEVER_NS)
        exchange_rearm(x);
    return true;
}

static enum http2_took on_body(struct http2_stream *s, const char *data, size_t len)
{
    struct exchange *x = of(s);
    switch (response_take_body(x, data, len)) {
    case RESPONSE_FULL:
        return HTTP2_FULL;
    case RESPONSE_STOPPED:
        return HTTP2_STOP;
    case RESPONSE_TAKEN:
        break;
    }
    response_note_bytes(x, len);
    if (end_due(x) != NEVER_NS)
        exchange_rearm(x);
    return HTTP2_TOOK;
}

static size_t on_upload(struct http2_stream *s, char *out, size_t cap, bool *ended)
{
    struct exchange *x = of(s);
    size_t n = response_take_upload(x, out, cap);
    *ended = !x->uploading;
    return n;
}

static void on_sent(struct http2_stream *s)
{
    struct exchange *x = of(s);
    x->uploading = false;
    x->sent_ns = x->activity_ns = loop_now_ns(x->engine->loop);
    exchange_rearm(x);
}

static void on_end(struct http2_stream *s, enum http2_end how, uint32_t code)
{
    struct exchange *x = of(s);
    struct err why;
    enum hop_end end = HOP_DONE;
    switch (how) {
    case HTTP2_COMPLETE:
        break;
    case HTTP2_REFUSED:
        end = HOP_REFUSED;
        break;
    case HTTP2_LOST:
        end = x->bytes_in == 0 && !x->head_done ? HOP_LOST : HOP_CUT;
        break;
    case HTTP2_RESET:
        err_set(&why, ERR_CLOSED, "%s", nghttp2_http2_strerror(code));
        err_reason(&why, "reset");
        why.code = (int)code;
        end = HOP_FAILED;
        break;
    case HTTP2_INVALID:
        err_set(&why, ERR_PROTOCOL, "an HTTP/2 response that breaks the rules (%s)",
                nghttp2_http2_strerror(code));
        end = HOP_FAILED;
        break;
    case HTTP2_TOO_LARGE:
        err_set(&why, ERR_TOO_LARGE, "headers from %s: too many or too large", x->url->origin->key);
        end = HOP_FAILED;
        break;
    case HTTP2_STOPPED:
        end = HOP_STOPPED;
        break;
    case HTTP2_NO_MEMORY:
        err_set(&why, ERR_MEMORY, "no memory for a stream");
        end = HOP_FAILED;
        break;
    }
    x->engine->upcalls->hop_done(x, end, &why);
}

static const struct http2_stream_ops stream_ops = {
    .status = on_status,
    .field = on_field,
    .head_end = on_head_end,
    .body = on_body,
    .upload = on_upload,
    .sent = on_sent,
    .end = on_end,
};

void shared_start(struct shared *s, struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    bool sends = exchange_sends_body(x);
    struct err err;
    headers_clear(&x->request_headers);
    enum err_kind kind = request_fields_into(x, &x->request_headers);
    if (kind != ERR_NONE) {
        err_set(&err, kind, "the request headers do not fit into memory");
        x->engine->upcalls->hop_done(x, HOP_FAILED, &err);
        return;
    }
    const struct http2_request request = {
        .method = x->method,
        .scheme = g->https ? "https" : "http",
        .authority = headers_get(&x->request_headers, "host", NULL, NULL),
        .path = x->url->target,
        .headers = &x->request_headers,
        .body = sends && !spec->upload ? spec->body : NULL,
        .body_len = sends && !spec->upload ? spec->body_len : 0,
        .uploads = sends && spec->upload,
        .length = sends && spec->body_len != TRANSFER_LENGTH_UNKNOWN ? (int64_t)spec->body_len : -1,
    };
    s->channel->uses++;
    x->transport = &http2_transport;
    exchange_sending(x);
    if (http2_start(s->session, &x->stream, &stream_ops, &request, &err) != ERR_NONE)
        x->engine->upcalls->hop_done(x, HOP_FAILED, &err);
}

static bool go_on(struct exchange *x)
{
    struct transfer *t = x->transfer;
    if (!x->starved)
        http2_stream_fed(&x->stream);
    if (!x->paused)
        http2_stream_go_on(&x->stream);
    return t->exchange == x; /* else that has ended the transfer */
}

static void leave(struct exchange *x)
{
    http2_stream_cancel(&x->stream);
}

const struct transport http2_transport = {.go_on = go_on, .leave = leave, .end_due = end_due};
