#include "loop/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

/* libuv's pool runs only two slow look-ups at a time, and it cannot be shut down while one hangs.
 * Therefore we use threads of our own. They are detached, start on demand, and end when the queue
 * is empty. */

#define THREADS_MAX 16
#define CACHE_NS (30 * NS_PER_S)
#define CACHE_MAX 1024
#define BUCKETS 512
#define NAME_MAX_BYTES 255
#define ADDRESSES_MAX_BYTES 2048

/* One look-up that the helper threads do. */
struct job {
    struct list
        node;   /* in shared.queue, then in no list while a thread has it, then in shared.done */
    bool taken; /* a thread has started it */
    struct resolver_entry *entry; /* loop thread only */
    int rc;
    bool no_files; /* it failed because no file descriptor was left */
    char name[NAME_MAX_BYTES + 1];
    char addresses[ADDRESSES_MAX_BYTES];
};

/* The data that the threads use. It and the jobs come from plain malloc: if a look-up hangs, its
 * thread may free them long after the runtime and its allocator are gone. */
struct shared {
    pthread_mutex_t lock; /* protects all below; never held during a look-up */
    struct loop *loop;    /* NULL: the resolver is gone */
    struct list queue, done;
    unsigned threads;
    unsigned refs; /* one for each thread and one for the resolver */
    resolver_lookup_fn lookup;
    void *lookup_arg;
};

/* A name that is being looked up (`job` is set), or that has an answer. */
struct resolver_entry {
    struct resolver_entry *chain;
    struct resolver *owner;
    struct list waits;
    struct list lru; /* linked only if it has an answer */
    struct job *job;
    uint64_t expires_ns;
    char *addresses;
    size_t hash;
    char name[]; /* lower case */
};

struct resolver {
    struct loop *loop;
    struct mem *mem;
    struct shared *shared;
    struct loop_hook hook;
    struct list lru; /* oldest first */
    size_t cached, jobs;
    struct resolver_entry *buckets[BUCKETS];
};

static bool listed(const char *text, const char *address)
{
    size_t len = strlen(address);
    for (const char *hit = text; (hit = strstr(hit, address)) != NULL; hit += len) {
        bool starts = hit == text || hit[-1] == ',';
        if (starts && (hit[len] == ',' || hit[len] == '\0'))
            return true;
    }
    return false;
}

static bool format_address(const struct addrinfo *info, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN];
    const void *raw;
    if (info->ai_family == AF_INET)
        raw = &((const struct sockaddr_in *)(const void *)info->ai_addr)->sin_addr;
    else if (info->ai_family == AF_INET6)
        raw = &((const struct sockaddr_in6 *)(const void *)info->ai_addr)->sin6_addr;
    else
        return false;
    if (inet_ntop(info->ai_family, raw, text, sizeof(text)) == NULL)
        return false;
    snprintf(out, size, info->ai_family == AF_INET6 ? "[%s]" : "%s", text);
    return true;
}

static int system_lookup(const char *name, char *out, size_t out_size, void *arg)
{
    UNUSED(arg);
    struct addrinfo hints = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(name, NULL, &hints, &list);
    if (rc != 0)
        return rc;
    size_t len = 0;
    out[0] = '\0';
    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        char address[INET6_ADDRSTRLEN + 2];
        if (!format_address(info, address, sizeof(address)) || listed(out, address))
            continue;
        size_t need = strlen(address) + (len != 0);
        if (need >= out_size - len)
            break;
        len += (size_t)snprintf(out + len, out_size - len, "%s%s", len != 0 ? "," : "", address);
    }
    freeaddrinfo(list);
    return len != 0 ? 0 : EAI_NONAME;
}

/* Called with the lock held. Drops one reference and unlocks. */
static void shared_drop(struct shared *s)
{
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (last) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

static void *thread_main(void *arg)
{
    struct shared *s = arg;
    pthread_mutex_lock(&s->lock);
    for (struct list *node; (node = list_pop_front(&s->queue)) != NULL;) {
        struct job *job = CONTAINER_OF(node, struct job, node);
        job->taken = true;
        pthread_mutex_unlock(&s->lock);
        errno = 0;
        job->rc = s->lookup(job->name, job->addresses, sizeof(job->addresses), s->lookup_arg);
        job->no_files = job->rc != 0 && (errno == EMFILE || errno == ENFILE);
        pthread_mutex_lock(&s->lock);
        if (s->loop == NULL) {
            free(job);
            continue;
        }
        list_push_back(&s->done, &job->node);
        /* Call it with the lock held: resolver_free takes the same lock to clear the loop. */
        loop_wake(s->loop);
    }
    s->threads--;
    shared_drop(s);
    return NULL;
}

/* Called with the lock held. The new thread blocks all signals: they are for the host's threads. */
static bool start_thread(struct shared *s)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    bool ok = pthread_create(&thread, &attr, thread_main, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (ok) {
        s->threads++;
        s->refs++;
    }
    return ok;
}

static size_t hash_name(const char *name)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return (size_t)(h ^ h >> 32);
}

