/* leat.native.request: where tasks and transfers meet. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_request(lua_State *L, struct rt *rt);
/* Hands finished transfers to their tasks; called by the runtime after each loop turn. */
void lua_request_take_events(struct rt *rt);
/* Frees what the requests keep for reuse; nothing may be in the engine. */
void lua_request_close(struct rt *rt);
