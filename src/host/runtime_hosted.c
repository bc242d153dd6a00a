/* A runtime in a Lua state of the host, which may close the state at any time. */
#include "host/runtime_hosted.h"

#include "host/runtime.h"
#include "host/runtime_guard.h"
#include "host/runtime_seat.h"
#include "lua/lua_aux.h"
#include <unistd.h>

void runtime_state_closes(lua_State *L, struct leat_runtime *r)
{
    struct rt *rt = &r->rt;
    rt->sched.running = NULL; /* a task may have called os.exit(code, true) */
    rt->sched.outside = false;
    rt->log.min_level = LOG_ERROR + 1; /* leaks are no longer worth a message */
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

/* The host closed its state without calling leat_free. */
static int seat_gc(lua_State *L)
{
    struct leat_runtime *r = lua_touserdata(L, 1);
    /* A forked child shares sockets and epoll sets with its parent, so it must not close them. */
    if (r->rt.host && r->rt.host->process == getpid())
        runtime_state_closes(L, r);
    return 0;
}

static int sit_down(lua_State *L)
{
    struct sitting *s = lua_touserdata(L, 1);
    if (runtime_state_taken(L))
        return luaL_error(L, "this Lua state has a runtime already");
    runtime_forget(L); /* removes the rest of a runtime that had no memory to clean up */
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
    return err_set(
        e, ERR_INVALID,
        "leat_config.%s: requires a Lua state that leat creates (lua_state must be NULL)", field);
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
