/* A runtime in a Lua state of the host's: for leat.so, and for a leat_config with a lua_state. */
#pragma once

#include "lua/lua_rt.h"

struct leat_config;
struct leat_runtime;

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
/* In `gc`: drops what runs and closes the runtime. No Lua of the tasks' runs any more: their
 * clean-ups might need what is finalized already. */
void runtime_state_closes(lua_State *L, struct leat_runtime *r);
/* For leat_new: what luaopen_leat is for leat.so. NULL: see *err. */
struct leat_runtime *runtime_new_seated(const struct leat_config *config, struct err *err);
/* Takes leat's modules and metatables out of the state, which may get another runtime then. */
void runtime_leave_state(lua_State *L);
