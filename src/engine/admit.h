/* Admission: who may have one of the places inside libcurl. First come, first served
 * in total and within each host; a host that is full does not hold up the others. Nothing
 * allocates; knows nothing of transfers. */
#pragma once

#include "ground/base.h"
#include "ground/list.h"
#include "loop/timer.h"

struct admit_host {
    struct list waiting; /* tickets, in order of arrival */
    size_t active;
    struct timer rank; /* private: place among the hosts that may go on */
};

struct admit_ticket {
    struct list node; /* linked: waiting */
    struct admit_host *host;
    size_t host_limit; /* 0: none */
    uint64_t seq;
    bool held; /* has a place */
};

struct admit {
    size_t max_total, active, waiting;
    uint64_t next_seq;
    struct timer_heap ready; /* hosts whose first ticket only waits for the total, by its seq */
};

void admit_init(struct admit *a, size_t max_total);
void admit_host_init(struct admit_host *h);
void admit_ticket_init(struct admit_ticket *t);
/* `h` and `t` stay where they are until admit_leave. */
void admit_enter(struct admit *a, struct admit_ticket *t, struct admit_host *h, size_t host_limit);
/* Gives the place that is free to the one who waits longest for it: `held` is set. NULL: nobody can
 * go on now. */
struct admit_ticket *admit_next(struct admit *a);
/* Leaves the queue, or gives the place back. Harmless for a ticket that has neither. */
void admit_leave(struct admit *a, struct admit_ticket *t);
