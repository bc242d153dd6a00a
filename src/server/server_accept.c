#include "server/server_accept.h"

#include "server/server_peer.h"

#include <errno.h>
#include <microhttpd.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT_ONCE ((size_t)64)
#define AGAIN_MS 100 /* how long to wait after a failure, unless a connection ends earlier */

static void try_later(struct server_daemon *d, uint64_t ms)
{
    uv_poll_stop(&d->listen_poll);
    loop_timer_start(d->loop, &d->listen_timer, loop_now_ns(d->loop) + ms * NS_PER_MS);
}

/* Accepts one connection and makes it non-blocking; -1: there is none at present. */
static int accept_one(struct server_daemon *d, struct sockaddr_storage *from, socklen_t *len)
{
    int fd;
    do {
        *len = sizeof *from;
        fd = accept4(d->listen_fd, (struct sockaddr *)from, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd >= 0) {
        d->refused = 0;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        /* The new connection stays in the kernel's queue. From the second failure on, an idle
         * connection is closed to make room, although a request that is just arriving on it is
         * lost. */
        if (++d->refused > 1 && errno == EMFILE)
            log_short_of_files(d->server.log, "serve: clients have to wait", loop_file_limit());
        server_peer_make_room(d);
        try_later(d, d->refused > 1 ? AGAIN_MS : 1);
    }
    return fd;
}

void server_accept_on_ready(uv_poll_t *poll, int status, int events)
{
    struct server_daemon *d = poll->data;
    const struct server *s = &d->server;
    struct sockaddr_storage from;
    socklen_t len;
    UNUSED(status);
    UNUSED(events);
    uint64_t before = s->accepted;
    for (uint64_t n = 0; n < AT_ONCE; n++) {
        /* libmicrohttpd may take them over at once, or when it runs next. */
        if (s->connections + (size_t)(n - (s->accepted - before)) >= d->most) {
            uv_poll_stop(poll);
            break;
        }
        int fd = accept_one(d, &from, &len);
        if (fd < 0)
            break;
        MHD_add_connection(d->mhd, fd, (struct sockaddr *)&from, len);
    }
    server_daemon_run(d);
}

void server_accept_on_timer(struct timer *listen_timer)
{
    struct server_daemon *d = CONTAINER_OF(listen_timer, struct server_daemon, listen_timer);
    if (d->listen_fd >= 0 && d->server.connections < d->most)
        uv_poll_start(&d->listen_poll, UV_READABLE, server_accept_on_ready);
}

void server_accept_stop(struct server_daemon *d)
{
    if (d->listen_fd < 0)
        return;
    loop_timer_stop(d->loop, &d->listen_timer);
    server_daemon_close_poll(&d->listen_poll);
    close(d->listen_fd);
    d->listen_fd = -1;
}
