/* One hop: a kept connection or a new one, a request on it, and what its
 * end means. */
#include "engine/exchange.h"
#include <string.h>
#include <strings.h>

enum { RESENDS_MAX = 1 };

bool exchange_sends_body(const struct exchange *x)
{
    if (x->drop_body || strcmp(x->method, "HEAD") == 0)
        return false;
    return x->transfer->spec.body || x->transfer->spec.upload || strcmp(x->method, "POST") == 0 ||
           strcmp(x->method, "PUT") == 0 || strcmp(x->method, "PATCH") == 0;
}

bool exchange_idempotent(const struct exchange *x)
{
    return transfer_idempotent_as(x->transfer, x->method);
}

/* ---- the way there ---- */

const char *exchange_connect_to(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    const char *line = spec->connect_to;
    size_t host_len = strlen(g->host);
    for (size_t i = 0; i < spec->connect_to_count; i++, line += strlen(line) + 1) {
        if (strncasecmp(line, g->host, host_len) != 0 || line[host_len] != ':')
            continue;
        const char *port = line + host_len + 1;
        if (*port == ':' || (unsigned)strtoul(port, NULL, 10) == g->port)
            return line;
    }
    return NULL;
}

const char *exchange_proxy(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    if (spec->unix_socket)
        return NULL;
    const char *proxy =
        spec->proxy ? spec->proxy : proxy_for(&x->engine->proxy_env, g->https, g->host);
    return proxy && *proxy ? proxy : NULL;
}

bool exchange_may_share(const struct exchange *x)
{
    enum http_version version = x->transfer->spec.http_version;
    return x->url->origin->https ? version != HTTP_VERSION_1_1 : version == HTTP_VERSION_2_PRIOR;
}

static bool is_tunnel(const struct exchange *x)
{
    return x->url->origin->https || exchange_connect_to(x);
}

bool exchange_asks_proxy(const struct exchange *x)
{
    return x->proxy && proxy_kind_of(x->proxy) == PROXY_HTTP && !is_tunnel(x);
}

static void dial(struct exchange *x, const char *addresses)
{
    struct engine *e = x->engine;
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    const struct dialer by = {e->loop, e->poller, e->connector, &e->tls};
    const struct connect_target target = {.host = g->host,
                                          .port = g->port,
                                          .https = g->https,
                                          .addresses = addresses,
                                          .unix_socket = spec->unix_socket,
                                          .connect_to = exchange_connect_to(x),
                                          .proxy = x->proxy,
                                          .proxy_of_environment = !spec->proxy,
                                          .tunnel = is_tunnel(x),
                                          .user_agent = e->config.user_agent,
                                          .ca_file = e->tls.trust.file,
                                          .ca_folder = e->tls.trust.folder,
                                          .connect_ms = spec->limits.connect_ms,
                                          .targets = e->config.targets};
    const struct tls_settings settings = {.ca_file = spec->ca_file,
                                          .cert = spec->cert,
                                          .key = spec->key,
                                          .insecure = spec->insecure,
                                          .alpn = exchange_may_share(x) ? TLS_ALPN_HTTP2
                                                                        : TLS_ALPN_HTTP1};
    struct err err, own;
    x->state = EXCHANGE_CONNECTING;
    x->launched_ns = loop_now_ns(e->loop);
    if (dial_start(&x->dial, &by, x->pool, &target, g->https ? &settings : NULL, &err) !=
        ERR_NONE) {
        failure_describe(x, &err, &own);
        exchange_finish(x, &own);
        return;
    }
    if (exchange_may_share(x) && !x->pool->dialing)
        x->pool->dialing = x;
    exchange_rearm(x);
}

static void start(struct exchange *x, struct channel *c)
{
    x->reused = c->uses > 0;
    http1_start(&x->http1, c); /* if that has ended the hop, all is done */
}

static void start_shared(struct exchange *x, struct shared *s)
{
    x->reused = true; /* with others: what they do may end it */
    shared_start(s, x);
}

/* On a connection that is there, or that is being made and may be shared. */
static bool find_way(struct exchange *x)
{
    struct pool *pool = x->pool;
    bool may_share = exchange_may_share(x);
    uint64_t now = loop_now_ns(x->engine->loop);
    struct shared *s = may_share && !x->fresh ? shared_with_room(pool) : NULL;
    struct channel *c = s || x->fresh ? NULL : pool_take(pool);
    if (s || c)
        x->launched_ns = now;
    if (s) {
        start_shared(x, s);
        return true;
    }
    if (c) {
        start(x, c);
        return true;
    }
    if (!may_share || !pool->dialing || x->url->origin->protocol == ORIGIN_HTTP1)
        return false;
    x->state = EXCHANGE_CONNECTING;
    x->launched_ns = now;
    list_push_back(&pool->waiting, &x->wait_node);
    exchange_rearm(x);
    return true;
}

static void seek(struct exchange *x)
{
    struct err err;
    if (find_way(x))
        return;
    const struct origin *g = x->url->origin;
    if (g->numeric || x->proxy || x->transfer->spec.unix_socket || exchange_connect_to(x)) {
        dial(x, NULL);
        return;
    }
    x->state = EXCHANGE_RESOLVING;
    exchange_rearm(x);
    /* May dial, and even end the transfer, before it returns. */
    if (resolver_lookup(x->engine->resolver, g->host, &x->lookup, &err) != ERR_NONE)
        exchange_finish(x, &err);
}

