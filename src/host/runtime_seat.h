/* The place of a runtime in a Lua state of the host. */
#pragma once

#include "host/runtime_private.h"

/* Makes a zeroed block of `size` bytes, which begins with a leat_runtime. It lives as long as the
 * state and outlives every finalizer of a closing state. `gc` is called with it when the state
 * closes. *own: a Lua thread for the runtime. Raises: "not enough memory". */
void *runtime_seat(lua_State *L, size_t size, lua_CFunction gc, lua_State **own);
/* Whether a runtime lives in the state. A closed runtime may have left its tables behind, if there
 * was no memory to remove them. May raise (memory). */
bool runtime_state_taken(lua_State *L);
/* Whether a finalizer is running. LuaJIT confuses a yield of a C function inside a finalizer with a
 * yield of a debug hook; code that is resumed after that runs on a broken stack. */
bool runtime_in_finalizer(lua_State *L);
/* Removes leat's modules and metatables from the state. May raise (memory). */
void runtime_forget(lua_State *L);
/* The same as a protected call. After it, the state may get another runtime. */
void runtime_leave_state(lua_State *L);
