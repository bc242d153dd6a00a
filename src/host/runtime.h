/* A whole runtime, for the two that create one: leat_new, and the Lua module for a host's Lua
 * state. */
#pragma once

#include "host/runtime_private.h"

/* Opens all parts of a zeroed runtime whose `config` is set. `host`: a thread of the host's Lua
 * state, which the caller keeps alive; NULL: the runtime makes its own state and fills it. On
 * failure nothing stays open. */
NODISCARD enum err_kind runtime_open(struct leat_runtime *r, lua_State *host, struct err *err);
/* One round: runs ready tasks, then the loop (a host's loop only to wait). False: no task lives,
 * and it did not wait. */
bool runtime_turn(struct leat_runtime *r, bool block, uint64_t until_ns);
/* Closes a runtime that runtime_open has opened. No task is resumed any more. */
void runtime_close(struct leat_runtime *r);
