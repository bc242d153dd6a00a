#include "engine/exchange.h"
#include <string.h>

struct exchange *exchange_new(struct engine *e)
{
    struct list *node = list_pop_front(&e->pool);
    if (node) {
        e->pool_count--;
        return CONTAINER_OF(node, struct exchange, node);
    }
    struct exchange *x = mem_calloc(e->mem, sizeof *x);
    if (!x)
        return NULL;
    list_init(&x->node);
    list_init(&x->lookup.node);
    list_init(&x->wait_node);
    x->lookup.fn = exchange_on_lookup;
    x->engine = e;
    admit_ticket_init(&x->ticket);
    timer_init(&x->timer, exchange_on_timer);
    dial_init(&x->dial, exchange_on_dial);
    http1_init(&x->http1, x);
    headers_init(&x->request_headers, e->mem, HEADERS_MAX + 4, HEADER_BYTES_MAX);
    buf_init(&x->held, e->mem, HELD_MAX);
    return x;
}

void exchange_free(struct exchange *x)
{
    buf_fini(&x->held);
    http1_fini(&x->http1);
    headers_fini(&x->request_headers);
    mem_free(x->engine->mem, x);
}

static uint64_t end_due(const struct exchange *x)
{
    return x->transport && x->transport->end_due ? x->transport->end_due(x) : NEVER_NS;
}

/* One timer carries all limits. It is only ever moved forward: when it fires too early for the
 * limit that holds by then, it is set again, so a byte that arrives costs no more than a time
 * stamp. */
void exchange_rearm(struct exchange *x)
{
    enum err_phase phase;
    uint64_t limit_ms;
    uint64_t due = failure_due(x, &phase, &limit_ms);
    due = MIN(due, end_due(x));
    if (due != NEVER_NS && (!x->timer.active || due < x->timer.due_ns))
        loop_timer_start(x->engine->loop, &x->timer, due);
}

void exchange_on_timer(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, timer);
    struct engine *e = x->engine;
    uint64_t now = loop_now_ns(e->loop);
    if (end_due(x) <= now) {
        x->transport->leave(x);
        exchange_hop_done(x, HOP_DONE, NULL);
        engine_pump(e);
        return;
    }
    enum err_phase phase;
    uint64_t limit_ms;
    if (failure_due(x, &phase, &limit_ms) > now) {
        x->expired = false;
        exchange_rearm(x);
        return;
    }
    /* After a long computation of the script the answer may lie in the socket since before the
     * limit: one more turn reads it. */
    if (!x->expired && x->state >= EXCHANGE_RESOLVING) {
        x->expired = true;
        loop_timer_start(e->loop, &x->timer, now);
        return;
    }
    struct err err;
    failure_timeout(x, &err);
    exchange_finish(x, &err);
    engine_pump(e);
}

/* What can be decided before there is an address. */
static bool allowed(const struct exchange *x, struct err *err)
{
    const struct targets *targets = x->engine->config.targets;
    const struct origin *g = x->url->origin;
    /* Where names alone decide, only their own addresses do; and behind a proxy that the script
     * named every address would be out of sight. Behind the environment's, names alone can be
     * checked: where a name leads is the proxy's affair. */
    const char *proxy = x->transfer->spec.proxy, *own = "";
    if (targets_limit(targets) && proxy && *proxy)
        own = " through a proxy of the script's own";
    else if (targets_limit(targets) && !targets_limit_addresses(targets) && exchange_connect_to(x))
        own = " at an address of the script's own";
    else if (targets_limit_addresses(targets) && exchange_proxy(x) &&
             !x->transfer->spec.unix_socket && (!g->numeric || exchange_connect_to(x)))
        own = " through the environment's proxy, which looks names up itself: a rule for addresses"
              " cannot be kept there (one for names, such as *.example.com, can)";
    if (targets_allow_host(targets, g->host, g->port) && !*own)
        return true;
    err_set(err, ERR_DENIED, "%s may not be connected to%s", g->key, own);
    err_reason(err, "target");
    return false;
}

void exchange_enter(struct exchange *x, const char *url)
{
    struct engine *e = x->engine;
    struct err err;
    x->relaunches = 0;
    x->state = EXCHANGE_QUEUED;
    x->entered_ns = loop_now_ns(e->loop);
    if (origins_get(&e->origins, url, &x->url, &err) != ERR_NONE) {
        x->url = NULL;
        exchange_finish(x, &err);
        return;
    }
    if (!allowed(x, &err)) {
        exchange_finish(x, &err);
        return;
    }
    x->fresh = x->transfer->spec.fresh;
    unsigned limit = x->transfer->spec.max_per_host;
    admit_enter(&e->admit, &x->ticket, &x->url->origin->admit,
                limit ? limit : e->config.max_per_host);
    exchange_rearm(x);
    if (e->few_places && e->admit.active >= e->admit.max_total) {
        char what[96];
        snprintf(what, sizeof what, "requests wait, %zu at a time are under way",
                 e->admit.max_total);
        log_short_of_files(e->log, what, loop_file_limit());
    }
    engine_pump(e);
}

