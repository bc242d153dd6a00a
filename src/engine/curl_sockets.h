/* The descriptors of libcurl, in one epoll set of our own that the loop watches
 * through ONE uv_poll. A descriptor stays registered while its connection idles in the pool, which
 * saves two system calls per request; an event on one that nobody watches now takes it out of the
 * set, or level-triggering would spin. */
#pragma once

#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"

struct sockets;

/* `bits`: CURL_CSELECT_*. Runs beneath loop_turn. */
typedef void (*sockets_ready_fn)(void *owner, int fd, int bits);

NODISCARD enum err_kind sockets_new(struct sockets **out, struct loop *loop, struct mem *mem,
                                    struct log *log, sockets_ready_fn ready, struct err *err);
/* Every descriptor must be closed. The memory goes when libuv lets go of the poll handle. */
void sockets_free(struct sockets *s);

/* Room for a new descriptor, which we close by sockets_close. false: no memory. */
NODISCARD bool sockets_open(struct sockets *s, int fd);
/* What libcurl wants to know of `fd` from now on: CURL_POLL_*. */
void sockets_watch(struct sockets *s, int fd, void *owner, int what);
/* Whether something has come on the connection between these ports while nobody watched it, and
 * nobody has watched it since. (What it was can be told by reading alone.) */
bool sockets_spoke(const struct sockets *s, int local_port, int remote_port);
/* Takes it out of the set and closes it. */
void sockets_close(struct sockets *s, int fd);
