#include "server/server_connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* In bytes per second, measured over each period of the server's timeout. If a body arrives more
 * slowly, the connection is closed. */
#define LEAST_BODY_RATE 500
/* For how long, and for how many bytes, a client may go on sending after its last response. */
#define LINGER_S 2.0
#define MAX_DISCARD_BYTES ((size_t)16 << 20)
/* An idle connection keeps no more memory than this for its next response. */
#define KEPT_OUT_BYTES ((size_t)4 << 10)
/* Beside the bytes of a stream: the frames of its chunks, and a head. */
#define OUT_BYTES (SERVER_STREAM_MAX_BYTES + ((size_t)1 << 20))

/* ---- time limits */

static void enter(struct server_deadlines *d, struct server_connection *c)
{
    struct loop *loop = c->listener->loop;
    list_unlink(&c->wait_node);
    list_push_back(&d->line, &c->wait_node);
    if (isinf(d->seconds))
        return; /* it is in the line all the same: see server_connection_make_room */
    c->due_ns = loop_deadline_ns(loop, d->seconds);
    if (!d->timer.active)
        loop_timer_start(loop, &d->timer, c->due_ns);
}

void server_connection_await(struct server_connection *c)
{
    c->received = c->seen = 0;
    enter(&c->listener->waits, c);
}

void server_connection_await_nothing(struct server_connection *c)
{
    list_unlink(&c->wait_node);
}

/* A limit that began again with each byte would let a client that sends one now and then keep its
 * connection for ever. */
static bool is_too_slow(const struct server_connection *c, const struct server_deadlines *d)
{
    return c->state == SERVER_LINGERS ||
           (double)(c->received - c->seen) < LEAST_BODY_RATE * d->seconds;
}

static void end_slow(struct server_listener *l, struct server_deadlines *d)
{
    while (!list_empty(&d->line)) {
        struct server_connection *c =
            CONTAINER_OF(d->line.next, struct server_connection, wait_node);
        if (c->due_ns > loop_now_ns(l->loop)) {
            loop_timer_start(l->loop, &d->timer, c->due_ns);
            return;
        }
        if (is_too_slow(c, d)) {
            server_connection_close(c, SERVER_REQUEST_CLIENT_GONE);
        } else {
            c->seen = c->received;
            enter(d, c);
        }
    }
}

static void on_wait_timer(struct timer *t)
{
    struct server_listener *l = CONTAINER_OF(t, struct server_listener, waits.timer);
    end_slow(l, &l->waits);
}

static void on_linger_timer(struct timer *t)
{
    struct server_listener *l = CONTAINER_OF(t, struct server_listener, lingers.timer);
    end_slow(l, &l->lingers);
}

void server_connection_make_room(struct server_listener *l)
{
    if (l->refused < 2 && l->server.connections + 1 < l->most)
        return;
    LIST_FOR(node, &l->lingers.line)
    {
        server_connection_close(CONTAINER_OF(node, struct server_connection, wait_node),
                                SERVER_REQUEST_SENT);
        return;
    }
    LIST_FOR(node, &l->waits.line)
    {
        struct server_connection *c = CONTAINER_OF(node, struct server_connection, wait_node);
        if (c->served && c->state == SERVER_READS_HEAD && c->in.len == 0) {
            server_connection_close(c, SERVER_REQUEST_SENT);
            return;
        }
    }
}

/* ---- beginning and end */

