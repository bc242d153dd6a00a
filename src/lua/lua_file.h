/* leat.native.file: files whose calls run beside the loop. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_file(lua_State *L, struct rt *rt);
/* Waits for the file calls that are still under way. */
void lua_file_close(struct rt *rt);
/* Of the file at `index` (a userdata "leat.file"): its descriptor, which is the caller's from now
 * on, and its name, which stays on the stack. The file is closed to Lua. May raise. */
int lua_file_take(lua_State *L, int index, const char **name);
