/* Files of lines for tasks: writers that accept a line at once and write it off the loop. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_lines(lua_State *L, struct rt *rt);
/* Waits until every writer has written what it was given, and logs an error for each that failed
 * where no one was told. The loop is turned: not from a callback of it. */
void lua_lines_settle(struct rt *rt);
/* The same, and frees them all: the runtime closes. */
void lua_lines_close(struct rt *rt);
/* From a signal handler on the runtime's thread, before the process ends: writes what was given to
 * the writers. */
void lua_lines_rescue(struct rt *rt);
