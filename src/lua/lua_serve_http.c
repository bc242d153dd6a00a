/* Requests and connections: the library's callbacks, and what they meet from the side of the tasks.
 */
#include "lua/lua_serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_CONNECTIONS 20000u
#define SPARE_FILES 64u
#define CONNECTIONS_MARGIN 64u
#define MAX_HEADERS 256u
#define MAX_HEADER_BYTES ((size_t)64 << 10)
/* More of a body that is too large anyway is not read to its end for the sake of a polite 413. */
#define MAX_DISCARD_BYTES ((size_t)16 << 20)
/* Bytes a second, in each stretch of the server's timeout: a slower body is not waited for. */
#define LEAST_BODY_RATE 500

/* ---- requests ---- */

void incoming_free(struct incoming *r)
{
    struct mem *mem = &r->server->rt->mem;
    if (r->server->taken == r)
        r->server->taken = NULL;
    task_hook_remove(&r->bound_hook);
    if (r->response)
        MHD_destroy_response(r->response);
    headers_fini(&r->headers);
    headers_fini(&r->answer);
    buf_fini(&r->body);
    buf_fini(&r->out);
    mem_free(mem, r->target);
    mem_free(mem, r->method);
    mem_free(mem, r->version);
    mem_free(mem, r->response_body);
    struct server *s = r->server;
    mem_free(mem, r);
    server_release(s);
}

static void wake_all(struct list *line)
{
    while (!list_empty(line))
        task_wake(CONTAINER_OF(line->next, struct task, wait.node));
}

static bool unanswered(const struct incoming *r)
{
    return r->state == INCOMING_WAITING || (r->state == INCOMING_STREAM && !r->finished);
}

static void leave_line(struct incoming *r)
{
    if (list_linked(&r->queue_node)) {
        list_unlink(&r->queue_node);
        r->server->waiting--;
    }
}

/* The library only takes a note and, run by another's loop, wakes nobody: so it is run in the
 * loop's next turn, once for all that were resumed until then. */
static void resume(struct incoming *r)
{
    if (!r->connection || !r->suspended)
        return;
    r->suspended = false;
    MHD_resume_connection(r->connection);
    server_run_soon(r->server);
}

void incoming_wake_writer(struct incoming *r)
{
    if (r->writer)
        task_wake(r->writer);
}

/* The client is no longer there to read what is still missing. */
static void client_gone(struct incoming *r, const char *reason)
{
    if (r->gone || r->aborted || !unanswered(r))
        return;
    r->gone = true;
    r->server->gone++;
    buf_clear(&r->out);
    r->out_sent = 0;
    incoming_wake_writer(r);
    if (r->bound)
        task_cancel(r->bound, reason);
    else if (list_linked(&r->queue_node))
        incoming_abort(r);
}

void server_log_lost(struct server *s)
{
    log_write(&s->rt->log, LOG_ERROR, "serve: a request cannot be served: not enough memory");
}

static void lose(struct incoming *r)
{
    server_log_lost(r->server);
    incoming_abort(r);
}

void server_lose_taken(struct server *s)
{
    if (s->taken)
        lose(s->taken);
    s->taken = NULL;
}

bool server_drop(struct server *s)
{
    if (list_empty(&s->pending))
        return false;
    lose(CONTAINER_OF(s->pending.next, struct incoming, queue_node));
    return true;
}

void incoming_abort(struct incoming *r)
{
    if (r->aborted || !unanswered(r))
        return;
    r->aborted = true;
    leave_line(r);
    incoming_wake_writer(r);
    if (r->call)
        engine_call_end(r->server->rt->engine, r->call, true);
    else
        resume(r);
}

static void bound_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    struct incoming *r = CONTAINER_OF(hook, struct incoming, bound_hook);
    r->bound = NULL;
    incoming_abort(r);
}

void incoming_bind(struct incoming *r, struct task *t)
{
    task_hook_remove(&r->bound_hook);
    r->bound = t;
    if (r->server->taken == r)
        r->server->taken = NULL;
    r->bound_hook.fn = bound_ended;
    task_hook_add(t, &r->bound_hook);
    if (r->gone)
        task_cancel(t, "the client went away");
    else if (!incoming_open(r) && unanswered(r))
        task_cancel(t, "the server was closed");
}

void incoming_release(struct incoming *r)
{
    r->held_by_lua = false;
    incoming_abort(r);
    if (!incoming_open(r))
        incoming_free(r);
}

void incoming_answer(struct incoming *r, enum incoming_state state)
{
    ASSERT(r->state == INCOMING_WAITING && incoming_open(r));
    if (r->response && r->server->quiet)
        (void)!MHD_add_response_header(r->response, "Connection", "close");
    r->state = state;
    r->finished = state == INCOMING_ANSWERED;
    if (r->call)
        incoming_answer_call(r);
    else
        resume(r);
}

