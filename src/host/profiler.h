/* LuaJIT's profiler, which makes compiled code return to the interpreter after every 10 ms of
 * computing. LuaJIT has one profiler per process, and it serves one Lua state. LuaJIT 2.1 has a
 * race: if a signal arrives while LuaJIT rewrites its dispatch table, the table stays inconsistent.
 * Compiled loops then leave for the interpreter and enter again at the same place, for ever. So
 * LuaJIT gets a signal only when the signal has interrupted compiled code. Beside a compiler,
 * interpreted code goes without samples.
 *
 * Where the compiler is off, nothing is endless: that part of the race is the instruction JLOOP,
 * which enters compiled code. But LuaJIT's signal handler still may leave a table without the
 * profiler's entries, or an error in lua_pcall may bring back its mark of a sample that was taken.
 * LuaJIT then believes that a sample is under way, and takes no other one. So LuaJIT's profiler is
 * not started: a count hook takes the sample. Each signal sets that hook anew, which repairs what
 * the signal before may have interrupted. Beside a compiler, such a hook would disturb what LuaJIT
 * records. */
#pragma once

#include <luajit.h>
#include <stdbool.h>

/* Starts the profiler for L on the thread that runs L. Not in a signal handler. `compiler`: whether
 * the compiler is on; if false, it must stay off. `sample` is called between two instructions; it
 * may look at the stack and must not set hooks. `tick` may be NULL; the signal handler calls it on
 * the thread of L, before LuaJIT gets the signal. Both get `arg`. */
void profiler_begin(lua_State *L, bool compiler, luaJIT_profile_callback sample,
                    void (*tick)(void *arg), void *arg);
/* Stops the profiler. A late signal does no harm afterwards. */
void profiler_end(lua_State *L);
/* lua_sethook for a state that may have the profiler: set the hooks of such a state only with this.
 * Also allowed in a signal handler on the thread of L. */
void profiler_set_hook(lua_State *L, lua_Hook hook, int mask, int count);
/* Takes the sample that is due, if one is. For the hook of a state that has one: the profiler sets
 * no hook in the place of another one. */
void profiler_poll(lua_State *L);
