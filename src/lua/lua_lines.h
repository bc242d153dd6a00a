/* Line files for tasks: a writer accepts a line at once and writes it on another thread. */
#pragma once

#include "lua/lua_rt.h"

/* Pushes the table of C functions, which the Lua side wraps. */
int lua_open_lines(lua_State *L, struct rt *rt);
/* Waits until every writer has written its lines. Logs an error for each failed writer whose
 * failure no script has seen. Turns the loop, so it must not be called from a loop callback. */
void lua_lines_settle(struct rt *rt);
/* The same, then frees all writers: the runtime closes. */
void lua_lines_close(struct rt *rt);
/* For a signal handler on the runtime's thread, before the process ends: writes the lines that the
 * writers have accepted. */
void lua_lines_rescue(struct rt *rt);