size_t incoming_unsent(const struct incoming *r)
{
    if (r->call)
        return engine_call_unread(r->call);
    return r->out.len - r->out_sent;
}

enum err_kind incoming_write(struct incoming *r, const char *data, size_t len)
{
    if (r->no_body)
        return ERR_NONE;
    if (!incoming_open(r) || r->gone || r->aborted)
        return ERR_CLOSED;
    if (r->call)
        return engine_call_write(r->server->rt->engine, r->call, data, len);
    if (r->out_sent > STREAM_LOW_BYTES && r->out_sent > r->out.len / 2) {
        memmove(r->out.data, r->out.data + r->out_sent, r->out.len - r->out_sent);
        r->out.len -= r->out_sent;
        r->out_sent = 0;
    }
    enum err_kind rc = buf_append(&r->out, data, len);
    if (rc == ERR_NONE && len > 0)
        resume(r);
    return rc;
}

void incoming_finish(struct incoming *r)
{
    if (r->state != INCOMING_STREAM || r->finished)
        return;
    r->finished = true;
    if (r->call)
        engine_call_end(r->server->rt->engine, r->call, false);
    else
        resume(r);
}

/* A body whose length is not announced ends, in HTTP/1.0, with the connection: only a reset can say
 * that it was cut short, and it must come before the library's own orderly shutdown. */
static void reset_connection(struct incoming *r)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    if (r->peer)
        (void)!connect(r->peer->fd, &none, sizeof none);
}

static ssize_t read_stream(void *arg, uint64_t pos, char *out, size_t max)
{
    UNUSED(pos);
    struct incoming *r = arg;
    size_t n = MIN(incoming_unsent(r), max);
    if (n > 0) {
        memcpy(out, r->out.data + r->out_sent, n);
        r->out_sent += n;
        if (r->out_sent == r->out.len) {
            buf_clear(&r->out);
            r->out_sent = 0;
        }
        if (incoming_unsent(r) <= STREAM_LOW_BYTES)
            incoming_wake_writer(r);
        return (ssize_t)n;
    }
    if (r->aborted) {
        if (r->old_http)
            reset_connection(r);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (r->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    return 0;
}

MHD_ContentReaderCallback incoming_reader(void)
{
    return read_stream;
}

/* ---- the library's callbacks: they record and wake ---- */

static struct peer *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void format_address(const struct sockaddr *sa, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    out[0] = '\0';
    if (!sa)
        return;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(out, size, "%s:%u", ip, ntohs(in->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip);
        snprintf(out, size, "[%s]:%u", ip, ntohs(in6->sin6_port));
    }
}

/* libmicrohttpd's own limit begins anew with each byte: a client that sends one now and then would
 * have its connection for ever. */
static void await_more(struct peer *p)
{
    struct server *s = p->server;
    struct loop *loop = &s->rt->loop;
    if (!s->daemon)
        return;
    list_unlink(&p->node);
    list_push_back(&s->heads, &p->node);
    if (isinf(s->timeout_s))
        return; /* in the list all the same: see server_make_room */
    p->due_ns = loop_deadline_ns(loop, s->timeout_s);
    if (!s->head_timer.active)
        loop_timer_start(loop, &s->head_timer, p->due_ns);
}

void incoming_await_body(struct incoming *r)
{
    if (!r->peer)
        return;
    r->peer->seen = 0;
    await_more(r->peer);
}

static size_t body_received(const struct incoming *r)
{
    return r->body.len + (r->refused != ERR_NONE ? r->out_sent : 0);
}

/* libmicrohttpd reads the end, and closes. */
static void hang_up(struct peer *p)
{
    list_unlink(&p->node);
    shutdown(p->fd, SHUT_RD);
}

void server_end_slow_heads(struct server *s)
{
    struct loop *loop = &s->rt->loop;
    while (!list_empty(&s->heads)) {
        struct peer *p = CONTAINER_OF(s->heads.next, struct peer, node);
        if (p->due_ns > loop_now_ns(loop)) {
            loop_timer_start(loop, &s->head_timer, p->due_ns);
            return;
        }
        size_t received =
            p->request && p->request->state == INCOMING_BODY ? body_received(p->request) : p->seen;
        if ((double)(received - p->seen) < LEAST_BODY_RATE * s->timeout_s) {
            hang_up(p);
        } else {
            p->seen = received;
            await_more(p);
        }
    }
}

void server_make_room(struct server *s)
{
    if (s->refused < 2 && s->connections + 1 < s->most)
        return;
    LIST_FOR(node, &s->heads)
    {
        struct peer *p = CONTAINER_OF(node, struct peer, node);
        if (p->served && !p->request) {
            hang_up(p);
            return;
        }
    }
}

static void open_peer(struct server *s, struct MHD_Connection *connection, void **context)
{
    struct peer *p = mem_calloc(&s->rt->mem, sizeof *p);
    *context = p;
    if (!p)
        return; /* its requests are refused */
    p->server = s;
    list_init(&p->node);
    s->refs++;
    s->connections++;
    s->accepted++;
    if (s->connections >= s->most && s->most < MAX_CONNECTIONS)
        log_short_of_files(&s->rt->log, "serve: further clients have to wait", loop_file_limit());
    p->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    format_address(
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
        p->address, sizeof p->address);
    /* Edge-triggered and without EPOLLIN: one event in a connection's life, none per request. */
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = p};
    if (epoll_ctl(s->watch_fd, EPOLL_CTL_ADD, p->fd, &ev) != 0)
        log_write(&s->rt->log, LOG_WARN, "serve: a connection cannot be watched: %s",
                  strerror(errno));
    await_more(p);
    server_make_room(s);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct server *s = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        open_peer(s, connection, context);
        return;
    }
    struct peer *p = *context;
    *context = NULL;
    if (!p)
        return;
    /* A child process may hold a copy of the descriptor: closing alone might not take it out. */
    epoll_ctl(s->watch_fd, EPOLL_CTL_DEL, p->fd, NULL);
    if (p->request)
        p->request->peer = NULL;
    s->connections--;
    list_unlink(&p->node);
    mem_free(&s->rt->mem, p);
    server_listen_again(s);
    server_release(s);
}

