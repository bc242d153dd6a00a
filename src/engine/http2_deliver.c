#include "engine/http2_deliver.h"
#include <string.h>

/* A reader that was full gets pieces of this size, as from the connection. */
enum { PIECE = 16 << 10 };
/* A reader that takes a window within this time may be given more than the way lets through. */
#define FAST_NS (NS_PER_S / 2)

void http2_deliver_begin(struct http2_stream *s, struct http2 *h, int32_t id)
{
    s->session = h;
    s->id = id;
    /* What was taken from its front is removed before more is added. */
    buf_init(&s->kept, h->mem, HTTP2_STREAM_WINDOW);
    s->window = HTTP2_STREAM_WINDOW;
    list_push_back(&h->streams, &s->node);
    h->open++;
}

static void leave_session(struct http2_stream *s)
{
    list_unlink(&s->node);
    /* It fails if nghttp2 has closed the stream already. */
    nghttp2_session_set_stream_user_data(s->session->ng, s->id, NULL);
    s->session = NULL;
}

static void set_gone(struct http2_stream *s)
{
    if (s->gone)
        *s->gone = true;
    s->gone = NULL;
}

static void call_end(struct http2_stream *s)
{
    set_gone(s);
    buf_fini(&s->kept);
    s->ended = false;
    s->ops->end(s, s->how, s->code);
}

void http2_deliver_end(struct http2_stream *s, enum http2_end how, uint32_t code)
{
    leave_session(s);
    s->ended = true;
    s->how = how;
    s->code = code;
    if (s->kept.len == 0 || how == HTTP2_STOPPED)
        call_end(s);
}

void http2_deliver_reset(struct http2_stream *s, uint32_t reset_code, enum http2_end how)
{
    http2_session_reset(s->session, s->id, reset_code);
    http2_deliver_end(s, how, reset_code);
}

void http2_deliver_forget(struct http2_stream *s, uint32_t reset_code)
{
    struct http2 *h = s->session;
    set_gone(s);
    if (h) {
        leave_session(s);
        http2_session_reset(h, s->id, reset_code);
    }
    if (h || s->ended)
        buf_fini(&s->kept);
    s->ended = false;
}

void http2_deliver_status(struct http2_stream *s, int status)
{
    bool gone = false;
    s->gone = &gone;
    s->ops->status(s, status);
    if (!gone)
        s->gone = NULL;
}

static void stop_unless(bool go_on, struct http2_stream *s, const bool *gone)
{
    if (*gone)
        return;
    s->gone = NULL;
    if (!go_on)
        http2_deliver_reset(s, NGHTTP2_CANCEL, HTTP2_STOPPED);
}

void http2_deliver_field(struct http2_stream *s, const char *name, size_t name_len,
                         const char *value, size_t value_len)
{
    bool gone = false;
    s->gone = &gone;
    bool go_on = s->ops->field(s, name, name_len, value, value_len, s->head_done);
    stop_unless(go_on, s, &gone);
}

void http2_deliver_head_end(struct http2_stream *s)
{
    bool gone = false;
    s->head_done = true;
    s->gone = &gone;
    bool go_on = s->ops->head_end(s);
    stop_unless(go_on, s, &gone);
}

void http2_deliver_sent(struct http2_stream *s)
{
    bool gone = false;
    s->all_sent = true;
    s->gone = &gone;
    s->ops->sent(s);
    if (!gone)
        s->gone = NULL;
}

/* The first window is taken even if no script reads it yet: the response has a buffer. The clock is
 * not read for small responses. */
static void widen(struct http2_stream *s, size_t len)
{
    struct http2 *h = s->session;
    size_t enough = s->window == HTTP2_STREAM_WINDOW ? 2 * s->window : s->window;
    s->taken += len;
    if (s->taken < enough / 4 || s->window >= HTTP2_STREAM_MOST)
        return;
    uint64_t now_ns = loop_now_ns(h->loop);
    if (s->since_ns == 0)
        s->since_ns = now_ns;
    if (s->taken < enough)
        return;
    if (now_ns - s->since_ns < FAST_NS) {
        s->window *= 4;
        http2_session_check(h, nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE,
                                                                     s->id, (int32_t)s->window));
    }
    s->taken = 0;
    s->since_ns = 0;
}

/* The reader has taken `len` bytes: the peer may send as many more. */
static void consume(struct http2_stream *s, size_t len)
{
    struct http2 *h = s->session;
    if (!h)
        return;
    http2_session_check(h, nghttp2_session_consume_stream(h->ng, s->id, len));
    widen(s, len);
    http2_session_to_send(h);
}

static void keep(struct http2_stream *s, const char *data, size_t len)
{
    if (s->kept_from > 0) {
        memmove(s->kept.data, s->kept.data + s->kept_from, s->kept.len - s->kept_from);
        s->kept.len -= s->kept_from;
        s->kept_from = 0;
    }
    s->taken = 0; /* the reader is the limit: a wider window would only be kept here */
    s->since_ns = 0;
    s->kept.max_bytes = s->window;
    enum err_kind kind = buf_append(&s->kept, data, len);
    if (kind == ERR_TOO_LARGE) {
        /* nghttp2 resets a stream whose peer ignores the window, but reports the bytes. */
        http2_deliver_reset(s, NGHTTP2_FLOW_CONTROL_ERROR, HTTP2_INVALID);
    } else if (kind != ERR_NONE) {
        buf_clear(&s->kept);
        http2_deliver_reset(s, NGHTTP2_CANCEL, HTTP2_NO_MEMORY);
    }
}

/* HTTP2_STOP: the stream is over, and must not be touched any more. */
static enum http2_took offer(struct http2_stream *s, const char *data, size_t len)
{
    bool gone = false;
    s->gone = &gone;
    enum http2_took took = s->ops->body(s, data, len);
    if (gone)
        return HTTP2_STOP;
    s->gone = NULL;
    if (took == HTTP2_TOOK) {
        consume(s, len);
    } else if (took == HTTP2_STOP && s->session) {
        http2_deliver_reset(s, NGHTTP2_CANCEL, HTTP2_STOPPED);
    } else if (took == HTTP2_STOP) {
        s->how = HTTP2_STOPPED;
        call_end(s);
    }
    return took;
}

void http2_deliver_body(struct http2_stream *s, const char *data, size_t len)
{
    if (s->kept.len > 0 || offer(s, data, len) == HTTP2_FULL)
        keep(s, data, len);
}

void http2_deliver_kept(struct http2_stream *s)
{
    while (s->kept_from < s->kept.len) {
        size_t len = MIN(s->kept.len - s->kept_from, (size_t)PIECE);
        if (offer(s, s->kept.data + s->kept_from, len) != HTTP2_TOOK)
            return;
        s->kept_from += len;
    }
    buf_clear(&s->kept);
    s->kept_from = 0;
    if (s->ended)
        call_end(s);
}

ssize_t http2_deliver_upload(struct http2_stream *s, char *out, size_t cap, bool *ended)
{
    bool gone = false;
    s->gone = &gone;
    size_t n = s->ops->upload(s, out, cap, ended);
    ASSERT(n <= cap);
    if (gone)
        return -1;
    s->gone = NULL;
    return (ssize_t)n;
}
