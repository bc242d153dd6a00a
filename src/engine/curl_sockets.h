/* libcurl's sockets, in one epoll set of our own. The loop watches that set through a single
 * uv_poll. While a connection idles in the pool, its socket stays registered, which saves two
 * system calls for each request. If a socket that nobody watches has an event, it is removed from
 * the set: a level-triggered event would otherwise repeat for ever. */
#pragma once

#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"

struct sockets;

/* `bits`: CURL_CSELECT_*. Called beneath loop_turn. */
typedef void (*sockets_ready_fn)(void *owner, int fd, int bits);

NODISCARD enum err_kind sockets_new(struct sockets **out, struct loop *loop, struct mem *mem,
                                    struct log *log, sockets_ready_fn ready, struct err *err);
/* All sockets must be closed before. The memory is freed when libuv has closed the poll handle. */
void sockets_free(struct sockets *s);

/* Registers a new socket, which is later closed with sockets_close. False: no memory. */
NODISCARD bool sockets_open(struct sockets *s, int fd);
/* Sets the events of `fd` that libcurl wants from now on: CURL_POLL_*. */
void sockets_watch(struct sockets *s, int fd, void *owner, int what);
/* True if the connection between these ports had an event while nobody watched it, and nobody has
 * watched it since. (Only reading would show what arrived.) */
bool sockets_spoke(const struct sockets *s, int local_port, int remote_port);
/* Removes the socket from the set and closes it. */
void sockets_close(struct sockets *s, int fd);
