/* leat.native.json: what scripts see of the encoder and the decoder. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_json(lua_State *L, struct rt *rt);
