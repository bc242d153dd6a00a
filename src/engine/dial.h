/* Makes a connection for a hop: libcurl opens it (connector.h), and TLS is put on it. Engine thread
 * only. */
#pragma once

#include "engine/connector.h"
#include "engine/pool.h"
#include "engine/tls.h"

struct dial;

/* `got`: the channel, which is the callee's now; NULL: it failed, see `err`. Called beneath
 * loop_turn. The dial may be used again from here. */
typedef void (*dial_fn)(struct dial *d, struct channel *got, const struct err *err);

/* What a dial needs of its engine. */
struct dialer {
    struct loop *loop;
    struct poller *poller;
    struct connector *connector;
    struct tls *tls;
};

struct dial {
    /* Read-only. */
    bool active;
    bool is_securing; /* the connection is there, and the handshake is under way */
    uint64_t connected_ns, secured_ns;
    /* Private. */
    struct dialer by;
    struct connect_wait wait;
    struct pool *pool;
    struct channel *channel;
    struct tls_context *context; /* NULL: without TLS */
    dial_fn fn;
};

void dial_init(struct dial *d, dial_fn fn);
/* `settings` NULL: without TLS. On failure nothing has begun, and `fn` will not be called. */
NODISCARD enum err_kind dial_start(struct dial *d, const struct dialer *by, struct pool *pool,
                                   const struct connect_target *target,
                                   const struct tls_settings *settings, struct err *err);
/* Closes what was being made. Harmless if it is not active. */
void dial_cancel(struct dial *d);
