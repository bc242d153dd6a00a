#include "server/server_daemon.h"

#include <microhttpd.h>

_Static_assert(offsetof(struct server_daemon, server) == 0, "server_release frees the block");

void server_daemon_run(struct server_daemon *d)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (!d->mhd)
        return;
    d->run_soon = false;
    MHD_run(d->mhd);
    /* A timeout of 0 means "at once": this timer is already due, so it fires in the next turn of
     * the loop. libmicrohttpd's timeout ignores connections that were resumed meanwhile. */
    if (d->run_soon)
        loop_timer_start(d->loop, &d->timer, loop_now_ns(d->loop));
    else if (MHD_get_timeout(d->mhd, &ms) == MHD_YES)
        loop_timer_start(d->loop, &d->timer, loop_now_ns(d->loop) + ms * NS_PER_MS);
    else
        loop_timer_stop(d->loop, &d->timer);
}

void server_daemon_run_soon(struct server_daemon *d)
{
    if (!d->mhd || d->run_soon)
        return;
    d->run_soon = true;
    loop_timer_start(d->loop, &d->timer, loop_now_ns(d->loop));
}

static void on_timer(struct timer *t)
{
    server_daemon_run(CONTAINER_OF(t, struct server_daemon, timer));
}

static void on_mhd_ready(uv_poll_t *poll, int status, int events)
{
    UNUSED(status);
    UNUSED(events);
    server_daemon_run(poll->data);
}

struct server_daemon *server_daemon_new(const struct server_config *config, struct loop *loop)
{
    struct server_daemon *d = mem_calloc(config->mem, sizeof *d);
    if (!d)
        return NULL;
    server_init(&d->server, config);
    d->loop = loop;
    d->watch_fd = d->listen_fd = -1;
    list_init(&d->heads);
    timer_init(&d->timer, on_timer);
    return d;
}

static void on_closed(uv_handle_t *handle)
{
    struct server_daemon *d = handle->data;
    d->loop->open_handles--;
    server_release(&d->server);
}

void server_daemon_close_poll(uv_poll_t *poll)
{
    uv_close((uv_handle_t *)poll, on_closed);
}

static int watch(struct server_daemon *d, uv_poll_t *poll, int fd, uv_poll_cb fn)
{
    int rc = uv_poll_init(d->loop->uv, poll, fd);
    if (rc != 0)
        return rc;
    /* Tasks keep the loop alive. A server that nobody refers to must not. */
    uv_unref((uv_handle_t *)poll);
    poll->data = d;
    server_hold(&d->server);
    d->loop->open_handles++;
    rc = uv_poll_start(poll, UV_READABLE, fn);
    if (rc != 0)
        server_daemon_close_poll(poll);
    return rc;
}

int server_daemon_watch(struct server_daemon *d, uv_poll_cb on_watch, int listen_fd,
                        uv_poll_cb on_listen)
{
    const struct {
        uv_poll_t *poll;
        int fd;
        uv_poll_cb fn;
    } all[] = {
        {&d->mhd_poll, MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
         on_mhd_ready},
        {&d->watch_poll, d->watch_fd, on_watch},
        {&d->listen_poll, listen_fd, on_listen},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int rc = watch(d, all[i].poll, all[i].fd, all[i].fn);
        while (rc != 0 && i > 0)
            server_daemon_close_poll(all[--i].poll);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void server_daemon_unwatch(struct server_daemon *d)
{
    loop_timer_stop(d->loop, &d->timer);
    server_daemon_close_poll(&d->mhd_poll);
    server_daemon_close_poll(&d->watch_poll);
}

void server_daemon_accept_again(struct server_daemon *d)
{
    if (d->listen_fd >= 0 && !uv_is_active((uv_handle_t *)&d->listen_poll))
        loop_timer_start(d->loop, &d->listen_timer, loop_now_ns(d->loop));
}
