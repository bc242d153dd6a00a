/* Stops Lua code that never gives way, such as `while true do end`, after a Ctrl-C. For a state of
 * our own, and one runtime of the process: LuaJIT's profiler makes compiled code look up. */
#pragma once

#include "lua/lua_rt.h"
#include <stdatomic.h>

struct stopper {
    struct rt *rt;
    bool profiling;
    atomic_uint count; /* interrupts so far */
    /* The rest is the hook's. */
    uint64_t turn;     /* which turn of a task it watches */
    uint64_t since_ns; /* since when */
    unsigned spent;    /* the interrupt that it has acted on; read-only outside */
    unsigned stage;    /* what has been tried on it */
};

/* Raises (memory). */
void repl_stop_init(struct stopper *s, struct rt *rt);
/* Before code runs that is to be stopped: what was compiled earlier would not look up. */
void repl_stop_prepare(struct stopper *s, lua_State *L);
/* From a signal handler: a task that goes on for a fifth of a second without a wait is cancelled
 * where it stands; one that catches that is abandoned. */
void repl_stop_interrupt(struct stopper *s);
unsigned repl_stop_count(struct stopper *s);
/* Control is back in the loop. */
void repl_stop_disarm(struct stopper *s, lua_State *L);
void repl_stop_fini(struct stopper *s, lua_State *L);
