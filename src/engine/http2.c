#include "engine/http2.h"
#include "engine/http2_deliver.h"
#include "engine/http2_events.h"
#include "engine/http2_request.h"
#include <string.h>

enum {
    /* What one call reads at most: 128 KiB, so that one fast connection does not hold up the loop.
     */
    READ_SIZE = 16 << 10,
    READS_PER_CALL = 8,
    /* Reads from a connection that can no longer be written: what the peer said before it closed.
     */
    LAST_READS = 64,
    LAST_STREAM_ID = INT32_MAX - 1000,
    /* Answers to PING and SETTINGS that wait for a peer that does not read. */
    MAX_WAITING_ACKS = 200,
};

/* ---- opening */

static void *ng_malloc(size_t size, void *mem)
{
    return mem_alloc(mem, size);
}

static void ng_free(void *ptr, void *mem)
{
    mem_free(mem, ptr);
}

static void *ng_calloc(size_t count, size_t size, void *mem)
{
    return size > 0 && count > SIZE_MAX / size ? NULL : mem_calloc(mem, count * size);
}

static void *ng_realloc(void *ptr, size_t size, void *mem)
{
    return mem_realloc(mem, ptr, size);
}

static void set_options(nghttp2_option *o)
{
    nghttp2_option_set_no_auto_window_update(o, 1);
    /* Servers do send such values, and curl accepts them. */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(o, 1);
    nghttp2_option_set_max_send_header_block_length(o, HTTP2_MAX_FIELD_BYTES);
    nghttp2_option_set_max_reserved_remote_streams(o, 0);
    nghttp2_option_set_max_outbound_ack(o, MAX_WAITING_ACKS);
#ifdef LEAT_NGHTTP2_MAX_CONTINUATIONS
    nghttp2_option_set_max_continuations(o, HTTP2_MAX_CONTINUATIONS);
#endif
}

/* 0 or an error code of nghttp2. */
static int new_session(struct http2 *h)
{
    nghttp2_mem mem = {h->mem, ng_malloc, ng_free, ng_calloc, ng_realloc};
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *options = NULL;
    int code = nghttp2_session_callbacks_new(&callbacks);
    if (code == 0)
        code = nghttp2_option_new(&options);
    if (code == 0) {
        http2_events_set(callbacks);
        set_options(options);
        code = nghttp2_session_client_new3(&h->ng, callbacks, h, options, &mem);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    return code;
}

static int submit_first(struct http2 *h)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_MAX_FIELD_BYTES},
    };
    int code = nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    if (code == 0)
        code = nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0,
                                                     HTTP2_CONNECTION_WINDOW);
    return code;
}

static void free_session(struct http2 *h)
{
    nghttp2_session_del(h->ng);
    mem_free(h->mem, h);
}

enum err_kind http2_open(struct http2 **out, struct connection *c, struct loop *loop,
                         struct mem *mem, const struct http2_ops *ops, void *owner, struct err *err)
{
    struct http2 *h = mem_calloc(mem, sizeof *h);
    if (!h)
        return err_set(err, ERR_MEMORY, "no memory for HTTP/2");
    h->connection = c;
    h->loop = loop;
    h->mem = mem;
    h->ops = ops;
    h->owner = owner;
    list_init(&h->streams);
    http2_guard_init(&h->guard, loop_now_ns(loop));
    if (new_session(h) != 0 || submit_first(h) != 0) {
        free_session(h);
        return err_set(err, ERR_MEMORY, "no memory for HTTP/2");
    }
    connection_want(c, true, false);
    *out = h;
    http2_session_to_send(h);
    return ERR_NONE;
}

/* ---- the end */

/* Each call that may end the session is made between enter and leave. The session may be gone
 * afterwards. */
static void enter(struct http2 *h)
{
    h->depth++;
}

static void tell_over(struct http2 *h)
{
    http2_events_end_all(h);
    if (h->closed || h->over_told)
        return;
    h->over_told = true;
    connection_want(h->connection, false, false);
    h->ops->over(h, h->owner);
}

static void leave(struct http2 *h)
{
    if (h->depth == 1 && h->why.kind != ERR_NONE && !h->closed)
        tell_over(h);
    if (--h->depth == 0 && h->closed)
        free_session(h);
}

void http2_close(struct http2 *h)
{
    if (!h || h->closed)
        return;
    enter(h);
    bool polite = h->depth == 1 && http2_session_alive(h);
    if (h->why.kind == ERR_NONE)
        http2_session_fail(h, ERR_CLOSED, "", "the connection was closed");
    http2_events_end_all(h);
    if (polite && nghttp2_session_terminate_session(h->ng, NGHTTP2_NO_ERROR) == 0)
        http2_session_send(h);
    h->closed = true;
    leave(h);
}

