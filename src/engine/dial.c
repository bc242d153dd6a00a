#include "engine/dial.h"

static void on_connect(struct connect_wait *w, const struct connected *got, const struct err *err);

void dial_init(struct dial *d, dial_fn fn)
{
    *d = (struct dial){.fn = fn, .wait.fn = on_connect};
}

static void settle(struct dial *d, const struct err *err)
{
    struct channel *c = d->channel;
    d->channel = NULL;
    d->active = d->is_securing = false;
    if (err) {
        pool_close_channel(c);
        c = NULL;
    }
    tls_context_drop(d->context);
    d->context = NULL;
    pool_release(d->pool);
    d->pool = NULL;
    d->fn(d, c, err);
}

static void shake_hands(struct dial *d)
{
    struct err err;
    switch (connection_handshake(&d->channel->conn, &err)) {
    case IO_WAIT:
        break;
    case IO_DONE:
        d->secured_ns = loop_now_ns(d->by.loop);
        settle(d, NULL);
        break;
    default:
        settle(d, &err);
        break;
    }
}

static void on_ready(struct channel *c, bool can_read, bool can_write)
{
    UNUSED(can_read);
    UNUSED(can_write);
    shake_hands(c->user);
}

static void on_connect(struct connect_wait *w, const struct connected *got, const struct err *err)
{
    struct dial *d = CONTAINER_OF(w, struct dial, wait);
    struct err own;
    if (!got) {
        own = *err;
        settle(d, &own);
        return;
    }
    d->connected_ns = loop_now_ns(d->by.loop);
    d->channel = pool_open_channel(d->pool, d->by.poller, d->by.connector, got, &own);
    if (!d->channel) {
        settle(d, &own);
        return;
    }
    d->channel->on_ready = on_ready;
    d->channel->user = d;
    if (!d->context) {
        settle(d, NULL);
        return;
    }
    d->is_securing = true;
    d->channel->conn.answered = d->pool->origin->answered;
    if (connection_secure(&d->channel->conn, d->context, d->pool->origin->host,
                          d->pool->origin->port, &own) != ERR_NONE)
        settle(d, &own);
    else
        shake_hands(d);
}

enum err_kind dial_start(struct dial *d, const struct dialer *by, struct pool *pool,
                         const struct connect_target *target, const struct tls_settings *settings,
                         struct err *err)
{
    d->by = *by;
    d->connected_ns = d->secured_ns = 0;
    /* This comes first, so that an unusable file is reported before any connection is made. */
    if (settings && tls_context_take(by->tls, settings, &d->context, err) != ERR_NONE)
        return err->kind;
    if (connector_start(by->connector, &d->wait, target, err) != ERR_NONE) {
        tls_context_drop(d->context);
        d->context = NULL;
        return err->kind;
    }
    d->pool = pool_ref(pool);
    d->active = true;
    return ERR_NONE;
}

void dial_cancel(struct dial *d)
{
    if (!d->active)
        return;
    connector_cancel(d->by.connector, &d->wait);
    pool_close_channel(d->channel);
    d->channel = NULL;
    d->active = d->is_securing = false;
    tls_context_drop(d->context);
    d->context = NULL;
    pool_release(d->pool);
    d->pool = NULL;
}
