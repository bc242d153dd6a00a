/* A libuv loop with our own clock and deadlines. One uv_timer serves all deadlines, and the clock
 * can be virtual. A loop belongs to one thread; other threads may call only loop_wake.
 *
 * Callbacks (timers, polls, hooks) may only record what happened and wake tasks. No Lua runs
 * beneath loop_turn.
 *
 * Code that opens another uv handle on l->uv adds 1 to open_handles, and subtracts it in the close
 * callback. loop_fini waits for that. On a host's loop, our handles do not keep uv_run going. Work
 * that runs elsewhere and will report to the loop (a look-up, a file) keeps it going with
 * loop_busy_add. */
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

/* Runs on the loop's thread after any loop_wake. Helper threads deliver their results this way. */
struct loop_hook {
    struct list node;
    loop_hook_fn fn;
};

/* The virtual clock does not begin at 0, because many fields use 0 for "not yet". */
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
    atomic_bool woken; /* loop_wake was called since the last turn began to wait */
    uint64_t virtual_ns;
    uint64_t until_ns;     /* see loop_until */
    bool cut;              /* the last turn stopped at until_ns and left something to do */
    bool timers_first;     /* the last turn had no time for them */
    uint64_t event_ns;     /* an estimate of how long one event may take */
    uint64_t armed_ns;     /* the time uv_timer is set to; NEVER_NS: not set */
    unsigned open_handles; /* our handles that libuv has not closed yet */
    unsigned busy;         /* results that helper threads will still deliver */
    bool held;             /* see loop_hold */
};

/* `host`: the loop to use, borrowed until loop_fini returns; NULL: creates a loop. */
NODISCARD enum err_kind loop_init(struct loop *l, struct mem *mem, uv_loop_t *host, bool is_virtual,
                                  struct err *err);
/* Closes what loop_init opened, and runs the loop until libuv has closed it. On our own loop, every
 * other handle must be closed (or closing) before. Do not call it inside the host's uv_run. */
void loop_fini(struct loop *l);

/* Monotonic; the virtual time if the clock is virtual. Not cached: each call reads the clock. */
uint64_t loop_now_ns(const struct loop *l);
/* Seconds since 1970. A virtual clock begins at a fixed date, so that a run repeats exactly. */
double loop_date_s(const struct loop *l);

/* Runs one turn of the loop: I/O, then timers. `block`: waits until something happens, at most
 * until the next deadline. A virtual clock jumps to that deadline if a blocking turn has nothing to
 * do. It does not jump without a deadline or while helper threads work: then the turn waits in real
 * time. Timers never fire early. A timer that is started by a timer's callback never fires in the
 * same turn. The function may return without doing anything. */
void loop_turn(struct loop *l, bool block);
/* Sets the end of the time, by the real clock, in which turns deliver events and timers. A turn
 * delivers at least one of each, and leaves the others to the next turn (`cut`). NEVER_NS: no end.
 */
void loop_until(struct loop *l, uint64_t until_ns);
/* Call it beneath loop_turn, after an event that began at `began_ns`. True: this turn must deliver
 * no more events, because another one of this length would end too late. */
bool loop_cut(struct loop *l, uint64_t began_ns);
/* True if there is time for one more event. */
bool loop_has_time(const struct loop *l);
/* True if a turn of the loop would find something to do at once: a passed deadline or an event.
 * This is a system call. */
bool loop_has_event(const struct loop *l);
/* For a host that polls itself: how many milliseconds it may wait; -1: no limit. */
int loop_timeout_ms(const struct loop *l);

/* If `t` is already running, its deadline changes. */
void loop_timer_start(struct loop *l, struct timer *t, uint64_t due_ns);
void loop_timer_stop(struct loop *l, struct timer *t);

/* Makes the current or the next blocking turn return. May be called from any thread and from a
 * signal handler. The caller must make sure that the loop still exists. */
void loop_wake(struct loop *l);

/* While a hook runs, it may remove itself, but no other hook. */
void loop_hook_add(struct loop *l, struct loop_hook *h, loop_hook_fn fn);
void loop_hook_remove(struct loop_hook *h);

/* Counts results that are being produced outside the loop. While there are any, the virtual clock
 * stands still and a host's loop stays alive. Loop thread only. */
void loop_busy_add(struct loop *l, int change);

/* While held, a host's uv_run does not return. Loop thread only. */
void loop_hold(struct loop *l, bool held);

/* Now + seconds, at most NEVER_NS. `seconds` must not be negative or NaN. */
uint64_t loop_deadline_ns(const struct loop *l, double seconds);

/* Raises the soft limit of open files to the hard limit, because every transfer and every client of
 * a server needs a descriptor. Returns the limit that then applies. */
size_t loop_raise_file_limit(void);
/* The present soft limit. */
size_t loop_file_limit(void);
