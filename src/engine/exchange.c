#include "engine/exchange.h"
#include <string.h>

struct exchange *exchange_new(struct engine *e, bool roomy)
{
    struct list *node = list_pop_front(roomy ? &e->roomy_pool : &e->pool);
    if (node) {
        e->pool_count--;
        return CONTAINER_OF(node, struct exchange, node);
    }
    struct exchange *x = mem_calloc(e->mem, sizeof *x);
    if (!x)
        return NULL;
    list_init(&x->node);
    list_init(&x->lookup.node);
    x->lookup.fn = exchange_on_lookup;
    x->engine = e;
    x->roomy = roomy;
    admit_ticket_init(&x->ticket);
    timer_init(&x->timer, exchange_on_timer);
    dial_init(&x->dial, exchange_on_dial);
    http1_init(&x->http1, x);
    buf_init(&x->text, e->mem, 1024 * 1024);
    buf_init(&x->addresses, e->mem, 16 * 1024);
    buf_init(&x->held, e->mem, HELD_MAX);
    x->easy = curl_easy_init();
    if (!x->easy || !opts_base(x)) {
        exchange_free(x);
        return NULL;
    }
    return x;
}

void exchange_free(struct exchange *x)
{
    if (x->easy)
        curl_easy_cleanup(x->easy);
    buf_fini(&x->text);
    buf_fini(&x->addresses);
    buf_fini(&x->held);
    http1_fini(&x->http1);
    mem_free(x->engine->mem, x->lines);
    mem_free(x->engine->mem, x);
}

