/* Digests and signatures, a part of leat.native.util. */
#pragma once

#include "lua/lua_rt.h"

/* Adds its functions to the module table on top of L. */
void lua_crypto_register(lua_State *L, struct rt *rt);
