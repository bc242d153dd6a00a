/* After a Ctrl-C, stops Lua code that never waits, such as `while true do end`. Only for a Lua
 * state of leat's own, and for one runtime per process: it uses LuaJIT's profiler to interrupt
 * compiled code. */
#pragma once

#include "lua/lua_rt.h"
#include <stdatomic.h>

struct stopper {
    struct rt *rt;
    bool profiling;
    atomic_uint count; /* number of interrupts so far */
    /* Only the hook uses the rest. */
    uint64_t turn;     /* the turn of a task that it watches */
    uint64_t since_ns; /* start of the measured time */
    unsigned spent;    /* the last interrupt that it has handled; read-only outside */
    unsigned stage;    /* the steps tried so far to stop the task */
};

/* Raises (memory). */
void repl_stop_init(struct stopper *s, struct rt *rt);
/* Call it before the code to be stopped runs: code compiled earlier would not check the hook. */
void repl_stop_prepare(struct stopper *s, lua_State *L);
/* Call it in a signal handler. A task that continues for a fifth of a second without a wait is
 * cancelled at its current instruction; if it catches that, it is abandoned. */
void repl_stop_interrupt(struct stopper *s);
unsigned repl_stop_count(struct stopper *s);
/* Call it when control is back in the loop. */
void repl_stop_disarm(struct stopper *s, lua_State *L);
void repl_stop_fini(struct stopper *s, lua_State *L);
