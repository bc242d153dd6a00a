/* A group of tasks. One waiter collects their ends, in the order in which they ended. gather, map,
 * race and the nursery are loops over a group. The struct lives in a Lua userdata. */
#pragma once

#include "tasks/task.h"

struct group {
    struct group_head head;
    struct sched *sched;
    struct task_hook owner_hook;
    struct list running;  /* linked by group_node */
    struct list finished; /* linked by group_node; their userdata is kept until they are taken */
    size_t running_count;
    struct list waiters; /* tasks that wait for a member's end, linked by wait.node */
    bool adopted;        /* some are not children of the owner: its cancel does not reach them */
    bool closing;        /* the group was cancelled; a task that is added now is cancelled too */
    void (*on_end)(void *arg); /* called when a member ends; may be NULL */
    void *on_end_arg;
};

void group_init(struct group *g, struct task *owner);
/* Called when the userdata is collected. Members that still run stay with their parent. */
void group_fini(struct group *g);
void group_add(struct group *g, struct task *t);
/* Adds a task that already runs: a child of the owner or of an ancestor of the owner. False: it is
 * not such a child, has ended, or is in a group. */
bool group_adopt(struct group *g, struct task *t);
/* Returns the next finished task; NULL: none at present. The caller pushes it and then calls
 * sched_observe, which drops the reference that kept it. */
struct task *group_take(struct group *g);
/* Cancels all members, and every task that is added later. */
void group_cancel(struct group *g, const char *reason);
/* Call it if a waiter was woken but did not take the finished task: wakes the next waiter. */
void group_pass_on(struct group *g);
