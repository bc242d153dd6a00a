/* The body of a request, fed piece by piece: the other direction of a stream. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its functions to the table of leat.native.request on top of L. */
void lua_upload_register(lua_State *L, struct rt *rt);
