/* The parts of leat.native.util, each adding its functions to the table on top of L. */
#pragma once

#include "lua/lua_rt.h"

void lua_add_crypto(lua_State *L, struct rt *rt);
void lua_add_stdin(lua_State *L, struct rt *rt);
