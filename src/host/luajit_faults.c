#include "host/luajit_faults.h"

#include <lauxlib.h>
#include <luajit.h>

/* The repair in the leat program (cli/cli_next.h); no other program has it. */
__attribute__((weak)) void __wrap_lj_vm_next(void);

/* A host may hide the global `jit`. */
static bool is_rolling(lua_State *L)
{
    int top = lua_gettop(L);
    bool rolling = false;
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "jit");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "version_num");
        rolling = lua_tonumber(L, -1) >= 20199;
    }
    lua_settop(L, top);
    return rolling;
}

bool luajit_fails_refusals(lua_State *L)
{
    return !is_rolling(L);
}

bool luajit_fails_next(lua_State *L)
{
#ifdef __x86_64__
    return !__wrap_lj_vm_next && !is_rolling(L);
#else
    (void)L;
    return false;
#endif
}

static int l_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

static int l_pairs(lua_State *L)
{
    if (luaL_getmetafield(L, 1, "__pairs")) { /* LuaJIT's own decides whether it applies */
        lua_settop(L, 1);
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_call(L, 1, 3);
        if (!lua_rawequal(L, 1, lua_upvalueindex(2)))
            return 3;
        lua_remove(L, 1);
    } else {
        luaL_checktype(L, 1, LUA_TTABLE);
        lua_settop(L, 1);
        lua_pushnil(L);
    }
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_insert(L, 1);
    return 3;
}

void luajit_avoid_next(lua_State *L, int index)
{
    int top = lua_gettop(L);
    lua_pushvalue(L, index);
    lua_getglobal(L, "pairs");
    lua_getglobal(L, "next");
    lua_pushcfunction(L, l_next);
    lua_pushvalue(L, -1);
    lua_setfield(L, top + 1, "next");
    lua_pushcclosure(L, l_pairs, 3);
    lua_setfield(L, top + 1, "pairs");
    if (index == LUA_GLOBALSINDEX) { /* table.foreach loops in Lua code of its own */
        lua_getglobal(L, "table");
        lua_getfield(L, -1, "foreach");
        luaJIT_setmode(L, -1, LUAJIT_MODE_FUNC | LUAJIT_MODE_OFF);
    }
    lua_settop(L, top);
}
