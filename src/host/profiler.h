/* LuaJIT's profiler, which makes compiled code come to the interpreter every 10 ms of computing.
 * LuaJIT has one for each process, and it serves one Lua state.
 *
 * LuaJIT 2.1 has a race here: a signal that arrives while LuaJIT rewrites its table of instructions
 * leaves a mixture there. Compiled loops then leave for the interpreter and enter again at the same
 * place, for ever. So LuaJIT sees a signal only where it has interrupted compiled code. Elsewhere
 * the sample comes by a hook, unless another hook is set. */
#pragma once

#include <luajit.h>

/* Starts the profiler for L; the calling thread is the one that runs L. Not in a signal handler.
 * `sample` is called between two instructions; it may look at the stack and must not set hooks.
 * `tick` may be NULL; it is called in the signal handler, on the thread of L, before LuaJIT sees
 * the signal. Both get `arg`. */
void profiler_begin(lua_State *L, luaJIT_profile_callback sample, void (*tick)(void *arg),
                    void *arg);
/* Stops it. A signal that was on its way does no harm afterwards. */
void profiler_end(lua_State *L);
/* lua_sethook for a state that may have the profiler: nothing else may set hooks of such a state.
 * Also in a signal handler on the thread of L. */
void profiler_set_hook(lua_State *L, lua_Hook hook, int mask, int count);