void engine_pump(struct engine *e)
{
    if (e->pumping)
        return;
    e->pumping = true;
    for (struct admit_ticket *t; (t = admit_next(&e->admit));) {
        e->stats.peak_active = MAX(e->stats.peak_active, e->admit.active);
        exchange_admitted(CONTAINER_OF(t, struct exchange, ticket));
    }
    e->pumping = false;
}

void exchange_on_lookup(struct resolver_wait *w, const char *addresses, const struct err *err)
{
    struct exchange *x = CONTAINER_OF(w, struct exchange, lookup);
    struct engine *e = x->engine;
    struct err own;
    x->resolved_ns = loop_now_ns(e->loop);
    if (!addresses) {
        own = *err;
        exchange_finish(x, &own);
    } else {
        exchange_hop_resolved(x, addresses);
    }
    engine_pump(e);
}

void exchange_admitted(struct exchange *x)
{
    struct engine *e = x->engine;
    struct origin *g = x->url->origin;
    x->admitted_ns = loop_now_ns(e->loop);
    x->queued_ns += x->admitted_ns - x->entered_ns;
    if (x->started_ns == 0)
        x->started_ns = x->admitted_ns;
    if (g->simulation) {
        simulate_launch(x);
        return;
    }
    if (e->loop->is_virtual) {
        struct err err;
        err_set(&err, ERR_DENIED,
                "no real connection is made under virtual time, and %s is not simulated", g->key);
        exchange_finish(x, &err);
        return;
    }
    exchange_hop_begin(x);
}

/* Everything the hop holds is given back; an unfinished connection is closed. */
static void leave_hop(struct exchange *x)
{
    struct engine *e = x->engine;
    e->stats.bytes_in += x->bytes_in;
    x->bytes_in = 0;
    loop_timer_stop(e->loop, &x->timer);
    resolver_cancel(&x->lookup);
    simulate_leave(x);
    exchange_hop_leave(x);
    if (x->inflating)
        inflate_fini(&x->inflate);
    x->inflating = false;
    buf_fini(&x->held); /* rare, and not small */
    admit_leave(&e->admit, &x->ticket);
    if (x->url)
        origins_release(&e->origins, x->url);
    x->url = NULL;
    x->uploading = x->expired = false;
}

static double since(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / (double)NS_PER_S : 0.0;
}

void exchange_note_timing(struct exchange *x)
{
    struct transfer_timing *timing = &x->transfer->result.timing;
    *timing = (struct transfer_timing){-1, -1, -1, -1, -1, -1};
    if (x->started_ns == 0)
        return;
    timing->queued = since(0, x->queued_ns);
    if (x->resolved_ns)
        timing->dns = since(x->started_ns, x->resolved_ns);
    if (x->first_byte_ns)
        timing->first_byte = since(x->started_ns, x->first_byte_ns);
    if (x->connected_ns)
        timing->connect = since(x->started_ns, x->connected_ns);
    if (x->secured_ns)
        timing->tls = since(x->started_ns, x->secured_ns);
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

void exchange_tell(struct exchange *x, unsigned events)
{
    struct transfer *t = x->transfer;
    t->events |= events;
    if (list_linked(&t->event_node))
        return;
    list_push_back(&x->engine->events, &t->event_node);
    x->engine->event_count++;
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
    t->result.timing.total = x->started_ns ? since(x->started_ns, now) : -1;
    leave_hop(x);
    exchange_tell(x, TRANSFER_DONE);
    t->exchange = NULL;
    recycle(x);
}

/* The next hop waits for admission like any request. */
void exchange_follow(struct exchange *x)
{
    struct engine *e = x->engine;
    struct transfer_result *r = &x->transfer->result;
    struct err err;
    char *url = NULL;
    if (redirect_next(x, &url, &err) != ERR_NONE) {
        exchange_finish(x, &err);
        return;
    }
    r->redirects++;
    e->stats.redirects++;
    leave_hop(x);
    mem_free(x->transfer->mem, r->url);
    r->url = url;
    exchange_enter(x, url);
}

bool exchange_unpause(struct exchange *x)
{
    if (x->call && !x->ended)
        return simulate_go_on(x);
    if (!x->transport)
        return true;
    if (!x->transport->go_on(x))
        return false;
    exchange_rearm(x); /* no limit ran while our side held things up */
    return true;
}

void exchange_go_on(struct exchange *x)
{
    x->activity_ns = loop_now_ns(x->engine->loop);
    if (response_stream_decode_held(x) != ERR_NONE) {
        struct err err = x->stop;
        exchange_finish(x, &err);
    } else if (x->held.len > 0) {
        return;
    } else if (x->ended) {
        x->ended = false;
        exchange_hop_done(x, x->hop_end, NULL);
    } else if (x->paused) {
        x->paused = false;
        exchange_unpause(x);
    }
}
