/* A task: a coroutine with a parent, children, a deadline and at most one wait. Tasks floor: knows
 * Lua and the loop, never curl. The struct lives in a Lua userdata whose environment table holds
 * the coroutine and, later, its results; the scheduler anchors it until the task has ended. All
 * calls: the runtime's thread only. */
#pragma once

#include "ground/list.h"
#include "loop/loop.h"
#include <lua.h>

struct task;
struct sched;

/* What the scheduler knows of a group of tasks: the beginning of struct group. */
struct group_head {
    struct task *owner; /* parent of the group's tasks; NULL once it has ended */
    /* A member has ended; wakes tasks, runs no Lua. */
    void (*ended)(struct group_head *g, struct task *t);
};

/* What a wait can do. Cancel and take are the only two ways a wait ends. */
struct wait_ops {
    const char *name; /* the public function, for tasks() and errors: "sleep", "request" */
    /* The task is cancelled while it waits, or after it was woken and before it ran
     * (t->wait.woken): give back everything the wait holds (queue place, permit, item, transfer).
     * True: done, the task is resumed with the cancel. False: the wait ends by itself soon (it
     * waits for children that are being cancelled too). Allocates nothing, runs no Lua. NULL:
     * nothing to give back. */
    bool (*cancel)(struct task *t);
    /* The task runs again after task_wake: push the results on L, return their number; may raise.
     */
    int (*take)(lua_State *L, struct task *t);
    /* The wait's timer fired and nothing else had woken the task when the ready tasks of that tick
     * had run. NULL: the task is woken at once, with wait.timed_out set. */
    void (*expired)(struct task *t);
    /* What is waited for, for tasks(): writes a few words to out; NULL: only the name is shown. */
    void (*describe)(struct task *t, char *out, size_t size);
    /* Waits for children: begins even under a pending cancel, and then `cancel` is asked at once.
     */
    bool joins;
    /* The take tells by itself what a cancel means here (a shield hands out its result first). */
    bool survives_cancel;
};

struct wait {
    const struct wait_ops *ops; /* NULL: not parked */
    void *obj;                  /* the ops' own */
    struct list node;           /* a place in a waiting line; unlinked by wake and cancel */
    struct timer timer;         /* sleep, or the wait's own timeout */
    uint64_t since_ns;          /* exact where a timer runs, else the start of the pass */
    bool woken;                 /* the result is there, the task has not run yet */
    bool timed_out;             /* the timer ended the wait */
    bool cancelled;             /* the task runs again only to raise the cancel */
    bool dropped;               /* ops->cancel is asked because the task goes on without it */
    int64_t number;             /* the ops' own */
};

enum task_state {
    TASK_READY,   /* in the ready queue */
    TASK_RUNNING, /* its Lua is on the stack */
    TASK_PARKED,
    TASK_JOINING, /* its body has ended, children live */
    TASK_ENDED
};

enum task_outcome { OUTCOME_NONE, OUTCOME_OK, OUTCOME_FAILED, OUTCOME_BUG, OUTCOME_CANCELLED };

/* Slots of a task's environment table. Allocated at birth, so that filling one never fails. */
enum task_slot {
    SLOT_CO = 1,    /* the coroutine; its stack holds the results in the end */
    SLOT_KEEP,      /* a value that the present wait keeps alive */
    SLOT_ITEM,      /* another: what it brings along */
    SLOT_BUG_CHILD, /* the child whose bug ends this task */
    SLOT_CANCEL,    /* the error that this task's cancel raises, the same each time */
    SLOT_BUG_VALUE, /* a bug seen on its way through, and ... */
    SLOT_BUG_TRACE, /* ... the traceback of where it began */
    SLOT_CLEANUPS,  /* stack of clean-ups to run if the task is abandoned */
    SLOT_NAME,      /* a name, or the function to name it after */
    SLOT_COUNT = SLOT_NAME
};

/* Called once when the task has ended, or is abandoned; may wake tasks, runs no Lua. */
struct task_hook {
    struct list node;
    void (*fn)(struct task_hook *hook, struct task *t);
};

