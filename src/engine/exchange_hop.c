/* One hop over our own transports: a kept connection or a new one, a request on it, and what its
 * end means. */
#include "engine/exchange.h"
#include <string.h>
#include <strings.h>

enum { RESENDS_MAX = 1 };

bool exchange_sends_header(const struct exchange *x, const char *name)
{
    if (x->foreign && !exchange_keeps_across_origins(name))
        return false;
    return !(x->drop_body && strncasecmp(name, "content-", 8) == 0);
}

bool exchange_expects(const struct exchange *x)
{
    size_t len = 0;
    const char *expect = headers_get(&x->transfer->spec.headers, "expect", NULL, &len);
    return expect && len == 12 && strncasecmp(expect, "100-continue", 12) == 0 &&
           exchange_sends_header(x, "expect");
}

/* ---- the way there ---- */

static const char *proxy_of(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    if (spec->unix_socket)
        return NULL;
    const char *proxy =
        spec->proxy ? spec->proxy : proxy_for(&x->engine->proxy_env, g->https, g->host);
    return proxy && *proxy ? proxy : NULL;
}

bool exchange_is_own(const struct exchange *x)
{
#ifdef LEAT_OWN_HTTP
    const struct transfer_spec *spec = &x->transfer->spec;
    const char *proxy = proxy_of(x);
    if (proxy && proxy_kind_of(proxy) == PROXY_HTTPS)
        return false;
    return x->url->origin->https ? spec->http_version == HTTP_VERSION_1_1
                                 : spec->http_version != HTTP_VERSION_2_PRIOR;
#else
    UNUSED(x);
    return false;
#endif
}

static bool is_tunnel(const struct exchange *x)
{
    return x->url->origin->https || exchange_connect_to(x);
}

bool exchange_asks_proxy(const struct exchange *x)
{
    return x->proxy && proxy_kind_of(x->proxy) == PROXY_HTTP && !is_tunnel(x);
}

static void fail(struct exchange *x, const struct err *err)
{
    exchange_finish(x, err);
}

static struct tls_settings tls_settings(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    return (struct tls_settings){.ca_file = spec->ca_file,
                                 .cert = spec->cert,
                                 .key = spec->key,
                                 .insecure = spec->insecure,
                                 .alpn = TLS_ALPN_HTTP1};
}

static void dial(struct exchange *x, const char *addresses)
{
    struct engine *e = x->engine;
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    const struct dialer by = {e->loop, e->poller, e->connector, &e->tls};
    struct connect_target target = {.host = g->host,
                                    .port = g->port,
                                    .https = g->https,
                                    .addresses = addresses,
                                    .unix_socket = spec->unix_socket,
                                    .connect_to = exchange_connect_to(x),
                                    .user_agent = e->config.user_agent,
                                    .connect_ms = spec->limits.connect_ms,
                                    .proxy = x->proxy,
                                    .proxy_of_environment = !spec->proxy,
                                    .tunnel = is_tunnel(x),
                                    .targets = e->config.targets};
    struct tls_settings settings = tls_settings(x);
    struct err err;
    x->state = EXCHANGE_CONNECTING;
    x->launched_ns = loop_now_ns(e->loop);
    if (dial_start(&x->dial, &by, x->pool, &target, g->https ? &settings : NULL, &err) != ERR_NONE)
        fail(x, &err);
    else
        exchange_rearm(x, x->launched_ns);
}

static void start(struct exchange *x, struct channel *c)
{
    x->reused = c->uses > 0;
    http1_start(&x->http1, c); /* if that has ended the hop, all is done */
}

void exchange_on_dial(struct dial *d, struct channel *got, const struct err *err)
{
    struct exchange *x = CONTAINER_OF(d, struct exchange, dial);
    struct engine *e = x->engine;
    x->connected_ns = d->connected_ns;
    x->secured_ns = d->secured_ns;
    e->stats.connects += d->connected_ns != 0;
    if (got) {
        start(x, got);
    } else {
        struct err own;
        failure_describe(x, err, &own);
        fail(x, &own);
    }
    engine_pump(e);
}

static bool start_on_kept(struct exchange *x)
{
    struct channel *c = x->fresh ? NULL : pool_take(x->pool);
    if (!c)
        return false;
    x->launched_ns = loop_now_ns(x->engine->loop);
    start(x, c);
    return true;
}

