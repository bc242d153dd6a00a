/* A runtime as a whole, for those that make one: leat_new, and the Lua module for a host's Lua
 * state. */
#pragma once

#include "host/runtime_private.h"

/* Opens the floors of a zeroed runtime whose `config` is set. `host`: a thread of the host's Lua
 * state, kept by the caller; NULL: the runtime makes a state of its own and fills it. Leaves
 * nothing open where it fails. */
NODISCARD enum err_kind runtime_open(struct leat_runtime *r, lua_State *host, struct err *err);
/* One round: what is ready, then the loop (a host's only to wait). False: no task lives (and it did
 * not wait). */
bool runtime_turn(struct leat_runtime *r, bool block, uint64_t until_ns);
/* Closes what runtime_open has opened; no task is resumed any more. */
void runtime_close(struct leat_runtime *r);
