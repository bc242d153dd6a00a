/* leat.native.json_span: where the parts of a JSON text begin and end. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_json_span(lua_State *L, struct rt *rt);