struct incoming *incoming_new(struct server *s, char *target)
{
    struct mem *mem = &s->rt->mem;
    struct incoming *r = mem_calloc(mem, sizeof *r);
    if (!r)
        return NULL;
    r->target = target;
    r->server = s;
    r->head_room = CONNECTION_POOL_BYTES;
    s->refs++;
    list_init(&r->queue_node);
    list_init(&r->bound_hook.node);
    headers_init(&r->headers, mem, MAX_HEADERS, MAX_HEADER_BYTES);
    headers_init(&r->answer, mem, MAX_HEADERS, MAX_HEADER_BYTES);
    buf_init(&r->body, mem, s->max_body);
    buf_init(&r->out, mem, STREAM_MAX_BYTES);
    list_push_back(&s->requests, &r->node);
    return r;
}

static void *on_request_line(void *arg, const char *target, struct MHD_Connection *connection)
{
    struct server *s = arg;
    struct mem *mem = &s->rt->mem;
    struct peer *p = peer_of(connection);
    char *copy = p ? mem_strndup(mem, target, strlen(target)) : NULL;
    struct incoming *r = copy ? incoming_new(s, copy) : NULL;
    if (!r) {
        mem_free(mem, copy);
        return NULL;
    }
    r->peer = p;
    r->sent_target = target;
    p->request = r;
    r->connection = connection;
    memcpy(r->address, p->address, sizeof r->address);
    return r;
}

static enum MHD_Result take_body(struct incoming *r, const char *data, size_t *len)
{
    if (r->refused == ERR_NONE) {
        r->refused = buf_append(&r->body, data, *len);
        if (r->refused != ERR_NONE) {
            buf_fini(&r->body);
            buf_init(&r->body, &r->server->rt->mem, 0);
        }
    } else {
        r->out_sent += *len; /* counts what is discarded: a request that failed streams nothing */
        if (r->out_sent > MAX_DISCARD_BYTES)
            return MHD_NO;
    }
    *len = 0;
    return MHD_YES;
}

void incoming_put_in_line(struct incoming *r)
{
    struct server *s = r->server;
    r->state = INCOMING_WAITING;
    s->active++;
    list_push_back(&s->pending, &r->queue_node);
    s->waiting++;
    if (!list_empty(&s->acceptors))
        task_wake(CONTAINER_OF(s->acceptors.next, struct task, wait.node));
}

static enum MHD_Result put_in_line(struct incoming *r)
{
    struct server *s = r->server;
    if (r->peer)
        list_unlink(&r->peer->node);
    if (r->refused == ERR_MEMORY)
        return server_reply_lost(s, r->connection);
    if (r->refused != ERR_NONE)
        return server_reply(r->connection, 413, "the request's body is too large");
    if (r->peer && r->peer->gone) {
        r->gone = true;
        s->gone++;
        return MHD_NO;
    }
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    incoming_put_in_line(r);
    return MHD_YES;
}

