/* A libuv loop with our clock and deadlines: one uv_timer carries every deadline, and the clock can
 * be virtual. One loop belongs to one thread; only loop_wake may be called from others.
 *
 * Callbacks (timers, polls, hooks) may only record and wake: no Lua runs beneath loop_turn.
 *
 * Whoever opens a further uv handle on l->uv adds 1 to open_handles and takes it back in the close
 * callback, so that loop_fini waits for it. On a host's loop our handles do not keep uv_run going;
 * work that will come back (a look-up, a file) says so by loop_busy_add. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"
#include "ground/list.h"
#include "ground/mem.h"
#include "loop/timer.h"
#include <stdatomic.h>
#include <uv.h>

struct loop_hook;
typedef void (*loop_hook_fn)(struct loop_hook *h);

/* Runs on the loop's thread after any loop_wake: helper threads hand over their results so. */
struct loop_hook {
    struct list node;
    loop_hook_fn fn;
};

/* Where the virtual clock begins: not at 0, which in many a field stands for "not yet". */
#define LOOP_VIRTUAL_START_NS NS_PER_S

struct loop {
    uv_loop_t *uv;
    struct mem *mem;
    struct timer_heap timers;
    struct list hooks;
    uv_timer_t uv_timer;
    uv_async_t async;
    uv_loop_t own_uv;
    bool owns_uv;
    bool is_virtual;
    bool closing;
    bool in_turn;
    atomic_bool woken; /* loop_wake since the last turn began to wait */
    uint64_t virtual_ns;
    uint64_t until_ns;     /* see loop_until */
    bool cut;              /* the last turn ended by it, with something left */
    bool timers_first;     /* they did not come to their turn */
    uint64_t event_ns;     /* what an event may well take */
    uint64_t armed_ns;     /* what uv_timer is set to; NEVER_NS: not set */
    unsigned open_handles; /* ours that uv has not closed yet */
    unsigned busy;         /* results that helper threads still owe us */
    bool held;             /* see loop_hold */
};

/* `host`: a loop to live on, borrowed until loop_fini returns; NULL: an own one. */
NODISCARD enum err_kind loop_init(struct loop *l, struct mem *mem, uv_loop_t *host, bool is_virtual,
                                  struct err *err);
/* Closes what loop_init opened and runs the loop until libuv has let go of it. Every other handle
 * on an own loop must be closed (or closing) by then. Not from within the host's uv_run. */
void loop_fini(struct loop *l);

/* Monotonic; virtual time where that is on. Never cached: it reads the clock. */
uint64_t loop_now_ns(const struct loop *l);

/* One turn of the loop: I/O, then timers. `block`: wait for something to happen, at most until the
 * next deadline. Under virtual time a blocking turn with nothing to do jumps to that deadline (with
 * no deadline, or while helper threads are at work, it waits as ever). Timers never fire early, and
 * one started by a timer's callback never in the same turn. May return with nothing done. */
void loop_turn(struct loop *l, bool block);
/* Until when, by the real clock, turns hand out events and timers: each at least one, the others at
 * the next turn (`cut`). NEVER_NS: no end. */
void loop_until(struct loop *l, uint64_t until_ns);
/* Beneath loop_turn, behind an event that began at `began_ns`: whether this turn is to hand out no
 * more, the next one being as long. */
bool loop_cut(struct loop *l, uint64_t began_ns);
/* Whether there is time for one more event. */
bool loop_has_time(const struct loop *l);
/* Whether a turn of the loop would find something to do at once: a deadline that has passed, an
 * event. Asks the system. */
bool loop_has_event(const struct loop *l);
/* For a host that polls by itself: how long it may wait; -1: no deadline. */
int loop_timeout_ms(const struct loop *l);

/* `t` may be running already: it is moved. */
void loop_timer_start(struct loop *l, struct timer *t, uint64_t due_ns);
void loop_timer_stop(struct loop *l, struct timer *t);

/* Makes a blocking turn return, at once or the next one. Safe from any thread, and from a signal
 * handler; the caller sees to it that the loop still lives. */
void loop_wake(struct loop *l);

/* A hook may remove itself, not others, while it runs. */
void loop_hook_add(struct loop *l, struct loop_hook *h, loop_hook_fn fn);
void loop_hook_remove(struct loop_hook *h);

/* Counts results that are being made off the loop: while there are any, the virtual clock stands
 * and a host's loop is kept alive. Loop thread only. */
void loop_busy_add(struct loop *l, int change);

/* Keeps a host's uv_run going as long as it is held. Loop thread only. */
void loop_hold(struct loop *l, bool held);

/* now + seconds, saturating at NEVER_NS; seconds must not be negative or NaN. */
uint64_t loop_deadline_ns(const struct loop *l, double seconds);

/* Raises the process's soft limit of open files to the hard one, as every transfer and every client
 * of a server takes a descriptor; the limit that then holds. */
size_t loop_raise_file_limit(void);
/* The soft limit as it is. */
size_t loop_file_limit(void);
