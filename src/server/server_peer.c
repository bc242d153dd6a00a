#include "server/server_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* In bytes per second, measured over each period of the server's timeout. If a body arrives more
 * slowly, the connection is closed. */
#define LEAST_BODY_RATE 500
#define MAX_BROKEN 64

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

struct server_peer *server_peer_new(struct server_daemon *d, int fd, const struct sockaddr *address)
{
    struct server *s = &d->server;
    struct server_peer *p = mem_calloc(s->mem, sizeof *p);
    if (!p)
        return NULL;
    p->daemon = d;
    p->fd = fd;
    list_init(&p->node);
    server_hold(s);
    s->connections++;
    s->accepted++;
    if (s->connections >= d->most && d->most < SERVER_MAX_CONNECTIONS)
        log_short_of_files(s->log, "serve: further clients have to wait", loop_file_limit());
    format_address(address, p->address, sizeof p->address);
    /* Edge-triggered and without EPOLLIN: one event in a connection's life, none per request. */
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = p};
    if (epoll_ctl(d->watch_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        log_write(s->log, LOG_WARN, "serve: a connection cannot be watched: %s", strerror(errno));
    server_peer_await(p);
    server_peer_make_room(d);
    return p;
}

void server_peer_free(struct server_peer *p)
{
    struct server *s = &p->daemon->server;
    /* A child process may have a copy of the descriptor: then closing it does not remove it from
     * the set. */
    epoll_ctl(p->daemon->watch_fd, EPOLL_CTL_DEL, p->fd, NULL);
    s->connections--;
    list_unlink(&p->node);
    server_daemon_accept_again(p->daemon);
    mem_free(s->mem, p);
    server_release(s);
}

/* libmicrohttpd's own time limit starts again with each byte. A client that sends a byte now and
 * then could keep its connection for ever. */
static void await_more(struct server_peer *p)
{
    struct server_daemon *d = p->daemon;
    if (!d->mhd)
        return;
    list_unlink(&p->node);
    list_push_back(&d->heads, &p->node);
    if (isinf(d->timeout_s))
        return; /* it is in the list all the same: see server_peer_make_room */
    p->due_ns = loop_deadline_ns(d->loop, d->timeout_s);
    if (!d->head_timer.active)
        loop_timer_start(d->loop, &d->head_timer, p->due_ns);
}

void server_peer_await(struct server_peer *p)
{
    p->received = p->seen = 0;
    await_more(p);
}

void server_peer_await_nothing(struct server_peer *p)
{
    list_unlink(&p->node);
}

void server_peer_served(struct server_peer *p)
{
    p->request = NULL;
    p->served = true;
    server_peer_await(p);
    server_peer_make_room(p->daemon);
}

/* libmicrohttpd then reads the end and closes. */
static void hang_up(struct server_peer *p)
{
    list_unlink(&p->node);
    shutdown(p->fd, SHUT_RD);
}

void server_peer_end_slow(struct timer *head_timer)
{
    struct server_daemon *d = CONTAINER_OF(head_timer, struct server_daemon, head_timer);
    while (!list_empty(&d->heads)) {
        struct server_peer *p = CONTAINER_OF(d->heads.next, struct server_peer, node);
        if (p->due_ns > loop_now_ns(d->loop)) {
            loop_timer_start(d->loop, &d->head_timer, p->due_ns);
            return;
        }
        if ((double)(p->received - p->seen) < LEAST_BODY_RATE * d->timeout_s) {
            hang_up(p);
        } else {
            p->seen = p->received;
            await_more(p);
        }
    }
}

void server_peer_make_room(struct server_daemon *d)
{
    if (d->refused < 2 && d->server.connections + 1 < d->most)
        return;
    LIST_FOR(node, &d->heads)
    {
        struct server_peer *p = CONTAINER_OF(node, struct server_peer, node);
        if (p->served && !p->request) {
            hang_up(p);
            return;
        }
    }
}

int server_peer_broken(struct server_daemon *d, struct server_peer **out, int max)
{
    struct epoll_event ready[MAX_BROKEN];
    int n = epoll_wait(d->watch_fd, ready, MIN(max, MAX_BROKEN), 0);
    int broken = 0;
    for (int i = 0; i < n; i++) {
        struct server_peer *p = ready[i].data.ptr;
        if (p->gone)
            continue; /* each shutdown causes one more event */
        p->gone = true;
        /* libmicrohttpd's epoll is edge-triggered. If the end arrived together with data, it has
         * not seen the end and would wait for the rest of a request. The shutdown makes another
         * edge. */
        shutdown(p->fd, SHUT_RD);
        out[broken++] = p;
    }
    return broken;
}
