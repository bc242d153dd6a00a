/* The Lua API of a request that a server has taken: a userdata, which keeps the request alive, and
 * the task that handles it. */
#pragma once

#include "lua/lua_rt.h"
#include "server/server_request.h"

/* Makes the metatable. Sets the methods as "request_methods" in the table on top of L. */
void lua_serve_request_open(lua_State *L, struct rt *rt);
/* Pushes the next queued request, or false if there is none: another task took it, or its client
 * went away. */
int lua_serve_request_push_next(lua_State *L, struct server *s);

/* Two callbacks of `struct server_events`. */
void lua_serve_request_ended(struct server_request *r, const char *reason);
void lua_serve_request_room(struct server_request *r);
