/* Connections that can be used again. Those that lead the same way (a `route`: the origin, and all
 * that decides whom we talk to and as whom) form a pool. The one used last is taken first, so that
 * the others may grow old and be closed. A connection belongs to its pool from the moment that it
 * is opened: so all of them are counted. Engine thread only. */
#pragma once

#include "engine/connection.h"
#include "engine/connector.h"
#include "engine/origin.h"

/* Two requests share connections only if all of this is equal. The texts are borrowed; NULL: not
 * given. */
struct route {
    struct origin *origin;
    const char *proxy, *unix_socket, *connect_to, *ca_file, *cert, *key;
    bool insecure;
    bool only_http1; /* ALPN offers nothing else */
};

struct pools {
    struct loop *loop;
    struct mem *mem;
    struct list idle; /* channels of all pools; the one that has been idle longest comes first */
    size_t open, idle_count;
    size_t max_open; /* beyond it, idle ones are closed to make room */
    struct timer timer;
};

struct pool {
    struct list node; /* origin.pools */
    struct pools *pools;
    struct origin *origin; /* a pool that is in use or has connections keeps its origin */
    struct list idle;      /* channels; the one used last comes first */
    struct list shared;    /* HTTP/2: see shared.h */
    struct list waiting;   /* exchanges for whose protocol the connection of `dialing` decides */
    struct exchange *dialing;
    size_t refs;    /* hops, and channels */
    char *texts[6]; /* the route's, owned */
    bool insecure, only_http1;
};

struct channel;
struct exchange;
typedef void (*channel_fn)(struct channel *c, bool can_read, bool can_write);

/* A connection of a pool. */
struct channel {
    struct connection conn;
    struct pool *pool;
    struct list in_pool, by_age; /* linked while it is idle */
    uint64_t idle_since_ns;
    unsigned uses;       /* requests that were begun on it */
    channel_fn on_ready; /* of whoever uses it now */
    void *user;
};

void pools_init(struct pools *p, struct loop *loop, struct mem *mem, size_t max_open);
/* Closes what is idle. Nothing else may be open. */
void pools_fini(struct pools *p);
/* The pool for a route, with a reference. NULL: no memory. */
struct pool *pools_get(struct pools *p, const struct route *route);
struct pool *pool_ref(struct pool *pool);
/* NULL is allowed. */
void pool_release(struct pool *pool);

/* A connection that is open, quiet and not in use; NULL: there is none. The caller owns it then. */
struct channel *pool_take(struct pool *pool);
/* Opens a channel on what `by` has connected, which it owns even if this fails. NULL: see `err`. */
struct channel *pool_open_channel(struct pool *pool, struct poller *poller, struct connector *by,
                                  const struct connected *got, struct err *err);
/* Keeps it for another request. It must be quiet: all of the last response has been read. */
void pool_keep_channel(struct channel *c);
/* Closes it. NULL is allowed. */
void pool_close_channel(struct channel *c);
