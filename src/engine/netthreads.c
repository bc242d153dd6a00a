#include "engine/netthreads.h"

#include "engine/engine_local.h"
#include "engine/exchange_types.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

enum { NOTES_MAX = 8, NOTE_MAX = 200 };

struct net {
    struct netthreads *threads;
    struct loop loop;
    struct engine *engine;
    struct log log;
    pthread_t thread;
    bool started;
    /* The thread holds it except while it polls. The caller holds it while the thread must stand
     * still. Taken before queue_lock. */
    pthread_mutex_t turn_lock;
    pthread_mutex_t queue_lock;
    atomic_bool claimed; /* the caller waits for turn_lock */
    /* Under queue_lock. */
    struct list commands, events;
    size_t waiting; /* in events */
    bool stop;
    char notes[NOTES_MAX][NOTE_MAX]; /* for the log, which belongs to the caller */
    enum log_level levels[NOTES_MAX];
    size_t note_count;
    struct engine_stats seen; /* as the last turn left it */
};

struct netthreads {
    struct engine *front; /* the engine that the caller knows */
    struct loop *caller;
    struct log *log;
    size_t count, next; /* next: whose events are taken first */
    unsigned held;
    struct net net[NETTHREADS_MAX];
};

/* ---- the thread */

/* Its messages wait for the caller, because the host's functions are called on the host's thread
 * alone. */
static void note(void *arg, enum log_level level, const char *line)
{
    struct net *n = arg;
    pthread_mutex_lock(&n->queue_lock);
    if (n->note_count < NOTES_MAX) {
        snprintf(n->notes[n->note_count], NOTE_MAX, "%s", line);
        n->levels[n->note_count++] = level;
    }
    pthread_mutex_unlock(&n->queue_lock);
}

static void carry_out(struct engine *e, struct transfer *t, unsigned commands, size_t took)
{
    if (commands & NET_SUBMIT)
        engine_local_submit(e, t);
    if (commands & NET_FED)
        engine_local_fed(e, t);
    if (commands & NET_FED_END) {
        t->upload_ended = true;
        engine_local_fed(e, t);
    }
    if (commands & NET_TOOK)
        engine_local_took(e, t, took);
    if (commands & NET_CANCEL)
        engine_local_cancel(e, t);
}

/* Under queue_lock. */
static void command(struct net *n, struct transfer *t, unsigned commands)
{
    struct crossing *c = &t->crossing;
    c->commands |= commands;
    if (!list_linked(&c->command_node))
        list_push_back(&n->commands, &c->command_node);
}

/* The caller must not free a transfer while it is `busy`. */
static void obey(struct net *n)
{
    struct list *node;
    pthread_mutex_lock(&n->queue_lock);
    while ((node = list_pop_front(&n->commands)) != NULL) {
        struct transfer *t = CONTAINER_OF(node, struct transfer, crossing.command_node);
        struct crossing *c = &t->crossing;
        unsigned commands = c->commands;
        size_t took = c->took;
        bool lost = false;
        c->commands = 0;
        c->took = 0;
        c->busy = true;
        t->window = c->window;
        if ((commands & NET_FED) && buf_pour(&t->upload, &t->upload_sent, &c->fed) != ERR_NONE)
            t->lost = lost = true;
        pthread_mutex_unlock(&n->queue_lock);
        carry_out(n->engine, t, lost ? commands | NET_CANCEL : commands, took);
        pthread_mutex_lock(&n->queue_lock);
        c->unsent = t->upload.len - t->upload_sent;
        c->busy = false;
    }
    pthread_mutex_unlock(&n->queue_lock);
}

/* Under queue_lock. */
static void hand_body(struct net *n, struct transfer *t)
{
    size_t none = 0, len = t->result.body.len;
    if (buf_pour(&t->crossing.came, &none, &t->result.body) == ERR_NONE) {
        t->handed += len;
        return;
    }
    t->lost = true;
    command(n, t, NET_CANCEL);
}

