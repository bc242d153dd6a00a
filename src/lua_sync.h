/* What semaphore, queue and event share. Bindings floor. */
#pragma once

#include "lua_aux.h"

/* What a `begin` needs: the object and the wait's timeout. */
struct sync_wait {
    void *obj;
    double timeout_s; /* infinity: none */
};

/* An optional timeout at `index`; infinity if absent. Raises for what is not one. */
double sync_opt_timeout(lua_State *L, int index, const char *what);
/* Pushes nil and a timeout error for a wait of `t` that timed out; returns 2. */
int sync_fail_timeout(lua_State *L, struct task *t, const char *what);
/* A metatable whose __index asks `index` (may be NULL) first and then the methods, which are also
 * left in the module table on top of L as `name`, for the Lua side to complete. */
void sync_open_class(lua_State *L, struct rt *rt, const char *tname, const char *name,
                     const luaL_Reg *methods, lua_CFunction index, lua_CFunction gc);

/* Each adds its constructor and class to the module table on top of L. */
void lua_sema_register(lua_State *L, struct rt *rt);
void lua_queue_register(lua_State *L, struct rt *rt);
