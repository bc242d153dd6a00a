/* The values of leat.h, and their way into Lua and out of it. */
#pragma once

#include "leat.h"
#include "lua/lua_rt.h"

/* Pushes a value; may raise (memory, nested too deep). */
void host_value_push(lua_State *L, const leat_value *value);
/* The values of one call on their way to the host: how many bytes they may still take, and why one
 * cannot cross. */
struct taking {
    size_t left;
    const char *why;
    char path[128]; /* where in the value it stands, such as ".choices[1].fn" */
    char text[192];
};
/* Makes room on the stack; may raise (memory). */
struct taking host_value_taking(lua_State *L, const struct rt *rt);
/* Takes the value at a positive index. False: it cannot cross, see host_value_why. Raises nothing.
 */
bool host_value_take(lua_State *L, int index, struct taking *c, leat_value **out);
/* Where and why one cannot cross; valid as long as `c`. */
const char *host_value_why(struct taking *c);
