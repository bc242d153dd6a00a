/* LuaJIT's profiler, which makes compiled code look up every 10 ms of computing. A process has one.
 */
#pragma once

#include <luajit.h>

/* `fn` is called between two instructions. The runtime's thread is the one that calls this. */
void cli_profile_begin(lua_State *L, luaJIT_profile_callback fn, void *arg);
void cli_profile_end(lua_State *L);
