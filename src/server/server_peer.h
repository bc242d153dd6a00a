/* The client at the other end of a connection: its address, and how long it may take. A client that
 * is too slow with a head or a body is hung up on, and so is an idle one where another needs its
 * place. */
#pragma once

#include "server/server_daemon.h"

struct sockaddr;

struct server_peer {
    struct list node; /* server_daemon.heads */
    uint64_t due_ns;  /* when the head of its next request is due, or its body is looked at */
    size_t received;  /* bytes of the present body */
    size_t seen;      /* how many of them had come at the last look */
    struct server_daemon *daemon;
    void *request; /* the present one; NULL: none */
    int fd;
    bool gone;
    bool served; /* it had a request before */
    char address[64];
};

/* NULL: no memory. It owes the head of a request from now on. */
NODISCARD struct server_peer *server_peer_new(struct server_daemon *d, int fd,
                                              const struct sockaddr *address);
void server_peer_free(struct server_peer *p);

/* It owes a head, or a body at no less than some bytes a second, from now on. */
void server_peer_await(struct server_peer *p);
/* It owes nothing. */
void server_peer_await_nothing(struct server_peer *p);
/* Its request is over, and it owes the next head. Makes room where that is needed. */
void server_peer_served(struct server_peer *p);
/* If another connection needs a place: hangs up on the one that has been idle for longest. */
void server_peer_make_room(struct server_daemon *d);
/* Hangs up on those that are too slow. The function of server_daemon.head_timer. */
void server_peer_end_slow(struct timer *head_timer);
/* Up to `max` of those that were found to have broken their connection. Returns their number. */
int server_peer_broken(struct server_daemon *d, struct server_peer **out, int max);
