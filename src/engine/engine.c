#include "engine/engine.h"

#include "engine/engine_local.h"
#include "engine/exchange_types.h"
#include "engine/netthreads.h"
#include <pthread.h>

/* libcurl's global state belongs to the process: it is made once, and never freed, because look-up
 * threads of libcurl may outlive the last engine. */
static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_global_code;

static void curl_start(void)
{
    curl_global_code = curl_global_init(CURL_GLOBAL_ALL);
}

enum err_kind engine_new(struct engine **out, struct loop *loop, struct mem *mem, struct log *log,
                         const struct engine_config *config, struct err *err)
{
    pthread_once(&curl_once, curl_start);
    if (curl_global_code != CURLE_OK)
        return err_set(err, ERR_INTERNAL, "libcurl does not start: %s",
                       curl_easy_strerror(curl_global_code));
    if (config->threads > 0)
        return netthreads_new(out, loop, mem, log, config, err);
    return engine_local_new(out, loop, mem, log, config, err);
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->threads)
        netthreads_free(e);
    else
        engine_local_free(e);
}

/* True if the request waits for a place of its host, and not for one of the total. */
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

/* ---- from the caller's side */

void engine_submit(struct engine *e, struct transfer *t)
{
    e->pending++;
    t->cancelled = t->lost = false;
    t->events = 0;
    t->taken = t->handed = 0;
    t->window = t->wanted;
    buf_clear(&t->unread);
    err_clear(&t->result.err);
    if (e->threads)
        netthreads_submit(e, t);
    else
        engine_local_submit(e, t);
}

void engine_fail(struct engine *e, struct transfer *t, const struct err *err)
{
    if (!e->threads) {
        engine_local_fail(e, t, err);
        return;
    }
    engine_hold(e);
    engine_local_fail(t->exchange ? t->exchange->engine : NULL, t, err);
    engine_release(e);
}

void engine_cancel(struct engine *e, struct transfer *t)
{
    if (e->threads)
        netthreads_command(e, t, NET_CANCEL);
    else
        engine_local_cancel(e, t);
}

void engine_hold(struct engine *e)
{
    if (e->threads)
        netthreads_hold(e);
}

void engine_release(struct engine *e)
{
    if (e->threads)
        netthreads_release(e);
}

struct transfer *engine_next_queued(struct engine *e, const struct transfer *after)
{
    return e->threads ? netthreads_next_queued(e, after) : engine_local_next_queued(e, after);
}

struct transfer *engine_next_event(struct engine *e, unsigned *events)
{
    struct transfer *t =
        e->threads ? netthreads_next_event(e, events) : engine_local_next_event(e, events);
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
    if (e->threads) {
        netthreads_took(e, t, len);
        return;
    }
    t->window = t->wanted;
    engine_local_took(e, t, len);
    if (t->unread.len == 0 && !t->lost)
        engine_local_hand_over(e, t);
}

enum err_kind engine_feed(struct engine *e, struct transfer *t, const void *data, size_t len)
{
    if (e->threads)
        return netthreads_feed(e, t, data, len);
    if (!t->exchange || len == 0)
        return ERR_NONE;
    enum err_kind kind = buf_append(&t->upload, data, len);
    if (kind == ERR_NONE)
        engine_local_fed(e, t);
    return kind;
}

size_t engine_unsent(struct engine *e, const struct transfer *t)
{
    return e->threads ? netthreads_unsent(e, t) : t->upload.len - t->upload_sent;
}

void engine_feed_end(struct engine *e, struct transfer *t)
{
    if (e->threads) {
        netthreads_command(e, t, NET_FED_END);
        return;
    }
    t->upload_ended = true;
    engine_local_fed(e, t);
}

void engine_close(struct engine *e)
{
    if (e->threads)
        netthreads_close(e);
    else
        engine_local_close(e);
}

size_t engine_pending(const struct engine *e)
{
    return e->pending;
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
    if (e->threads)
        netthreads_stats(e, out);
    else
        engine_local_stats(e, out);
}

void engine_glance(struct engine *e, struct engine_stats *out)
{
    if (e->threads)
        netthreads_glance(e, out);
    else
        engine_local_stats(e, out);
}

bool engine_threads_busy(const struct engine *e)
{
    return !e->threads && resolver_busy(e->resolver) > 0;
}
