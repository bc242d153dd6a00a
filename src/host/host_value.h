/* The values of leat.h, and their conversion from and to Lua values. */
#pragma once

#include "leat.h"
#include "lua/lua_rt.h"

/* Pushes a value; may raise (memory, nested too deep). */
void host_value_push(lua_State *L, const leat_value *value);
/* The conversion of one call's values for the host: how many bytes they may still take, and why a
 * value cannot be converted. */
struct taking {
    size_t left;
    const char *why;
    char path[128]; /* its path within the value */
    char text[192];
};
/* Makes room on the stack; may raise (memory). */
struct taking host_value_taking(lua_State *L, const struct rt *rt);
/* Converts the value at a positive index. False: it cannot be converted, see host_value_why. Never
 * raises. */
bool host_value_take(lua_State *L, int index, struct taking *c, leat_value **out);
/* Where and why a value cannot be converted. Valid as long as `c`. */
const char *host_value_why(struct taking *c);
