/* The place of a runtime in a Lua state of the host's. */
#pragma once

#include "host/runtime_private.h"

/* A zeroed block of `size` bytes, which begins with a leat_runtime and lives as long as the state:
 * its memory outlives every finalizer of a closing one. `gc` gets it when the state closes. *own: a
 * thread for the runtime. Raises: "not enough memory". */
void *runtime_seat(lua_State *L, size_t size, lua_CFunction gc, lua_State **own);
/* Whether a runtime lives in the state. One that is closed may have left its tables behind, where
 * there was no memory to take them away. May raise (memory). */
bool runtime_state_taken(lua_State *L);
/* LuaJIT takes a C function's yield beneath a finalizer for one of a debug hook, and what is
 * resumed after that runs on a broken stack. */
bool runtime_in_finalizer(lua_State *L);
/* Takes leat's modules and metatables out of the state. May raise (memory). */
void runtime_forget(lua_State *L);
/* The same protected: the state may get another runtime then. */
void runtime_leave_state(lua_State *L);