static struct pool *pool_for(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct route route = {.origin = x->url->origin,
                                .proxy = x->proxy,
                                .unix_socket = spec->unix_socket,
                                .connect_to = exchange_connect_to(x),
                                .ca_file = spec->ca_file,
                                .cert = spec->cert,
                                .key = spec->key,
                                .insecure = spec->insecure,
                                .only_http1 = spec->http_version == HTTP_VERSION_1_1};
    return pools_get(&x->engine->pools, &route);
}

void exchange_hop_begin(struct exchange *x)
{
    struct err err;
    response_begin(x);
    x->proxy = proxy_of(x);
    x->pool = pool_for(x);
    x->connected_ns = x->secured_ns = 0;
    x->uploading = exchange_sends_body(x) &&
                   (x->transfer->spec.upload || x->transfer->spec.body_len > 64 * 1024);
    x->engine->shards.in_curl += x->pool != NULL;
    if (!x->pool) {
        err_set(&err, ERR_MEMORY, "no memory for a request");
        fail(x, &err);
        return;
    }
    if (start_on_kept(x))
        return;
    const struct origin *g = x->url->origin;
    if (g->numeric || x->proxy || x->transfer->spec.unix_socket || exchange_connect_to(x)) {
        dial(x, NULL);
        return;
    }
    x->state = EXCHANGE_RESOLVING;
    exchange_rearm(x, x->admitted_ns);
    /* May dial, and even end the transfer, before it returns. */
    if (resolver_lookup(x->engine->resolver, g->host, &x->lookup, &err) != ERR_NONE)
        fail(x, &err);
}

void exchange_hop_resolved(struct exchange *x, const char *addresses)
{
    if (!start_on_kept(x)) /* one may have become free meanwhile */
        dial(x, addresses);
}

static void leave_pool(struct exchange *x)
{
    x->engine->shards.in_curl -= x->pool != NULL;
    pool_release(x->pool);
    x->pool = NULL;
}

void exchange_hop_leave(struct exchange *x)
{
    dial_cancel(&x->dial);
    if (x->transport)
        x->transport->leave(x);
    x->transport = NULL;
    leave_pool(x);
}

void exchange_sending(struct exchange *x)
{
    struct engine *e = x->engine;
    x->hop_attempts++;
    x->transfer->result.wire_attempts++;
    e->stats.wire_attempts++;
    x->sent_ns = x->activity_ns = loop_now_ns(e->loop);
    x->state = EXCHANGE_WAITING;
    /* The limit that holds now may be shorter than the one the timer was set for. */
    exchange_rearm(x, x->sent_ns);
}

/* ---- its end ---- */

bool exchange_may_resend(const struct exchange *x)
{
    return x->reused && !x->transfer->spec.upload && x->relaunches < RESENDS_MAX &&
           exchange_idempotent(x) && !x->transfer->spec.once;
}

/* What would be sent again fails for an asker who counts attempts, and says so. */
static void note_at_once(struct exchange *x, enum hop_end end)
{
    struct transfer_result *r = &x->transfer->result;
    bool again = x->reused && !x->transfer->spec.upload && exchange_idempotent(x);
    if (!x->transfer->spec.once || end != HOP_LOST || !again)
        return;
    r->at_once = true;
    x->url->origin->distrust++;
}

/* Once more, on a connection of its own. */
static void resend(struct exchange *x)
{
    leave_pool(x);
    x->fresh = true;
    x->relaunches++;
    x->admitted_ns = loop_now_ns(x->engine->loop); /* for the limit of the connect */
    exchange_hop_begin(x);
}

void exchange_hop_done(struct exchange *x, enum hop_end end, const struct err *why)
{
    struct err err;
    err_clear(&err);
    x->transport = NULL;
    if (x->held.len > 0 && x->stop.kind == ERR_NONE) {
        x->ended = true;
        x->hop_end = end;
        return;
    }
    x->engine->stats.bytes_in += x->bytes_in;
    if (x->stop.kind == ERR_NONE &&
        (end == HOP_UNSENT || (end == HOP_LOST && exchange_may_resend(x)))) {
        if (end == HOP_UNSENT) { /* nobody has seen it */
            x->hop_attempts--;
            x->transfer->result.wire_attempts--;
            x->engine->stats.wire_attempts--;
        }
        resend(x);
        return;
    }
    note_at_once(x, end);
    bool hung_up = end == HOP_STOPPED && x->discarded > DISCARD_MAX;
    if (x->stop.kind != ERR_NONE)
        err = x->stop;
    else if (end == HOP_DONE || hung_up)
        response_end(x, &err);
    else
        failure_of_hop(x, end, why, &err);
    exchange_note_timing(x);
    if (err.kind == ERR_NONE && x->discards)
        exchange_follow(x);
    else
        exchange_finish(x, &err);
}