/* Sees how much of a large body has gone out; nothing tells us. */
static void watch_upload(struct exchange *x, uint64_t now_ns)
{
    curl_off_t sent = 0;
    curl_easy_getinfo(x->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    if (sent < 0 || (uint64_t)sent == x->uploaded)
        return;
    x->uploaded = (uint64_t)sent;
    x->activity_ns = now_ns;
    if (x->uploaded >= x->transfer->spec.body_len) {
        x->uploading = false;
        x->sent_ns = now_ns;
    }
}

static uint64_t upload_poll_ns(const struct exchange *x)
{
    const struct transfer_limits *l = &x->transfer->spec.limits;
    uint64_t ms = l->idle_ms ? l->idle_ms : l->first_byte_ms ? l->first_byte_ms : 8000;
    return MIN(MAX(ms / 8, (uint64_t)5), (uint64_t)1000) * NS_PER_MS;
}

/* One timer carries all limits. It is only ever moved forward: when it fires too early for the
 * limit that holds by then, it is set again, so a byte that arrives costs no more than a time
 * stamp. */
void exchange_rearm(struct exchange *x, uint64_t now_ns)
{
    enum err_phase phase;
    uint64_t limit_ms;
    uint64_t due = failure_due(x, &phase, &limit_ms);
    if (x->uploading && x->shard && !x->transfer->spec.upload && x->state == EXCHANGE_WAITING)
        due = MIN(due, now_ns + upload_poll_ns(x));
    if (x->kick_ns)
        due = MIN(due, x->kick_ns);
    if (due != NEVER_NS && (!x->timer.active || due < x->timer.due_ns))
        loop_timer_start(x->engine->loop, &x->timer, due);
}

void exchange_expect_end(struct exchange *x)
{
    if (!x->multiplexes)
        return;
    x->kicks = 0;
    if (!x->kick_ns) {
        x->kick_ns = x->activity_ns + 4 * NS_PER_MS;
        exchange_rearm(x, x->activity_ns);
    }
}

/* libcurl 7.88 records pending data per connection, and another stream may clear the record. So
 * the end of a stream can go unnoticed, and we poll. If the end was in a frame that libcurl had put
 * aside, libcurl sees it only with the next frame of the connection, which may never come. So a
 * body that is complete by its length does not wait for that. */
static bool kick(struct exchange *x, uint64_t now_ns)
{
    const struct transfer_result *r = &x->transfer->result;
    x->kick_ns = 0;
    if (x->paused || x->ended || !x->shard || ++x->kicks > KICKS_MAX)
        return true;
    if (x->kicks > KICKS_FOR_END && x->head_done && !x->uploading && r->expected_bytes >= 0 &&
        r->got_bytes == r->expected_bytes) {
        exchange_curl_done(x, CURLE_OK);
        return false;
    }
    x->kick_ns = now_ns + ((uint64_t)4 << x->kicks) * NS_PER_MS;
    return curl_easy_pause(x->easy, CURLPAUSE_RECV) != CURLE_OK || exchange_unpause(x);
}

void exchange_on_timer(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, timer);
    struct engine *e = x->engine;
    uint64_t now = loop_now_ns(e->loop);
    if (x->stop.kind != ERR_NONE && !x->ended) {
        struct err stop = x->stop;
        exchange_finish(x, &stop);
        engine_pump(e);
        return;
    }
    if (x->kick_ns && x->kick_ns <= now && !kick(x, now)) {
        engine_pump(e);
        return;
    }
    if (x->uploading && x->shard && !x->transfer->spec.upload && x->state == EXCHANGE_WAITING)
        watch_upload(x, now);
    enum err_phase phase;
    uint64_t limit_ms;
    if (failure_due(x, &phase, &limit_ms) > now) {
        x->expired = false;
        exchange_rearm(x, now);
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
    failure_timeout(x, now, &err);
    exchange_finish(x, &err);
    engine_pump(e);
}

/* What can be told before there is an address. */
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
    else if (targets_limit_addresses(targets) && exchange_proxied(x) &&
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
    x->fresh = x->url->origin->distrust > 0;
    x->url->origin->distrust -= x->fresh;
    unsigned limit = x->transfer->spec.max_per_host;
    admit_enter(&e->admit, &x->ticket, &x->url->origin->admit,
                limit ? limit : e->config.max_per_host);
    exchange_rearm(x, x->entered_ns);
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

static void launch(struct exchange *x)
{
    struct engine *e = x->engine;
    struct err err;
    x->state = EXCHANGE_CONNECTING;
    x->launched_ns = loop_now_ns(e->loop);
    response_begin(x);
    if (opts_hop(x, &err) != ERR_NONE) {
        exchange_finish(x, &err);
        return;
    }
    struct shard *s = shard_for(x);
    if (!s)
        err_set(&err, ERR_MEMORY, "no memory for a request");
    if (!s || shard_add(s, x, &err) != ERR_NONE) {
        exchange_finish(x, &err);
        return;
    }
    exchange_rearm(x, x->launched_ns);
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
    } else if (exchange_is_own(x)) {
        exchange_hop_resolved(x, addresses);
    } else {
        buf_clear(&x->addresses);
        if (buf_printf(&x->addresses, "%s:%u:%s", x->url->origin->host, x->url->origin->port,
                       addresses) != ERR_NONE) {
            err_set(&own, ERR_MEMORY, "no memory for the addresses of %s", x->url->origin->host);
            exchange_finish(x, &own);
        } else {
            launch(x);
        }
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
    buf_clear(&x->addresses);
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
    if (exchange_is_own(x)) {
        exchange_hop_begin(x);
        return;
    }
    if (g->numeric || exchange_proxied(x) || x->transfer->spec.unix_socket ||
        exchange_connect_to(x)) {
        launch(x);
        return;
    }
    x->state = EXCHANGE_RESOLVING;
    exchange_rearm(x, x->admitted_ns);
    struct err err;
    /* May launch, and even end the transfer, before it returns. */
    if (resolver_lookup(e->resolver, g->host, &x->lookup, &err) != ERR_NONE)
        exchange_finish(x, &err);
}

/* Everything the hop holds is given back; an unfinished connection is closed. */
static void leave_hop(struct exchange *x)
{
    struct engine *e = x->engine;
    loop_timer_stop(e->loop, &x->timer);
    resolver_cancel(&x->lookup);
    simulate_leave(x);
    exchange_hop_leave(x);
    shard_remove(x);
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

/* Read while the easy handle still knows. */
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
    if (!x->shard)
        return;
    long connects = 0;
    curl_off_t connect_us = 0, tls_us = 0;
    curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
    if (connects <= 0)
        return;
    x->engine->stats.connects += (uint64_t)connects;
    curl_easy_getinfo(x->easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    curl_easy_getinfo(x->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us);
    double launched = since(x->started_ns, x->launched_ns);
    if (connect_us > 0)
        timing->connect = launched + (double)connect_us / 1e6;
    if (tls_us > 0)
        timing->tls = launched + (double)tls_us / 1e6;
}

static void count_bytes(struct exchange *x)
{
    long head = 0;
    if (x->hop_attempts > 0) {
        curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &head);
        x->engine->stats.bytes_out += head > 0 ? (uint64_t)head : 0;
    }
    x->engine->stats.bytes_in += x->bytes_in;
    x->bytes_in = 0;
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
    list_push_front(x->roomy ? &e->roomy_pool : &e->pool, &x->node);
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
    if (x->shard)
        count_bytes(x);
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
    struct err err;
    if (x->call && !x->ended)
        return simulate_go_on(x);
    if (x->transport) {
        if (!x->transport->go_on(x))
            return false;
        exchange_rearm(x, x->activity_ns); /* no limit ran while our side held things up */
        return true;
    }
    if (!x->shard || x->ended || x->stop.kind != ERR_NONE)
        return true; /* stopped: its timer ends it, and nothing may go on until then */
    int still = (x->paused ? CURLPAUSE_RECV : 0) | (x->starved ? CURLPAUSE_SEND : 0);
    CURLcode code = curl_easy_pause(x->easy, still);
    if (code == CURLE_OK) {
        exchange_rearm(x, x->activity_ns);
        return true;
    }
    if (x->stop.kind != ERR_NONE)
        err = x->stop;
    else
        failure_from_curl(x, code, &err);
    exchange_finish(x, &err);
    return false;
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
        if (x->pool)
            exchange_hop_done(x, x->hop_end, NULL);
        else
            exchange_curl_done(x, x->end_code);
    } else if (x->paused) {
        x->paused = false;
        exchange_expect_end(x);
        exchange_unpause(x);
    }
}

/* HTTP/2: the server gave its whole answer before it had all of the body, and closed the stream.
 * libcurl takes it for an error that it cannot send on, but one without words: had the stream
 * ended in any other way, reading it would have failed, and said why. */
static bool answered_early(const struct exchange *x)
{
    const struct transfer_result *r = &x->transfer->result;
    return x->head_done && x->curl_text[0] == '\0' &&
           (r->expected_bytes < 0 || r->got_bytes == r->expected_bytes);
}

/* HTTP/2: the peer has not acted on the request, or it may be sent twice and libcurl lost its
 * answer without a word. (With words the stream ended by the server's own will.) */
static bool worth_another(const struct exchange *x, CURLcode code)
{
    if (!x->multiplexes || x->head_done || x->stop.kind != ERR_NONE || x->transfer->spec.upload)
        return false;
    bool wordless = (code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM) && !x->curl_text[0];
    return code != CURLE_OK && (x->refused || (wordless && exchange_idempotent(x)));
}

/* A kept connection ended before a byte of the answer, and the request may be sent twice. */
static bool lost_connection(const struct exchange *x, CURLcode code)
{
    long connects = 0;
    bool cut = code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR;
    if (!cut || !x->shard || x->bytes_in > 0 || x->stop.kind != ERR_NONE ||
        x->transfer->spec.upload || !exchange_idempotent(x))
        return false;
    curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0;
}

/* What would be sent again fails for an asker who counts attempts, and says so. */
static void note_resend(struct exchange *x, CURLcode code, bool another)
{
    struct transfer_result *r = &x->transfer->result;
    if (!x->transfer->spec.once)
        return;
    bool lost = !another && lost_connection(x, code);
    if (lost)
        x->url->origin->distrust++;
    r->untouched = x->refused && (another || x->resend_refused);
    r->at_once = another || lost || r->untouched;
}

void exchange_curl_done(struct exchange *x, CURLcode code)
{
    x->easy_spent = x->easy_spent || code != CURLE_OK;
    struct engine *e = x->engine;
    if (x->held.len > 0 && x->stop.kind == ERR_NONE) {
        x->ended = true;
        x->end_code = code;
        return;
    }
    struct origin *g = x->url->origin;
    struct err err;
    err_clear(&err);
    long version = 0;
    if (code == CURLE_OK && !x->head_done && x->stop.kind == ERR_NONE)
        code = CURLE_GOT_NOTHING; /* of a shared connection libcurl does not say it */
    if (x->shard)
        curl_easy_getinfo(x->easy, CURLINFO_HTTP_VERSION, &version);
    /* What the origin offers is only seen by a request that asked for the best. */
    bool another = worth_another(x, code);
    note_resend(x, code, another);
    if (x->relaunch || (another && !x->transfer->spec.once && x->relaunches < RELAUNCH_MAX)) {
        exchange_note_timing(x);
        shard_remove(x);
        x->fresh = true;
        x->relaunches++;
        x->admitted_ns = loop_now_ns(e->loop); /* for the limit of the connect */
        launch(x);
        return;
    }
    if (x->shard && g->https && x->head_done && x->transfer->spec.http_version != HTTP_VERSION_1_1)
        g->protocol = version >= CURL_HTTP_VERSION_2_0 ? ORIGIN_HTTP2 : ORIGIN_HTTP1;
    bool hung_up = code == CURLE_WRITE_ERROR && x->discarded > DISCARD_MAX;
    if (code == CURLE_HTTP2_STREAM && answered_early(x))
        code = CURLE_OK;
    if (x->stop.kind != ERR_NONE)
        err = x->stop;
    else if (code != CURLE_OK && !hung_up)
        failure_from_curl(x, code, &err);
    else if (!x->head_done) /* it broke off behind a whole line, which is enough for curl */
        failure_from_curl(x, CURLE_GOT_NOTHING, &err);
    else
        response_end(x, &err);
    bool waits_for_one = version < CURL_HTTP_VERSION_2_0 || x->alone;
    if (x->shard && code == CURLE_OK && waits_for_one && !x->close_after)
        origin_push_idle(g, e->mem, x->shard->index, e->admit.max_total);
    exchange_note_timing(x);
    if (err.kind == ERR_NONE && x->discards)
        exchange_follow(x);
    else
        exchange_finish(x, &err);
}
