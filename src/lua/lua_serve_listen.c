/* A server's life on the loop: listening, running the library when it has something to do,
 * stopping. */
#include "lua/lua_serve.h"

#include "ground/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096
#define ACCEPTS_AT_ONCE ((size_t)64)
#define ACCEPT_AGAIN_MS 100 /* after a failure, unless a connection ends before */

/* ---- driving the library ---- */

static void run(struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    struct loop *loop = &s->rt->loop;
    if (!s->daemon)
        return;
    s->run_soon = false;
    MHD_run(s->daemon);
    /* 0 means "at once": the next turn of the loop, in which this timer is due already. Of
     * connections resumed meanwhile the library's timeout knows nothing. */
    if (s->run_soon)
        loop_timer_start(loop, &s->timer, loop_now_ns(loop));
    else if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        loop_timer_start(loop, &s->timer, loop_now_ns(loop) + ms * NS_PER_MS);
    else
        loop_timer_stop(loop, &s->timer);
}

void server_run_soon(struct server *s)
{
    if (!s->daemon || s->run_soon)
        return;
    s->run_soon = true;
    loop_timer_start(&s->rt->loop, &s->timer, loop_now_ns(&s->rt->loop));
}

static void on_timer(struct timer *t)
{
    run(CONTAINER_OF(t, struct server, timer));
}

static void on_head_timer(struct timer *t)
{
    server_end_slow_heads(CONTAINER_OF(t, struct server, head_timer));
}

static void on_daemon_ready(uv_poll_t *poll, int status, int events)
{
    UNUSED(status);
    UNUSED(events);
    run(poll->data);
}

/* ---- accepting ----
 *
 * Not left to the library: once it is refused a descriptor, it accepts nobody until one of its
 * connections ends, which may be never. */

static void on_closed(uv_handle_t *handle);

static void try_later(struct server *s, uint64_t ms)
{
    uv_poll_stop(&s->listen_poll);
    loop_timer_start(&s->rt->loop, &s->listen_timer, loop_now_ns(&s->rt->loop) + ms * NS_PER_MS);
}

/* A connection, non-blocking; -1: there is none now. */
static int accept_one(struct server *s, struct sockaddr_storage *from, socklen_t *len)
{
    int fd;
    do {
        *len = sizeof *from;
        fd = accept4(s->listen_fd, (struct sockaddr *)from, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd >= 0) {
        s->refused = 0;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        /* It stays in the kernel's line. The second time an idle connection gives its place up: a
         * request that is on its way there is lost. */
        if (++s->refused > 1 && errno == EMFILE)
            log_short_of_files(&s->rt->log, "serve: clients have to wait", loop_file_limit());
        server_make_room(s);
        try_later(s, s->refused > 1 ? ACCEPT_AGAIN_MS : 1);
    }
    return fd;
}

static void on_listen_ready(uv_poll_t *poll, int status, int events)
{
    struct server *s = poll->data;
    struct sockaddr_storage from;
    socklen_t len;
    UNUSED(status);
    UNUSED(events);
    uint64_t before = s->accepted;
    for (uint64_t n = 0; n < ACCEPTS_AT_ONCE; n++) {
        /* The library may take them over at once, or when it runs. */
        if (s->connections + (size_t)(n - (s->accepted - before)) >= s->most) {
            uv_poll_stop(poll);
            break;
        }
        int fd = accept_one(s, &from, &len);
        if (fd < 0)
            break;
        MHD_add_connection(s->daemon, fd, (struct sockaddr *)&from, len);
    }
    run(s);
}

static void on_listen_timer(struct timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, listen_timer);
    if (s->listen_fd >= 0 && s->connections < s->most)
        uv_poll_start(&s->listen_poll, UV_READABLE, on_listen_ready);
}

void server_listen_again(struct server *s)
{
    if (s->listen_fd >= 0 && !uv_is_active((uv_handle_t *)&s->listen_poll))
        loop_timer_start(&s->rt->loop, &s->listen_timer, loop_now_ns(&s->rt->loop));
}

static void stop_listening(struct server *s)
{
    if (s->listen_fd < 0)
        return;
    loop_timer_stop(&s->rt->loop, &s->listen_timer);
    uv_close((uv_handle_t *)&s->listen_poll, on_closed);
    close(s->listen_fd);
    s->listen_fd = -1;
}

static void on_watch_ready(uv_poll_t *poll, int status, int events)
{
    UNUSED(status);
    UNUSED(events);
    server_note_disconnects(poll->data);
}

/* ---- starting and stopping ---- */

