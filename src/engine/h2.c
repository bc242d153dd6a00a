/* What libcurl does not see to on connections that several requests share. */
#include "engine/exchange.h"
#include "engine/shard.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum { SHARED_MAX = 1024 };

static struct h2_connection *find(const struct exchange *x)
{
    struct origin *g = x->url->origin;
    for (size_t i = 0; x->connection != 0 && i < g->shared_count; i++) {
        if (g->shared[i].number == x->connection)
            return &g->shared[i];
    }
    return NULL;
}

/* libcurl has no number of its own for us, but tells both ends with each request. */
static struct h2_connection *find_ends(struct origin *g, uint64_t hash)
{
    for (size_t i = 0; i < g->shared_count; i++) {
        if (g->shared[i].ends == hash)
            return &g->shared[i];
    }
    return NULL;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u; /* FNV-1a */
    return hash;
}

static uint64_t hash_ends(const struct h2_ends *ends)
{
    uint64_t hash = hash_bytes(0xcbf29ce484222325u, ends->local, strlen(ends->local) + 1);
    hash = hash_bytes(hash, ends->remote, strlen(ends->remote) + 1);
    hash = hash_bytes(hash, &ends->local_port, sizeof ends->local_port);
    return hash_bytes(hash, &ends->remote_port, sizeof ends->remote_port);
}

/* Nobody tells us that a connection has ended. */
static bool is_open(const struct h2_connection *c)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof own;
    if (c->port == 0 || c->fd < 0 || getsockname(c->fd, (struct sockaddr *)&own, &len) != 0)
        return false;
    in_port_t port = own.ss_family == AF_INET    ? ((struct sockaddr_in *)&own)->sin_port
                     : own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                                 : 0;
    return ntohs(port) == c->port;
}

/* One that is no more, or a new one; with too many, or no memory, whichever comes. */
static struct h2_connection *vacant(struct engine *e, struct origin *g)
{
    for (size_t i = 0; i < g->shared_count; i++) {
        if (!is_open(&g->shared[i]))
            return &g->shared[i];
    }
    if (g->shared_count == g->shared_cap && g->shared_cap < SHARED_MAX) {
        size_t cap = g->shared_cap ? g->shared_cap * 2 : 4;
        struct h2_connection *more = mem_realloc(e->mem, g->shared, cap * sizeof *more);
        if (more) {
            g->shared = more;
            g->shared_cap = cap;
        }
    }
    if (g->shared_count < g->shared_cap)
        return &g->shared[g->shared_count++];
    return g->shared_cap ? &g->shared[(unsigned)g->shared[0].port % g->shared_cap] : NULL;
}

void h2_note_connection(struct exchange *x, const struct h2_ends *ends, bool is_new)
{
    struct engine *e = x->engine;
    struct origin *g = x->url->origin;
    h2_note_leave(x);
    if (ends->local_port == 0)
        return; /* a Unix socket: one is like the other */
    uint64_t hash = hash_ends(ends);
    struct h2_connection *c = find_ends(g, hash);
    if (is_new) {
        c = c ? c : vacant(e, g);
        if (c)
            *c = (struct h2_connection){.number = ++e->h2_connections,
                                        .ends = hash,
                                        .port = ends->local_port,
                                        .fd = x->connect_fd};
    }
    x->connection = c ? c->number : 0;
}

void h2_note_leave(struct exchange *x)
{
    x->connection = 0;
    x->stream_id = 0;
}

void h2_note_goaway(struct exchange *x, uint32_t last_stream)
{
    /* Before it uses a connection that was idle, libcurl reads what has come on it, on behalf
     * of an exchange that is on none. It closes one that was told to go by itself. */
    struct h2_connection *c = find(x);
    if (!c)
        return;
    c->gone = true;
    /* RFC 9113, 6.8: these have not been acted on, whatever becomes of the connection. */
    LIST_FOR(node, &x->engine->live)
    {
        struct exchange *other = CONTAINER_OF(node, struct exchange, node);
        if (other->connection == c->number && other->stream_id > last_stream)
            other->refused = true;
    }
}

bool h2_is_going(const struct exchange *x)
{
    const struct h2_connection *c = find(x);
    return c && c->gone;
}

static void set_cork(int fd, int on)
{
    /* It may be another's by now; for the length of a call that does no harm. */
    (void)!setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static void uncork_all(struct engine *e)
{
    while (e->corked_count > 0)
        set_cork(e->corked[--e->corked_count], 0);
}

/* At the end of this turn and of the next: a body that did not go out with the head does so in
 * between. A timer that a timer starts waits for the next turn, which does not block for it. */
void h2_on_cork_timer(struct timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, cork_timer);
    if (e->cork_waited)
        uncork_all(e);
    else
        loop_timer_start(e->loop, t, loop_now_ns(e->loop));
    e->cork_waited = !e->cork_waited;
}

void h2_cork(struct exchange *x)
{
    struct engine *e = x->engine;
    const struct h2_connection *c = find(x);
    if (!c || c->fd < 0)
        return;
    for (size_t i = 0; i < e->corked_count; i++) {
        if (e->corked[i] == c->fd)
            return;
    }
    if (e->corked_count == ARRAY_LEN(e->corked))
        uncork_all(e);
    set_cork(c->fd, 1);
    e->corked[e->corked_count++] = c->fd;
    if (!e->cork_timer.active) {
        e->cork_waited = false;
        loop_timer_start(e->loop, &e->cork_timer, loop_now_ns(e->loop));
    }
}
