/* What semaphore, queue and event share. Bindings floor. */
#pragma once

#include "lua/lua_aux.h"

/* What a `begin` needs: the object and the wait's timeout. */
struct sync_wait {
    void *obj;
    double timeout_s; /* infinity: none */
};

/* An optional timeout at `index`; infinity if absent. Raises for what is not one. */
double sync_opt_timeout(lua_State *L, int index, const char *what);
/* Pushes nil and a timeout error for a wait of `t` that timed out; returns 2. */
int sync_fail_timeout(lua_State *L, struct task *t, const char *what);
/* What makes a class. */
struct sync_class {
    const char *tname; /* luaL_checkudata's */
    const char
        *name; /* where the methods are left in the module table, for the Lua side to complete */
    const luaL_Reg *methods;
    lua_CFunction index; /* asked before the methods; may be NULL */
    lua_CFunction gc;    /* may be NULL */
    lua_CFunction tostring;
};

/* Makes the class's metatable; the module table is on top of L. */
void sync_open_class(lua_State *L, struct rt *rt, const struct sync_class *c);

/* `queue`, a queue's userdata: who waits for an item gets nil, as at the end, if there is none. */
void queue_nudge(void *queue);

/* Each adds its constructor and class to the module table on top of L. */
void lua_sema_register(lua_State *L, struct rt *rt);
void lua_queue_register(lua_State *L, struct rt *rt);
