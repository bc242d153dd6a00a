#include "engine/exchange_hop.h"
#include "engine/exchange_failure.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_report.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "engine/http1.h"
#include "engine/response.h"
#include "engine/shared.h"
#include "engine/simulate.h"
#include <string.h>
#include <strings.h>

/* So often those that lost a connection share the next one. */
enum { TOGETHER_MAX = 2 };

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
                                          .proxy_addresses = x->proxy_addresses,
                                          .proxy_of_environment = !spec->proxy,
                                          .tunnel = exchange_is_tunnel(x),
                                          .user_agent = e->config.user_agent,
                                          .ca_file = e->tls.trust.file,
                                          .ca_folder = e->tls.trust.folder,
                                          .connect_ms = spec->limits.connect_ms,
                                          .rules = e->config.rules};
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
        exchange_failure_describe(x, &err, &own);
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
    x->reused = true; /* others use the connection, too, and may end it */
    shared_start(s, x);
}

/* Uses a connection that is there, or waits for one that is being made and may be shared. False:
 * there is neither. */
static bool find_way(struct exchange *x)
{
    struct pool *pool = x->pool;
    bool may_share = exchange_may_share(x);
    uint64_t now = loop_now_ns(x->engine->loop);
    bool alone = may_share && x->fresh && (x->relaunches > TOGETHER_MAX || shared_takes_few(pool));
    struct shared *s = may_share && !alone ? shared_with_room(pool, x->fresh) : NULL;
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
    if (!may_share || alone || !pool->dialing || x->url->origin->protocol == ORIGIN_HTTP1)
        return false;
    x->state = EXCHANGE_CONNECTING;
    x->launched_ns = now;
    list_push_back(&pool->waiting, &x->wait_node);
    exchange_rearm(x);
    return true;
}

/* May dial, and even end the transfer, before it returns. */
static void look_up(struct exchange *x, const char *name)
{
    struct err err, own;
    x->state = EXCHANGE_RESOLVING;
    exchange_rearm(x);
    if (resolver_lookup(x->engine->resolver, name, &x->lookup, &err) == ERR_NONE)
        return;
    exchange_failure_lookup(x, &err, &own);
    exchange_finish(x, &own);
}

static void seek_origin(struct exchange *x)
{
    const struct origin *g = x->url->origin;
    bool is_led = x->proxy && proxy_kind_of(x->proxy) != PROXY_SOCKS_IP;
    if (g->numeric || is_led || x->transfer->spec.unix_socket || exchange_connect_to(x))
        dial(x, NULL);
    else
        look_up(x, g->host);
}

/* What libcurl refuses goes to libcurl, which says why. */
static void seek(struct exchange *x)
{
    char name[256];
    unsigned port;
    if (find_way(x))
        return;
    x->seeks_proxy = x->proxy && proxy_place(x->proxy, name, &port) && !origin_is_numeric(name) &&
                     !proxy_unusable(x->proxy);
    if (x->seeks_proxy)
        look_up(x, name);
    else
        seek_origin(x);
}

/* The protocol is known: exchanges that waited for it look for a connection again, `count` of them
 * at most. */
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
        exchange_failure_describe(x, err, &own);
        exchange_finish(x, &own);
    }
}

/* Starts the request in the protocol that the new connection speaks. */
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
    exchange_failure_describe(x, &err, &own);
    exchange_finish(x, &own);
}

void exchange_hop_on_dial(struct dial *d, struct channel *got, const struct err *err)
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
        exchange_failure_describe(x, err, &own);
        exchange_finish(x, &own);
        if (decides)
            fail_waiting(pool, err);
    }
    pool_release(pool);
    e->upcalls->pump(e);
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

/* A proxy that wants addresses needs the origin's, too. */
static void take_proxy(struct exchange *x, const char *addresses)
{
    struct mem *mem = x->engine->mem;
    struct err err;
    x->seeks_proxy = false;
    mem_free(mem, x->proxy_addresses);
    x->proxy_addresses = mem_strndup(mem, addresses, strlen(addresses));
    if (x->proxy_addresses) {
        seek_origin(x);
        return;
    }
    err_set(&err, ERR_MEMORY, "no memory for a request");
    exchange_finish(x, &err);
}

void exchange_hop_resolved(struct exchange *x, const char *addresses, const struct err *err)
{
    struct err own;
    if (!addresses) {
        exchange_failure_lookup(x, err, &own);
        exchange_finish(x, &own);
    } else if (find_way(x)) {
        x->seeks_proxy = false; /* a connection has become free meanwhile */
    } else if (x->seeks_proxy) {
        take_proxy(x, addresses);
    } else {
        dial(x, addresses);
    }
}

/* ---- leaving it ---- */

void exchange_hop_leave_pool(struct exchange *x)
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

static void leave_connection(struct exchange *x)
{
    list_unlink(&x->wait_node);
    dial_cancel(&x->dial);
    if (x->transport)
        x->transport->leave(x);
    x->transport = NULL;
    exchange_hop_leave_pool(x);
}

/* Everything the hop holds is given back; an unfinished connection is closed. */
void exchange_hop_leave(struct exchange *x)
{
    struct engine *e = x->engine;
    e->stats.bytes_in += x->bytes_in;
    x->bytes_in = 0;
    loop_timer_stop(e->loop, &x->timer);
    resolver_cancel(&x->lookup);
    x->seeks_proxy = false;
    mem_free(e->mem, x->proxy_addresses);
    x->proxy_addresses = NULL;
    simulate_leave(x);
    leave_connection(x);
    if (x->inflating)
        inflate_fini(&x->inflate);
    x->inflating = false;
    buf_fini(&x->held); /* rarely used, and large */
    admit_leave(&e->admit, &x->ticket);
    if (x->url)
        origins_release(&e->origins, x->url);
    x->url = NULL;
    x->uploading = x->expired = false;
}

void exchange_free(struct exchange *x)
{
    buf_fini(&x->held);
    http1_fini(&x->http1);
    headers_fini(&x->request_headers);
    mem_free(x->engine->mem, x);
}

static void recycle(struct exchange *x)
{
    struct engine *e = x->engine;
    x->state = EXCHANGE_IDLE;
    x->transfer = NULL;
    list_unlink(&x->node);
    if (e->pool_count >= POOL_MAX) {
        exchange_free(x);
        return;
    }
    list_push_front(&e->pool, &x->node);
    e->pool_count++;
}

void exchange_finish(struct exchange *x, const struct err *err)
{
    struct engine *e = x->engine;
    struct transfer *t = x->transfer;
    uint64_t now = loop_now_ns(e->loop);
    uint64_t started = x->started_ns ? x->started_ns : x->submitted_ns;
    if (err && err->kind != ERR_NONE) {
        exchange_note_timing(x);
        t->result.err = *err;
        t->result.err.elapsed_ms = MAX((now - started) / NS_PER_MS, 1); /* 0: not known */
        if (err->kind == ERR_CANCELLED)
            e->stats.cancelled++;
        else
            e->stats.failed++;
    } else {
        e->stats.succeeded++;
    }
    t->result.timing.total = x->started_ns ? exchange_seconds(x->started_ns, now) : -1;
    exchange_hop_leave(x);
    exchange_tell(x, TRANSFER_DONE);
    t->exchange = NULL;
    recycle(x);
}
