/* leat.native.request: connects tasks and transfers. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_request(lua_State *L, struct rt *rt);
/* Hands finished transfers to their tasks. The runtime calls it after each turn of the loop. */
void lua_request_take_events(struct rt *rt);
/* Frees the transfers that are kept for reuse. The engine must have no transfer. */
void lua_request_close(struct rt *rt);