/* ---- reading and sending */

static const char *with_bye(const struct http2 *h, char out[static 128])
{
    out[0] = '\0';
    if (h->bye[0])
        snprintf(out, 128, " (GOAWAY %s)", h->bye);
    return out;
}

static void fail_read(struct http2 *h, enum io_state state)
{
    const struct connection *c = h->connection;
    const char *how = state == IO_FAILED ? "was broken off" : "was closed by the server";
    const char *why = state != IO_FAILED ? NULL
                      : c->os_error      ? strerror(c->os_error)
                                         : c->tls_error;
    char bye[128];
    http2_session_fail(h, ERR_CLOSED, "reset", "the connection %s%s%s%s", how, why ? ": " : "",
                       why ? why : "", with_bye(h, bye));
}

static void receive(struct http2 *h, int reads)
{
    struct connection *c = h->connection;
    char in[READ_SIZE];
    for (int i = 0; i < reads; i++) {
        size_t len = 0;
        enum io_state state = connection_read(c, in, sizeof in, &len);
        if (state == IO_WAIT)
            return;
        if (state != IO_DONE) {
            fail_read(h, state);
            return;
        }
        h->heard = true;
        ssize_t n = nghttp2_session_mem_recv(h->ng, (const uint8_t *)in, len);
        if (n < 0)
            http2_session_check(h, (int)n);
        if (!http2_session_alive(h))
            return;
        /* A read that was not filled has emptied the socket. */
        if (len < sizeof in && !connection_has_more(c))
            return;
    }
    if (connection_has_more(c))
        connection_again(c);
}

/* Reads and sends what can be read and sent now. */
static void work(struct http2 *h, bool can_read)
{
    char bye[128];
    if (can_read && http2_session_alive(h))
        receive(h, READS_PER_CALL);
    if (http2_session_alive(h))
        http2_session_send(h);
    if (http2_session_alive(h) && h->cannot_write) {
        receive(h, LAST_READS);
        if (http2_session_alive(h))
            fail_read(h, IO_FAILED);
    }
    if (http2_session_alive(h) && !nghttp2_session_want_read(h->ng))
        http2_session_fail(h, ERR_CLOSED, "", "the server wants no more requests%s",
                           with_bye(h, bye));
}

void http2_ready(struct http2 *h, bool can_read, bool can_write)
{
    UNUSED(can_write); /* each call tries to send */
    enter(h);
    work(h, can_read);
    leave(h);
}

void http2_flush(struct http2 *h)
{
    /* Beneath another call of this session: that one sends at its end. */
    if (h->depth > 0)
        return;
    enter(h);
    work(h, false);
    leave(h);
}

void http2_on_silence(struct http2 *h)
{
    if (h->depth > 0 || !http2_session_alive(h) || list_empty(&h->streams))
        return;
    if (h->pinged && !h->heard) {
        http2_session_fail(h, ERR_CLOSED, "silent", "the server does not answer a PING");
    } else {
        http2_session_check(h, nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL));
        h->pinged = true;
        h->heard = false;
    }
    http2_flush(h);
}

/* ---- streams */

uint32_t http2_limit(const struct http2 *h)
{
    return nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool http2_can_take(const struct http2 *h)
{
    if (!http2_session_alive(h) || h->goaway || h->cannot_write)
        return false;
    return h->open < MIN(http2_limit(h), (uint32_t)HTTP2_MAX_STREAMS) &&
           nghttp2_session_get_next_stream_id(h->ng) < (uint32_t)LAST_STREAM_ID;
}

bool http2_can_take_now(struct http2 *h)
{
    if (h->depth > 0 || !list_empty(&h->streams))
        return http2_can_take(h);
    enter(h);
    work(h, true);
    bool can = !h->closed && http2_can_take(h);
    leave(h);
    return can;
}

enum err_kind http2_start(struct http2 *h, struct http2_stream *s,
                          const struct http2_stream_ops *ops, const struct http2_request *request,
                          struct err *err)
{
    ASSERT(!http2_stream_active(s));
    if (!http2_can_take(h))
        return err_set(err, ERR_CLOSED, "the HTTP/2 connection takes no more requests");
    *s = (struct http2_stream){.ops = ops};
    list_init(&s->node);
    enum err_kind kind = http2_request_submit(h, s, request, err);
    if (kind == ERR_NONE)
        http2_guard_earn(&h->guard, HTTP2_GUARD_REQUEST);
    http2_session_to_send(h);
    return kind;
}

unsigned http2_open_streams(const struct http2 *h)
{
    return h->open;
}

const struct err *http2_why(const struct http2 *h)
{
    return &h->why;
}