struct task {
    struct list node;    /* ready queue */
    struct list late;    /* sched->late */
    struct list doomed;  /* sched->doomed */
    struct list all;     /* sched->tasks */
    struct list sibling; /* parent->children, or parent->failed once ended with a held failure */
    struct list children;
    struct list failed; /* ended children whose failure nobody has taken yet */
    struct list hooks;
    struct list waiters; /* tasks in await on this one, by wait.node */
    struct task *parent; /* NULL: a root */
    struct sched *sched;
    lua_State *co;
    uint64_t id;
    enum task_state state;
    enum task_outcome outcome;
    uint64_t deadline_ns; /* NEVER_NS: none */
    uint64_t shield_ns;   /* end of the enclosing shield, for nested ones; NEVER_NS: none */
    struct wait wait;
    int anchor;               /* reference in the scheduler's table; 0: none */
    struct group_head *group; /* whose finished list takes it; NULL: none */
    struct list group_node;
    int64_t group_index; /* the group's own */
    struct task
        *outcome_from; /* the child whose outcome became this task's; kept by SLOT_BUG_CHILD */

    bool started;
    bool cancel_requested;
    bool shielded;  /* a cancel from above stops here until its own limit */
    bool member;    /* of a group, even if the collector has taken that */
    bool awaited;   /* someone waited for it when it ended */
    bool observed;  /* someone has taken its outcome */
    bool sliced;    /* yielded by the step's end: it goes on first of all, where it was */
    bool starved;   /* memory ran out in it, and it may have left clean-ups undone */
    bool broken;    /* ended by that, without memory for its error, which is made when asked for */
    bool stopped;   /* computed beyond its limit: never resumed again, whatever it catches */
    bool abandoned; /* swallowed its cancel for too long: never resumed again */
    bool refused;   /* its wait could not be; SLOT_KEEP says why, and the take raises that */
    bool has_bug_child;
    bool raised;              /* the body ended by a raise */
    bool stray_yield;         /* the body yielded outside any coroutine of its own */
    bool trace_complete;      /* SLOT_BUG_TRACE holds this task's own frames too */
    unsigned swallowed;       /* cancels raised and survived */
    uint64_t cancelled_at_ns; /* first delivery */
    uint64_t born_ns;         /* only where the scheduler is watched */
    char cancel_reason[80];   /* a longer one ends in "..." */
};

/* The wait has its result: the task goes to the end of the ready queue. Harmless if it was woken
 * already. Never runs Lua, never allocates. */
void task_wake(struct task *t);
/* Takes a wake back: the task waits on. Only from its ops' cancel. */
void task_unwake(struct task *t);
/* Requests a cancel of `t` and of everything below it that is not shielded. `reason` may be NULL.
 * Safe from poll and timer callbacks. */
void task_cancel(struct task *t, const char *reason);
void task_hook_add(struct task *t, struct task_hook *hook);
void task_hook_remove(struct task_hook *hook);

/* Starts the wait's timer (due_ns NEVER_NS: none). */
void task_wait_timer(struct task *t, uint64_t due_ns);
/* Makes since_ns exact and starts the timer `seconds` after it; infinity: none. */
void task_wait_seconds(struct task *t, double seconds);
/* Ends the wait record of a task that is about to run, or whose wait was cancelled. */
void task_wait_end(struct task *t);

/* Pushes the task's userdata or one of its slots; nil for a task that has ended and is anchored no
 * more, unless it ended with a bug, whose traceback may still be asked for. */
void task_push(lua_State *L, struct task *t);
void task_push_slot(lua_State *L, struct task *t, enum task_slot slot);
/* Pops a value into a slot. Never allocates. */
void task_set_slot(lua_State *L, struct task *t, enum task_slot slot);
/* Pushes the task's name: the one given, or "file:line" of its function. */
void task_push_name(lua_State *L, struct task *t);
/* The same for the task whose userdata is at `index`, ended or not. */
void task_push_name_of(lua_State *L, int index);
/* A word for scripts: new, ready, running, waiting, joining, ok, failed, raised, cancelled. */
const char *task_status(const struct task *t);
/* Writes "file:line" of the first frame of `L` outside leat's own modules, or "?". */
void task_where(lua_State *L, char *out, size_t size);
/* The same for L within `t`. Where the script's function is gone, having returned what it called,
 * it is the line that the task's function begins in. */
void task_where_in(lua_State *L, struct task *t, char *out, size_t size);
/* The place to name in a message about wrong use: as task_where, but if L has no frame of the
 * script's, as in a task of spawn(sleep, "x"), the place where the function of the task was
 * written, or where the task above it is. */
void task_blame(lua_State *L, char *out, size_t size);
