/* Standard input for tasks, a part of leat.native.util. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its functions to the module table on top of L. */
void lua_stdin_register(lua_State *L, struct rt *rt);
/* Closes the reader. */
void lua_stdin_close(struct rt *rt);
