/* The scheduler's state, which sched.c and task_*.c share. There is one for each runtime, used by
 * its thread only. */
#pragma once

#include "ground/list.h"
#include "ground/log.h"
#include "loop/loop.h"
#include <lua.h>
#include <stdatomic.h>

struct task;

/* Optional observer of waits and ends of tasks. Its callbacks run no Lua that could wait. */
struct sched_watch {
    /* A wait (t->wait) has ended; may be NULL. */
    void (*waited)(struct sched_watch *w, const struct task *t, uint64_t now_ns);
    void (*ended)(struct sched_watch *w, struct task *t, uint64_t now_ns);
};

/* The last failure that a script received. */
struct task_failure {
    uint64_t task; /* the task's id; 0: there was no failure */
    uint64_t turn; /* see sched_turn */
    int line;
    char what[24];             /* "request" */
    char shown[64], file[256]; /* the place in the script; file "": unknown */
    char text[256];
};

struct sched {
    struct loop *loop;
    struct log *log;
    lua_State *L; /* the main state; each task is a thread of it */
    struct list ready;
    struct list tasks;  /* all tasks that have not ended */
    struct list late;   /* tasks whose wait reached its time limit in this tick: decided after the
                           ready tasks ran */
    struct list doomed; /* tasks whose cancel was requested during a cancel: each tree is cancelled
                           after it */
    bool cancelling;
    struct task *running;
    uint64_t next_id;
    uint64_t pass_ns;  /* when the current pass over the ready queue began; saves reading the clock
                          for each wait */
    uint64_t until_ns; /* of the step: see task_gives_way */
    size_t live;       /* the number of tasks that have not ended */
    size_t timers;     /* the number of active task timers */
    size_t external;   /* how many things outside the tasks may still wake one: servers, reads */
    bool (*busy)(void *arg); /* asks for more such things: transfers in flight; may be NULL */
    void *busy_arg;
    /* Pushes an error table. Set by the bindings, which define its fields. */
    void (*push_err)(lua_State *L, const struct err *err);
    /* Pushes the text of the value on top, with __tostring if `ask` is true. Otherwise it runs no
     * Lua. */
    void (*push_text)(lua_State *L, bool ask);
    bool own_state; /* the Lua state is ours, so coroutines that a script creates may wait */
    bool closing;   /* new tasks are refused */
    bool outside;   /* the host's own code runs: if it makes a task ready, it must wake the host's
                       poll */
    uint64_t spawned;
    /* Twice the number of finished resumes, plus one while a task runs: see sched_turn. */
    _Atomic uint64_t turn;
    const struct list
        *pass; /* the rest of the current pass over the ready queue; NULL: there is none */
    struct sched_watch *observer; /* NULL: none */
    /* Called before and after each resume if computing time is limited; may be NULL. */
    void (*before_resume)(struct sched *s, struct task *t);
    void (*after_resume)(struct sched *s, struct task *t);
    void *watch;    /* data of these two */
    bool preempted; /* a script's own coroutine was made to yield by the limit; it did not yield
                       itself */
    struct task_failure failure;
    /* For collections after an out-of-memory failure: how many there were, the bytes in use after
     * the last one, the failures since then, and how many failures lead to the next one. */
    uint64_t collections;
    size_t in_use;
    unsigned refusals, patience;
    bool left_behind; /* since then, such a failure has ended a task */
};

/* A number that changes with each turn of a task, and is odd while one runs. Any thread. */
static inline uint64_t sched_turn(const struct sched *s)
{
    return atomic_load_explicit(&s->turn, memory_order_relaxed);
}

/* Keys in the registry. They are numbers, so reading them never allocates. They are negative,
 * because other code in a host's registry uses positive references. */
enum {
    SCHED_KEY_ANCHORS = -0x1ea70,
    SCHED_KEY_BUGS,
    SCHED_KEY_TASK_META,
    SCHED_KEY_ERR_META,
    SCHED_KEY_PARKED,
    SCHED_KEY_CLEANUP,
    SCHED_KEY_SELF, /* the struct sched, as light userdata */
    SCHED_KEY_HUSK, /* a coroutine that never runs, for tasks that have ended */
    SCHED_KEY_STOP  /* the error of the task that exceeded its time limit */
};
