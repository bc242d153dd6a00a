/* leat.native.task: spawn, await, sleep, limits, shields, and information about tasks. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_task(lua_State *L, struct rt *rt);
