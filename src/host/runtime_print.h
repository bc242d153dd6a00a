/* What scripts print, on its way to the host. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the function that hands a string to the host's print sink; nil: it has none. */
void runtime_push_print(lua_State *L, struct rt *rt);
