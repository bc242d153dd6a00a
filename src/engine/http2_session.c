#include "engine/http2_session.h"
#include <stdarg.h>
#include <string.h>

/* What one call sends at most, so that a fast upload does not hold up the loop. */
enum { RECORDS_PER_CALL = 16 };

void http2_session_fail(struct http2 *h, enum err_kind kind, const char *reason, const char *fmt,
                        ...)
{
    if (h->why.kind != ERR_NONE)
        return;
    va_list args;
    char message[sizeof h->why.message];
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    err_set(&h->why, kind, "%s", message);
    if (reason[0])
        err_reason(&h->why, reason);
    /* Streams wait for their end, and the owner must learn of it. */
    http2_session_to_send(h);
}

static bool is_flood(int ng_code)
{
#ifdef LEAT_NGHTTP2_MAX_CONTINUATIONS
    if (ng_code == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
        return true;
#endif
    return ng_code == NGHTTP2_ERR_FLOODED;
}

void http2_session_check(struct http2 *h, int ng_code)
{
    if (ng_code >= 0 || !nghttp2_is_fatal(ng_code))
        return;
    if (ng_code == NGHTTP2_ERR_NOMEM)
        http2_session_fail(h, ERR_MEMORY, "", "no memory for HTTP/2");
    else if (is_flood(ng_code))
        http2_session_fail(h, ERR_PROTOCOL, "flood", "the server floods the connection: %s",
                           nghttp2_strerror(ng_code));
    else
        http2_session_fail(h, ERR_PROTOCOL, "", "the server broke HTTP/2: %s",
                           nghttp2_strerror(ng_code));
}

void http2_session_to_send(struct http2 *h)
{
    if (h->depth > 0 || h->dirty || h->closed)
        return;
    h->dirty = true;
    if (h->ops->to_send)
        h->ops->to_send(h, h->owner);
}

static const char *frame_name(uint8_t type)
{
    static const char *const names[] = {"DATA",          "HEADERS",      "PRIORITY", "RST_STREAM",
                                        "SETTINGS",      "PUSH_PROMISE", "PING",     "GOAWAY",
                                        "WINDOW_UPDATE", "CONTINUATION"};
    return type < ARRAY_LEN(names) ? names[type] : "unknown";
}

void http2_session_spend(struct http2 *h, uint8_t frame_type)
{
    if (http2_guard_spend(&h->guard))
        return;
    http2_guard_refill(&h->guard, loop_now_ns(h->loop));
    if (!http2_guard_spend(&h->guard))
        http2_session_fail(h, ERR_PROTOCOL, "flood",
                           "the server floods the connection with %s frames",
                           frame_name(frame_type));
}

void http2_session_reset(struct http2 *h, int32_t id, uint32_t code)
{
    http2_session_check(h, nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, id, code));
    http2_session_to_send(h);
}

/* Fills `out` with frames. nghttp2 keeps what does not fit. */
static void fill(struct http2 *h)
{
    while (h->out_len < sizeof h->out) {
        if (h->rest_len == 0) {
            ssize_t n = nghttp2_session_mem_send(h->ng, &h->rest);
            if (n < 0)
                http2_session_check(h, (int)n);
            if (n <= 0 || h->closed)
                return;
            h->rest_len = (size_t)n;
        }
        size_t n = MIN(h->rest_len, sizeof h->out - h->out_len);
        memcpy(h->out + h->out_len, h->rest, n);
        h->out_len += n;
        h->rest += n;
        h->rest_len -= n;
    }
}

static void want(struct http2 *h, bool write)
{
    if (h->wants_write == write)
        return;
    h->wants_write = write;
    connection_want(h->connection, true, write);
}

void http2_session_send(struct http2 *h)
{
    h->dirty = false;
    for (int i = 0; i < RECORDS_PER_CALL; i++) {
        if (h->out_from == h->out_len)
            h->out_from = h->out_len = 0;
        fill(h);
        if (h->closed)
            return;
        if (h->out_from == h->out_len) {
            want(h, false);
            return;
        }
        struct iovec part = {h->out + h->out_from, h->out_len - h->out_from};
        size_t sent = 0;
        enum io_state state = connection_write(h->connection, &part, 1, &sent);
        if (state == IO_WAIT)
            break;
        if (state != IO_DONE) {
            h->cannot_write = true;
            return;
        }
        h->out_from += sent;
        if (!http2_session_alive(h))
            return; /* that was the GOAWAY which says what the peer did wrong */
    }
    want(h, true);
}
