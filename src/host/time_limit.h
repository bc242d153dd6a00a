/* How long a task may compute between two waits, and how long one leat_step: enforced by LuaJIT's
 * count hook, which yields out of the task where it can (nothing catches that) and raises where it
 * cannot. For a Lua state of our own. */
#pragma once

#include "lua/lua_rt.h"
#include <pthread.h>
#include <time.h>

struct time_limit {
    struct rt *rt; /* NULL: no limit is set */
    uint64_t limit_ns;
    bool watchdog;  /* compiled code runs; a timer's signal sets the hook */
    bool has_timer; /* ... one of ours at the end of a leat_step, beside the profiler's */
    timer_t timer;
    uint64_t armed_ns;         /* what it is set to; NEVER_NS: not set */
    pthread_t thread;          /* the runtime's */
    _Atomic uint64_t due_ns;   /* watchdog: when the hook is to be set; NEVER_NS: not */
    _Atomic uint64_t until_ns; /* end of the present leat_step; NEVER_NS: none */
    bool hooked;               /* each instruction is looked at */
    uint64_t outside_ns;       /* when Lua was last called outside any task */
    uint64_t began_ns;         /* of this resume: by the clock, and ... */
    uint64_t began_cpu_ns;     /* ... by what this thread has computed */
    uint64_t spent_ns;         /* in the slices before this one */
    uint64_t sliced_id;        /* whose they were; 0: nobody's */
};

/* Sets the limit for rt's state. In a protected call; raises where memory runs out, and for a
 * second watchdog in the process. */
void time_limit_open(lua_State *L, struct time_limit *l, struct rt *rt, uint64_t limit_ns,
                     bool watchdog);
/* A step of the runtime begins; `until_ns` by the real clock, NEVER_NS: it is not cut short. */
void time_limit_step(struct time_limit *l, uint64_t until_ns);
/* The hook is the limit's again, after another one has stood in its place. Without a limit:
 * nothing. */
void time_limit_look_again(struct time_limit *l);
/* Lua is about to be called outside any task, for as long as the limit allows. */
void time_limit_outside(struct time_limit *l);
/* The runtime closes: what computes now has only a moment left. */
void time_limit_hurry(struct time_limit *l);
/* Before lua_close; harmless if time_limit_open was not called. */
void time_limit_close(struct time_limit *l, lua_State *L);
