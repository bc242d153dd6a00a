/* leat.native.block, for Lua states that leat owns. */
#pragma once

#include "lua/lua_rt.h"

int runtime_open_block(lua_State *L, struct rt *rt);
