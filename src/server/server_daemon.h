/* A server that listens on a socket: libmicrohttpd's daemon, run by the loop whenever it has
 * something to do. */
#pragma once

#include "loop/loop.h"
#include "server/server.h"

struct MHD_Daemon;

/* The process's limit of open files may allow fewer. */
#define SERVER_MAX_CONNECTIONS 20000u

struct server_daemon {
    struct server server; /* first: the two are one block of memory */
    struct loop *loop;
    struct MHD_Daemon *mhd;    /* NULL: stopped */
    uv_poll_t mhd_poll;        /* libmicrohttpd's epoll set */
    struct timer timer;        /* for libmicrohttpd's own deadlines */
    bool run_soon;             /* the timer is set to the next turn of the loop */
    int watch_fd;              /* an epoll set of all connections: it reports who disconnects */
    uv_poll_t watch_poll;      /* of watch_fd */
    int listen_fd;             /* -1: it does not listen any more */
    uv_poll_t listen_poll;     /* of listen_fd; stopped while no connection may be accepted */
    struct timer listen_timer; /* when to try again */
    unsigned refused;          /* how many times in a row accepting has failed */
    struct list heads;       /* connections that must send a head or a body, by server_peer.node */
    struct timer head_timer; /* the earliest deadline of those */
    unsigned most;           /* the largest number of connections at once */
    double timeout_s;        /* for a whole head; and the longest pause in a body or a response */
    uint16_t port;
};

static inline struct server_daemon *server_daemon_of(struct server *s)
{
    return CONTAINER_OF(s, struct server_daemon, server);
}

/* NULL: no memory. It does not listen yet. */
NODISCARD struct server_daemon *server_daemon_new(const struct server_config *config,
                                                  struct loop *loop);
/* Calls `on_watch` and `on_listen` when d->watch_fd and `listen_fd` are ready, and runs
 * libmicrohttpd when it has something to do. 0, or an error of libuv: nothing is watched then. */
NODISCARD int server_daemon_watch(struct server_daemon *d, uv_poll_cb on_watch, int listen_fd,
                                  uv_poll_cb on_listen);
/* Undoes server_daemon_watch, except for listen_poll, and stops libmicrohttpd's timer. */
void server_daemon_unwatch(struct server_daemon *d);
/* Closes one of the three handles. */
void server_daemon_close_poll(uv_poll_t *poll);
/* Lets libmicrohttpd do what it has to do. */
void server_daemon_run(struct server_daemon *d);
/* The same in the next turn of the loop. It then finds resumed connections. */
void server_daemon_run_soon(struct server_daemon *d);
/* A connection has ended: tries to accept another one, in the next turn of the loop. */
void server_daemon_accept_again(struct server_daemon *d);
