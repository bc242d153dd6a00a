/* The sockets that libcurl opens for one connection. libcurl (7.88) closes the sockets of attempts
 * that it gives up without a word, and may get the same number for the next one. So each is
 * duplicated: a duplicate is ours to watch, to close, and in the end to give away. */
#pragma once

#include "ground/list.h"
#include "ground/log.h"
#include "loop/poller.h"
#include <curl/curl.h>

struct connect_sockets;
/* `number`: libcurl's descriptor. `bits`: CURL_CSELECT_*. */
typedef void (*connect_ready_fn)(struct connect_sockets *s, int number, int bits);

struct connect_sockets {
    struct list all; /* private */
    struct poller *poller;
    struct mem *mem;
    struct log *log;
    connect_ready_fn ready;
    int error; /* errno of the last one that could not be opened or watched; 0: none */
};

void connect_sockets_init(struct connect_sockets *s, struct poller *poller, struct mem *mem,
                          struct log *log, connect_ready_fn ready);
/* Closes the duplicates that are left. */
void connect_sockets_fini(struct connect_sockets *s);
/* Opens one for libcurl. CURL_SOCKET_BAD: s->error says why. */
curl_socket_t connect_sockets_open(struct connect_sockets *s, const struct curl_sockaddr *address);
/* libcurl waits for these events (CURL_POLL_*). False: s->error says why it would wait for ever. */
NODISCARD bool connect_sockets_watch(struct connect_sockets *s, int number, int what);
/* Closes the duplicates that libcurl does not wait for, because it may have closed its own. Where
 * it has not, a new duplicate will be made. */
void connect_sockets_tidy(struct connect_sockets *s);
/* The caller's own descriptor of the connection that was made, out of the poller. `number`: of
 * libcurl's; CURL_SOCKET_BAD: libcurl has closed it. -1: there is none. */
int connect_sockets_take(struct connect_sockets *s, curl_socket_t number);
