/* HTTP/2 connections of a pool, which requests share: finds one with room, makes one session for
 * many requests, watches that the peer is alive, and closes what has been idle for long. And the
 * transport of an exchange on such a connection. Engine thread only. */
#pragma once

#include "engine/http2.h"
#include "engine/pool.h"
#include "engine/transport.h"

struct engine;

struct shared {
    struct list node;     /* pool.shared */
    struct list of_all;   /* engine.shared */
    struct list to_flush; /* engine.to_flush */
    struct engine *engine;
    struct channel *channel;
    struct http2 *session;
    struct timer timer;
    uint64_t heard_bytes, quiet_since_ns; /* what the last look saw */
    bool is_new;                          /* nothing has been sent on it */
};

/* A session on the channel, which has agreed on "h2" or is used with prior knowledge. It owns the
 * channel, and closes itself when its session is over. NULL: see `err`; the channel is closed. */
struct shared *shared_open(struct engine *e, struct channel *c, struct err *err);
/* One of the pool that takes another request; NULL: none does. `only_new`: for a request that was
 * lost or refused, and wants none that has been used. */
struct shared *shared_with_room(struct pool *pool, bool only_new);
/* True if the peer is known to take so few requests on a connection that many which it refused
 * would be refused again on the next one. */
bool shared_takes_few(const struct pool *pool);
/* Starts the request of `x`. What goes wrong ends the hop. */
void shared_start(struct shared *s, struct exchange *x);
/* Sends what the requests of this turn have written: engine.flush_timer. */
void shared_on_flush(struct timer *t);
/* Closes all of the engine's. No request may be on them. */
void shared_close_all(struct engine *e);

extern const struct transport http2_transport;
