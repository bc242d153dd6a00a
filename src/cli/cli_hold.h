/* Notices a task of the leat program that does not give way: warns while others are ready, and
 * stops it after an interrupt. Hooks alone would not do, because compiled code does not look at
 * them; LuaJIT's profiler, of which a process has one, makes it look every 10 ms. */
#pragma once

#include "host/time_limit.h"
#include <stdatomic.h>

enum hold_order {
    HOLD_NONE,
    HOLD_WARN,   /* say where it computes */
    HOLD_CANCEL, /* cancel it where it stands: a pcall may catch that */
    HOLD_ABANDON /* take it out of its coroutine: nothing can catch that */
};

enum { HOLD_PLACES = 64 };

struct hold {
    struct rt *rt;
    struct time_limit *limit;     /* its hook stands aside for ours */
    _Atomic uint64_t turn;        /* the turn that the order is about: see sched_turn */
    _Atomic unsigned order;       /* enum hold_order */
    _Atomic bool warned;          /* of the interrupt, by the hook or by whoever gives the orders */
    uint64_t sampled_turn;        /* which turn the samples have seen */
    uint64_t since_ns;            /* ... since when, by what the thread has computed */
    bool told;                    /* ... and whether that was said */
    uint64_t places[HOLD_PLACES]; /* hashes of those that were named: each is named once */
    unsigned place_count;
};

/* Before any script runs: what was compiled earlier would not look up. False: no memory. */
bool cli_hold_start(struct hold *h, struct rt *rt, struct time_limit *limit);
void cli_hold_stop(struct hold *h);
/* Gives an order about turn `turn`. Any thread; cli_hold_obey must follow on the runtime's. */
void cli_hold_give(struct hold *h, enum hold_order order, uint64_t turn);
/* From a signal handler on the runtime's thread. */
void cli_hold_obey(struct hold *h);
