#include "engine/engine.h"
#include "engine/exchange.h"
#include "engine/netthread.h"
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#ifndef LEAT_VERSION
#define LEAT_VERSION "0"
#endif

/* libcurl's global state is the process's, so its users are counted here: the one mutable global.
 * It is never given back: look-up threads of the library may outlive the last engine. */
static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_global_code;

static void curl_start(void)
{
    curl_global_code = curl_global_init(CURL_GLOBAL_ALL);
}

size_t engine_places(bool keep_limit)
{
    size_t all = keep_limit ? loop_file_limit() : loop_raise_file_limit();
    /* Besides the spare ones for the process itself: idle connections of the last, half-used
     * shard. */
    size_t spare = 64 + MIN((size_t)128, all / 8);
    return all > spare + 16 ? all - spare : 16;
}

/* The variable's value; NULL: none. */
static const char *named(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

const char *engine_environment_proxy(bool https)
{
    /* HTTP_PROXY in capitals may come from a request header (CGI): curl ignores it, too. */
    const char *const names[] = {https ? "https_proxy" : "http_proxy",
                                 https ? "HTTPS_PROXY" : "all_proxy", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = named(names[i]);
        if (value)
            return value;
    }
    return NULL;
}

static char *copy_text(struct mem *mem, const char *text)
{
    return text ? mem_strndup(mem, text, strlen(text)) : NULL;
}

static bool differs(const char *text, const char *from)
{
    return text && !(from && strcmp(text, from) == 0);
}

/* The certificates to trust: those that SSL_CERT_FILE and SSL_CERT_DIR name, as for OpenSSL, else
 * the system's bundle alone. With a folder besides, as Debian's libcurl has it by default, libcurl
 * would read the whole bundle for each connection: 25 ms. */
static enum err_kind choose_trust(struct engine *e, struct err *err)
{
    const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
    const char *file = named("SSL_CERT_FILE"), *folder = named("SSL_CERT_DIR");
    if (!differs(file, curl->cainfo) && !differs(folder, curl->capath)) {
        bool has_bundle = curl->cainfo && access(curl->cainfo, R_OK) == 0;
        file = has_bundle ? curl->cainfo : NULL;
        folder = has_bundle ? NULL : curl->capath;
    }
    e->ca_file = copy_text(e->mem, file);
    e->ca_folder = copy_text(e->mem, folder);
    if ((file && !e->ca_file) || (folder && !e->ca_folder))
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    return ERR_NONE;
}

static void forget_trust(struct engine *e)
{
    mem_free(e->mem, e->ca_file);
    mem_free(e->mem, e->ca_folder);
}

enum err_kind engine_new(struct engine **out, struct loop *loop, struct mem *mem, struct log *log,
                         const struct engine_config *config, struct err *err)
{
    pthread_once(&curl_once, curl_start);
    if (curl_global_code != CURLE_OK)
        return err_set(err, ERR_INTERNAL, "the transfer library does not start: %s",
                       curl_easy_strerror(curl_global_code));
    if (config->threads > 0)
        return nets_new(out, loop, mem, log, config, err);
    struct engine *e = mem_calloc(mem, sizeof *e);
    if (!e)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    e->loop = loop;
    e->mem = mem;
    e->log = log;
    e->config = *config;
    if (!e->config.user_agent)
        e->config.user_agent = "leat/" LEAT_VERSION;
    if (config->use_env_proxy) {
        e->proxied[0] = engine_environment_proxy(false);
        e->proxied[1] = engine_environment_proxy(true);
    }
    e->guards_folds = curl_version_info(CURLVERSION_NOW)->version_num < 0x080100;
    list_init(&e->live);
    list_init(&e->pool);
    list_init(&e->roomy_pool);
    timer_init(&e->cork_timer, h2_on_cork_timer);
    list_init(&e->events);
    list_init(&e->call_events);
    origins_init(&e->origins, mem);
    size_t places = engine_places(config->keep_file_limit);
    e->few_places = !config->max_total && places < FEW_PLACES;
    admit_init(&e->admit, config->max_total ? config->max_total : places);
    shards_init(&e->shards, config->shard_connections ? config->shard_connections : 128);
    enum err_kind kind = choose_trust(e, err);
    if (kind != ERR_NONE)
        goto fail;
    kind = sockets_new(&e->sockets, loop, mem, log, shard_on_socket, err);
    if (kind != ERR_NONE)
        goto fail;
    kind = resolver_new(&e->resolver, loop, mem, config->lookup, config->lookup_arg, err);
    if (kind != ERR_NONE) {
        sockets_free(e->sockets);
        goto fail;
    }
    *out = e;
    return ERR_NONE;
fail:
    forget_trust(e);
    origins_fini(&e->origins);
    mem_free(mem, e);
    return kind;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->nets) {
        nets_free(e);
        return;
    }
    local_close(e);
    loop_timer_stop(e->loop, &e->cork_timer);
    resolver_free(e->resolver);
    shards_fini(e);
    struct list *node;
    while ((node = list_pop_front(&e->pool)) || (node = list_pop_front(&e->roomy_pool)))
        exchange_free(CONTAINER_OF(node, struct exchange, node));
    sockets_free(e->sockets);
    origins_fini(&e->origins);
    forget_trust(e);
    mem_free(e->mem, e);
}

