/* The client of a connection: its address and its time limits. A client that sends a head or a body
 * too slowly is disconnected. An idle client is disconnected if another one needs its place. */
#pragma once

#include "server/server_daemon.h"

struct sockaddr;

struct server_peer {
    struct list node; /* linked in server_daemon.heads */
    uint64_t due_ns;  /* the deadline for the head of its next request, or for the next check of its
                         body */
    size_t received;  /* bytes of the present body so far */
    size_t seen;      /* how many there were at the last check */
    struct server_daemon *daemon;
    void *request; /* the present request; NULL: none */
    int fd;
    bool gone;
    bool served; /* it has had a request before */
    char address[64];
};

/* NULL: no memory. From now on, the client must send the head of a request in time. */
NODISCARD struct server_peer *server_peer_new(struct server_daemon *d, int fd,
                                              const struct sockaddr *address);
void server_peer_free(struct server_peer *p);

/* From now on, the client must send a head in time, or a body at the least rate. */
void server_peer_await(struct server_peer *p);
/* The client need not send anything at present. */
void server_peer_await_nothing(struct server_peer *p);
/* A request has ended; the client must send the next head in time. Closes an idle connection if
 * others need its place. */
void server_peer_served(struct server_peer *p);
/* If another connection needs a place: disconnects the client that has been idle longest. */
void server_peer_make_room(struct server_daemon *d);
/* Disconnects the clients that are too slow. The function of server_daemon.head_timer. */
void server_peer_end_slow(struct timer *head_timer);
/* Writes up to `max` clients that have disconnected to `out`. Returns their number. */
int server_peer_broken(struct server_daemon *d, struct server_peer **out, int max);
