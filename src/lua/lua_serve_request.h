/* What scripts see of a request that a server has taken: a userdata, which holds the request while
 * it lives, and the task that handles it. */
#pragma once

#include "lua/lua_rt.h"
#include "server/server_request.h"

/* Makes the metatable, and sets its methods as "request_methods" in the table on top of L. */
void lua_serve_request_open(lua_State *L, struct rt *rt);
/* Pushes the next request in line, or false where there is none: another task was quicker, or its
 * client has gone. */
int lua_serve_request_push_next(lua_State *L, struct server *s);

/* Two of `struct server_events`. */
void lua_serve_request_ended(struct server_request *r, const char *reason);
void lua_serve_request_room(struct server_request *r);