static void hand_up(struct net *n)
{
    struct engine *e = n->engine;
    struct list *node;
    pthread_mutex_lock(&n->queue_lock);
    while ((node = list_pop_front(&e->events)) != NULL) {
        struct transfer *t = CONTAINER_OF(node, struct transfer, event_node);
        struct crossing *c = &t->crossing;
        e->event_count--;
        if (t->spec.stream)
            hand_body(n, t);
        c->unsent = t->upload.len - t->upload_sent;
        c->events |= t->events;
        t->events = 0;
        if (!list_linked(&c->event_node)) {
            list_push_back(&n->events, &c->event_node);
            n->waiting++;
        }
    }
    engine_local_stats(e, &n->seen);
    n->seen.events_waiting = n->waiting;
    bool any = !list_empty(&n->events) || n->note_count > 0;
    bool again = n->stop || !list_empty(&n->commands); /* the turn may have used up its wake */
    pthread_mutex_unlock(&n->queue_lock);
    if (any)
        loop_wake(n->threads->caller);
    if (again)
        loop_wake(&n->loop);
}

static void turn(struct net *n)
{
    obey(n);
    loop_turn(&n->loop, false);
    hand_up(n);
}

static bool told_to_stop(struct net *n)
{
    pthread_mutex_lock(&n->queue_lock);
    bool stop = n->stop;
    pthread_mutex_unlock(&n->queue_lock);
    return stop;
}

static void *run(void *arg)
{
    struct net *n = arg;
    struct pollfd ready = {.fd = uv_backend_fd(n->loop.uv), .events = POLLIN};
    pthread_mutex_lock(&n->turn_lock);
    while (!told_to_stop(n)) {
        turn(n);
        int ms = loop_timeout_ms(&n->loop);
        pthread_mutex_unlock(&n->turn_lock);
        poll(&ready, 1, ms);
        while (atomic_load(&n->claimed)) /* a lock alone is not fair */
            sched_yield();
        pthread_mutex_lock(&n->turn_lock);
    }
    pthread_mutex_unlock(&n->turn_lock);
    return NULL;
}

/* ---- beginning and end */

static enum err_kind open_net(struct netthreads *s, struct net *n,
                              const struct engine_config *config, struct err *err)
{
    struct mem *mem = s->front->mem;
    n->threads = s;
    list_init(&n->commands);
    list_init(&n->events);
    log_init(&n->log, note, n, s->log->min_level);
    enum err_kind kind = loop_init(&n->loop, mem, NULL, false, err);
    if (kind != ERR_NONE)
        return kind;
    kind = engine_local_new(&n->engine, &n->loop, mem, &n->log, config, err);
    if (kind != ERR_NONE) {
        loop_fini(&n->loop);
        return kind;
    }
    pthread_mutex_init(&n->turn_lock, NULL);
    pthread_mutex_init(&n->queue_lock, NULL);
    s->count++;
    /* Signals belong to the host: none may be delivered here. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&n->thread, NULL, run, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return err_set(err, ERR_IO, "cannot start a network thread: %s", strerror(code));
    n->started = true;
    return ERR_NONE;
}

static void close_net(struct net *n)
{
    if (n->started) {
        pthread_mutex_lock(&n->queue_lock);
        n->stop = true;
        pthread_mutex_unlock(&n->queue_lock);
        loop_wake(&n->loop);
        pthread_join(n->thread, NULL);
    }
    engine_local_free(n->engine);
    loop_fini(&n->loop);
    pthread_mutex_destroy(&n->turn_lock);
    pthread_mutex_destroy(&n->queue_lock);
}

enum err_kind netthreads_new(struct engine **out, struct loop *caller, struct mem *mem,
                             struct log *log, const struct engine_config *config, struct err *err)
{
    if (config->threads > NETTHREADS_MAX)
        return err_set(err, ERR_INVALID, "network threads: at most %d, got %u", NETTHREADS_MAX,
                       config->threads);
    if (caller->is_virtual)
        return err_set(err, ERR_INVALID, "network threads cannot be used with virtual time");
    struct engine *e = mem_calloc(mem, sizeof *e);
    struct netthreads *s = e ? mem_calloc(mem, sizeof *s) : NULL;
    if (!s) {
        mem_free(mem, e);
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    }
    e->mem = mem;
    e->loop = caller;
    e->threads = s;
    list_init(&e->events);
    list_init(&e->call_events);
    s->front = e;
    s->caller = caller;
    s->log = log;
    struct engine_config own = *config;
    size_t count = config->threads;
    own.threads = 0;
    own.shares = config->threads;
    enum err_kind kind = ERR_NONE;
    for (size_t i = 0; i < count && kind == ERR_NONE; i++)
        kind = open_net(s, &s->net[i], &own, err);
    if (kind != ERR_NONE) {
        netthreads_free(e);
        return kind;
    }
    *out = e;
    return ERR_NONE;
}

void netthreads_free(struct engine *e)
{
    struct netthreads *s = e->threads;
    struct mem *mem = e->mem;
    for (size_t i = 0; i < s->count; i++)
        close_net(&s->net[i]);
    mem_free(mem, s);
    mem_free(mem, e);
}

void netthreads_hold(struct engine *e)
{
    struct netthreads *s = e->threads;
    if (s->held++ > 0)
        return;
    for (size_t i = 0; i < s->count; i++) {
        atomic_store(&s->net[i].claimed, true);
        pthread_mutex_lock(&s->net[i].turn_lock);
        atomic_store(&s->net[i].claimed, false);
        obey(&s->net[i]);
    }
}

void netthreads_release(struct engine *e)
{
    struct netthreads *s = e->threads;
    if (--s->held > 0)
        return;
    for (size_t i = 0; i < s->count; i++) {
        hand_up(&s->net[i]);
        pthread_mutex_unlock(&s->net[i].turn_lock);
        loop_wake(&s->net[i].loop);
    }
}

void netthreads_close(struct engine *e)
{
    struct netthreads *s = e->threads;
    netthreads_hold(e);
    for (size_t i = 0; i < s->count; i++)
        engine_local_close(s->net[i].engine);
    netthreads_release(e);
}

/* ---- down */

/* Requests to one origin share its limits, connections and what is known of it. */
static struct net *net_for(struct netthreads *s, const char *url)
{
    const char *p = strstr(url, "://");
    size_t host = p ? (size_t)(p - url) + 3 : 0;
    size_t len = host + strcspn(url + host, "/?#");
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((unsigned char)url[i] | 0x20)) * UINT64_C(0x100000001b3);
    return &s->net[(hash ^ hash >> 32) % s->count];
}