static enum err_kind parse_host(const char *host, uint16_t port, struct sockaddr_storage *out,
                                socklen_t *len, struct err *err)
{
    *out = (struct sockaddr_storage){0};
    struct sockaddr_in *in = (void *)out;
    struct sockaddr_in6 *in6 = (void *)out;
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        *len = sizeof *in;
        return ERR_NONE;
    }
    if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        *len = sizeof *in6;
        return ERR_NONE;
    }
    return err_set(err, ERR_INVALID,
                   "serve: the host must be an IP address or 'localhost', not '%s'",
                   secret_hidden(host));
}

static enum err_kind listen_on(struct server *s, const char *host, uint16_t port, int *out,
                               struct err *err)
{
    struct sockaddr_storage address;
    socklen_t len;
    enum err_kind rc = parse_host(host, port, &address, &len, err);
    if (rc != ERR_NONE)
        return rc;
    int one = 1;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        err_set(err, ERR_IO, "serve: cannot listen on %s port %u: %s", host, port, strerror(code));
        err->code = code;
        return err_reason(err, code == EADDRINUSE ? "in_use" : "");
    }
    s->port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                 : ((struct sockaddr_in6 *)&address)->sin6_port);
    snprintf(s->host, sizeof s->host, "%s", host);
    *out = fd;
    return ERR_NONE;
}

static void on_closed(uv_handle_t *handle)
{
    struct server *s = handle->data;
    s->rt->loop.open_handles--;
    server_release(s);
}

static int watch(struct server *s, uv_poll_t *poll, int fd, uv_poll_cb fn)
{
    int rc = uv_poll_init(s->rt->loop.uv, poll, fd);
    if (rc != 0)
        return rc;
    uv_unref(
        (uv_handle_t *)poll); /* the tasks hold the loop, also where one was lost with its server */
    poll->data = s;
    s->refs++;
    s->rt->loop.open_handles++;
    rc = uv_poll_start(poll, UV_READABLE, fn);
    if (rc != 0)
        uv_close((uv_handle_t *)poll, on_closed);
    return rc;
}

struct server *server_new(struct rt *rt, size_t max_body)
{
    struct server *s = mem_calloc(&rt->mem, sizeof *s);
    if (!s)
        return NULL;
    *s =
        (struct server){.rt = rt, .max_body = max_body, .refs = 1, .watch_fd = -1, .listen_fd = -1};
    struct list *lists[] = {&s->node,      &s->requests, &s->pending,
                            &s->acceptors, &s->idlers,   &s->heads};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
    timer_init(&s->timer, on_timer);
    timer_init(&s->head_timer, on_head_timer);
    timer_init(&s->listen_timer, on_listen_timer);
    list_init(&s->keeper_hook.node);
    return s;
}

void server_started(struct server *s)
{
    list_push_back(&s->rt->servers, &s->node);
    if (!s->simulation) /* which only the tasks of this runtime can call */
        s->rt->sched.external++;
}

/* Under virtual time no socket is opened: the requests of this very runtime find the server at its
 * address all the same, and nobody else does. */
static enum err_kind start_virtual(struct server **out, struct rt *rt, const char *host,
                                   uint16_t port, size_t max_body, struct err *err)
{
    char url[96];
    struct sockaddr_storage address;
    socklen_t len;
    enum err_kind rc = parse_host(host, port, &address, &len, err);
    uint16_t given = port;
    if (rc != ERR_NONE)
        return rc;
    bool in_use;
    do {
        if (given == 0)
            port = (uint16_t)(49152 + rt->virtual_ports++ % 16384);
        snprintf(url, sizeof url, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host,
                 port);
        rc = server_simulate(out, rt, url, max_body, err);
        in_use = rc == ERR_INVALID && strcmp(err->reason, "in_use") == 0;
    } while (given == 0 && in_use && rt->virtual_ports < 16384);
    if (in_use) {
        err_set(err, ERR_IO, "serve: cannot listen on %s port %u: %s", host, port,
                strerror(EADDRINUSE));
        err->code = EADDRINUSE;
        return err_reason(err, "in_use");
    }
    if (rc != ERR_NONE)
        return rc;
    (*out)->port = port;
    snprintf((*out)->host, sizeof(*out)->host, "%s", host);
    return ERR_NONE;
}

static enum err_kind set_not_started(const struct server *s, int code, struct err *err)
{
    err_set(err, ERR_IO, "serve: cannot serve on %s port %u: %s", s->host, s->port,
            code ? strerror(code) : "libmicrohttpd did not start");
    err->code = code;
    return ERR_IO;
}

