#include "lua/lua_rt.h"

void rt_setfuncs(lua_State *L, struct rt *rt, const luaL_Reg *fns)
{
    for (; fns->name; fns++) {
        lua_pushlightuserdata(L, rt);
        lua_pushcclosure(L, fns->func, 1);
        lua_setfield(L, -2, fns->name);
    }
}

static const char deferred_key; /* registry: the list of userdata and finalizers, alternating */

/* Upvalues: the runtime, the finalizer. */
static int defer(lua_State *L)
{
    struct rt *rt = rt_of(L);
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2)); // ud gc
    if (rt->closed || rt->sched.live == 0) {
        lua_insert(L, 1);
        lua_call(L, 1, 0);
        return 0;
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)&deferred_key);
    lua_rawget(L, LUA_REGISTRYINDEX); // ud gc list
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushlightuserdata(L, (void *)(uintptr_t)&deferred_key);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
    lua_insert(L, 1); // list ud gc
    lua_rawseti(L, 1, (int)(2 * rt->deferred + 2));
    lua_rawseti(L, 1, (int)(2 * rt->deferred + 1));
    rt->deferred++;
    return 0;
}

void rt_run_deferred(lua_State *L, struct rt *rt)
{
    if (rt->deferred == 0)
        return;
    luaL_checkstack(L, 4, "leat");
    lua_pushlightuserdata(L, (void *)(uintptr_t)&deferred_key);
    lua_rawget(L, LUA_REGISTRYINDEX); // list
    while (rt->deferred > 0) {        /* a call below may defer another finalizer: it goes on top */
        int last = (int)(2 * --rt->deferred) + 2;
        lua_rawgeti(L, -1, last);
        lua_rawgeti(L, -2, last - 1); // list gc ud
        lua_pushnil(L);
        lua_rawseti(L, -4, last);
        lua_pushnil(L);
        lua_rawseti(L, -4, last - 1);
        lua_call(L, 1, 0); // list
    }
    lua_pop(L, 1);
}

void rt_newmetatable(lua_State *L, struct rt *rt, const char *tname, const luaL_Reg *methods,
                     lua_CFunction gc)
{
    luaL_newmetatable(L, tname);
    lua_newtable(L);
    if (methods)
        rt_setfuncs(L, rt, methods);
    lua_setfield(L, -2, "__index");
    if (gc) {
        lua_pushlightuserdata(L, rt);
        lua_pushcclosure(L, gc, 1);
        if (!rt->sched.own_state) {
            lua_pushlightuserdata(L, rt);
            lua_insert(L, -2);
            lua_pushcclosure(L, defer, 2);
        }
        lua_setfield(L, -2, "__gc");
    }
    /* A script must not reach a metatable: its __gc trusts its argument. */
    lua_pushstring(L, tname);
    lua_setfield(L, -2, "__metatable");
}

/* xoshiro256** by Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2021). */
static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rt_random_u64(struct rt *rt)
{
    uint64_t *s = rt->rng;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double rt_random(struct rt *rt)
{
    return (double)(rt_random_u64(rt) >> 11) * 0x1p-53;
}

void rt_seed(struct rt *rt, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64 fills the state, as its authors recommend */
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        rt->rng[i] = z ^ (z >> 31);
    }
}

static void set_count(lua_State *L, const char *name, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

int rt_push_stats(lua_State *L)
{
    struct rt *rt = rt_of(L);
    lua_createtable(L, 0, 12);
    set_count(L, "tasks", (double)rt->sched.live);
    set_count(L, "timers", (double)rt->sched.timers);
    set_count(L, "external", (double)rt->sched.external);
    set_count(L, "spawned", (double)rt->sched.spawned);
    set_count(L, "resumed", (double)((sched_turn(&rt->sched) + 1) / 2));
    set_count(L, "handles", rt->loop.open_handles);
    set_count(L, "lua_bytes",
              (double)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + lua_gc(L, LUA_GCCOUNTB, 0));
    set_count(L, "memory_bytes", (double)(rt->mem.used_bytes + rt->mem.lua_bytes));
    set_count(L, "memory_peak_bytes", (double)rt->mem.peak_bytes);
    set_count(L, "memory_blocks", (double)rt->mem.blocks);
    if (rt->engine) {
        struct engine_stats e;
        engine_stats(rt->engine, &e);
        lua_createtable(L, 0, 16);
        set_count(L, "pending", (double)engine_pending(rt->engine));
        set_count(L, "queued", (double)e.queued);
        set_count(L, "active", (double)e.active);
        set_count(L, "resolving", (double)e.resolving);
        set_count(L, "on_network", (double)e.on_network);
        set_count(L, "events_waiting", (double)e.events_waiting);
        set_count(L, "submitted", (double)e.submitted);
        set_count(L, "succeeded", (double)e.succeeded);
        set_count(L, "failed", (double)e.failed);
        set_count(L, "cancelled", (double)e.cancelled);
        set_count(L, "redirects", (double)e.redirects);
        set_count(L, "wire_attempts", (double)e.wire_attempts);
        set_count(L, "connects", (double)e.connects);
        set_count(L, "bytes_in", (double)e.bytes_in);
        set_count(L, "bytes_out", (double)e.bytes_out);
        set_count(L, "peak_active", (double)e.peak_active);
        lua_setfield(L, -2, "engine");
    }
    return 1;
}