void netthreads_submit(struct engine *e, struct transfer *t)
{
    struct net *n = net_for(e->threads, t->spec.url);
    struct crossing *c = &t->crossing;
    c->net = n;
    c->window = t->wanted;
    c->took = c->unsent = 0;
    c->events = c->commands = 0;
    netthreads_command(e, t, NET_SUBMIT);
}

void netthreads_command(struct engine *e, struct transfer *t, enum net_command what)
{
    UNUSED(e);
    struct net *n = t->crossing.net;
    if (!n)
        return;
    pthread_mutex_lock(&n->queue_lock);
    command(n, t, what);
    pthread_mutex_unlock(&n->queue_lock);
    loop_wake(&n->loop);
}

void netthreads_took(struct engine *e, struct transfer *t, size_t len)
{
    UNUSED(e);
    struct crossing *c = &t->crossing;
    struct net *n = c->net;
    if (!n)
        return;
    pthread_mutex_lock(&n->queue_lock);
    if (t->unread.len == 0 && buf_pour(&t->unread, &t->taken, &c->came) != ERR_NONE)
        t->unread.len = 0; /* cannot be: nothing is copied */
    c->took += len;
    bool wider = c->window != t->wanted;
    c->window = t->wanted;
    /* The thread does not go on while more than that is unread. */
    bool tell = wider || t->unread.len - t->taken + c->came.len <= c->window / 2;
    if (tell)
        command(n, t, NET_TOOK);
    pthread_mutex_unlock(&n->queue_lock);
    if (tell)
        loop_wake(&n->loop);
}

enum err_kind netthreads_feed(struct engine *e, struct transfer *t, const void *data, size_t len)
{
    UNUSED(e);
    struct crossing *c = &t->crossing;
    struct net *n = c->net;
    if (!n)
        return ERR_NONE;
    pthread_mutex_lock(&n->queue_lock);
    enum err_kind kind = buf_append(&c->fed, data, len);
    if (kind == ERR_NONE && len > 0)
        command(n, t, NET_FED);
    pthread_mutex_unlock(&n->queue_lock);
    loop_wake(&n->loop);
    return kind;
}

