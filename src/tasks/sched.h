/* The scheduler: the ready queue, the tree of tasks, and the only lua_resume in the project. */
#pragma once

#include "ground/log.h"
#include "tasks/task.h"
#include <stdatomic.h>

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
};

/* Prepares the registry of L. May raise (memory): call in a protected context. */
void sched_init(struct sched *s, struct loop *loop, struct log *log, lua_State *L, bool own_state);

/* Keeps the value on top of the stack, which is popped, from being collected: its number. May raise
 * (memory). */
int sched_keep(lua_State *L);
/* Puts the value on top of the stack, which is popped, in the place of a kept one; pushes a kept
 * one (nil for LUA_NOREF); lets go of one (LUA_NOREF: of none). None of them allocates, so that
 * they may be called outside of a protected call. luaL_unref with the registry may: it adds a key.
 */
void sched_set_kept(lua_State *L, int ref);
void sched_push_kept(lua_State *L, int ref);
void sched_drop_kept(lua_State *L, int ref);
/* Creates a task for the function and `nargs` arguments on top of L (popped), and pushes its
 * userdata. It starts when the ready queue reaches it. `parent` NULL: a root. May raise (memory,
 * closing). */
struct task *task_spawn(lua_State *L, struct sched *s, struct task *parent, int nargs);

/* The running task; raises (naming `who`) when called outside one. */
struct task *task_current(lua_State *L, struct sched *s, const char *who);

/* Parks the running task: checks that this spot may wait (raises with what to do if not), records
 * the wait and yields; use as `return task_park(L, s, &ops, ...)`. A pending cancel wakes it at
 * once, and unless ops->joins neither `begin` nor `ops` is asked then. `begin` runs when the wait
 * really begins: link t->wait.node and start the timer there; may be NULL. Raises nothing after the
 * check. */
int task_park(lua_State *L, struct sched *s, const struct wait_ops *ops, void *obj,
              void (*begin)(struct task *t, void *arg), void *arg);
/* Raises unless the running task may wait at this spot. task_park does it too; call it earlier
 * where something would have to be undone. */
void task_check_can_wait(lua_State *L, struct sched *s, const char *who);
/* The other end of a park, called in the task when it runs again: the results, or the cancel
 * raised. */
int task_take(lua_State *L, struct sched *s);
/* Raises the cancel of the running task, the same error each time. */
int task_raise_cancel(lua_State *L, struct task *t);
/* The same where a coroutine of the script's own was found to wait at a spot, on L, that cannot:
 * the take that it comes to when it is resumed raises what task_check_can_wait does. */
void task_refuse(lua_State *L, struct sched *s);
/* Gives the running task's wait back where it is not taken: this spot cannot yield, or an error
 * came first. Nothing to do without a wait. */
void task_unpark(struct sched *s);

/* Runs ready tasks: all that are ready now and those that they wake, up to a bound, then decides
 * the limits that passed in this tick. Stops early past `until_ns`. False: nothing was ready. */
bool sched_run_ready(struct sched *s, uint64_t until_ns);
/* Tasks live, nothing is ready, and nothing can ever make anything ready. */
bool sched_is_stuck(const struct sched *s);
/* A number for each turn of a task, odd while it runs. Any thread. */
static inline uint64_t sched_turn(const struct sched *s)
{
    return atomic_load_explicit(&s->turn, memory_order_relaxed);
}
/* While a task runs: others are ready, or would be if the loop turned. */
bool sched_others_wait(const struct sched *s);
/* After a failure for want of memory outside of any task: collects what is garbage, which LuaJIT
 * does not do then. */
void sched_collect(struct sched *s);

/* Pushes the outcome of an ended task: its values for OUTCOME_OK; nil, err for a failure or a
 * cancel. For a bug pushes the raised value alone. Returns the number of values. May raise
 * (memory). */
int task_push_outcome(lua_State *L, struct task *t);
/* The error that the cancel of `t` stands for. */
void task_cancel_err(const struct task *t, struct err *e);
/* Pushes one value of it: the first result, the error, or the raised value. */
void task_push_first(lua_State *L, struct task *t);
/* Pushes the traceback of an ended task's bug, those of the tasks it came through included. */
void task_push_trace(lua_State *L, struct task *t);
/* Raises the bug of the ended task `from` in the running task, with its traceback noted. */
int task_raise_bug(lua_State *L, struct sched *s, struct task *from);
/* The error value on top of L is being raised in the running task and its frames on `L` are about
 * to be lost: keeps their traceback if it is a bug. */
void task_note_trace(lua_State *L, struct sched *s, lua_State *of);
/* A script is being handed the error on top of L by `what`: see struct task_failure. */
void task_note_failure(lua_State *L, struct sched *s, const char *what);
/* The message of a bug in that task, with the failure that has led to it: pushed and returned;
 * NULL, and nothing is pushed, if none has. May raise (memory). */
const char *task_push_cause(lua_State *L, struct sched *s, uint64_t task, const char *message);
/* Its failure was taken by someone: the parent need not report it. */
void task_observe(struct task *t);
/* The value at `index` is an error table of ours (it has the metatable in the registry). */
bool task_is_err(lua_State *L, int index);

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
    SCHED_KEY_STOP  /* the error of the task that has computed for too long */
};
