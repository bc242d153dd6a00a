/* An engine on the thread that its loop runs on. */
#include "engine/engine_local.h"

#include "engine/exchange.h"
#include "engine/exchange_hop.h"
#include "engine/shared.h"
#include <string.h>
#include <strings.h>
#include <unistd.h>

#ifndef LEAT_VERSION
#define LEAT_VERSION "0"
#endif

size_t engine_local_places(bool keep_limit)
{
    size_t all = keep_limit ? loop_file_limit() : loop_raise_file_limit();
    /* The rest is for files of the process, and for connections that are being made: each of
     * these holds two descriptors for an address that is tried. */
    size_t spare = 64 + MIN((size_t)128, all / 8);
    return all > spare + 16 ? all - spare : 16;
}

/* What all connections need. */
static enum err_kind open_ways(struct engine *e, struct err *err)
{
    if (e->config.use_env_proxy && proxy_env_init(&e->proxy_env, e->mem, err) != ERR_NONE)
        return err->kind;
    enum err_kind kind = tls_init(&e->tls, e->mem, err);
    if (kind != ERR_NONE)
        goto no_tls;
    e->scratch = mem_alloc(e->mem, SCRATCH_BYTES);
    if (!e->scratch) {
        kind = err_set(err, ERR_MEMORY, "no memory for the engine");
        goto no_scratch;
    }
    kind = poller_new(&e->poller, e->loop, e->mem, err);
    if (kind != ERR_NONE)
        goto no_poller;
    kind = connector_new(&e->connector, e->loop, e->poller, e->mem, e->log, CONNECTS_AT_ONCE, err);
    if (kind == ERR_NONE)
        return ERR_NONE;
    poller_free(e->poller);
no_poller:
    mem_free(e->mem, e->scratch);
no_scratch:
    tls_fini(&e->tls);
no_tls:
    proxy_env_fini(&e->proxy_env);
    return kind;
}

static void close_ways(struct engine *e)
{
    shared_close_all(e);
    loop_timer_stop(e->loop, &e->flush_timer);
    pools_fini(&e->pools);
    connector_free(e->connector);
    poller_free(e->poller);
    tls_fini(&e->tls);
    proxy_env_fini(&e->proxy_env);
    mem_free(e->mem, e->scratch);
}

enum err_kind engine_local_new(struct engine **out, struct loop *loop, struct mem *mem,
                               struct log *log, const struct engine_config *config, struct err *err)
{
    struct engine *e = mem_calloc(mem, sizeof *e);
    if (!e)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    e->upcalls = &exchange_upcalls;
    e->loop = loop;
    e->mem = mem;
    e->log = log;
    e->config = *config;
    if (!e->config.user_agent)
        e->config.user_agent = "leat/" LEAT_VERSION;
    list_init(&e->live);
    list_init(&e->pool);
    list_init(&e->events);
    list_init(&e->call_events);
    origins_init(&e->origins, mem);
    pools_init(&e->pools, loop, mem, SIZE_MAX);
    list_init(&e->shared);
    list_init(&e->to_flush);
    timer_init(&e->flush_timer, shared_on_flush);
    size_t all = engine_local_places(config->keep_file_limit), shares = MAX(config->shares, 1u);
    size_t total = config->max_total ? config->max_total : all;
    e->few_places = !config->max_total && all < FEW_PLACES;
    admit_init(&e->admit, MAX(total / shares, (size_t)1));
    e->pools.max_open = MAX(e->admit.max_total, all / shares);
    enum err_kind kind =
        resolver_new(&e->resolver, loop, mem, config->lookup, config->lookup_arg, err);
    if (kind == ERR_NONE) {
        kind = open_ways(e, err);
        if (kind == ERR_NONE) {
            *out = e;
            return ERR_NONE;
        }
        resolver_free(e->resolver);
    }
    origins_fini(&e->origins);
    mem_free(mem, e);
    return kind;
}

void engine_local_free(struct engine *e)
{
    engine_local_close(e);
    resolver_free(e->resolver);
    struct list *node;
    while ((node = list_pop_front(&e->pool)))
        exchange_free(CONTAINER_OF(node, struct exchange, node));
    close_ways(e);
    origins_fini(&e->origins);
    mem_free(e->mem, e);
}

