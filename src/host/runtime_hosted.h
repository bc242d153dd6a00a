/* A runtime in a Lua state of the host's: for leat.so, and for a leat_config with a lua_state. */
#pragma once

#include "host/runtime_private.h"

/* In `gc`: drops what runs and closes the runtime. No Lua of the tasks' runs any more: their
 * clean-ups might need what is finalized already. */
void runtime_state_closes(lua_State *L, struct leat_runtime *r);
/* For leat_new: what luaopen_leat is for leat.so. NULL: see *err. */
struct leat_runtime *runtime_new_seated(const struct leat_config *config, struct err *err);
