/* A task: a coroutine with a parent, children, a deadline and at most one wait. This floor knows
 * Lua and the loop, but not libcurl. The struct lives in a Lua userdata. The userdata's environment
 * table holds the coroutine and, later, its results. The scheduler keeps the userdata from being
 * collected until the task has ended. All functions: the runtime's thread only. */
#pragma once

#include "ground/list.h"
#include "loop/loop.h"
#include <lua.h>

struct task;
struct sched;

/* The part of a group that the scheduler knows: the beginning of struct group. */
struct group_head {
    struct task *owner; /* the parent of the group's tasks; NULL after it has ended */
    /* A member has ended. Wakes tasks and runs no Lua. */
    void (*ended)(struct group_head *g, struct task *t);
};

/* The operations of a kind of wait. A wait ends only by `cancel` or `take`. */
struct wait_ops {
    const char *name; /* the public function, for tasks() and messages: "sleep", "request" */
    /* The task was cancelled while it waited, or after it was woken and before it ran
     * (t->wait.woken). Give back all that the wait holds (a place in a line, a permit, an item, a
     * transfer). True: done; the task is resumed with the cancel. False: the wait will end soon by
     * itself, because it waits for children that are also being cancelled. Must not allocate or run
     * Lua. NULL: there is nothing to give back. */
    bool (*cancel)(struct task *t);
    /* The task runs again after task_wake. Push the results on L and return their number. May
     * raise. */
    int (*take)(lua_State *L, struct task *t);
    /* The wait's timer fired, and nothing else has woken the task by the time the ready tasks of
     * that tick have run. NULL: the task is woken at once, with wait.timed_out set. */
    void (*expired)(struct task *t);
    /* Writes a few words to `out` about what the task waits for, for tasks(). NULL: only the name
     * is shown. */
    void (*describe)(struct task *t, char *out, size_t size);
    /* It waits for children. Such a wait begins even if a cancel is pending; `cancel` is then
     * called at once. */
    bool joins;
    /* `take` handles a cancel itself (a shield first returns its result). */
    bool survives_cancel;
};

struct wait {
    const struct wait_ops *ops; /* NULL: the task does not wait */
    void *obj;                  /* data of the ops */
    struct list node;           /* its place in a line; unlinked by wake and cancel */
    struct timer timer;         /* the end of a sleep, or the wait's own timeout */
    uint64_t since_ns; /* when it began: exact if it has a timer, otherwise the start of the pass */
    bool woken;        /* the result is ready, but the task has not run yet */
    bool timed_out;    /* the timer ended the wait */
    bool cancelled;    /* the task will run only to raise the cancel */
    bool dropped;      /* ops->cancel is called because the task continues without this wait */
    int64_t number;    /* data of the ops */
};

enum task_state {
    TASK_READY,   /* in the ready queue */
    TASK_RUNNING, /* its Lua code runs */
    TASK_PARKED,
    TASK_JOINING, /* its body has ended, but some children have not */
    TASK_ENDED
};

enum task_outcome { OUTCOME_NONE, OUTCOME_OK, OUTCOME_FAILED, OUTCOME_BUG, OUTCOME_CANCELLED };

/* Slots of a task's environment table. They are allocated with the task, so setting one never
 * fails. */
enum task_slot {
    SLOT_CO = 1,    /* the coroutine; when it has ended, its stack holds the results */
    SLOT_KEEP,      /* a value that must live as long as the present wait */
    SLOT_ITEM,      /* another such value: what the wait passes on, such as a queue's item */
    SLOT_BUG_CHILD, /* the child whose outcome becomes this task's */
    SLOT_CANCEL,    /* the error that a cancel of this task raises; always the same object */
    SLOT_BUG_VALUE, /* the value of a bug that passed through this task, and ... */
    SLOT_BUG_TRACE, /* ... the traceback of its origin */
    SLOT_CLEANUPS,  /* a stack of clean-ups, which run if the task is abandoned */
    SLOT_NAME,      /* its name, or the function that it is named after */
    SLOT_COUNT = SLOT_NAME
};

/* Called once, when the task has ended or is abandoned. May wake tasks; runs no Lua. */
struct task_hook {
    struct list node;
    void (*fn)(struct task_hook *hook, struct task *t);
};

