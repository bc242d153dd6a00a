/* The scheduler: the ready queue, the tree of tasks, and the only lua_resume in the project. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"

/* Prepares the registry of L. May raise (memory): call in a protected context. */
void sched_init(struct sched *s, struct loop *loop, struct log *log, lua_State *L, bool own_state);

/* Keeps the value on top of the stack, which is popped, from being collected: its number. May raise
 * (memory). */
int sched_keep(lua_State *L);
/* Puts the value on top of the stack, which is popped, in the place of a kept one; pushes a kept
 * one (nil for LUA_NOREF); lets go of one (LUA_NOREF: of none). None of them allocates, so that
 * they may be called outside of a protected call. luaL_unref with the registry may: it adds a key.
 */
void sched_set_kept(lua_State *L, int ref);
void sched_push_kept(lua_State *L, int ref);
void sched_drop_kept(lua_State *L, int ref);
/* Creates a task for the function and `nargs` arguments on top of L (popped), and pushes its
 * userdata. It starts when the ready queue reaches it. `parent` NULL: a root. May raise (memory,
 * closing). */
struct task *sched_spawn(lua_State *L, struct sched *s, struct task *parent, int nargs);

/* Runs ready tasks: all that are ready now and those that they wake, up to a bound, then decides
 * the limits that passed in this tick. Stops early past `until_ns`. False: nothing was ready. */
bool sched_run_ready(struct sched *s, uint64_t until_ns);
/* Tasks live, nothing is ready, and nothing can ever make anything ready. */
bool sched_is_stuck(const struct sched *s);
/* While a task runs: others are ready, or would be if the loop turned. */
bool sched_others_wait(const struct sched *s);
/* After a failure for want of memory that no resume has seen: collects what is garbage, which
 * LuaJIT does not do then, where that is likely to bring something. `L`: what runs. */
void sched_make_room(struct sched *s, lua_State *L);
/* Its failure was taken by someone: the parent need not report it. */
void sched_observe(struct task *t);
