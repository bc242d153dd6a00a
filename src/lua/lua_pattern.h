/* leat.native.pattern: the patterns of Lua, with a bound on their work. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_pattern(lua_State *L, struct rt *rt);