size_t netthreads_unsent(struct engine *e, const struct transfer *t)
{
    UNUSED(e);
    struct net *n = t->crossing.net;
    if (!n)
        return 0;
    pthread_mutex_lock(&n->queue_lock);
    size_t unsent = t->crossing.fed.len + t->crossing.unsent;
    pthread_mutex_unlock(&n->queue_lock);
    return unsent;
}

/* ---- up */

static void write_notes(struct netthreads *s, struct net *n)
{
    for (;;) {
        char line[NOTE_MAX];
        enum log_level level = LOG_DEBUG;
        pthread_mutex_lock(&n->queue_lock);
        bool any = n->note_count > 0;
        if (any) {
            memcpy(line, n->notes[0], NOTE_MAX);
            level = n->levels[0];
            n->note_count--;
            memmove(n->notes[0], n->notes[1], n->note_count * NOTE_MAX);
            memmove(&n->levels[0], &n->levels[1], n->note_count * sizeof n->levels[0]);
        }
        pthread_mutex_unlock(&n->queue_lock);
        if (!any)
            return;
        log_write(s->log, level, "%s", line);
    }
}

static struct transfer *next_of(struct net *n, unsigned *events)
{
    struct transfer *found = NULL;
    pthread_mutex_lock(&n->queue_lock);
    LIST_FOR(node, &n->events)
    {
        struct transfer *t = CONTAINER_OF(node, struct transfer, crossing.event_node);
        struct crossing *c = &t->crossing;
        if (c->busy) /* its thread wakes us once more */
            continue;
        list_unlink(&c->event_node);
        n->waiting--;
        *events = c->events;
        c->events = 0;
        if (buf_pour(&t->unread, &t->taken, &c->came) != ERR_NONE) {
            buf_clear(&c->came);
            t->lost = true;
            command(n, t, NET_CANCEL);
        }
        if (*events & TRANSFER_DONE) {
            list_unlink(&c->command_node);
            c->commands = 0;
            c->net = NULL;
        }
        found = t;
        break;
    }
    pthread_mutex_unlock(&n->queue_lock);
    return found;
}

struct transfer *netthreads_next_event(struct engine *e, unsigned *events)
{
    struct netthreads *s = e->threads;
    for (size_t i = 0; i < s->count; i++) {
        struct net *n = &s->net[s->next++ % s->count];
        struct transfer *t = next_of(n, events);
        if (t)
            return t;
        write_notes(s, n);
    }
    return NULL;
}

/* ---- while it stands still */

struct transfer *netthreads_next_queued(struct engine *e, const struct transfer *after)
{
    struct netthreads *s = e->threads;
    size_t i = after ? (size_t)(after->crossing.net - s->net) : 0;
    for (; i < s->count; i++) {
        struct transfer *t = engine_local_next_queued(s->net[i].engine, after);
        if (t)
            return t;
        after = NULL;
    }
    return NULL;
}

static void add(struct engine_stats *out, const struct engine_stats *one)
{
    out->queued += one->queued;
    out->active += one->active;
    out->resolving += one->resolving;
    out->on_network += one->on_network;
    out->idle_exchanges += one->idle_exchanges;
    out->submitted += one->submitted;
    out->succeeded += one->succeeded;
    out->failed += one->failed;
    out->cancelled += one->cancelled;
    out->redirects += one->redirects;
    out->wire_attempts += one->wire_attempts;
    out->connects += one->connects;
    out->bytes_in += one->bytes_in;
    out->bytes_out += one->bytes_out;
    out->peak_active += one->peak_active;
    out->events_waiting += one->events_waiting;
}

void netthreads_glance(struct engine *e, struct engine_stats *out)
{
    struct netthreads *s = e->threads;
    *out = (struct engine_stats){0};
    for (size_t i = 0; i < s->count; i++) {
        pthread_mutex_lock(&s->net[i].queue_lock);
        add(out, &s->net[i].seen);
        pthread_mutex_unlock(&s->net[i].queue_lock);
    }
}

void netthreads_stats(struct engine *e, struct engine_stats *out)
{
    struct netthreads *s = e->threads;
    netthreads_hold(e);
    for (size_t i = 0; i < s->count; i++)
        hand_up(&s->net[i]);
    netthreads_glance(e, out);
    netthreads_release(e);
}