struct task {
    struct list node;    /* the ready queue */
    struct list late;    /* sched->late */
    struct list doomed;  /* sched->doomed */
    struct list all;     /* sched->tasks */
    struct list sibling; /* parent->children; or parent->failed, if it has ended with a failure that
                            nobody took */
    struct list children;
    struct list failed; /* ended children with a failure that nobody took yet */
    struct list hooks;
    struct list waiters; /* tasks that wait for this one in await, linked by wait.node */
    struct task *parent; /* NULL: a root */
    struct sched *sched;
    lua_State *co;
    uint64_t id;
    enum task_state state;
    enum task_outcome outcome;
    uint64_t deadline_ns; /* NEVER_NS: none */
    uint64_t shield_ns;   /* the end of the enclosing shield, for nested shields; NEVER_NS: none */
    struct wait wait;
    int anchor; /* the reference that keeps its userdata from being collected; 0: none */
    struct group_head *group; /* the group that will list it as finished; NULL: none */
    struct list group_node;
    int64_t group_index;       /* data of the group */
    struct task *outcome_from; /* the child whose outcome this task took over; kept alive by
                                  SLOT_BUG_CHILD */

    bool started;
    bool cancel_requested;
    bool shielded;  /* a cancel of an ancestor does not pass this task until its own limit */
    bool member;    /* it belongs to a group, or did until the group was collected */
    bool awaited;   /* a task waited for it when it ended */
    bool observed;  /* someone has taken its outcome */
    bool sliced;    /* the end of the step made it yield: it continues first, at the same place */
    bool starved;   /* an allocation failed in it, so it may not have run its clean-ups */
    bool broken;    /* it ended because of that, without memory for the error, which is created on
                       demand */
    bool stopped;   /* it exceeded its time limit: never resumed again, whatever it catches */
    bool abandoned; /* it caught its cancel for too long: never resumed again */
    bool refused;   /* its wait was not allowed: SLOT_KEEP has the reason, which the take raises */
    bool has_bug_child;
    bool raised;              /* the body ended with a raised error */
    bool stray_yield;         /* the body called coroutine.yield outside a coroutine of its own */
    bool trace_complete;      /* SLOT_BUG_TRACE includes the frames of this task */
    unsigned swallowed;       /* how many of its cancels were raised and caught */
    uint64_t cancelled_at_ns; /* when the cancel was first raised */
    uint64_t born_ns;         /* only set if the scheduler has an observer */
    char cancel_reason[80];   /* a longer reason is cut and ends in "..." */
};

/* The result of the wait is ready: puts the task at the end of the ready queue. Harmless if it is
 * already there. Runs no Lua and never allocates. */
void task_wake(struct task *t);
/* Undoes a wake, so that the task continues to wait. Only from the `cancel` of its ops. */
void task_unwake(struct task *t);
/* Requests a cancel of `t` and of all its descendants that are not shielded. `reason` may be NULL.
 * May be called from poll and timer callbacks. */
void task_cancel(struct task *t, const char *reason);
void task_hook_add(struct task *t, struct task_hook *hook);
void task_hook_remove(struct task_hook *hook);

/* Starts the timer of the wait. due_ns NEVER_NS: no timer. */
void task_wait_timer(struct task *t, uint64_t due_ns);
/* Sets since_ns to the exact time and starts the timer `seconds` later. Infinity: no timer. */
void task_wait_seconds(struct task *t, double seconds);
/* Clears the wait of a task that is about to run, or whose wait was cancelled. */
void task_wait_end(struct task *t);

/* Pushes the task's userdata, or one of its slots. If the task has ended and is no longer kept,
 * pushes nil. Exception: a task that ended with a bug, whose traceback may still be asked for. */
void task_push(lua_State *L, struct task *t);
void task_push_slot(lua_State *L, struct task *t, enum task_slot slot);
/* Pops a value into a slot. Never allocates. */
void task_set_slot(lua_State *L, struct task *t, enum task_slot slot);
/* Pushes the task's name: the one it was given, or "file:line" of its function. */
void task_push_name(lua_State *L, struct task *t);
/* The same for the task whose userdata is at `index`. It may have ended. */
void task_push_name_of(lua_State *L, int index);
/* The status as a word for scripts: new, ready, running, waiting, joining, ok, failed, raised,
 * cancelled. */
const char *task_status(const struct task *t);
/* Writes "file:line" of the first frame of `L` outside leat's own modules, or "?". */
void task_where(lua_State *L, char *out, size_t size);
/* The same for the task `t`, which runs L. If the script's function has left the stack by a tail
 * call, it is the line where the task's function begins. */
void task_where_in(lua_State *L, struct task *t, char *out, size_t size);
/* The place to name in a message about wrong use: as task_where. If L has no frame of the script,
 * as in spawn(sleep, "x"), it is the place where the task's function was written, or the place of
 * the task's parent. */
void task_blame(lua_State *L, char *out, size_t size);
