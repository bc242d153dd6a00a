/* The HTTP/2 fault server: one path per behaviour (h2d_routes.c), and a count of what the server
 * did for each `x-id`, so that a test has a witness of requests that were sent twice.
 *
 * A request has an effect from when the server decides to process it; one that was refused, or lies
 * above the last stream id of a GOAWAY, has none. One thread; faultd's helpers; nghttp2 does the
 * framing. */
#pragma once

#include "faultd.h"
#include <nghttp2/nghttp2.h>

struct stream {
    struct stream *next, *prev; /* of its session, newest first */
    struct session *session;
    int32_t id;
    struct request req; /* strings and body are the stream's own */
    uint64_t body_len;
    bool ended;     /* the request came to its end */
    bool routed;    /* a route has taken it */
    bool to_refuse; /* when sessions_goaway_idle says so */

    /* The answer: `out` is sent `rounds` times over, and then, when `finished`, comes the end. */
    struct bytes out;
    size_t sent;
    uint64_t rounds;
    bool finished, trailers;
    bool reset_at_end; /* RST_STREAM behind it, if the request has not ended by then */
    uint32_t reset_code;

    void (*on_body)(struct stream *s, const uint8_t *data, size_t len); /* NULL: kept in `req` */
    void (*on_end)(struct stream *s);                                   /* of the request */
    EVP_MD_CTX *sha;
    size_t unread, rate; /* of a slow reader: bytes held back, bytes a tick */

    void (*on_timer)(struct stream *s);
    uint64_t due_ms;
    struct stream *timer_next, *timer_prev;
    long step, steps, step_ms;
    size_t pad;
};

enum session_end {
    END_NOT,
    END_AFTER_STREAMS,
    END_AFTER_FLUSH,
    END_NOW,
};

struct session {
    struct session *next, *prev; /* of all, newest first */
    int fd;
    SSL *ssl; /* NULL: plain */
    nghttp2_session *ng;
    uint64_t id;
    struct stream *streams;
    unsigned long open;
    int32_t processed, answered; /* the highest stream ids so far */
    struct stream idle;          /* none of nghttp2's: the timer of a connection without streams */
    bool says_bye, resets, deaf; /* what it does at its end */
    bool stopped;                /* reads no more */
    enum session_end end;
    bool flush;   /* send before the next frame is read */
    bool drained; /* said goodbye: only waits for the client to close */
    bool preface; /* seen */
    struct bytes in, out;
    size_t out_at;
    uint32_t events; /* registered in epoll */
};

/* ---- h2d.c */

/* Calls `fire` once after `ms`; a stream has one timer. */
void stream_timer(struct stream *s, long ms, void (*fire)(struct stream *s));
void stream_timer_clear(struct stream *s);
/* Every other session that has no stream says GOAWAY, and stays open. Then each stream that waits
 * to be refused is, by `refuse`. */
void sessions_goaway_idle(const struct session *but, void (*refuse)(struct stream *s));
/* After `ms` the session's connection ends, if it has no stream then: by GOAWAY, by a reset, or by
 * nothing but its end. If it is deaf, it ends in any case, and what has come in the last
 * milliseconds is not read. */
void session_end_idle(struct session *c, long ms);
/* The connection of every other session ends, by a reset if that is wanted. */
void sessions_shut(const struct session *but, bool reset);

/* ---- h2d_session.c */

void session_start(struct session *c, bool one_stream);
/* Frees the streams and what nghttp2 holds, not the socket. */
void session_fini(struct session *c);
/* Takes whole frames off `c->in`. False: the connection is of no more use. */
bool session_read(struct session *c, void (*flush)(struct session *c));

/* ---- h2d_routes.c */

/* Both may be called for a stream: when its head has arrived, and at the end of its body. */
void route_head(struct stream *s);
void route_end(struct stream *s);

/* ---- h2d_stats.c */

struct h2_stats {
    unsigned long connections, connections_open, streams_open, peak_streams, requests;
};
struct h2_stats *h2_stats(void);
/* The server has decided to process this stream. */
void effect(struct stream *s);
void h2_stats_json(struct bytes *out);
void h2_stats_reset(void);
