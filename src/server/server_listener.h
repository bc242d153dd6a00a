/* A server that listens on a socket, as its parts share it. server_listen.c starts and stops it,
 * server_accept.c takes connections, server_connection.c keeps them, and server_http1.c reads
 * requests from them and sends the responses. */
#pragma once

#include "ground/http1_parse.h"
#include "loop/loop.h"
#include "loop/poller.h"
#include "server/server.h"

#include <time.h>

/* The process's limit of open files may allow fewer. */
#define SERVER_MAX_CONNECTIONS 20000u
/* This many bytes are read from a connection at a time. */
#define SERVER_READ_BYTES ((size_t)64 << 10)

/* Connections that end after the same number of seconds, if nothing happens before. */
struct server_deadlines {
    struct list line; /* by server_connection.wait_node; the earliest is the first */
    struct timer timer;
    double seconds; /* infinite: none of them ends */
};

struct server_listener {
    struct server server; /* first: the two are one block of memory */
    struct loop *loop;
    struct poller *poller;
    struct list connections; /* all, by server_connection.node */
    struct list ready;       /* those with something to send, by server_connection.ready_node */
    struct timer ready_timer;
    struct server_deadlines waits;   /* a client must send or read something */
    struct server_deadlines lingers; /* a client must read the last response, and close */
    int listen_fd;                   /* -1: it does not listen any more */
    struct poller_fd listen_poll;
    bool pauses;               /* no connection may be accepted at present */
    struct timer listen_timer; /* when to try again */
    unsigned refused;          /* how many times in a row accepting has failed */
    unsigned most;             /* the largest number of connections at once */
    uint16_t port;
    time_t date_s;                 /* when `date` was written */
    char date[32];                 /* for the header of that name */
    struct http1_event event;      /* what the parsers find, each by turns */
    char bytes[SERVER_READ_BYTES]; /* what was just read */
};

static inline struct server_listener *server_listener_of(struct server *s)
{
    return CONTAINER_OF(s, struct server_listener, server);
}
