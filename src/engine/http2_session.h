/* The inside of an HTTP/2 session (http2.h): its state, what it sends, and how it fails. Private to
 * the http2 files.
 *
 * Two rules keep it safe. A session is freed only when none of its functions is on the stack
 * (`depth`), because nghttp2 must not be deleted beneath its own callbacks. And a failure is only
 * recorded (http2_session_fail): http2.c ends the streams later, outside of nghttp2. */
#pragma once

#include "engine/connection.h"
#include "engine/http2_guard.h"
#include "engine/http2_types.h"
#include "loop/loop.h"
#include <nghttp2/nghttp2.h>

enum {
    HTTP2_RECORD = 16 << 10, /* the most that one TLS record holds */
    HTTP2_FRAME_HEAD = 9,
    HTTP2_MAX_CONTINUATIONS = 32, /* a head of the largest size has half as many */
};

struct http2 {
    nghttp2_session *ng;
    struct connection *connection;
    struct loop *loop;
    struct mem *mem;
    const struct http2_ops *ops;
    void *owner;
    struct list streams; /* http2_stream.node: all that are active in it */
    unsigned open;       /* streams that nghttp2 holds */
    unsigned depth;      /* how often functions of it are on the stack */
    bool closed;         /* http2_close was called: the connection must not be touched */
    bool over_told;      /* `over` was called */
    bool dirty;          /* to_send was called */
    bool goaway;         /* the peer takes no new streams */
    bool wants_write;
    bool cannot_write;      /* the peer takes no more, but may have said why */
    bool pinged, heard;     /* a PING waits for its answer; bytes came since it was sent */
    unsigned continuations; /* frames of the head that comes now */
    struct http2_guard guard;
    struct err why; /* ERR_NONE: it lives */
    char bye[100];  /* why we, or the peer, have sent GOAWAY; "" */
    /* What nghttp2 has made and the socket has not taken: out[out_from..out_len], then `rest`. */
    const uint8_t *rest; /* nghttp2's, until its next frame */
    size_t rest_len;
    size_t out_from, out_len;
    char out[HTTP2_RECORD];
};

static inline bool http2_session_alive(const struct http2 *h)
{
    return h->why.kind == ERR_NONE && !h->closed;
}

/* Records why the session is over. The first reason stands. `reason`: a word or "". */
void http2_session_fail(struct http2 *h, enum err_kind kind, const char *reason, const char *fmt,
                        ...) PRINTF_LIKE(4, 5);
/* The same for an error code of nghttp2; 0 and what is not fatal are ignored. */
void http2_session_check(struct http2 *h, int ng_code);
/* Says that there is something to send. */
void http2_session_to_send(struct http2 *h);
/* Sends what the connection takes. */
void http2_session_send(struct http2 *h);
/* Takes a token for a frame that carries nothing. Without one, the peer floods: the session fails.
 */
void http2_session_spend(struct http2 *h, uint8_t frame_type);
/* Resets a stream that nghttp2 holds. */
void http2_session_reset(struct http2 *h, int32_t id, uint32_t code);
