#include "engine/exchange.h"
#include "engine/exchange_failure.h"
#include "engine/exchange_hop.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_report.h"
#include "engine/exchange_request.h"
#include "engine/http1.h"
#include "engine/redirect.h"
#include "engine/response.h"
#include "engine/simulate.h"

static void on_lookup(struct resolver_wait *w, const char *addresses, const struct err *err);
static void on_timer(struct timer *t);

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
    x->lookup.fn = on_lookup;
    x->engine = e;
    admit_ticket_init(&x->ticket);
    timer_init(&x->timer, on_timer);
    dial_init(&x->dial, exchange_hop_on_dial);
    http1_init(&x->http1, x);
    headers_init(&x->request_headers, e->mem, HEADERS_MAX + 4, HEADER_BYTES_MAX);
    buf_init(&x->held, e->mem, HELD_MAX);
    return x;
}

/* What can be decided before there is an address. */
static bool allowed(const struct exchange *x, struct err *err)
{
    const struct connect_rules *rules = x->engine->config.rules;
    const struct origin *g = x->url->origin;
    /* If only names are allowed, the script must not choose the address itself. Through a proxy of
     * the script's own, no address can be checked. Through the environment's proxy, only names can
     * be checked, because the proxy looks them up. */
    const char *proxy = x->transfer->spec.proxy, *own = "";
    if (connect_rules_restrict(rules) && proxy && *proxy)
        own = " through a proxy of the script's own";
    else if (connect_rules_restrict(rules) && !connect_rules_restrict_addresses(rules) &&
             exchange_connect_to(x))
        own = " at an address of the script's own";
    else if (connect_rules_restrict_addresses(rules) && exchange_proxy(x) &&
             !x->transfer->spec.unix_socket && (!g->numeric || exchange_connect_to(x)))
        own = " through the environment's proxy, which looks names up itself: a rule for addresses"
              " cannot be kept there (one for names, such as *.example.com, can)";
    if (connect_rules_allow_host(rules, g->host, g->port) && !*own)
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
    exchange_pump(e);
}

static void admitted(struct exchange *x)
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

void exchange_pump(struct engine *e)
{
    if (e->pumping)
        return;
    e->pumping = true;
    for (struct admit_ticket *t; (t = admit_next(&e->admit));) {
        e->stats.peak_active = MAX(e->stats.peak_active, e->admit.active);
        admitted(CONTAINER_OF(t, struct exchange, ticket));
    }
    e->pumping = false;
}

static void on_lookup(struct resolver_wait *w, const char *addresses, const struct err *err)
{
    struct exchange *x = CONTAINER_OF(w, struct exchange, lookup);
    struct engine *e = x->engine;
    x->resolved_ns = loop_now_ns(e->loop);
    exchange_hop_resolved(x, addresses, err);
    exchange_pump(e);
}

/* ---- the end of a hop ---- */

/* The next hop waits for admission like any request. */
static void follow(struct exchange *x)
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
    exchange_hop_leave(x);
    mem_free(x->transfer->mem, r->url);
    r->url = url;
    exchange_enter(x, url);
}

/* True if the request is sent again. Only Leat itself ever does that, and never libcurl. */
static bool goes_again(const struct exchange *x, enum hop_end end)
{
    if (x->stop.kind != ERR_NONE)
        return false;
    if (end == HOP_REFUSED)
        return !x->transfer->spec.once && !x->transfer->spec.upload && x->relaunches < RELAUNCH_MAX;
    return end == HOP_UNSENT || (end == HOP_LOST && exchange_may_resend(x));
}

/* A caller that counts attempts gets a failure in place of a second attempt. The result says that
 * another one may follow at once. */
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
    exchange_hop_leave_pool(x);
    x->fresh = true;
    x->relaunches++;
    x->admitted_ns = loop_now_ns(x->engine->loop); /* for the limit of the connect */
    exchange_hop_begin(x);
}

static void hop_done(struct exchange *x, enum hop_end end, const struct err *why)
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
        exchange_failure_of_hop(x, end, why, &err);
    exchange_note_timing(x);
    if (err.kind == ERR_NONE && x->discards)
        follow(x);
    else
        exchange_finish(x, &err);
}

static void on_timer(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, timer);
    struct engine *e = x->engine;
    uint64_t now = loop_now_ns(e->loop);
    if (exchange_end_due(x) <= now) {
        x->transport->leave(x);
        hop_done(x, HOP_DONE, NULL);
        exchange_pump(e);
        return;
    }
    enum err_phase phase;
    uint64_t limit_ms;
    if (exchange_due(x, &phase, &limit_ms) > now) {
        x->expired = false;
        exchange_rearm(x);
        return;
    }
    /* While the script computed, the answer may have arrived in time: one more turn reads it. */
    if (!x->expired && x->state >= EXCHANGE_RESOLVING) {
        x->expired = true;
        loop_timer_start(e->loop, &x->timer, now);
        return;
    }
    struct err err;
    exchange_failure_timeout(x, &err);
    exchange_finish(x, &err);
    exchange_pump(e);
}

const struct engine_upcalls exchange_upcalls = {.hop_done = hop_done, .pump = exchange_pump};

/* ---- room again ---- */

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
        hop_done(x, x->hop_end, NULL);
    } else if (x->paused) {
        x->paused = false;
        exchange_unpause(x);
    }
}
