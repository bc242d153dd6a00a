/* The queue. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its constructor and class to the module table on top of L. */
void lua_queue_register(lua_State *L, struct rt *rt);
/* `queue`, a queue's userdata: who waits for an item gets nil, as at the end, if there is none. */
void lua_queue_nudge(void *queue);
