/* For reports of bugs; a part of leat.native.task. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its functions to the module table on top of L. */
void lua_bug_register(lua_State *L, struct rt *rt);