static struct resolver_entry *find(struct resolver *r, const char *name, size_t hash)
{
    struct resolver_entry *e = r->buckets[hash % BUCKETS];
    while (e != NULL && (e->hash != hash || strcmp(e->name, name) != 0))
        e = e->chain;
    return e;
}

static struct resolver_entry *entry_new(struct resolver *r, const char *name, size_t hash)
{
    size_t len = strlen(name);
    struct resolver_entry *e = mem_calloc(r->mem, sizeof(*e) + len + 1);
    if (e == NULL)
        return NULL;
    e->owner = r;
    e->hash = hash;
    memcpy(e->name, name, len + 1);
    list_init(&e->waits);
    list_init(&e->lru);
    e->chain = r->buckets[hash % BUCKETS];
    r->buckets[hash % BUCKETS] = e;
    return e;
}

static void entry_free(struct resolver *r, struct resolver_entry *e)
{
    struct resolver_entry **at = &r->buckets[e->hash % BUCKETS];
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    if (list_linked(&e->lru)) {
        list_unlink(&e->lru);
        r->cached--;
    }
    mem_free(r->mem, e->addresses);
    mem_free(r->mem, e);
}

/* Keeps the answer if there is memory for it: a cache may lose entries. False: the entry must be
 * removed. */
static bool keep_answer(struct resolver *r, struct resolver_entry *e, const struct job *job)
{
    if (job->rc != 0)
        return false;
    e->addresses = mem_strndup(r->mem, job->addresses, strlen(job->addresses));
    if (e->addresses == NULL)
        return false;
    e->expires_ns = loop_now_ns(r->loop) + CACHE_NS;
    list_push_back(&r->lru, &e->lru);
    if (++r->cached > CACHE_MAX)
        entry_free(r, CONTAINER_OF(r->lru.next, struct resolver_entry, lru));
    return true;
}

static void describe_failure(struct err *err, const struct job *job)
{
    if (job->no_files) {
        err_set(err, ERR_IO, "cannot resolve host '%s': %s", job->name, strerror(EMFILE));
        err_reason(err, "too_many_files");
        err->phase = PHASE_DNS;
        err->retryable = true;
        return;
    }
    err_set(err, ERR_DNS, "cannot resolve host '%s': %s", job->name, gai_strerror(job->rc));
    err->phase = PHASE_DNS;
    err->code = job->rc;
    err->retryable = job->rc == EAI_AGAIN;
}

static void deliver(struct resolver *r, struct job *job)
{
    struct resolver_entry *e = job->entry;
    struct list waits;
    list_init(&waits);
    list_append_all(&waits, &e->waits);
    if (!list_empty(&waits))
        loop_busy_add(r->loop, -1);
    LIST_FOR(node, &waits)
    CONTAINER_OF(node, struct resolver_wait, node)->entry = NULL;
    e->job = NULL;
    r->jobs--;
    /* Finish this before any callback runs: a callback may ask for the same name again. */
    if (!keep_answer(r, e, job))
        entry_free(r, e);
    struct err err;
    err_clear(&err);
    if (job->rc != 0)
        describe_failure(&err, job);
    for (struct list *node; (node = list_pop_front(&waits)) != NULL;) {
        struct resolver_wait *w = CONTAINER_OF(node, struct resolver_wait, node);
        w->fn(w, job->rc == 0 ? job->addresses : NULL, &err);
    }
    free(job);
}

static void on_wake(struct loop_hook *hook)
{
    struct resolver *r = CONTAINER_OF(hook, struct resolver, hook);
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&r->shared->lock);
    list_append_all(&done, &r->shared->done);
    pthread_mutex_unlock(&r->shared->lock);
    for (struct list *node; (node = list_pop_front(&done)) != NULL;)
        deliver(r, CONTAINER_OF(node, struct job, node));
}

enum err_kind resolver_new(struct resolver **out, struct loop *loop, struct mem *mem,
                           resolver_lookup_fn lookup, void *lookup_arg, struct err *err)
{
    *out = NULL;
    struct resolver *r = mem_calloc(mem, sizeof(*r));
    struct shared *s = calloc(1, sizeof(*s));
    if (r == NULL || s == NULL || pthread_mutex_init(&s->lock, NULL) != 0) {
        mem_free(mem, r);
        free(s);
        return err_set(err, ERR_MEMORY, "no memory for the resolver");
    }
    s->loop = loop;
    s->refs = 1;
    s->lookup = lookup != NULL ? lookup : system_lookup;
    s->lookup_arg = lookup_arg;
    list_init(&s->queue);
    list_init(&s->done);
    r->loop = loop;
    r->mem = mem;
    r->shared = s;
    list_init(&r->lru);
    loop_hook_add(loop, &r->hook, on_wake);
    *out = r;
    return ERR_NONE;
}

static void free_jobs(struct list *jobs)
{
    for (struct list *node; (node = list_pop_front(jobs)) != NULL;)
        free(CONTAINER_OF(node, struct job, node));
}

static void forget_waits(struct resolver_entry *e)
{
    if (list_empty(&e->waits))
        return;
    loop_busy_add(e->owner->loop, -1);
    for (struct list *node; (node = list_pop_front(&e->waits)) != NULL;)
        CONTAINER_OF(node, struct resolver_wait, node)->entry = NULL;
}

