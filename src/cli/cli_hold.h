/* Notices a task of the leat program that computes without waiting: warns if others are ready, and
 * stops the task after an interrupt. Hooks are not enough, because compiled code does not check
 * them. LuaJIT's profiler (one per process) makes compiled code check them every 10 ms. */
#pragma once

#include "host/time_limit.h"
#include <stdatomic.h>

enum hold_order {
    HOLD_NONE,
    HOLD_WARN,   /* report where it computes */
    HOLD_CANCEL, /* cancel it at its current instruction: a pcall may catch that */
    HOLD_ABANDON /* take it out of its coroutine: nothing can catch that */
};

enum { HOLD_PLACES = 64 };

struct hold {
    struct rt *rt;
    struct time_limit *limit;     /* its hook gives way to ours */
    _Atomic uint64_t turn;        /* the turn that the order refers to: see sched_turn */
    _Atomic unsigned order;       /* enum hold_order */
    _Atomic uint64_t cancelled;   /* the turn in which HOLD_CANCEL was last carried out; 0: never */
    _Atomic bool warned;          /* the interrupt's warning was given */
    uint64_t sampled_turn;        /* the turn of the last sample */
    uint64_t since_ns;            /* ... its start, by this thread's CPU time */
    bool reported;                /* ... and whether a warning was given */
    uint64_t places[HOLD_PLACES]; /* hashes of reported places: each is reported once */
    unsigned place_count;
};

/* Call it before any script runs: code compiled earlier would not check the hook. False: out of
 * memory. */
bool cli_hold_start(struct hold *h, struct rt *rt, struct time_limit *limit);
void cli_hold_stop(struct hold *h);
/* Gives an order for turn `turn`. Any thread may call it; cli_hold_obey must follow on the
 * runtime's thread. */
void cli_hold_give(struct hold *h, enum hold_order order, uint64_t turn);
/* Call it in a signal handler on the runtime's thread. */
void cli_hold_obey(struct hold *h);
