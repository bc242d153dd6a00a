/* A runtime in a Lua state of the host: for leat.so, and for a leat_config with a lua_state. */
#pragma once

#include "host/runtime_private.h"

/* Call it in `gc`: drops all tasks and closes the runtime. No Lua code of the tasks runs any more,
 * because their clean-ups might need objects that are finalized already. */
void runtime_state_closes(lua_State *L, struct leat_runtime *r);
/* For leat_new: the counterpart of luaopen_leat in leat.so. NULL: see *err. */
struct leat_runtime *runtime_new_seated(const struct leat_config *config, struct err *err);
