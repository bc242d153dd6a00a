/* The Lua API of a server: listening, taking requests, closing. Its public face is
 * lua/leat/serve.lua. The server itself is in server_listen.c, or in lua_serve_simulate.c. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_serve(lua_State *L, struct rt *rt);
/* Closes every server of the runtime at once, when the runtime closes. */
void lua_serve_close_all(struct rt *rt);
/* Called when nothing can wake a task any more. Stops simulated servers that alone keep their
 * parent tasks from ending. Returns whether there were any. */
bool lua_serve_end_idle(struct rt *rt);
