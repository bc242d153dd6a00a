/* The queue. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its constructor and class to the module table on top of L. */
void lua_queue_register(lua_State *L, struct rt *rt);
/* `queue` is a queue's userdata. If no item is left, its waiting getters get nil, as at the end. */
void lua_queue_nudge(void *queue);
