/* Admission: which transfers may be under way. Strictly first come, first served, in total and
 * for each host. A host at its limit does not delay the others. Nothing allocates. Does not know
 * transfers. */
#pragma once

#include "ground/base.h"
#include "ground/list.h"
#include "loop/timer.h"

struct admit_host {
    struct list waiting; /* waiting tickets, in order of arrival */
    size_t active;
    struct timer rank; /* private: its place among the hosts that may continue */
};

struct admit_ticket {
    struct list node; /* linked: it waits */
    struct admit_host *host;
    size_t host_limit; /* 0: no limit */
    uint64_t seq;
    bool held; /* it has a place */
};

struct admit {
    size_t max_total, active, waiting;
    uint64_t next_seq;
    struct timer_heap
        ready; /* hosts whose first ticket waits only for the limit in total, ordered by its seq */
};

void admit_init(struct admit *a, size_t max_total);
void admit_host_init(struct admit_host *h);
void admit_ticket_init(struct admit_ticket *t);
/* `h` and `t` must not move until admit_leave. */
void admit_enter(struct admit *a, struct admit_ticket *t, struct admit_host *h, size_t host_limit);
/* Gives the free place to the ticket that has waited longest for it, and sets its `held`. NULL: no
 * ticket can have a place now. */
struct admit_ticket *admit_next(struct admit *a);
/* Removes the ticket from the queue, or frees its place. Harmless if it has neither. */
void admit_leave(struct admit *a, struct admit_ticket *t);
