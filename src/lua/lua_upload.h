/* Uploads: a task feeds the body of a request piece by piece. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its functions to the table of leat.native.request on top of L. */
void lua_upload_register(lua_State *L, struct rt *rt);
