/* A runtime in a Lua state of the host's. Its memory is a userdata that the registry keeps for as
 * long as the state lives: what scripts hold of the runtime may come to it at any time, after its
 * end too. */
#include "host/runtime_hosted.h"

#include "host/runtime_modules.h"
#include "host/runtime_private.h"
#include "lua/lua_aux.h"
#include <luajit.h>
#include <string.h>
#include <unistd.h>

/* It knows no such mode, and says so by its result; but in a finalizer it raises whatever it is
 * asked. In the registry, as lua_cpcall would need memory each time. */
static int probe(lua_State *L)
{
    luaJIT_setmode(L, 0, LUAJIT_MODE_MASK);
    return 0;
}

static const char probe_key;
static const char seat_key; /* the last runtime of the state, for as long as that lives */

void *runtime_seat(lua_State *L, size_t size, lua_CFunction gc, lua_State **own)
{
    luaL_checkstack(L, LUA_MINSTACK, "leat");
    void *seat = lua_newuserdata(L, size);
    memset(seat, 0, size);
    lua_createtable(L, 1, 0);
    *own = lua_newthread(L); /* L may be a coroutine that ends */
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&probe_key);
    lua_pushcfunction(L, probe);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, seat);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX); /* for good: should the rest fail, parts may live on */
    lua_pushlightuserdata(L, (void *)(uintptr_t)&seat_key);
    lua_pushlightuserdata(L, seat);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return seat;
}

bool runtime_state_taken(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&seat_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    const struct leat_runtime *last = lua_touserdata(L, -1);
    bool taken = !lua_isnil(L, -2) && !(last && last->rt.closed);
    lua_pop(L, 2);
    return taken;
}

bool runtime_in_finalizer(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&probe_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_pcall(L, 0, 0, 0) == 0)
        return false;
    lua_pop(L, 1);
    return true;
}

void runtime_state_closes(lua_State *L, struct leat_runtime *r)
{
    struct rt *rt = &r->rt;
    rt->sched.running = NULL; /* where a task has called os.exit(code, true) */
    rt->sched.outside = false;
    rt->log.min_level = LOG_ERROR + 1; /* what is left over is no longer worth a message */
    LIST_FOR(node, &rt->sched.tasks)
    task_cancel(CONTAINER_OF(node, struct task, all), "the Lua state is being closed");
    runtime_close(r);
    rt_run_deferred(L, rt);
}

/* ---- leat_new and leat_free in a state of the host's */

struct sitting {
    struct leat_runtime *r;
    lua_State *own;
};

/* The host has closed its state without leat_free. */
static int seat_gc(lua_State *L)
{
    struct leat_runtime *r = lua_touserdata(L, 1);
    /* A forked child shares its sockets and epoll sets with its parent: hands off. */
    if (r->rt.embed && r->rt.embed->process == getpid())
        runtime_state_closes(L, r);
    return 0;
}

/* Sets the fields of the table on top to nil that are called "leat" or "leat.*". */
static void forget_fields(lua_State *L)
{
    if (lua_istable(L, -1)) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pop(L, 1);
            const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
            if (strncmp(key, "leat", 4) == 0 && (key[4] == '\0' || key[4] == '.')) {
                lua_pushvalue(L, -1);
                lua_pushnil(L);
                lua_rawset(L, -4);
            }
        }
    }
    lua_pop(L, 1);
}

static void forget(lua_State *L)
{
    lua_pushvalue(L, LUA_REGISTRYINDEX); /* the metatables: methods do not know old objects */
    forget_fields(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    forget_fields(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
    forget_fields(L);
}

static int do_forget(lua_State *L)
{
    forget(L);
    return 0;
}

static int sit_down(lua_State *L)
{
    struct sitting *s = lua_touserdata(L, 1);
    if (runtime_state_taken(L))
        return luaL_error(L, "this Lua state has a runtime already");
    forget(L); /* what is left of one that had no memory to tidy up */
    static const char *const needed[] = {"string", "table", "math"};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        lua_getglobal(L, needed[i]);
        if (!lua_istable(L, -1))
            return luaL_error(L, "this Lua state lacks the library '%s': luaL_openlibs opens them",
                              needed[i]);
    }
    s->r = runtime_seat(L, sizeof *s->r, seat_gc, &s->own);
    return 0;
}

static enum err_kind refuse_what_is_the_hosts(const struct leat_config *c, struct err *e)
{
    const char *field = c->sandbox != LEAT_SANDBOX_FULL ? "sandbox"
                        : c->allow_modules              ? "allow_modules"
                        : c->script_dir                 ? "script_dir"
                        : c->time_limit_ms              ? "time_limit_ms"
                        : c->jit_watchdog               ? "jit_watchdog"
                        : c->print                      ? "print"
                                                        : NULL;
    if (!field)
        return ERR_NONE;
    return err_set(e, ERR_INVALID,
                   "leat_config.%s: needs a Lua state of the runtime's own (lua_state NULL)",
                   field);
}

struct leat_runtime *runtime_new_seated(const struct leat_config *config, struct err *e)
{
    lua_State *L = config->lua_state;
    if (refuse_what_is_the_hosts(config, e) != ERR_NONE)
        return NULL;
    struct sitting s = {NULL, NULL};
    int rc = lua_cpcall(L, sit_down, &s);
    if (rc != 0) {
        const char *text = lua_tostring(L, -1);
        err_set(e, rc == LUA_ERRMEM ? ERR_MEMORY : ERR_INVALID, "leat_config.lua_state: %s",
                text ? text : "it cannot be used");
        lua_pop(L, 1);
        return NULL;
    }
    s.r->config = *config;
    if (runtime_open(s.r, s.own, e) == ERR_NONE)
        return s.r;
    runtime_leave_state(L);
    return NULL;
}

void runtime_leave_state(lua_State *L)
{
    if (lua_cpcall(L, do_forget, NULL) != 0)
        lua_pop(L, 1);
}
