/* leat.native.block: calls that block the whole runtime, such as os.execute and a read from a
 * terminal. They are timed, and an interrupt ends those that can be ended. */
#include "host/runtime_block.h"

#include "host/runtime_private.h"
#include "lua/lua_aux.h"
#include <errno.h>
#include <lualib.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* How long such a call may block other ready tasks before a warning. */
#define BLOCKED_NS (100 * NS_PER_MS)

extern char **environ;

/* begin(name): a blocking call begins. */
static int l_begin(lua_State *L)
{
    struct leat_runtime *r = CONTAINER_OF(rt_of(L), struct leat_runtime, rt);
    luaL_checkstring(L, 1);
    r->blocked_ns = uv_hrtime();
    atomic_store(&r->blocked, true);
    return 0;
}

/* finish() -> whether the call took long while others were ready, and whether the script must
 * return to the loop because of an interrupt. */
static int l_finish(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct leat_runtime *r = CONTAINER_OF(rt, struct leat_runtime, rt);
    atomic_store(&r->blocked, false);
    bool took_long = uv_hrtime() - r->blocked_ns > BLOCKED_NS;
    lua_pushboolean(L, took_long && !rt->virtual_time && sched_others_wait(&rt->sched));
    lua_pushboolean(L, r->interrupts_handled < r->interrupts);
    return 2;
}

/* may_block(value): whether it is an open file that may block, that is, not a regular file: a
 * terminal, a pipe, a socket. */
static int l_may_block(lua_State *L)
{
    bool is_file = false;
    if (lua_type(L, 1) == LUA_TUSERDATA && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, LUA_FILEHANDLE);
        is_file = lua_rawequal(L, -1, -2) != 0;
    }
    FILE *f = is_file ? *(FILE **)lua_touserdata(L, 1) : NULL;
    struct stat st;
    lua_pushboolean(L, f && fstat(fileno(f), &st) == 0 && !S_ISREG(st.st_mode) &&
                           !S_ISDIR(st.st_mode));
    return 1;
}

/* execute([command]): os.execute. The C library's system() ignores SIGINT in this process
 * meanwhile, so Ctrl-C would end only the command. */
static int l_execute(lua_State *L)
{
    const char *command = luaL_optstring(L, 1, NULL);
    if (!command) {
        lua_pushinteger(L, 1);
        return 1;
    }
    char shell[] = "sh", option[] = "-c";
    char *argv[] = {shell, option, (char *)(uintptr_t)command, NULL};
    pid_t pid;
    int rc = posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), status = -1;
    if (rc == 0) {
        /* Fails with EINTR only if an interrupt gives up the call: the command then runs on alone.
         */
        if (waitpid(pid, &status, 0) < 0)
            status = -1;
    } else {
        errno = rc;
    }
    lua_pushinteger(L, status);
    return 1;
}

int runtime_open_block(lua_State *L, struct rt *rt)
{
    static const luaL_Reg fns[] = {{"begin", l_begin},
                                   {"finish", l_finish},
                                   {"may_block", l_may_block},
                                   {"execute", l_execute},
                                   {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, fns);
    return 1;
}
