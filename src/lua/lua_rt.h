/* What the bindings share: one struct per runtime, reached from every C function through its first
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

/* The field of our own metatables that says what their tables are as data, for JSON and for a host:
 * "array", "list" (`n` items, some of which may be missing), "object" (whole numbers may be keys),
 * "error" (its `response` is no data); else why they are none. */
#define JSON_FORM_FIELD "__leat_json"

struct rt {
    struct mem mem;
    struct log log;
    struct loop loop;
    struct engine *engine;
    struct sched sched;
    lua_State *L;
    struct transfer *draft; /* being filled by a binding; freed by the next one if that raised */
    struct list spare;      /* transfers kept for the next requests, by event_node */
    unsigned spare_count;
    struct list streams;          /* lua_stream.c: those that have a transfer */
    struct list servers;          /* lua_serve.c: open servers, closed with the runtime */
    unsigned virtual_ports;       /* lua_serve_simulate.c: given out under virtual time */
    size_t file_calls;            /* lua_file.c: under way on libuv's threads */
    struct lua_lines *lines;      /* lua_lines.c: the writers; NULL: none was ever wanted */
    size_t lost;                  /* writers that could not write what they had taken */
    _Atomic size_t graceful_runs; /* they end by themselves once leat.stopping is set */
    struct host *host;            /* the hosts' floor's: what it calls and is called by */
    struct record *record;        /* NULL: nothing is recorded */
    size_t missed;                /* thresholds that a script has stated */
    bool concluded;               /* it was said what became of the items: see runtime_conclude */
    bool virtual_time;
    bool restricted;   /* scripts are in the sandbox */
    uint64_t rng[4];   /* the runtime's random numbers, repeatable by seed */
    bool repeatable;   /* a seed was given, or time is virtual: identifiers come from rng too */
    unsigned deferred; /* finalizers that wait: see rt_run_deferred */
    bool in_alloc;     /* the host's allocator is at work */
    bool closed;       /* a host's state closes; nothing of the runtime is open any more */
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
/* Creates the metatable `tname` (luaL_checkudata's) with `methods` in __index and, if not NULL, gc
 * as __gc; all get the runtime as upvalue 1. `gc` takes its argument as it is: by then the name may
 * be another runtime's. Leaves the metatable on top of L. */
void rt_newmetatable(lua_State *L, struct rt *rt, const char *tname, const luaL_Reg *methods,
                     lua_CFunction gc);

/* A host may close its state at any time. Lua then calls all finalizers, in an order of its own:
 * before the runtime's, and under tasks that still wait for what is finalized. So in a host's state
 * each that comes while a task lives is put off until the runtime turns next, or is closed; behind
 * the close it finds rt->mem and its own lists, no more. */
void rt_run_deferred(lua_State *L, struct rt *rt);

/* Uniform in [0, 1). */
double rt_random(struct rt *rt);
uint64_t rt_random_u64(struct rt *rt);
void rt_seed(struct rt *rt, uint64_t seed);
/* A C function for Lua: a table of gauges and counters. */
int rt_push_stats(lua_State *L);
