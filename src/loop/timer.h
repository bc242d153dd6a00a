/* Deadlines: an intrusive pairing heap, so that starting and stopping a timer never allocates and a
 * stopped timer may be freed at once (a uv_timer may not). Equal deadlines fire in the order in
 * which they were started. One heap per loop; loop.h owns the clock. */
#pragma once

#include "ground/base.h"

struct timer;
typedef void (*timer_fn)(struct timer *t);

struct timer {
    struct timer *child, *next, *prev; /* private to timer.c */
    uint64_t due_ns;                   /* read-only */
    uint64_t seq;                      /* private: order of start */
    bool active;                       /* read-only */
    bool is_due; /* private: taken out by timer_heap_take_due, not yet fired */
    timer_fn fn;
};

/* All zero is an empty heap. */
struct timer_heap {
    struct timer *root;
    struct timer *due_first, *due_last;
    uint64_t next_seq;
    size_t count; /* active timers, the due ones included */
};

void timer_init(struct timer *t, timer_fn fn);
/* `t` must not be active. */
void timer_heap_insert(struct timer_heap *h, struct timer *t, uint64_t due_ns);
/* Harmless on a timer that is not active. */
void timer_heap_remove(struct timer_heap *h, struct timer *t);
/* The earliest that has not been taken as due; NULL if there is none. */
struct timer *timer_heap_first(const struct timer_heap *h);

/* Firing is done in two steps, so that a timer which a callback starts in the past waits for the
 * next round instead of prolonging this one, while a due timer that a callback stops does not fire.
 * First: everything due at `now_ns` is set aside, in order. */
void timer_heap_take_due(struct timer_heap *h, uint64_t now_ns);
/* Then, until NULL: the next one set aside, no longer active; the caller runs its fn. */
struct timer *timer_heap_next_due(struct timer_heap *h);
