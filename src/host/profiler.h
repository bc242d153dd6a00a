/* LuaJIT's profiler, which makes compiled code return to the interpreter after every 10 ms of
 * computing. LuaJIT has one profiler per process, and it serves one Lua state. LuaJIT 2.1 has a
 * race: if a signal arrives while LuaJIT rewrites its dispatch table, the table stays inconsistent.
 * Compiled loops then leave for the interpreter and enter again at the same place, for ever. So
 * LuaJIT gets a signal only when the signal has interrupted compiled code. Other
 * code goes without samples. */
#pragma once

#include <luajit.h>

/* Starts the profiler for L on the thread that runs L. Not in a signal handler. `sample` is called
 * between two instructions; it may look at the stack and must not set hooks. `tick` may be NULL;
 * the signal handler calls it on the thread of L, before LuaJIT gets the signal. Both get `arg`. */
void profiler_begin(lua_State *L, luaJIT_profile_callback sample, void (*tick)(void *arg),
                    void *arg);
/* Stops the profiler. A late signal does no harm afterwards. */
void profiler_end(lua_State *L);
/* lua_sethook for a state that may have the profiler: set the hooks of such a state only with this.
 * Also allowed in a signal handler on the thread of L. */
void profiler_set_hook(lua_State *L, lua_Hook hook, int mask, int count);
