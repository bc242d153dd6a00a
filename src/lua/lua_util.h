/* leat.native.util: small functions that fit in no other module. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_util(lua_State *L, struct rt *rt);
