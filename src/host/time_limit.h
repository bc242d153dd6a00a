/* Limits how long a task may compute between two waits, and how long one leat_step takes. LuaJIT's
 * count hook enforces both: it yields out of the task if it can (no script can catch that), and
 * raises otherwise. Only for Lua states that leat owns. */
#pragma once

#include "lua/lua_rt.h"
#include <pthread.h>
#include <time.h>

struct time_limit {
    struct rt *rt; /* NULL: no limit is set */
    uint64_t limit_ns;
    bool watchdog;  /* compiled code is on, so a timer's signal sets the hook */
    bool has_timer; /* has its own timer for the end of a leat_step, besides the profiler's */
    timer_t timer;
    uint64_t armed_ns;         /* the time it is set to; NEVER_NS: not set */
    pthread_t thread;          /* the runtime's thread */
    _Atomic uint64_t due_ns;   /* watchdog: time at which the hook must be set; NEVER_NS: never */
    _Atomic uint64_t until_ns; /* end of the current leat_step; NEVER_NS: none */
    bool hooked;               /* the hook runs at each instruction */
    uint64_t outside_ns;       /* when Lua was last called outside any task */
    uint64_t began_ns;         /* start of this resume by the clock ... */
    uint64_t began_cpu_ns;     /* ... and by this thread's CPU time */
    uint64_t spent_ns;         /* time used in earlier slices */
    uint64_t sliced_id;        /* the task of those slices; 0: none */
};

/* Sets the limit for rt's state. Call it protected: it raises if memory runs out, and for a second
 * watchdog in the process. */
void time_limit_open(lua_State *L, struct time_limit *l, struct rt *rt, uint64_t limit_ns,
                     bool watchdog);
/* A step of the runtime begins. `until_ns`: its end by the real clock; NEVER_NS: no end. */
void time_limit_step(struct time_limit *l, uint64_t until_ns);
/* Restores the limit's hook after another hook was set. Does nothing without a limit. */
void time_limit_look_again(struct time_limit *l);
/* Call it before Lua is called outside any task: starts the time limit for that call. */
void time_limit_outside(struct time_limit *l);
/* The runtime closes: running code has only a moment left. */
void time_limit_hurry(struct time_limit *l);
/* Call it before lua_close. Harmless if time_limit_open was not called. */
void time_limit_close(struct time_limit *l, lua_State *L);
