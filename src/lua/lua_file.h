/* leat.native.file: files that are read and written on other threads. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_file(lua_State *L, struct rt *rt);
/* Waits until all running file calls have ended. */
void lua_file_close(struct rt *rt);
/* Takes the descriptor of the file at `index` (a userdata "leat.file"): the caller owns it now.
 * Pushes the file's name. Lua sees the file as closed. May raise. */
int lua_file_take(lua_State *L, int index, const char **name);