void engine_bound_streams(struct engine *e, unsigned streams)
{
    e->shards.streams = streams; /* threads of the engine's own hold nobody up */
}

void local_submit(struct engine *e, struct transfer *t)
{
    e->stats.submitted++;
    bool https = strncasecmp(t->spec.url, "https:", 6) == 0;
    struct exchange *x = exchange_new(e, opts_need_room(&t->spec, https));
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

void local_fail(struct engine *e, struct transfer *t, const struct err *err)
{
    struct exchange *x = t->exchange;
    if (!x)
        return;
    exchange_finish(x, err);
    engine_pump(e);
    loop_wake(e->loop);
}

void local_cancel(struct engine *e, struct transfer *t)
{
    if (!t->exchange)
        return;
    t->cancelled = true;
    struct err err;
    err_set(&err, ERR_CANCELLED, "the request was cancelled");
    local_fail(e, t, &err);
}

void local_took(struct engine *e, struct transfer *t, size_t len)
{
    struct exchange *x = t->exchange;
    ASSERT(len <= t->handed);
    t->handed -= len;
    if (!x || !(x->paused || x->held.len > 0) || t->result.body.len + t->handed > t->window / 2)
        return;
    size_t events = e->event_count;
    exchange_go_on(x);
    engine_pump(e);
    if (e->event_count != events)
        loop_wake(e->loop);
}

void local_fed(struct engine *e, struct transfer *t)
{
    struct exchange *x = t->exchange;
    loop_wake(e->loop);
    if (!x || !x->starved)
        return;
    x->starved = false;
    x->activity_ns = loop_now_ns(x->engine->loop);
    exchange_unpause(x);
}

void local_close(struct engine *e)
{
    /* Nobody is let in while the queue is emptied. */
    e->pumping = true;
    LIST_FOR(node, &e->live)
    {
        local_cancel(e, CONTAINER_OF(node, struct exchange, node)->transfer);
    }
    e->pumping = false;
}

struct transfer *local_next_queued(struct engine *e, const struct transfer *after)
{
    struct list *node = after ? after->exchange->node.next : e->live.next;
    for (; node != &e->live; node = node->next) {
        struct exchange *x = CONTAINER_OF(node, struct exchange, node);
        if (x->state == EXCHANGE_QUEUED)
            return x->transfer;
    }
    return NULL;
}

/* It waits for its host's places, not for one of all. */
static bool host_is_full(const struct exchange *x)
{
    const struct admit_ticket *ticket = &x->ticket;
    return ticket->host && ticket->host_limit && ticket->host->active >= ticket->host_limit;
}

bool engine_in_the_way(const struct engine *e, const struct transfer *holder,
                       const struct transfer *t)
{
    UNUSED(e);
    const struct exchange *x = holder->exchange;
    if (!x || !x->ticket.held || x->engine != t->exchange->engine)
        return false;
    return !host_is_full(t->exchange) || holder->exchange->ticket.host == t->exchange->ticket.host;
}

size_t engine_count_in_the_way(const struct engine *e, const struct transfer *t)
{
    UNUSED(e);
    const struct exchange *x = t->exchange;
    return host_is_full(x) ? x->ticket.host->active : x->engine->admit.active;
}

/* ---- from the asker's side */

void engine_submit(struct engine *e, struct transfer *t)
{
    e->pending++;
    t->cancelled = t->lost = false;
    t->events = 0;
    t->taken = t->handed = 0;
    t->window = t->wanted;
    buf_clear(&t->unread);
    err_clear(&t->result.err);
    if (e->nets)
        nets_submit(e, t);
    else
        local_submit(e, t);
}

void engine_fail(struct engine *e, struct transfer *t, const struct err *err)
{
    if (!e->nets) {
        local_fail(e, t, err);
        return;
    }
    engine_hold(e);
    local_fail(t->exchange ? t->exchange->engine : NULL, t, err);
    engine_release(e);
}

void engine_cancel(struct engine *e, struct transfer *t)
{
    if (e->nets)
        nets_command(e, t, NET_CANCEL);
    else
        local_cancel(e, t);
}

void engine_hold(struct engine *e)
{
    if (e->nets)
        nets_hold(e);
}

void engine_release(struct engine *e)
{
    if (e->nets)
        nets_release(e);
}

struct transfer *engine_next_queued(struct engine *e, const struct transfer *after)
{
    return e->nets ? nets_next_queued(e, after) : local_next_queued(e, after);
}

/* What came up goes over to the asker. */
static void hand_over(struct engine *e, struct transfer *t)
{
    size_t len = t->result.body.len;
    if (buf_pour(&t->unread, &t->taken, &t->result.body) == ERR_NONE) {
        t->handed += len;
        return;
    }
    t->lost = true;
    local_cancel(e, t);
}

static struct transfer *local_next_event(struct engine *e, unsigned *events)
{
    struct list *node = list_pop_front(&e->events);
    if (!node)
        return NULL;
    struct transfer *t = CONTAINER_OF(node, struct transfer, event_node);
    e->event_count--;
    *events = t->events;
    t->events = 0;
    if (t->spec.stream)
        hand_over(e, t);
    return t;
}

struct transfer *engine_next_event(struct engine *e, unsigned *events)
{
    struct transfer *t = e->nets ? nets_next_event(e, events) : local_next_event(e, events);
    if (!t || !(*events & TRANSFER_DONE))
        return t;
    e->pending--;
    if (t->lost)
        err_set(&t->result.err, ERR_MEMORY, "no memory for the response body");
    return t;
}

void engine_took(struct engine *e, struct transfer *t, size_t len)
{
    ASSERT(len <= t->unread.len - t->taken);
    t->taken += len;
    if (t->taken == t->unread.len) {
        buf_clear(&t->unread);
        t->taken = 0;
    }
    if (e->nets) {
        nets_took(e, t, len);
        return;
    }
    t->window = t->wanted;
    local_took(e, t, len);
    if (t->unread.len == 0 && !t->lost)
        hand_over(e, t);
}

enum err_kind engine_feed(struct engine *e, struct transfer *t, const void *data, size_t len)
{
    if (e->nets)
        return nets_feed(e, t, data, len);
    if (!t->exchange || len == 0)
        return ERR_NONE;
    enum err_kind kind = buf_append(&t->upload, data, len);
    if (kind == ERR_NONE)
        local_fed(e, t);
    return kind;
}

size_t engine_unsent(struct engine *e, const struct transfer *t)
{
    return e->nets ? nets_unsent(e, t) : t->upload.len - t->upload_sent;
}

void engine_feed_end(struct engine *e, struct transfer *t)
{
    if (e->nets) {
        nets_command(e, t, NET_FED_END);
        return;
    }
    t->upload_ended = true;
    local_fed(e, t);
}

void engine_close(struct engine *e)
{
    if (e->nets)
        nets_close(e);
    else
        local_close(e);
}

size_t engine_pending(const struct engine *e)
{
    return e->pending;
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
    if (e->nets)
        nets_stats(e, out);
    else
        local_stats(e, out);
}

void engine_glance(struct engine *e, struct engine_stats *out)
{
    if (e->nets)
        nets_glance(e, out);
    else
        local_stats(e, out);
}

bool engine_threads_busy(const struct engine *e)
{
    return !e->nets && resolver_busy(e->resolver) > 0;
}
