/* Watches many descriptors through one epoll set of our own, which the loop sees as a single
 * uv_poll. A descriptor that stays open between two requests stays in the set, so a request costs
 * no epoll_ctl. Loop thread only. */
#pragma once

#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"
#include <sys/epoll.h>

struct poller;
struct poller_fd;

/* `events`: EPOLLIN, EPOLLOUT, EPOLLERR and EPOLLHUP, as epoll reports them. Called beneath
 * loop_turn. It may watch, change and drop any descriptor. */
typedef void (*poller_fn)(struct poller_fd *f, uint32_t events);

/* Embedded by whoever owns the descriptor. Must not move while it is in a poller. */
struct poller_fd {
    struct poller *poller; /* NULL: in none. The fields are private to poller.c */
    struct list again;
    poller_fn fn;
    int fd;
    uint32_t wanted, registered;
    bool in_set;
};

/* `out` belongs to the caller, who frees it with poller_free. ERR_MEMORY, ERR_IO. */
NODISCARD enum err_kind poller_new(struct poller **out, struct loop *loop, struct mem *mem,
                                   struct err *err);
/* All descriptors must be dropped before. The memory is freed when libuv has closed the handle.
 * NULL is allowed. */
void poller_free(struct poller *p);

/* Starts to watch `fd`, which stays the caller's. `f` must not be in a poller. On failure `f` is in
 * none: ERR_IO (the system's limit of watched descriptors, for example). */
NODISCARD enum err_kind poller_add(struct poller *p, struct poller_fd *f, int fd, uint32_t events,
                                   poller_fn fn, struct err *err);
/* Changes what is watched. 0 takes the descriptor out of the set, because epoll reports EPOLLHUP
 * and EPOLLERR even where nothing is asked for. */
void poller_watch(struct poller_fd *f, uint32_t events);
/* Reports EPOLLIN in the next turn, even if the descriptor is quiet: for bytes that were read from
 * it already and lie elsewhere (inside OpenSSL). Does nothing while EPOLLIN is not watched. */
void poller_again(struct poller_fd *f);
/* Stops watching. No event of it is delivered any more. Call it before the descriptor is closed: a
 * child process may hold a copy, and the set would go on reporting it. Harmless if `f` is in none.
 */
void poller_drop(struct poller_fd *f);
