/* A group: tasks whose ends are collected by one waiter, in the order in which they ended. gather,
 * map, race and the nursery are loops over it. The struct lives in a Lua userdata. */
#pragma once

#include "tasks/task.h"

struct group {
    struct group_head head;
    struct sched *sched;
    struct task_hook owner_hook;
    struct list running;  /* by group_node */
    struct list finished; /* by group_node; anchored until taken */
    size_t running_count;
    struct list waiters; /* tasks that wait for an end, by wait.node */
    bool adopted;        /* some are not the owner's own children: its cancel does not reach them */
    bool closing;        /* cancelled as a whole, and what is still added with it */
    void (*on_end)(void *arg); /* told of each member's end; may be NULL */
    void *on_end_arg;
};

void group_init(struct group *g, struct task *owner);
/* The collector took the userdata: whatever still runs is left to its parent. */
void group_fini(struct group *g);
void group_add(struct group *g, struct task *t);
/* The same for a task that runs already, a child of the owner or of a task above it. False: it is
 * another's, has ended, or is in a group. */
bool group_adopt(struct group *g, struct task *t);
/* The next finished task; NULL: none now. Push it, then sched_observe lets go of its anchor. */
struct task *group_take(struct group *g);
/* Cancels what runs, and whatever is added from now on. */
void group_cancel(struct group *g, const char *reason);
/* An end that a waiter was woken for is still there: the next one in line may have it. */
void group_pass_on(struct group *g);
