/* State shared by the bindings: one struct per runtime. Every C function has it as its first
 * upvalue. */
#pragma once

#include "engine/engine.h"
#include "ground/log.h"
#include "ground/mem.h"
#include "loop/loop.h"
#include "tasks/sched.h"
#include "tasks/task_outcome.h"
#include "tasks/task_wait.h"
#include <lauxlib.h>
#include <lua.h>

/* The field of our own metatables that says how their tables are converted to JSON and for a host:
 * "array", "list" (`n` items, some may be missing), "object" (whole numbers may be keys), "error"
 * (its `response` is left out). Any other text is the reason why they cannot be converted. */
#define JSON_FORM_FIELD "__leat_json"

struct rt {
    struct mem mem;
    struct log log;
    struct loop loop;
    struct engine *engine;
    struct sched sched;
    lua_State *L;
    struct transfer *draft; /* a binding fills it; if that raised, the next binding frees it */
    struct list spare;      /* transfers kept for the next requests, by event_node */
    unsigned spare_count;
    struct list streams;          /* lua_stream.c: streams that have a transfer */
    struct list servers;          /* lua_serve.c: open servers, closed with the runtime */
    unsigned virtual_ports;       /* lua_serve_simulate.c: ports used so far under virtual time */
    size_t file_calls;            /* lua_file.c: calls that run on libuv's threads */
    struct lua_lines *lines;      /* lua_lines.c: the writers; NULL: no writer was ever made */
    size_t lost;                  /* writers that lost lines which they had accepted */
    _Atomic size_t graceful_runs; /* runs that end by themselves when leat.stopping is set */
    struct host *host;     /* state of src/host: host functions, and tasks that the host starts */
    struct record *record; /* NULL: nothing is recorded */
    size_t missed;         /* number of thresholds, stated by a script, that were missed */
    bool concluded;        /* the outcome of the pipelines was reported: see runtime_conclude */
    bool virtual_time;
    bool restricted;   /* scripts are in the sandbox */
    uint64_t rng[4];   /* the runtime's random numbers, repeatable by seed */
    bool repeatable;   /* a seed was given, or time is virtual: identifiers come from rng too */
    unsigned deferred; /* number of deferred finalizers: see rt_run_deferred */
    bool in_alloc;     /* the host's allocator is running */
    bool closed;       /* the host's Lua state is closing; the runtime has nothing open any more */
    bool exit_requested;
    int exit_code;
};

/* The runtime of the C function that runs on L. */
static inline struct rt *rt_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Sets `fns` (ended by {NULL, NULL}) in the table on top of L, each with the runtime as upvalue 1.
 */
void rt_setfuncs(lua_State *L, struct rt *rt, const luaL_Reg *fns);
/* Creates the metatable `tname` (for luaL_checkudata) with `methods` in __index and, if not NULL,
 * gc as __gc. All get the runtime as upvalue 1. `gc` must not check its argument: the name may
 * belong to another runtime by then. Leaves the metatable on top of L. */
void rt_newmetatable(lua_State *L, struct rt *rt, const char *tname, const luaL_Reg *methods,
                     lua_CFunction gc);

/* A host may close its Lua state at any time. Lua then calls all finalizers in its own order:
 * before the runtime's own, and while tasks still wait for the finalized objects. So in a host's
 * state, a finalizer that is called while a task lives is deferred until the runtime's next turn or
 * its close. After the close, a finalizer may use only rt->mem and its own lists. */
void rt_run_deferred(lua_State *L, struct rt *rt);

/* Uniform in [0, 1). */
double rt_random(struct rt *rt);
uint64_t rt_random_u64(struct rt *rt);
void rt_seed(struct rt *rt, uint64_t seed);
/* A C function for Lua: pushes a table of gauges and counters. */
int rt_push_stats(lua_State *L);
