/* Deadlines in an intrusive pairing heap. Starting and stopping a timer never allocates. A stopped
 * timer may be freed at once (a uv_timer may not). Equal deadlines fire in the order in which they
 * were started. Each loop has one heap; loop.h owns the clock. */
#pragma once

#include "ground/base.h"

struct timer;
typedef void (*timer_fn)(struct timer *t);

struct timer {
    struct timer *child, *next, *prev; /* private to timer.c */
    uint64_t due_ns;                   /* read-only */
    uint64_t seq;                      /* private: order of start */
    bool active;                       /* read-only */
    bool is_due; /* private: timer_heap_take_due took it, and it has not fired yet */
    timer_fn fn;
};

/* A heap with all fields zero is empty. */
struct timer_heap {
    struct timer *root;
    struct timer *due_first, *due_last;
    uint64_t next_seq;
    size_t count; /* active timers, including the due ones */
};

void timer_init(struct timer *t, timer_fn fn);
/* `t` must not be active. */
void timer_heap_insert(struct timer_heap *h, struct timer *t, uint64_t due_ns);
/* Harmless if the timer is not active. */
void timer_heap_remove(struct timer_heap *h, struct timer *t);
/* The earliest timer that was not taken as due; NULL: there is none. */
struct timer *timer_heap_first(const struct timer_heap *h);

/* Timers fire in two steps. First, this function sets aside everything that is due at `now_ns`, in
 * order. A timer that a callback starts in the past then waits for the next round. A due timer that
 * a callback stops does not fire. */
void timer_heap_take_due(struct timer_heap *h, uint64_t now_ns);
/* Second step: returns the next timer that was set aside, which is no longer active; NULL: there
 * are no more. The caller runs its fn. */
struct timer *timer_heap_next_due(struct timer_heap *h);
