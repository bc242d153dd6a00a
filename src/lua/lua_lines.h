/* Files of lines for tasks: writers that accept a line at once and write it off the loop. */
#pragma once

#include "lua/lua_rt.h"

/* Of the file at `index` (a userdata "leat.file"): its descriptor, which is the caller's from now
 * on, and its name, which stays on the stack. The file is closed to Lua. May raise. */
int lua_file_take(lua_State *L, int index, const char **name);

/* Waits until every writer has written what it was given, and logs an error for each that failed
 * where no one was told. The loop is turned: not from a callback of it. */
void lua_lines_settle(struct rt *rt);
/* The same, and frees them all: the runtime closes. */
void lua_lines_close(struct rt *rt);
/* From a signal handler on the runtime's thread, before the process ends: writes what was given to
 * the writers. */
void lua_lines_rescue(struct rt *rt);
