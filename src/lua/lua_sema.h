/* The semaphore. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its constructor and class to the module table on top of L. */
void lua_sema_register(lua_State *L, struct rt *rt);
