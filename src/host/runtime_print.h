/* Passes the output of print to the host. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the function that passes a string to the host's print callback; nil: there is none. */
void runtime_push_print(lua_State *L, struct rt *rt);
