#include "engine/pool.h"
#include <string.h>
#include <unistd.h>

/* As long as libcurl would keep them. Servers often close them sooner, which we notice. */
#define IDLE_MAX_NS (118 * NS_PER_S)

static void on_timer(struct timer *t);

void pools_init(struct pools *p, struct loop *loop, struct mem *mem, size_t max_open)
{
    *p = (struct pools){.loop = loop, .mem = mem, .max_open = max_open};
    list_init(&p->idle);
    timer_init(&p->timer, on_timer);
}

void pools_fini(struct pools *p)
{
    while (!list_empty(&p->idle))
        pool_close_channel(CONTAINER_OF(p->idle.next, struct channel, by_age));
    ASSERT(p->open == 0);
    loop_timer_stop(p->loop, &p->timer);
}

/* ---- routes ---- */

static void route_texts(const struct route *r, const char *texts[static 6])
{
    const char *const all[6] = {r->proxy,   r->unix_socket, r->connect_to,
                                r->ca_file, r->cert,        r->key};
    memcpy(texts, all, sizeof all);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool leads(const struct pool *pool, const struct route *r, const char *const texts[static 6])
{
    if (pool->insecure != r->insecure || pool->only_http1 != r->only_http1)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(pool->texts); i++) {
        if (!same_text(pool->texts[i], texts[i]))
            return false;
    }
    return true;
}

static void free_pool(struct pool *pool)
{
    for (size_t i = 0; i < ARRAY_LEN(pool->texts); i++)
        mem_free(pool->pools->mem, pool->texts[i]);
    mem_free(pool->pools->mem, pool);
}

static struct pool *pool_new(struct pools *p, const struct route *r,
                             const char *const texts[static 6])
{
    struct pool *pool = mem_calloc(p->mem, sizeof *pool);
    if (!pool)
        return NULL;
    pool->pools = p;
    pool->origin = r->origin;
    pool->insecure = r->insecure;
    pool->only_http1 = r->only_http1;
    list_init(&pool->node);
    list_init(&pool->idle);
    list_init(&pool->shared);
    list_init(&pool->waiting);
    for (size_t i = 0; i < ARRAY_LEN(pool->texts); i++) {
        if (!texts[i])
            continue;
        pool->texts[i] = mem_strndup(p->mem, texts[i], strlen(texts[i]));
        if (!pool->texts[i]) {
            free_pool(pool);
            return NULL;
        }
    }
    origin_ref(r->origin);
    list_push_back(&r->origin->pools, &pool->node);
    return pool;
}

struct pool *pools_get(struct pools *p, const struct route *r)
{
    const char *texts[6];
    route_texts(r, texts);
    LIST_FOR(node, &r->origin->pools)
    {
        struct pool *pool = CONTAINER_OF(node, struct pool, node);
        if (leads(pool, r, texts))
            return pool_ref(pool);
    }
    struct pool *pool = pool_new(p, r, texts);
    return pool ? pool_ref(pool) : NULL;
}

struct pool *pool_ref(struct pool *pool)
{
    pool->refs++;
    return pool;
}

void pool_release(struct pool *pool)
{
    if (!pool || --pool->refs > 0)
        return;
    struct origin *origin = pool->origin;
    list_unlink(&pool->node);
    free_pool(pool);
    origin_unref(origin);
}

/* ---- channels ---- */

static void unlink_idle(struct channel *c)
{
    if (!list_linked(&c->by_age))
        return;
    list_unlink(&c->in_pool);
    list_unlink(&c->by_age);
    c->pool->pools->idle_count--;
}

/* If an idle connection receives anything but messages of TLS itself, it is closed. */
static bool is_quiet(struct channel *c)
{
    return connection_probe(&c->conn) == IO_WAIT;
}

static void on_idle_event(struct channel *c, bool can_read, bool can_write)
{
    UNUSED(can_read);
    UNUSED(can_write);
    if (!is_quiet(c))
        pool_close_channel(c);
}

static void on_connection(struct connection *conn, bool can_read, bool can_write)
{
    struct channel *c = CONTAINER_OF(conn, struct channel, conn);
    c->on_ready(c, can_read, can_write);
}

static void set_timer(struct pools *p)
{
    if (list_empty(&p->idle))
        loop_timer_stop(p->loop, &p->timer);
    else if (!p->timer.active)
        loop_timer_start(p->loop, &p->timer,
                         CONTAINER_OF(p->idle.next, struct channel, by_age)->idle_since_ns +
                             IDLE_MAX_NS);
}

static void on_timer(struct timer *t)
{
    struct pools *p = CONTAINER_OF(t, struct pools, timer);
    uint64_t now = loop_now_ns(p->loop);
    while (!list_empty(&p->idle)) {
        struct channel *c = CONTAINER_OF(p->idle.next, struct channel, by_age);
        if (c->idle_since_ns + IDLE_MAX_NS > now)
            break;
        pool_close_channel(c);
    }
    set_timer(p);
}

struct channel *pool_take(struct pool *pool)
{
    while (!list_empty(&pool->idle)) {
        struct channel *c = CONTAINER_OF(pool->idle.next, struct channel, in_pool);
        if (is_quiet(c)) {
            unlink_idle(c);
            return c;
        }
        pool_close_channel(c);
    }
    return NULL;
}

static void release_held(void *by, void *easy)
{
    connector_release(by, easy);
}

struct channel *pool_open_channel(struct pool *pool, struct poller *poller, struct connector *by,
                                  const struct connected *got, struct err *err)
{
    struct pools *p = pool->pools;
    const struct connection_via via = {got->held, release_held, by};
    struct channel *c = mem_calloc(p->mem, sizeof *c);
    if (!c) {
        close(got->fd);
        if (got->held)
            connector_release(by, got->held);
        err_set(err, ERR_MEMORY, "no memory for a connection");
        return NULL;
    }
    enum err_kind kind =
        got->held ? connection_open_via(&c->conn, poller, p->mem, got->fd, &via, on_connection, err)
                  : connection_open(&c->conn, poller, p->mem, got->fd, on_connection, err);
    if (kind != ERR_NONE) {
        mem_free(p->mem, c);
        return NULL;
    }
    list_init(&c->in_pool);
    list_init(&c->by_age);
    c->pool = pool_ref(pool);
    p->open++;
    while (p->open > p->max_open && !list_empty(&p->idle))
        pool_close_channel(CONTAINER_OF(p->idle.next, struct channel, by_age));
    return c;
}

void pool_keep_channel(struct channel *c)
{
    struct pools *p = c->pool->pools;
    c->on_ready = on_idle_event;
    c->user = NULL;
    c->idle_since_ns = loop_now_ns(p->loop);
    list_push_front(&c->pool->idle, &c->in_pool);
    list_push_back(&p->idle, &c->by_age);
    p->idle_count++;
    connection_want(&c->conn, true, false);
    set_timer(p);
}

void pool_close_channel(struct channel *c)
{
    if (!c)
        return;
    struct pool *pool = c->pool;
    unlink_idle(c);
    connection_close(&c->conn);
    pool->pools->open--;
    mem_free(pool->pools->mem, c);
    pool_release(pool);
}