/* Those that waited for the protocol go their own way: `count` of them at most. */
static void wake(struct pool *pool, size_t count)
{
    struct list now;
    list_init(&now);
    list_append_all(&now, &pool->waiting);
    for (struct list *node; count > 0 && (node = list_pop_front(&now)); count--)
        seek(CONTAINER_OF(node, struct exchange, wait_node));
    list_append_all(&now, &pool->waiting);
    list_append_all(&pool->waiting, &now);
}

static void fail_waiting(struct pool *pool, const struct err *err)
{
    for (struct list *node; (node = list_pop_front(&pool->waiting));) {
        struct exchange *x = CONTAINER_OF(node, struct exchange, wait_node);
        struct err own;
        failure_describe(x, err, &own);
        exchange_finish(x, &own);
    }
}

/* What the connection turned out to speak. */
static void start_on_new(struct exchange *x, struct channel *c)
{
    struct origin *g = x->url->origin;
    struct err err, own;
    bool is_http2 = g->https ? strcmp(c->conn.protocol, "h2") == 0 : exchange_may_share(x);
    if (exchange_may_share(x) && g->https)
        g->protocol = is_http2 ? ORIGIN_HTTP2 : ORIGIN_HTTP1;
    if (!is_http2) {
        start(x, c);
        return;
    }
    struct shared *s = shared_open(x->engine, c, &err);
    if (s) {
        start_shared(x, s);
        return;
    }
    failure_describe(x, &err, &own);
    exchange_finish(x, &own);
}

void exchange_on_dial(struct dial *d, struct channel *got, const struct err *err)
{
    struct exchange *x = CONTAINER_OF(d, struct exchange, dial);
    struct engine *e = x->engine;
    struct pool *pool = pool_ref(x->pool);
    bool decides = pool->dialing == x;
    x->connected_ns = d->connected_ns;
    x->secured_ns = d->secured_ns;
    e->stats.connects += d->connected_ns != 0;
    if (decides)
        pool->dialing = NULL;
    if (got) {
        start_on_new(x, got);
        wake(pool, decides ? SIZE_MAX : 0);
    } else {
        struct err own;
        failure_describe(x, err, &own);
        exchange_finish(x, &own);
        if (decides)
            fail_waiting(pool, err);
    }
    pool_release(pool);
    engine_pump(e);
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
                                .only_http1 = !exchange_may_share(x)};
    return pools_get(&x->engine->pools, &route);
}

void exchange_hop_begin(struct exchange *x)
{
    struct err err;
    response_begin(x);
    x->proxy = exchange_proxy(x);
    x->pool = pool_for(x);
    x->connected_ns = x->secured_ns = 0;
    x->uploading = exchange_sends_body(x) &&
                   (x->transfer->spec.upload || x->transfer->spec.body_len > 64 * 1024);
    x->engine->hops += x->pool != NULL;
    if (x->pool) {
        seek(x);
        return;
    }
    err_set(&err, ERR_MEMORY, "no memory for a request");
    exchange_finish(x, &err);
}

void exchange_hop_resolved(struct exchange *x, const char *addresses)
{
    if (!find_way(x)) /* one may have become free meanwhile */
        dial(x, addresses);
}

bool exchange_is_securing(const struct exchange *x)
{
    const struct exchange *dials = list_linked(&x->wait_node) ? x->pool->dialing : x;
    return dials && dials->dial.is_securing;
}

static void leave_pool(struct exchange *x)
{
    struct pool *pool = x->pool;
    if (!pool)
        return;
    x->engine->hops--;
    x->pool = NULL;
    if (pool->dialing == x) { /* it has been given up: the next one makes the connection */
        pool->dialing = NULL;
        wake(pool, 1);
    }
    pool_release(pool);
}

void exchange_hop_leave(struct exchange *x)
{
    list_unlink(&x->wait_node);
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
    exchange_rearm(x);
}

/* ---- its end ---- */

bool exchange_may_resend(const struct exchange *x)
{
    return x->reused && !x->transfer->spec.upload && x->relaunches < RESENDS_MAX &&
           exchange_idempotent(x) && !x->transfer->spec.once;
}

/* Whether the hop goes out again, and why: only Leat itself ever sends a request twice. */
static bool goes_again(const struct exchange *x, enum hop_end end)
{
    if (x->stop.kind != ERR_NONE)
        return false;
    if (end == HOP_REFUSED)
        return !x->transfer->spec.once && !x->transfer->spec.upload && x->relaunches < RELAUNCH_MAX;
    return end == HOP_UNSENT || (end == HOP_LOST && exchange_may_resend(x));
}

/* What would be sent again fails for an asker who counts attempts, and says so. */
static void note_at_once(struct exchange *x, enum hop_end end)
{
    struct transfer_result *r = &x->transfer->result;
    bool lost = end == HOP_LOST && x->reused && exchange_idempotent(x);
    if (!x->transfer->spec.once || x->transfer->spec.upload || (!lost && end != HOP_REFUSED))
        return;
    r->at_once = true;
    r->untouched = end == HOP_REFUSED;
}

/* Once more, on a new connection. */
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
    if (goes_again(x, end)) {
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
