/* The scheduler's record, which sched.c and the parts of a task (task_*.c) share. One per runtime,
 * its thread only. */
#pragma once

#include "ground/list.h"
#include "ground/log.h"
#include "loop/loop.h"
#include <lua.h>
#include <stdatomic.h>

struct task;

/* Told of what the tasks do, while it is set; runs no Lua that could wait. */
struct sched_watch {
    /* A wait is over (t->wait); may be NULL. */
    void (*waited)(struct sched_watch *w, const struct task *t, uint64_t now_ns);
    void (*ended)(struct sched_watch *w, struct task *t, uint64_t now_ns);
};

/* The last failure that was returned to a script. */
struct task_failure {
    uint64_t task; /* its id; 0: there was none */
    uint64_t turn; /* see sched_turn */
    int line;
    char what[24];             /* "request" */
    char shown[64], file[256]; /* of the script; no file: "" */
    char text[256];
};

struct sched {
    struct loop *loop;
    struct log *log;
    lua_State *L; /* the main state; tasks are threads of it */
    struct list ready;
    struct list tasks; /* all that have not ended */
    struct list late;  /* waits whose limit passed in this tick: decided after the ready ones ran */
    struct list doomed; /* cancels that came up during a cancel: each tree is walked in its turn */
    bool cancelling;
    struct task *running;
    uint64_t next_id;
    uint64_t
        pass_ns;     /* when this pass over the ready queue began: saves a clock reading per wait */
    size_t live;     /* tasks not ended */
    size_t timers;   /* active task timers */
    size_t external; /* things outside the tasks that may still wake one: servers, reads */
    bool (*busy)(void *arg); /* more such things, asked: transfers in flight; may be NULL */
    void *busy_arg;
    /* Pushes an error table; set by the bindings, which own its shape. */
    void (*push_err)(lua_State *L, const struct err *err);
    /* Pushes the text of the value on top, as tostring would if `ask`: else no Lua runs. */
    void (*push_text)(lua_State *L, bool ask);
    bool own_state; /* the Lua state is ours: the script's own coroutines may wait */
    bool closing;   /* tasks start no further ones */
    bool outside;   /* a host's own code runs: what it makes ready wakes its poll */
    uint64_t spawned;
    /* Twice the resumes that are over, and one more while a task runs: see sched_turn. */
    _Atomic uint64_t turn;
    const struct list *pass;      /* what is left of a pass over the ready queue; NULL: none */
    struct sched_watch *observer; /* NULL: none */
    /* Asked around each resume where computing is limited; may be NULL. */
    void (*before_resume)(struct sched *s, struct task *t);
    void (*after_resume)(struct sched *s, struct task *t);
    void *watch;    /* theirs */
    bool preempted; /* a coroutine of the script's own yielded by the limit, not by its own will */
    struct task_failure failure;
    /* Collections that running out of memory has led to, and for the next of them: the bytes in use
     * behind the last one, how often memory has run out since then, and how often it must. */
    uint64_t collections;
    size_t in_use;
    unsigned refusals, patience;
    bool left_behind; /* a task has ended by that since then */
};

/* A number for each turn of a task, odd while it runs. Any thread. */
static inline uint64_t sched_turn(const struct sched *s)
{
    return atomic_load_explicit(&s->turn, memory_order_relaxed);
}

/* Registry keys: numbers, so that reading them never allocates; negative, as the references that
 * others take in a host's registry are positive. */
enum {
    SCHED_KEY_ANCHORS = -0x1ea70,
    SCHED_KEY_BUGS,
    SCHED_KEY_TASK_META,
    SCHED_KEY_ERR_META,
    SCHED_KEY_PARKED,
    SCHED_KEY_CLEANUP,
    SCHED_KEY_SELF, /* the struct sched, as light userdata */
    SCHED_KEY_HUSK, /* a coroutine that never runs, for ended tasks */
    SCHED_KEY_STOP  /* the error of the task that has computed for too long */
};