/* All three or none; a negative code of libuv's. */
static int watch_all(struct server *s, int listen_fd)
{
    const struct {
        uv_poll_t *poll;
        int fd;
        uv_poll_cb fn;
    } all[] = {
        {&s->daemon_poll, MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
         on_daemon_ready},
        {&s->watch_poll, s->watch_fd, on_watch_ready},
        {&s->listen_poll, listen_fd, on_listen_ready},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int code = watch(s, all[i].poll, all[i].fd, all[i].fn);
        while (code != 0 && i > 0)
            uv_close((uv_handle_t *)all[--i].poll, on_closed);
        if (code != 0)
            return code;
    }
    return 0;
}

enum err_kind server_start(struct server **out, struct rt *rt, const char *host, uint16_t port,
                           size_t max_body, double timeout_s, struct err *err)
{
    int listen_fd = -1;
    if (rt->virtual_time)
        return start_virtual(out, rt, host, port, max_body, err);
    struct server *s = server_new(rt, max_body);
    if (!s)
        return err_set(err, ERR_MEMORY, "serve: not enough memory");
    s->timeout_s = timeout_s;
    enum err_kind rc = listen_on(s, host, port, &listen_fd, err);
    if (rc != ERR_NONE)
        goto fail;
    s->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    errno = s->watch_fd >= 0 ? 0 : errno;
    s->daemon = s->watch_fd >= 0 ? server_start_daemon(s) : NULL;
    if (!s->daemon) {
        rc = set_not_started(s, errno, err);
        goto fail;
    }
    int code = watch_all(s, listen_fd);
    if (code != 0) {
        rc = set_not_started(s, -code, err);
        MHD_stop_daemon(s->daemon);
        s->daemon = NULL;
        goto fail;
    }
    s->listen_fd = listen_fd;
    server_started(s);
    *out = s;
    return ERR_NONE;

fail:
    if (listen_fd >= 0)
        close(listen_fd);
    if (s->watch_fd >= 0)
        close(s->watch_fd);
    s->watch_fd = -1;
    server_release(s);
    return rc;
}

void server_quiesce(struct server *s)
{
    if (!server_open(s) || s->quiet)
        return;
    s->quiet = true;
    if (s->simulation)
        return;
    stop_listening(s);
}

static void stop_daemon(struct server *s)
{
    struct MHD_Daemon *daemon = s->daemon;
    s->daemon = NULL;
    s->quiet = true;
    loop_timer_stop(&s->rt->loop, &s->timer);
    loop_timer_stop(&s->rt->loop, &s->head_timer);
    stop_listening(s);
    uv_close((uv_handle_t *)&s->daemon_poll, on_closed);
    uv_close((uv_handle_t *)&s->watch_poll, on_closed);
    /* The library aborts the process if it is stopped with a connection suspended. */
    server_resume_all(s);
    MHD_stop_daemon(daemon);
    close(s->watch_fd);
    s->watch_fd = -1;
}

void server_stop(struct server *s)
{
    if (!server_open(s))
        return;
    task_hook_remove(&s->keeper_hook);
    s->keeper = NULL;
    if (s->simulation) {
        server_stop_simulation(s);
    } else {
        stop_daemon(s);
        s->rt->sched.external--;
    }
    struct list *lines[] = {&s->acceptors, &s->idlers};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        while (!list_empty(lines[i]))
            task_wake(CONTAINER_OF(lines[i]->next, struct task, wait.node));
    }
    list_unlink(&s->node);
}

static void keeper_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    server_stop(CONTAINER_OF(hook, struct server, keeper_hook));
}

void server_keep(struct server *s, struct task *t)
{
    if (!server_open(s))
        return;
    task_hook_remove(&s->keeper_hook);
    s->keeper = t;
    s->keeper_hook.fn = keeper_ended;
    task_hook_add(t, &s->keeper_hook);
}

bool lua_serve_end_idle(struct rt *rt)
{
    bool any = false;
    struct list *node = rt->servers.next;
    while (node != &rt->servers) {
        struct server *s = CONTAINER_OF(node, struct server, node);
        node = node->next;
        if (s->simulation && s->keeper && s->keeper->parent &&
            s->keeper->parent->state == TASK_JOINING) {
            server_stop(s);
            any = true;
        }
    }
    return any;
}

void server_release(struct server *s)
{
    if (--s->refs > 0)
        return;
    mem_free(&s->rt->mem, s->url);
    mem_free(&s->rt->mem, s);
}

void lua_serve_close_all(struct rt *rt)
{
    while (!list_empty(&rt->servers))
        server_stop(CONTAINER_OF(rt->servers.next, struct server, node));
}