static void format_address(const struct sockaddr *sa, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    out[0] = '\0';
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

struct server_connection *server_connection_new(struct server_listener *l, int fd, poller_fn fn,
                                                const struct sockaddr *address)
{
    struct server *s = &l->server;
    struct err err;
    err_clear(&err);
    struct server_connection *c = mem_calloc(s->mem, sizeof *c);
    if (!c) {
        err_set(&err, ERR_MEMORY, "not enough memory");
    } else if (poller_add(l->poller, &c->poll, fd, EPOLLIN | EPOLLRDHUP, fn, &err) != ERR_NONE) {
        mem_free(s->mem, c);
        c = NULL;
    }
    if (!c) {
        log_write(s->log, LOG_ERROR, "serve: a connection cannot be served: %s", err.message);
        close(fd);
        return NULL;
    }
    c->listener = l;
    c->fd = fd;
    buf_init(&c->in, s->mem, SERVER_HEAD_BYTES + SERVER_READ_BYTES);
    buf_init(&c->out, s->mem, OUT_BYTES);
    list_init(&c->wait_node);
    list_init(&c->ready_node);
    list_push_back(&l->connections, &c->node);
    format_address(address, c->address, sizeof c->address);
    server_hold(s);
    s->connections++;
    s->accepted++;
    if (s->connections >= l->most && l->most < SERVER_MAX_CONNECTIONS)
        log_short_of_files(s->log, "serve: further clients have to wait", loop_file_limit());
    server_connection_await(c);
    return c;
}

/* A place is free: the next client may have it, in the next turn of the loop. */
static void accept_again(struct server_listener *l)
{
    if (l->listen_fd >= 0 && l->pauses)
        loop_timer_start(l->loop, &l->listen_timer, loop_now_ns(l->loop));
}

void server_connection_close(struct server_connection *c, enum server_request_end how)
{
    struct server_listener *l = c->listener;
    struct server_request *r = c->request;
    c->request = NULL;
    poller_drop(&c->poll); /* before it is closed: a child process may have a copy of it */
    close(c->fd);
    list_unlink(&c->node);
    list_unlink(&c->wait_node);
    list_unlink(&c->ready_node);
    buf_fini(&c->in);
    buf_fini(&c->out);
    mem_free(l->server.mem, c);
    l->server.connections--;
    accept_again(l);
    if (r)
        server_request_over(r, how);
    server_release(&l->server);
}

void server_connection_linger(struct server_connection *c)
{
    buf_fini(&c->in);
    buf_fini(&c->out);
    if (c->half_open || shutdown(c->fd, SHUT_WR) != 0) {
        server_connection_close(c, SERVER_REQUEST_SENT);
        return;
    }
    c->state = SERVER_LINGERS;
    enter(&c->listener->lingers, c);
    server_connection_watch(c);
}

void server_connection_watch(struct server_connection *c)
{
    uint32_t events = 0;
    bool answers = c->state == SERVER_ANSWERS || c->state == SERVER_REFUSES;
    if (!answers || !c->holds)
        events |= EPOLLIN;
    if (c->state != SERVER_LINGERS && c->state != SERVER_REFUSES && !c->half_open)
        events |= EPOLLRDHUP;
    if (c->blocked)
        events |= EPOLLOUT;
    poller_watch(&c->poll, events);
}

/* ---- bytes */

ssize_t server_connection_read(struct server_connection *c)
{
    ssize_t n = recv(c->fd, c->listener->bytes, SERVER_READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    if (c->state == SERVER_LINGERS) {
        c->discarded += (size_t)n;
        return c->discarded > MAX_DISCARD_BYTES ? -1 : n;
    }
    return n;
}

size_t server_connection_unsent(const struct server_connection *c)
{
    return c->out.len - c->out_sent;
}

void server_connection_compact(struct server_connection *c)
{
    size_t left = server_connection_unsent(c);
    if (left == 0) {
        buf_clear(&c->out);
    } else if (c->out_sent > SERVER_STREAM_LOW_BYTES && c->out_sent > left) {
        memmove(c->out.data, c->out.data + c->out_sent, left);
        c->out.len = left;
    } else {
        return;
    }
    c->out_sent = 0;
}

static void took(struct server_connection *c, size_t n)
{
    size_t of_out = MIN(n, server_connection_unsent(c));
    c->out_sent += of_out;
    if (c->out_sent == c->out.len) {
        buf_clear(&c->out);
        c->out_sent = 0;
        if (c->out.cap > KEPT_OUT_BYTES)
            buf_fini(&c->out);
    }
    n -= of_out;
    c->rest_len -= n;
    if (n > 0)
        c->rest += n;
}

enum server_connection_sent server_connection_send(struct server_connection *c)
{
    for (;;) {
        struct iovec parts[2];
        struct msghdr message = {.msg_iov = parts};
        size_t unsent = server_connection_unsent(c);
        if (unsent > 0)
            parts[message.msg_iovlen++] = (struct iovec){c->out.data + c->out_sent, unsent};
        if (c->rest_len > 0) /* sendmsg only reads them */
            parts[message.msg_iovlen++] = (struct iovec){(char *)(uintptr_t)c->rest, c->rest_len};
        if (message.msg_iovlen == 0)
            return SERVER_SENT_ALL;
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? SERVER_SENT_SOME : SERVER_SENT_NOT;
        took(c, (size_t)n);
    }
}

/* ---- all of them */

void server_connection_init(struct server_listener *l, double timeout_s)
{
    list_init(&l->connections);
    list_init(&l->waits.line);
    list_init(&l->lingers.line);
    timer_init(&l->waits.timer, on_wait_timer);
    timer_init(&l->lingers.timer, on_linger_timer);
    l->waits.seconds = timeout_s;
    l->lingers.seconds = MIN(timeout_s, LINGER_S);
}

void server_connection_close_all(struct server_listener *l)
{
    while (!list_empty(&l->connections))
        server_connection_close(CONTAINER_OF(l->connections.next, struct server_connection, node),
                                SERVER_REQUEST_SERVER_CLOSED);
    loop_timer_stop(l->loop, &l->waits.timer);
    loop_timer_stop(l->loop, &l->lingers.timer);
}
