#include "engine/shard.h"
#include "engine/exchange.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

void shards_init(struct shards *s, unsigned connections)
{
    *s = (struct shards){.connections = connections};
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    UNUSED(easy);
    UNUSED(socket_arg);
    struct shard *s = arg;
    sockets_watch(s->engine->sockets, fd, s, what);
    return 0;
}

/* 0 ms becomes the next turn of the loop: timers that a timer starts wait for it (loop.h), so a
 * busy multi cannot keep the turn from ending. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    UNUSED(multi);
    struct shard *s = arg;
    struct loop *loop = s->engine->loop;
    if (timeout_ms < 0)
        loop_timer_stop(loop, &s->timer);
    else
        loop_timer_start(loop, &s->timer, loop_now_ns(loop) + (uint64_t)timeout_ms * NS_PER_MS);
    return 0;
}

static void read_messages(struct shard *s)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(s->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        /* Copied: the message dies with remove_handle. */
        CURL *easy = msg->easy_handle;
        CURLcode code = msg->data.result;
        char *x = NULL;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &x);
        exchange_curl_done((struct exchange *)(void *)x, code);
    }
}

/* The multi is broken (in practice: out of memory). What is in it would hang until its limits. */
static void fail_all(struct shard *s, CURLMcode code)
{
    struct engine *e = s->engine;
    log_write(e->log, LOG_ERROR, "libcurl failed: %s", curl_multi_strerror(code));
    struct err err;
    err_set(&err, code == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_INTERNAL, "libcurl failed: %s",
            curl_multi_strerror(code));
    err.code = (int)code;
    LIST_FOR(node, &e->live)
    {
        struct exchange *x = CONTAINER_OF(node, struct exchange, node);
        if (x->shard == s)
            exchange_finish(x, &err);
    }
}

static void act(struct shard *s, curl_socket_t fd, int bits)
{
    int running;
    CURLMcode code = curl_multi_socket_action(s->multi, fd, bits, &running);
    read_messages(s);
    if (code != CURLM_OK)
        fail_all(s, code);
    engine_pump(s->engine);
}

void shard_on_socket(void *owner, int fd, int bits)
{
    act(owner, fd, bits);
}

static void on_timer(struct timer *t)
{
    act(CONTAINER_OF(t, struct shard, timer), CURL_SOCKET_TIMEOUT, 0);
}

static struct shard *shard_new(struct engine *e, bool alone)
{
    struct shards *all = &e->shards;
    if (all->count == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 8;
        struct shard **rows = mem_realloc(e->mem, all->all, cap * sizeof *rows);
        if (!rows)
            return NULL;
        all->all = rows;
        all->cap = cap;
    }
    struct shard *s = mem_calloc(e->mem, sizeof *s);
    if (!s)
        return NULL;
    s->multi = curl_multi_init();
    if (!s->multi) {
        mem_free(e->mem, s);
        return NULL;
    }
    s->engine = e;
    s->index = (unsigned)all->count;
    s->alone = alone;
    timer_init(&s->timer, on_timer);
    curl_multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s);
    curl_multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(s->multi, CURLMOPT_TIMERDATA, s);
    /* A pool below the concurrency costs three times the time per request. */
    curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)all->connections);
    curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, alone ? CURLPIPE_NOTHING : CURLPIPE_MULTIPLEX);
    all->all[all->count++] = s;
    return s;
}

void shards_fini(struct engine *e)
{
    struct shards *all = &e->shards;
    for (size_t i = 0; i < all->count; i++) {
        struct shard *s = all->all[i];
        ASSERT(s->active == 0);
        curl_multi_cleanup(s->multi); /* closes the pooled connections, by our callback */
        loop_timer_stop(e->loop, &s->timer);
        mem_free(e->mem, s);
    }
    mem_free(e->mem, all->all);
    *all = (struct shards){0};
}

/* Of the shards where requests share, or of those where none do. */
static struct shard *least_loaded(struct engine *e, bool alone, unsigned places)
{
    struct shards *all = &e->shards;
    struct shard *least = NULL;
    for (size_t i = 0; i < all->count; i++) {
        struct shard *s = all->all[i];
        if (s->alone == alone && (!least || s->active < least->active))
            least = s;
    }
    if (least && (least->active < places || all->count >= UINT16_MAX))
        return least;
    struct shard *fresh = shard_new(e, alone);
    return fresh ? fresh : least;
}

struct shard *shard_for(const struct exchange *x)
{
    struct engine *e = x->engine;
    struct shards *all = &e->shards;
    struct origin *origin = x->url->origin;
    bool multiplexes = x->multiplexes && !x->alone;
    bool bounded = multiplexes && all->streams != 0;
    unsigned places = bounded ? MIN(all->streams, all->connections) : all->connections;
    if (multiplexes && origin->home_shard < all->count) {
        /* Streams share a connection only within one multi. While the protocol is not known each
         * request may yet turn out to need a connection of its own. */
        struct shard *home = all->all[origin->home_shard];
        bool shares = origin->protocol == ORIGIN_HTTP2 || origin->h2c;
        if (!home->alone && ((shares && !bounded) || home->active < places))
            return home;
    }
    for (int index; !multiplexes && (index = origin_pop_idle(origin)) >= 0;) {
        struct shard *s = all->all[index];
        if (s->active < places && (s->alone || !x->alone))
            return s;
    }
    struct shard *least = least_loaded(e, x->alone, places);
    if (least && multiplexes)
        origin->home_shard = least->index;
    return least;
}

enum err_kind shard_add(struct shard *s, struct exchange *x, struct err *err)
{
    CURLMcode code = curl_multi_add_handle(s->multi, x->easy);
    if (code != CURLM_OK) {
        err_set(err, code == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_INTERNAL,
                "libcurl refused a request: %s", curl_multi_strerror(code));
        err->code = (int)code;
        return err->kind;
    }
    x->shard = s;
    s->active++;
    s->engine->shards.in_curl++;
    return ERR_NONE;
}

void shard_remove(struct exchange *x)
{
    struct shard *s = x->shard;
    if (!s)
        return;
    CURLMcode code = curl_multi_remove_handle(s->multi, x->easy);
    /* Refused only beneath a callback, where a cancel must never come from: it would be lost. */
    ASSERT(code == CURLM_OK);
    x->shard = NULL;
    s->active--;
    s->engine->shards.in_curl--;
}

static unsigned port_of(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    if (address->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    return 0;
}

curl_socket_t shard_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    UNUSED(purpose);
    struct exchange *x = arg;
    struct engine *e = x->engine;
    /* Here the address is known for good, whatever name, number format or redirect led to it. The
     * environment's proxy is not the script's choice. */
    bool chosen = !exchange_proxied(x) || x->transfer->spec.proxy || x->transfer->spec.unix_socket;
    x->connect_port = port_of(&address->addr);
    if (chosen && !targets_allow_address(e->config.targets, &address->addr)) {
        x->target_denied = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) {
        x->socket_error = errno;
        if (errno == EMFILE || errno == ENFILE)
            log_short_of_files(e->log, "a connection could not be opened", loop_file_limit());
        return CURL_SOCKET_BAD;
    }
    if (!sockets_open(e->sockets, fd)) {
        x->socket_error = ENOMEM;
        sockets_close(e->sockets, fd);
        return CURL_SOCKET_BAD;
    }
    x->connect_fd = fd;
    return fd;
}

int shard_close_socket(void *arg, curl_socket_t fd)
{
    struct engine *e = arg;
    sockets_close(e->sockets, fd);
    return 0;
}
