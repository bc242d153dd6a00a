/* The place of a runtime in a Lua state of the host. Its memory is a userdata that the registry
 * keeps as long as the state lives, because scripts may use objects of the runtime at any time,
 * even after its end. */
#include "host/runtime_seat.h"

#include <luajit.h>
#include <string.h>

/* luaJIT_setmode does not know this mode and returns an error. But inside a finalizer it raises for
 * any mode. This function is kept in the registry, because lua_cpcall would need memory each time.
 */
static int probe(lua_State *L)
{
    luaJIT_setmode(L, 0, LUAJIT_MODE_MASK);
    return 0;
}

static const char probe_key;
static const char seat_key; /* the last runtime of the state, as long as the state lives */

void *runtime_seat(lua_State *L, size_t size, lua_CFunction gc, lua_State **own)
{
    luaL_checkstack(L, LUA_MINSTACK, "leat");
    void *seat = lua_newuserdata(L, size);
    memset(seat, 0, size);
    lua_createtable(L, 1, 0);
    *own = lua_newthread(L); /* L may be a coroutine that ends earlier */
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
    lua_rawset(L, LUA_REGISTRYINDEX); /* permanent: if the rest fails, parts may live on */
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

/* Removes the fields named "leat" or "leat.*" from the table on top. */
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

void runtime_forget(lua_State *L)
{
    lua_pushvalue(L, LUA_REGISTRYINDEX); /* the metatables, so that methods reject old objects */
    forget_fields(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    forget_fields(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
    forget_fields(L);
}

static int do_forget(lua_State *L)
{
    runtime_forget(L);
    return 0;
}

void runtime_leave_state(lua_State *L)
{
    if (lua_cpcall(L, do_forget, NULL) != 0)
        lua_pop(L, 1);
}
