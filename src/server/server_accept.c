#include "server/server_accept.h"

#include "server/server_connection.h"
#include "server/server_http1.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT_ONCE 64
#define AGAIN_MS 100 /* how long to wait after a failure, unless a connection ends earlier */

static void pause_until(struct server_listener *l, uint64_t due_ns)
{
    l->pauses = true;
    poller_watch(&l->listen_poll, 0);
    if (due_ns != NEVER_NS)
        loop_timer_start(l->loop, &l->listen_timer, due_ns);
}

/* Accepts one connection and makes it non-blocking; -1: there is none at present. */
static int accept_one(struct server_listener *l, struct sockaddr_storage *from)
{
    socklen_t len;
    int fd;
    do {
        len = sizeof *from;
        fd = accept4(l->listen_fd, (struct sockaddr *)from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd >= 0) {
        l->refused = 0;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        /* The new connection stays in the kernel's queue. From the second failure on, an idle
         * connection is closed to make room, although a request that is just arriving on it is
         * lost. */
        if (++l->refused > 1 && errno == EMFILE)
            log_short_of_files(l->server.log, "serve: clients have to wait", loop_file_limit());
        pause_until(l, loop_now_ns(l->loop) + (l->refused > 1 ? AGAIN_MS : 1) * NS_PER_MS);
        server_connection_make_room(l);
    }
    return fd;
}

static void on_ready(struct poller_fd *f, uint32_t events)
{
    struct server_listener *l = CONTAINER_OF(f, struct server_listener, listen_poll);
    UNUSED(events);
    for (int n = 0; n < AT_ONCE; n++) {
        struct sockaddr_storage from = {0};
        if (l->server.connections >= l->most) {
            pause_until(l, NEVER_NS); /* until a connection ends */
            return;
        }
        int fd = accept_one(l, &from);
        if (fd < 0)
            return;
        server_http1_begin(l, fd, (struct sockaddr *)&from);
    }
}

static void on_timer(struct timer *listen_timer)
{
    struct server_listener *l = CONTAINER_OF(listen_timer, struct server_listener, listen_timer);
    if (l->listen_fd < 0 || l->server.connections >= l->most)
        return;
    l->pauses = false;
    poller_watch(&l->listen_poll, EPOLLIN);
}

enum err_kind server_accept_start(struct server_listener *l, struct err *err)
{
    timer_init(&l->listen_timer, on_timer);
    return poller_add(l->poller, &l->listen_poll, l->listen_fd, EPOLLIN, on_ready, err);
}

void server_accept_stop(struct server_listener *l)
{
    if (l->listen_fd < 0)
        return;
    loop_timer_stop(l->loop, &l->listen_timer);
    poller_drop(&l->listen_poll);
    close(l->listen_fd);
    l->listen_fd = -1;
}
