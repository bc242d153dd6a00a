/* The event, and with it the module of the three synchronisers. */
#pragma once

#include "lua/lua_rt.h"

int lua_open_sync(lua_State *L, struct rt *rt);