static enum MHD_Result give_answer(struct incoming *r)
{
    if (r->response && !(r->aborted && r->state == INCOMING_WAITING)) {
        struct MHD_Response *response = r->response;
        r->response = NULL;
        enum MHD_Result rc = MHD_queue_response(r->connection, r->status, response);
        MHD_destroy_response(response);
        return rc;
    }
    if (r->aborted)
        return MHD_NO;
    r->suspended = true; /* called for no reason of ours */
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **context)
{
    UNUSED(url);
    struct incoming *r = *context;
    if (!r)
        return server_reply_lost(arg, connection);
    switch (r->state) {
    case INCOMING_HEAD:
        return incoming_take_head(r, method, version);
    case INCOMING_BODY:
        return *len > 0 ? take_body(r, data, len) : put_in_line(r);
    default:
        return give_answer(r);
    }
}

void incoming_over(struct incoming *r, enum incoming_end how)
{
    struct server *s = r->server;
    if (r->state >= INCOMING_WAITING)
        s->active--;
    leave_line(r);
    list_unlink(&r->node);
    if (r->peer)
        r->peer->request = NULL;
    r->peer = NULL;
    r->connection = NULL;
    r->call = NULL;
    r->suspended = false;
    if (how == INCOMING_CLIENT_GONE)
        client_gone(r, "the client went away");
    else if (how == INCOMING_SERVER_CLOSED && r->bound && unanswered(r) && !r->gone)
        task_cancel(r->bound, "the server was closed");
    incoming_wake_writer(r);
    if (s->active == 0)
        wake_all(&s->idlers);
    if (!r->held_by_lua)
        incoming_free(r);
}

/* Whole seconds, 0: no limit. */
static unsigned library_timeout(const struct server *s)
{
    return s->timeout_s < UINT_MAX ? (unsigned)ceil(s->timeout_s) : 0;
}

/* A connection that the library has closed in the midst of a response keeps its descriptor until
 * the library looks at it again, for which an epoll set gives no reason: with a time limit of its
 * own it is looked at whenever the library runs. */
static void let_go(struct server *s, struct MHD_Connection *connection)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, library_timeout(s) + 1);
    server_run_soon(s);
}

static void on_done(void *arg, struct MHD_Connection *connection, void **context,
                    enum MHD_RequestTerminationCode code)
{
    UNUSED(arg);
    struct incoming *r = *context;
    *context = NULL;
    struct peer *p = r ? r->peer : NULL;
    if (p) {
        p->seen = 0;
        p->served = true;
        await_more(p);
    }
    if (r)
        incoming_over(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK      ? INCOMING_SENT
                         : code == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN ? INCOMING_SERVER_CLOSED
                                                                          : INCOMING_CLIENT_GONE);
    if (p && code != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
        code != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
        let_go(p->server, connection);
    if (p)
        server_make_room(p->server);
}

struct incoming *server_take(struct server *s)
{
    if (list_empty(&s->pending))
        return NULL;
    struct incoming *r = CONTAINER_OF(s->pending.next, struct incoming, queue_node);
    leave_line(r);
    r->held_by_lua = true;
    s->taken = r;
    return r;
}

/* ---- for lua_serve_listen.c ---- */

void server_note_disconnects(struct server *s)
{
    struct epoll_event ready[64];
    int n = epoll_wait(s->watch_fd, ready, ARRAY_LEN(ready), 0);
    for (int i = 0; i < n; i++) {
        struct peer *p = ready[i].data.ptr;
        if (p->gone)
            continue; /* each shutdown is one more event */
        p->gone = true;
        /* Where the end came together with data, the library, whose epoll is edge-triggered, has
         * not seen it, and would wait for the rest of a request: this is another edge. */
        shutdown(p->fd, SHUT_RD);
        if (p->request)
            client_gone(p->request, "the client went away");
    }
}

void server_resume_all(struct server *s)
{
    LIST_FOR(node, &s->requests)
    {
        resume(CONTAINER_OF(node, struct incoming, node));
    }
}

static unsigned connection_limit(const struct server *s)
{
    size_t files = s->rt->sched.own_state ? loop_raise_file_limit() : loop_file_limit();
    if (files > MAX_CONNECTIONS + SPARE_FILES)
        return MAX_CONNECTIONS;
    return files > 2 * SPARE_FILES ? (unsigned)files - SPARE_FILES : SPARE_FILES;
}

struct MHD_Daemon *server_start_daemon(struct server *s)
{
    s->most = connection_limit(s);
    /* Its own limit is above ours: there it would break connections off instead of waiting. */
    unsigned limit = s->most + CONNECTIONS_MARGIN;
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0,
                            NULL, NULL, on_request, s, MHD_OPTION_CONNECTION_LIMIT, limit,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_POOL_BYTES,
                            MHD_OPTION_CONNECTION_TIMEOUT, library_timeout(s),
                            MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
                            on_request_line, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                            MHD_OPTION_NOTIFY_COMPLETED, on_done, s, MHD_OPTION_END);
}