void resolver_free(struct resolver *r)
{
    if (r == NULL)
        return;
    loop_hook_remove(&r->hook);
    struct shared *s = r->shared;
    pthread_mutex_lock(&s->lock);
    s->loop = NULL;
    free_jobs(&s->queue);
    free_jobs(&s->done);
    shared_drop(s);
    for (size_t i = 0; i < BUCKETS; i++) {
        while (r->buckets[i] != NULL) {
            forget_waits(r->buckets[i]);
            entry_free(r, r->buckets[i]);
        }
    }
    mem_free(r->mem, r);
}

/* Host names are case-insensitive. False: the name is empty, too long, or has a control byte. */
static bool normalise(const char *name, char out[NAME_MAX_BYTES + 1])
{
    size_t len = 0;
    for (; name[len] != '\0'; len++) {
        unsigned char c = (unsigned char)name[len];
        if (len == NAME_MAX_BYTES || c <= 0x20 || c == 0x7f)
            return false;
        out[len] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    out[len] = '\0';
    return len != 0;
}

/* Passes `job` to the threads. False: there is no thread, and none could be started. */
static bool enqueue(struct resolver *r, struct job *job)
{
    struct shared *s = r->shared;
    pthread_mutex_lock(&s->lock);
    list_push_back(&s->queue, &job->node);
    bool ok = (s->threads < THREADS_MAX && start_thread(s)) || s->threads > 0;
    if (!ok)
        list_unlink(&job->node);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

static enum err_kind start_job(struct resolver *r, const char *name, size_t hash,
                               struct resolver_entry **out, struct err *err)
{
    struct resolver_entry *e = entry_new(r, name, hash);
    struct job *job = malloc(sizeof(*job));
    if (e == NULL || job == NULL) {
        free(job);
        if (e != NULL)
            entry_free(r, e);
        return err_set(err, ERR_MEMORY, "no memory to resolve host '%s'", name);
    }
    job->entry = e;
    job->taken = false;
    job->rc = 0;
    job->no_files = false;
    job->addresses[0] = '\0';
    memcpy(job->name, name, strlen(name) + 1);
    e->job = job;
    if (!enqueue(r, job)) {
        free(job);
        entry_free(r, e);
        err_set(err, ERR_DNS, "cannot resolve host '%s': no thread could be started for it", name);
        if (err != NULL) {
            err->phase = PHASE_DNS;
            err->retryable = true;
        }
        return ERR_DNS;
    }
    r->jobs++;
    *out = e;
    return ERR_NONE;
}

static void answer_from_cache(struct resolver *r, struct resolver_entry *e, struct resolver_wait *w)
{
    list_unlink(&e->lru);
    list_push_back(&r->lru, &e->lru);
    /* A copy: the callback may look up more names, which can remove this one from the cache. */
    char addresses[ADDRESSES_MAX_BYTES];
    snprintf(addresses, sizeof(addresses), "%s", e->addresses);
    struct err none;
    err_clear(&none);
    w->fn(w, addresses, &none);
}

enum err_kind resolver_lookup(struct resolver *r, const char *name, struct resolver_wait *w,
                              struct err *err)
{
    char key[NAME_MAX_BYTES + 1];
    list_init(&w->node);
    w->entry = NULL;
    if (!normalise(name, key))
        return err_set(err, ERR_INVALID, "not a valid host name: '%.64s'", name);
    size_t hash = hash_name(key);
    struct resolver_entry *e = find(r, key, hash);
    if (e != NULL && e->job == NULL) {
        if (e->expires_ns > loop_now_ns(r->loop)) {
            answer_from_cache(r, e, w);
            return ERR_NONE;
        }
        entry_free(r, e);
        e = NULL;
    }
    if (e == NULL) {
        enum err_kind kind = start_job(r, key, hash, &e, err);
        if (kind != ERR_NONE)
            return kind;
    }
    if (list_empty(&e->waits))
        loop_busy_add(r->loop, 1);
    list_push_back(&e->waits, &w->node);
    w->entry = e;
    return ERR_NONE;
}

void resolver_cancel(struct resolver_wait *w)
{
    struct resolver_entry *e = w->entry;
    w->entry = NULL;
    if (w->node.next == NULL || !list_linked(&w->node))
        return;
    list_unlink(&w->node);
    if (e == NULL || !list_empty(&e->waits))
        return;
    /* Nobody waits for the name any more. A look-up that no thread has begun is removed. One that
     * runs continues, and its answer is kept for the next caller. */
    struct resolver *r = e->owner;
    loop_busy_add(r->loop, -1);
    pthread_mutex_lock(&r->shared->lock);
    struct job *job = e->job;
    bool queued = !job->taken;
    if (queued)
        list_unlink(&job->node);
    pthread_mutex_unlock(&r->shared->lock);
    if (queued) {
        r->jobs--;
        entry_free(r, e);
        free(job);
    }
}

size_t resolver_busy(const struct resolver *r)
{
    return r->jobs;
}
