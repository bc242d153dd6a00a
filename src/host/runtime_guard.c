#include "host/runtime_guard.h"

#include "ground/redact.h"

#include <string.h>
#include <unistd.h>

struct host *runtime_host(leat_runtime *r)
{
    return r ? r->rt.host : NULL;
}

struct rt *runtime_inside(struct leat_runtime *r)
{
    return &r->rt;
}

bool runtime_usable(const struct host *e, bool inside, const char **why)
{
    if (!e)
        *why = "there is no runtime: it is NULL, or has been closed";
    else if (e->process != getpid())
        *why = "this process was forked after the runtime was created: a child must create its own";
    else if (!pthread_equal(e->owner, pthread_self()))
        *why = "the runtime belongs to another thread";
    else if (e->rt->in_alloc)
        *why = "not from inside the host's allocator";
    else if (e->inside > 0 && !inside)
        *why = "not from inside a callback";
    else if (e->rt->sched.running && !inside)
        *why = "not from inside a task";
    else if (e->rt->loop.in_turn && !inside)
        *why = "not from inside leat_free, which runs the loop";
    else
        return true;
    return false;
}

void runtime_set_error(struct leat_error *err, const char *kind, const char *message)
{
    if (!err)
        return;
    snprintf(err->kind, sizeof err->kind, "%s", kind);
    snprintf(err->message, sizeof err->message, "%s", message);
}

/* If the Lua compiler or a module runs out of memory, Lua raises the message again as a plain
 * error. And if there is no memory for a larger stack, LuaJIT 2.1.1737090214 (Debian 13) calls that
 * an overflow of the stack; LuaJIT 2.1.0-beta3 does not. */
static bool means_memory(const leat_runtime *r, const char *text)
{
    return strcmp(text, "not enough memory") == 0 ||
           (r->rt.mem.lua_refused && strncmp(text, "stack overflow", 14) == 0);
}

/* A script's __tostring may run in here. In a host's state it may call the host's functions: that
 * counts as inside a callback, too. */
bool runtime_protected(leat_runtime *r, lua_CFunction fn, void *arg)
{
    lua_State *L = r->rt.L;
    time_limit_outside(&r->limit);
    struct host *e = r->rt.host;
    if (e)
        e->inside++;
    int rc = lua_cpcall(L, fn, arg);
    if (e)
        e->inside--;
    if (rc == 0)
        return true;
    const char *text = lua_tostring(L, -1);
    bool memory = rc == LUA_ERRMEM || (text && means_memory(r, text));
    r->error_kind = memory ? ERR_MEMORY : ERR_SCRIPT;
    /* Lua quotes a line that does not compile, and the line may contain a key. */
    redact_words(r->error_text, sizeof r->error_text, text ? text : "an error without a text");
    lua_pop(L, 1);
    if (memory && r->rt.sched.loop)
        sched_make_room(&r->rt.sched, L); /* garbage of scripts may be the only obstacle */
    return false;
}

bool runtime_protected_again(leat_runtime *r, lua_CFunction fn, void *arg)
{
    return runtime_protected(r, fn, arg) ||
           (r->error_kind == ERR_MEMORY && runtime_protected(r, fn, arg));
}

const char *runtime_error_text(leat_runtime *r, const char **kind)
{
    if (r->error_kind == ERR_MEMORY)
        *kind = "memory";
    return r->error_text;
}

void runtime_push_globals(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_GLOBALS);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushvalue(L, LUA_GLOBALSINDEX);
    }
}

void runtime_push_chunk_globals(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_CHUNK_GLOBALS);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        runtime_push_globals(L);
    }
}