void engine_local_submit(struct engine *e, struct transfer *t)
{
    e->stats.submitted++;
    struct exchange *x = exchange_new(e);
    if (!x) {
        err_set(&t->result.err, ERR_MEMORY, "no memory for a request");
        e->stats.failed++;
        t->events = TRANSFER_DONE;
        list_push_back(&e->events, &t->event_node);
        e->event_count++;
        loop_wake(e->loop);
        return;
    }
    x->transfer = t;
    t->exchange = x;
    x->method = transfer_method(t);
    x->started_ns = x->queued_ns = x->resolved_ns = x->first_byte_ns = 0;
    x->foreign = x->drop_body = x->discards = false;
    t->result.redirects = t->result.wire_attempts = 0;
    t->result.at_once = t->result.untouched = false;
    list_push_back(&e->live, &x->node);
    size_t events = e->event_count;
    exchange_enter(x, t->spec.url);
    x = NULL; /* it may have ended already */
    if (e->event_count != events)
        loop_wake(e->loop);
}

void engine_local_fail(struct engine *e, struct transfer *t, const struct err *err)
{
    struct exchange *x = t->exchange;
    if (!x)
        return;
    exchange_finish(x, err);
    exchange_pump(e);
    loop_wake(e->loop);
}

void engine_local_cancel(struct engine *e, struct transfer *t)
{
    if (!t->exchange)
        return;
    t->cancelled = true;
    struct err err;
    err_set(&err, ERR_CANCELLED, "the request was cancelled");
    engine_local_fail(e, t, &err);
}

void engine_local_took(struct engine *e, struct transfer *t, size_t len)
{
    struct exchange *x = t->exchange;
    ASSERT(len <= t->handed);
    t->handed -= len;
    if (!x || !(x->paused || x->held.len > 0) || t->result.body.len + t->handed > t->window / 2)
        return;
    size_t events = e->event_count;
    exchange_go_on(x);
    exchange_pump(e);
    if (e->event_count != events)
        loop_wake(e->loop);
}

void engine_local_fed(struct engine *e, struct transfer *t)
{
    struct exchange *x = t->exchange;
    loop_wake(e->loop);
    if (!x || !x->starved)
        return;
    x->starved = false;
    x->activity_ns = loop_now_ns(x->engine->loop);
    exchange_unpause(x);
    exchange_pump(e);
}

void engine_local_close(struct engine *e)
{
    /* No request gets a place while the queue is emptied. */
    e->pumping = true;
    LIST_FOR(node, &e->live)
    {
        engine_local_cancel(e, CONTAINER_OF(node, struct exchange, node)->transfer);
    }
    e->pumping = false;
}

struct transfer *engine_local_next_queued(struct engine *e, const struct transfer *after)
{
    struct list *node = after ? after->exchange->node.next : e->live.next;
    for (; node != &e->live; node = node->next) {
        struct exchange *x = CONTAINER_OF(node, struct exchange, node);
        if (x->state == EXCHANGE_QUEUED)
            return x->transfer;
    }
    return NULL;
}

void engine_local_hand_over(struct engine *e, struct transfer *t)
{
    size_t len = t->result.body.len;
    if (buf_pour(&t->unread, &t->taken, &t->result.body) == ERR_NONE) {
        t->handed += len;
        return;
    }
    t->lost = true;
    engine_local_cancel(e, t);
}

struct transfer *engine_local_next_event(struct engine *e, unsigned *events)
{
    struct list *node = list_pop_front(&e->events);
    if (!node)
        return NULL;
    struct transfer *t = CONTAINER_OF(node, struct transfer, event_node);
    e->event_count--;
    *events = t->events;
    t->events = 0;
    if (t->spec.stream)
        engine_local_hand_over(e, t);
    return t;
}

void engine_local_stats(const struct engine *e, struct engine_stats *out)
{
    *out = e->stats;
    out->queued = e->admit.waiting;
    out->active = e->admit.active;
    out->resolving = e->resolver ? resolver_busy(e->resolver) : 0;
    out->on_network = e->hops;
    out->events_waiting = e->event_count;
    out->idle_exchanges = e->pool_count;
}
