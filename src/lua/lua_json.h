/* leat.native.json: the functions of the encoder and the decoder for scripts. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_json(lua_State *L, struct rt *rt);
